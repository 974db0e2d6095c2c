"""Convs of PyG's and one's own as layers: their widths, their edge values, and what is refused."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    ChebConv,
    FAConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    MessagePassing,
    PNAConv,
    ResGatedGraphConv,
    SAGEConv,
    TransformerConv,
)

from deepgnn_cli.nn import Adjacency, Drop, Shape, deep_gnn, deepen
from deepgnn_cli.nn.adapters import adapt
from tests.conftest import N, undirected
from tests.nn.builders import builder

CONVS = {
    "GATConv": partial(GATConv, heads=4),
    "GATv2Conv": partial(GATv2Conv, heads=4),
    "ChebConv": partial(ChebConv, K=2),
    "ResGatedGraphConv": ResGatedGraphConv,
}


class Mine(nn.Module):
    """A module of one's own: no PyG."""

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(channels, channels), scale

    def forward(self, x, edge_index):
        source, target = edge_index
        return torch.zeros_like(x).index_add(0, target, self.scale * self.linear(x)[source])


def network(conv, residual, layers=16, edge_features=None, **settings):
    torch.manual_seed(0)
    return deep_gnn(
        Shape(5, 3, edge_features),
        layers=layers,
        hidden=8,
        norm=builder("norm", "layer"),
        residual=builder("residual", residual, **settings),
        drop=Drop(0.1, 0.1),
        conv=conv,
        encoder="linear",
        decoder="linear",
        encoder_act="tanh",  # a ReLU gives exact zeros, at which the next one has no derivative to compare
        act="relu",
        identity_mapping=None,
    )


@pytest.mark.parametrize("residual", ["none", "res", "initial", "reversible"])
@pytest.mark.parametrize("name", CONVS)
def test_sixteen_layers_of_a_class_of_pygs_train_in_every_wiring(name, residual):
    model = network(CONVS[name], residual)
    x, adjacency = torch.randn(N, 5), Adjacency(undirected(), N)
    logits = model(x, adjacency)
    assert logits.shape == (N, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.stack.parameters())
    assert sum(type(m).__name__ == name for m in model.modules()) == 16 * (2 if residual == "reversible" else 1)


@pytest.mark.parametrize("name", CONVS)
def test_reversible_gradients_of_a_class_of_pygs_equal_stored_ones(name, _float64):
    model = network(CONVS[name], "reversible")
    twin = copy.deepcopy(model)
    twin.stack.engine.store_activations = True
    found = []
    for each in (model, twin):
        torch.manual_seed(1)
        each(torch.ones(N, 5), Adjacency(undirected(), N)).square().sum().backward()
        found.append([p.grad for p in each.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_joined_heads_share_the_channels_and_others_are_averaged():
    joined = adapt(partial(GATConv, heads=4))(8, 1).operator
    averaged = adapt(partial(GATConv, heads=3))(8, 1).operator
    assert (joined.out_channels, joined.concat) == (2, True) and (averaged.out_channels, averaged.concat) == (8, False)


def test_a_layer_computes_what_the_conv_does():
    for conv in (CONVS["GATConv"], lambda c: ChebConv(c, c, K=2), Mine, partial(Mine, scale=2.0)):
        torch.manual_seed(0)
        layer, x = adapt(conv)(8, 1), torch.randn(N, 8)
        assert torch.allclose(layer(x, Adjacency(undirected(), N)), layer.operator(x, undirected()), atol=1e-6)


def test_edge_weights_are_the_third_argument():
    layer, x = adapt(partial(ChebConv, K=2))(8, 1), torch.randn(N, 8)
    edges, weight = undirected(), torch.rand(undirected().size(1))
    assert torch.equal(layer(x, Adjacency(edges, N, weight)), layer.operator(x, edges, weight))
    assert not torch.equal(layer(x, Adjacency(edges, N, weight)), layer(x, Adjacency(edges, N)))


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        (GATConv(8, 8), "one GATConv and every layer needs its own"),
        (3, "conv must be a class or a function"),
        (PNAConv, "PNAConv needs aggregators, scalers, deg"),
        (partial(PNAConv, aggregators=["mean"], scalers=["identity"]), "PNAConv needs deg, .*depends on the data"),
        (GINConv, "constructor begins with nn"),
        (lambda c: FAConv(c), "FAConv is called with x_0"),
        (lambda c: c, "made a int"),
    ],
)
def test_what_cannot_be_a_layer_is_refused_with_the_reason(conv, message):
    with pytest.raises(ValueError, match=message):
        adapt(conv)(8, 1)


def test_a_wrong_width_and_values_that_are_not_read_are_refused_at_the_first_call():
    x, edges = torch.randn(N, 8), undirected()
    with pytest.raises(ValueError, match=r"GATConv turns \[.*, 8\] into \[.*, 24\]"):
        deepen(lambda c: GATConv(c, c, heads=3), 8, 2)(x, edges)
    with pytest.raises(ValueError, match="SAGEConv reads no edge weights"):
        deepen(SAGEConv, 8, 2)(x, edges, torch.rand(edges.size(1)))


class OneWidth(MessagePassing):
    """A conv of one's own whose only argument has a name of its own."""

    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)

    def forward(self, x, edge_index):
        return self.propagate(edge_index, x=self.linear(x))


def test_a_class_with_one_argument_is_given_the_channels_whatever_it_calls_them():
    layer = adapt(OneWidth)(8, 1)
    assert layer.operator.linear.in_features == layer.operator.linear.out_features == 8
    x, edges = torch.randn(N, 8), undirected()
    assert torch.equal(layer(x, Adjacency(edges, N)), layer.operator(x, edges))


def test_weights_of_the_graph_reach_the_convs_that_take_them_and_no_others():
    edges, weight = undirected(), torch.rand(undirected().size(1))
    x = torch.randn(N, 8)
    for conv in (partial(ChebConv, K=2), GraphConv, GCNConv):
        layer = adapt(conv)(8, 1)
        assert layer.reads_edge_weight
        given = layer(x, Adjacency(edges, N, edge_weight=weight))
        assert torch.allclose(given, layer.operator(x, edges, weight), atol=1e-6)
    layer = adapt(GATConv)(8, 1)
    assert not layer.reads_edge_weight
    assert torch.equal(layer(x, Adjacency(edges, N, edge_weight=weight)), layer(x, Adjacency(edges, N)))


class Gate(torch.nn.Module):
    """A conv of one's own that reads three edge features as they are."""

    def __init__(self, channels):
        super().__init__()
        self.linear = torch.nn.Linear(3, channels)

    def forward(self, x, edge_index, edge_attr):
        return torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]] * self.linear(edge_attr))


@pytest.mark.parametrize("residual", ["res", "reversible"])
def test_edge_features_of_the_data_reach_a_conv_that_reads_them(residual):
    edges = undirected()
    model = network(Gate, residual, edge_features=3)
    attr = torch.rand(edges.size(1), 3)
    one, other = (model(torch.ones(N, 5), Adjacency(edges, N, each)) for each in (attr, attr + 1))
    assert one.shape == (N, 3) and not torch.equal(one, other)


@pytest.mark.parametrize("conv", [GATConv, GATv2Conv, TransformerConv, GCNConv, SAGEConv, GraphConv])
@pytest.mark.parametrize("how", ["add", "mean", "max"])
def test_a_class_aggregates_as_its_keyword_says(conv, how):
    torch.manual_seed(0)
    layer, x, edges = adapt(partial(conv, aggr=how))(8, 1), torch.randn(N, 8), undirected()
    assert torch.allclose(layer(x, Adjacency(edges, N)), layer.operator(x, edges), atol=1e-6)
