"""The plain module of a model: its numbers, on any graph, and without us once `torch.export` has written it."""

import subprocess
import sys

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.nn.portable import PlainAdjacency, Portable
from tests.conftest import N, undirected
from tests.nn.builders import options
from tests.nn.test_composition import CONVS, build
from tests.nn.test_decoupled import MAKERS, made

SEVERAL = {"N": torch.export.Dim("N", min=2), "E": torch.export.Dim("E", min=2)}
# A self-loop, an edge given twice, a directed one, and a node without any.
ODD = torch.tensor([[0, 1, 1, 1, 2, 3, 4], [1, 0, 1, 2, 1, 2, 4]])
WIRINGS = [*((conv, "none", "none") for conv in CONVS), *(("gcn", norm, "res_plus") for norm in options("norm"))]
WIRINGS += [("gcn", "layer", residual) for residual in options("residual")]


def exported(module, x, edge_index):
    """The program that `torch.export` makes of it, for graphs of any size."""
    return torch.export.export(module, (x, edge_index), dynamic_shapes=({0: SEVERAL["N"]}, {1: SEVERAL["E"]}))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalisation", ["sym", "sym_loopless", "mean", "sum"])
def test_gathering_and_scattering_are_the_sparse_product(normalisation, weighted):
    weight = torch.rand(ODD.size(1)) if weighted else None
    if weighted:
        weight[0] = 0.0
    x, base = torch.randn(6, 4), torch.randn(6, 4)
    sparse = Adjacency(ODD, 6, edge_weight=weight).operator(normalisation, torch.float64)
    plain = PlainAdjacency(ODD, 6, edge_weight=weight).operator(normalisation, torch.float64)
    torch.testing.assert_close(plain(x), sparse(x))
    torch.testing.assert_close(plain(x, base, 0.3, 0.7), sparse(x, base, 0.3, 0.7))


@pytest.mark.parametrize(("conv", "norm", "residual"), WIRINGS)
def test_a_portable_model_gives_the_models_logits_and_can_be_exported(conv, norm, residual):
    model = build(conv, norm, residual, layers=3).eval()
    module = Portable(model)
    x, edges, other = torch.randn(N, 6), undirected(), torch.randn(7, 6)
    torch.testing.assert_close(module(x, edges), model(x, Adjacency(edges, N)))
    program = exported(module, x, edges).module()
    torch.testing.assert_close(program(other, ODD), model(other, Adjacency(ODD, 7)))
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_so_does_one_that_propagates_apart_from_transforming(name):
    model = made(name, Drop(0.2, 0.1), 6).eval()
    x, edges = torch.randn(N, 6), undirected()
    module = Portable(model)
    torch.testing.assert_close(module(x, edges), model(x, Adjacency(edges, N)))
    torch.testing.assert_close(exported(module, x, edges).module()(x, edges), model(x, Adjacency(edges, N)))


def test_edge_features_weights_and_graphs_are_read_where_the_model_reads_them():
    edges, x = undirected(), torch.randn(N, 6)
    features, weights = torch.rand(edges.size(1), 5), torch.rand(edges.size(1))
    batch = (torch.arange(N) >= 11).long()
    model = build("gen", shape=Shape(6, 3, 5)).eval()
    module = Portable(model)
    torch.testing.assert_close(module(x, edges, edge_attr=features), model(x, Adjacency(edges, N, features)))
    model = build("gcn", "graph").eval()
    module = Portable(model)
    graph = Adjacency(edges, N, None, batch, weights)
    torch.testing.assert_close(module(x, edges, weights, batch=batch), model(x, graph))
    assert not torch.allclose(module(x, edges), model(x, graph))


def test_a_reversible_stack_on_a_grid_is_portable_but_looks_at_its_numbers():
    model = build("gcn", "layer", "reversible", exact=True).eval()
    x, edges = torch.randn(N, 6), undirected()
    module = Portable(model)
    torch.testing.assert_close(module(x, edges), model(x, Adjacency(edges, N)))
    with pytest.raises(Exception, match="data-dependent"):
        exported(module, x, edges)


def test_an_exported_program_runs_where_torch_is_all_there_is(tmp_path):
    x, edges = torch.randn(N, 6), undirected()
    module = Portable(build("gen", "batch", "res_plus"))
    torch.export.save(exported(module, x, edges), tmp_path / "model.pt2")
    torch.save([x, edges, module(x, edges)], tmp_path / "case.pt")
    code = (
        "import sys, torch\n"
        "x, edges, wanted = torch.load('case.pt')\n"
        "torch.testing.assert_close(torch.export.load('model.pt2').module()(x, edges), wanted)\n"
        "assert not {'deepgnn_cli', 'torch_geometric'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
