"""Positional encodings against dense linear algebra."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepgnn_cli.data.encodings import encoded_width, laplacian, none, random_walk
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.runs.trained import load
from tests.conftest import undirected


def graph_of(edge_index, n):
    masks = [torch.arange(n) % 3 == part for part in range(3)]
    x, y = torch.randn(n, 4), torch.arange(n) % 2
    return Graph("small", "public", x, edge_index, y, 2, *masks)


@pytest.fixture
def ring():
    """The connected part of the small graph: 11 nodes."""
    return graph_of(undirected(), 11)


def dense(graph):
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    adjacency[graph.edge_index[0], graph.edge_index[1]] = 1
    return adjacency


def test_none_is_the_graph_itself(ring):
    assert none(ring) is ring


def test_random_walks_that_return(ring):
    walk = dense(ring) / dense(ring).sum(1, keepdim=True)
    want = torch.stack([torch.linalg.matrix_power(walk, step).diagonal() for step in range(1, 7)], dim=1)
    encoded = random_walk(ring, steps=6)
    assert torch.equal(encoded.x[:, :4], ring.x) and encoded.x.dtype == torch.float32
    assert torch.allclose(encoded.x[:, 4:], want.float(), atol=1e-6)


def test_laplacian_eigenvectors_of_the_smallest_eigenvalues_but_one(ring):
    root = dense(ring).sum(1).rsqrt()
    matrix = torch.eye(11, dtype=torch.float64) - root[:, None] * dense(ring) * root
    values = torch.linalg.eigvalsh(matrix)
    vectors = laplacian(ring, vectors=3).x[:, 4:].double()
    for k in range(3):
        assert torch.allclose(matrix @ vectors[:, k], values[k + 1] * vectors[:, k], atol=1e-5)
        assert vectors[:, k].norm().item() == pytest.approx(1, abs=1e-5)
        assert vectors[vectors[:, k].abs().argmax(), k] > 0


def test_a_large_graph_has_the_same_encoding_whatever_was_drawn_before():
    n = 150
    ends = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
    chords = torch.stack([torch.arange(0, n, 7), (torch.arange(0, n, 7) * 5 + 3) % n])
    graph = graph_of(torch.cat([ends, chords], 1), n)  # directed: the Laplacian is of the undirected graph
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(laplacian(graph, vectors=4).x)
    assert torch.equal(*found)


def test_each_graph_of_a_union_has_its_own(ring):
    n = ring.num_nodes
    edges = torch.cat([ring.edge_index, ring.edge_index + n], 1)
    both = replace(graph_of(edges, 2 * n), x=torch.cat([ring.x, ring.x]), part_of=torch.arange(2 * n) // n)
    for encode in (lambda g: random_walk(g, steps=4), lambda g: laplacian(g, vectors=2)):
        assert torch.allclose(encode(both).x, encode(ring).x.repeat(2, 1), atol=1e-5)


def test_too_few_nodes_for_the_vectors(ring):
    with pytest.raises(ValueError, match="encoding.vectors=10 needs 12 nodes, and a graph has 11; use fewer"):
        laplacian(ring, vectors=10)


def test_a_trained_run_encodes_another_graph_as_its_own(tmp_path):
    from deepgnn_cli.cli.train import main

    small = ["dataset=csbm", "dataset.num_nodes=60", "hidden=4", "trainer.max_epochs=2", "trainer.influence=0"]
    assert main([*small, "encoding=random_walk", "encoding.steps=3", f"output_dir={tmp_path}"]) == 0
    (folder,) = tmp_path.glob("*/")
    run = load(folder)
    features = run.graph.num_features - encoded_width(run.config["encoding"])
    assert encoded_width(run.config["encoding"]) == 3 and encoded_width({}) == 0
    other = {"x": run.graph.x[:, :features], "edge_index": run.graph.edge_index}
    assert torch.allclose(run.predict(other).logits, run.predict().logits, atol=1e-5)
