"""Rewiring a data set: graph by graph, splits untouched, repeatable, kept by content."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deepgnn_cli.config.validate import check_node
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked
from deepgnn_cli.data.rewiring.apply import rewired
from deepgnn_cli.data.rewiring.ricci import sdrf
from deepgnn_cli.data.rewiring.spectral import fosr
from deepgnn_cli.data.rewiring.transforms import half_hop, virtual_node

CONF = Path(__file__).parents[3] / "conf"


def rings(sizes=(5, 8, 6), **more):
    """Rings side by side."""
    starts = np.cumsum([0, *sizes[:-1]])
    pairs = [(s + i, s + (i + 1) % n) for s, n in zip(starts, sizes, strict=True) for i in range(n)]
    ends = torch.tensor(pairs).t()
    n = sum(sizes)
    y = torch.arange(n) % 3
    masks = {name: torch.arange(n) % 3 == i for i, name in enumerate(("train", "val", "test"))}
    graph = Graph("rings", "own", torch.randn(n, 2), torch.cat([ends, ends.flip(0)], 1), y, 3, **masks)
    return replace(graph, **more), torch.repeat_interleave(torch.tensor([7, 3, 9]), torch.tensor(sizes))


def by_fosr(piece):
    return fosr(piece, iterations=2, power_iterations=20, seed=0)


@pytest.mark.parametrize("field", ["part_of", "sample_of"])
def test_each_graph_of_a_union_is_rewired_by_itself(tmp_path, field):
    graph, owner = rings()
    order = torch.randperm(19)  # the nodes of a graph need not stand together
    graph = replace(graph, edge_index=order[graph.edge_index])
    owner = owner[torch.argsort(order)]
    graph = replace(graph, **{field: owner})
    made = rewired(graph, by_fosr, "fosr", tmp_path).graph
    source, target = made.edge_index
    assert (owner[source] == owner[target]).all() and made.num_edges == graph.num_edges + 3 * 2 * 2
    virtual = rewired(graph, virtual_node, "virtual", tmp_path).graph
    owners = getattr(virtual, field)
    assert virtual.num_nodes == 19 + 3 and sorted(owners[19:].tolist()) == [3, 7, 9]
    assert (owners[virtual.edge_index[0]] == owners[virtual.edge_index[1]]).all()


def test_labels_and_splits_stay_as_they_are_and_new_nodes_are_in_none(tmp_path):
    graph, _ = rings()
    made = rewired(graph, virtual_node, "v", tmp_path).graph
    assert torch.equal(made.x[:19], graph.x) and torch.equal(made.y[:19], graph.y) and made.y[19:].tolist() == [-1]
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(made, name)[:19], getattr(graph, name)) and not getattr(made, name)[19:].any()
    several = replace(graph, y=torch.rand(19, 4), num_classes=4)
    assert rewired(several, virtual_node, "v", tmp_path).graph.y[19:].isnan().all()


def test_it_is_repeatable_and_done_once(tmp_path):
    graph, _ = rings((9,) * 3)
    calls = []

    def method(piece):
        calls.append(piece)
        return sdrf(piece, iterations=5, tau=5, remove_above=0.5, seed=3)

    first, again = rewired(graph, method, "a", tmp_path / "x"), rewired(graph, method, "a", tmp_path / "x")
    assert len(calls) == 1 and torch.equal(first.graph.edge_index, again.graph.edge_index)
    assert again == replace(first, graph=again.graph)
    elsewhere = rewired(graph, method, "a", tmp_path / "y")
    assert len(calls) == 2 and torch.equal(elsewhere.graph.edge_index, first.graph.edge_index)
    rewired(graph, method, "b", tmp_path / "x")
    rewired(replace(graph, x=graph.x + 1), method, "a", tmp_path / "x")
    assert len(calls) == 4, "other settings and another graph are done anew"


def test_features_make_another_graph_for_a_method_that_reads_them_alone(tmp_path):
    graph, _ = rings()
    half = partial(half_hop, alpha=0.5, probability=1.0, seed=0)
    for x in (graph.x, graph.x + 1, graph.x[:, :1]):
        made = rewired(replace(graph, x=x), half, "h", tmp_path / "h").graph
        assert made.x[19:].amin() >= x.amin() and made.x.shape == (made.num_nodes, x.size(1)) and made.num_nodes > 19
        assert rewired(replace(graph, x=x), virtual_node, "v", tmp_path / "v").graph.x[-1:].shape == (1, x.size(1))
    assert len(list((tmp_path / "h").glob("*.pt"))) == 3 and len(list((tmp_path / "v").glob("*.pt"))) == 2


def test_it_tells_edges_and_gap_before_and_after(tmp_path):
    graph, owner = rings((5, 8, 6))
    made = rewired(replace(graph, sample_of=owner), by_fosr, "f", tmp_path)
    assert (made.edges_before.size(1), made.graph.num_edges) == (38, 50)
    assert made.spectral_gap_before == pytest.approx(1 - np.cos(2 * np.pi / 8)) and made.spectral_gap > 0.3


def test_a_damaged_copy_is_made_again_and_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    graph, _ = rings()
    first = rewired(graph, by_fosr, "f", tmp_path / "kept")
    (copy,) = (tmp_path / "kept").glob("*.pt")
    copy.write_bytes(copy.read_bytes()[:100])
    assert torch.equal(rewired(graph, by_fosr, "f", tmp_path / "kept").graph.edge_index, first.graph.edge_index)
    (tmp_path / "file").touch()
    there = rewired(graph, by_fosr, "f", tmp_path / "file" / "kept")
    assert torch.equal(there.graph.edge_index, first.graph.edge_index)


def test_every_option_makes_a_graph(tmp_path, build):
    graph = build("csbm", num_nodes=60, num_features=4)
    for path in sorted((CONF / "rewire").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        check_node("rewire", node, {})
        made = rewired(graph, instantiate(node), path.stem, tmp_path)
        source, target = made.graph.edge_index
        assert int(made.graph.edge_index.max()) < made.graph.num_nodes and made.graph.num_nodes >= 60
        assert checked(made.graph) is not None
        assert (path.stem == "none") == torch.equal(made.graph.edge_index, graph.edge_index), path.stem
        keys = source * made.graph.num_nodes + target
        assert keys.unique().numel() == keys.numel(), "no edge twice"
