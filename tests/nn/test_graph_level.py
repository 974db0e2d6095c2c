"""Models of whole graphs: each graph of a batch is as it is alone, and no order of nodes or graphs matters."""

from functools import partial

import pytest
import torch

from deepgnn_cli.data.datasets.ogbg import ATOMS, BONDS
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.decoupled import appnp, dagnn, gprgnn, sgc
from deepgnn_cli.nn.grand import grand
from deepgnn_cli.nn.graph_level import graph_model, with_virtual_nodes
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.nn.sparse_features import one_hot
from tests.nn.builders import builder, options

F, C, K = 5, 4, 3
SIZES = (4, 1, 6, 3)
READOUTS = [name for name in options("readout") if name != "none"]


def batch_of(sizes=SIZES, edge_dim=None, seed=0):
    """Features [N, F], and the union of as many random graphs as there are sizes."""
    draw = torch.Generator().manual_seed(seed)
    edges, start = [], 0
    for size in sizes:
        adjacency = torch.rand(size, size, generator=draw) < 0.5
        edges.append((adjacency | adjacency.t()).triu(1).nonzero().t() + start)
        start += size
    once = torch.cat(edges, dim=1)
    ends = torch.cat([once, once.flip(0)], dim=1)
    attr = None if edge_dim is None else torch.randn(ends.size(1), edge_dim, generator=draw)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = torch.randn(start, F, generator=draw)
    return x, Adjacency(ends, start, attr, batch, num_graphs=len(sizes))


def alone(x, adjacency, number):
    """One graph of a union, by itself."""
    nodes = (adjacency.batch == number).nonzero()[:, 0]
    inside = adjacency.batch[adjacency.edge_index[0]] == number
    attr = None if adjacency.edge_attr is None else adjacency.edge_attr[inside]
    ends = adjacency.edge_index[:, inside] - nodes[0]
    return x[nodes], Adjacency(ends, nodes.numel(), attr, torch.zeros(nodes.numel(), dtype=torch.int64))


def made(
    readout, *, conv="gcn", norm="none", residual="none", layers=3, edge_dim=None, body=None, features=F, **changes
):
    torch.manual_seed(1)
    body = body or partial(
        deep_gnn,
        conv=builder("conv", conv),
        encoder="linear",
        decoder="linear",
        encoder_act="none",
        act="relu",
        identity_mapping=None,
    )
    parts = {"norm": builder("norm", norm), "residual": builder("residual", residual, **changes)}
    found = graph_model(
        body,
        Shape(features, K, edge_dim),
        readout=builder("readout", readout),
        hidden=C,
        layers=layers,
        drop=Drop(0.0, 0.0),
        **parts,
    )
    return found.double()


def settled(model, x, adjacency):
    """In evaluation, with statistics of batch normalisation that are none's start."""
    model.train()
    model(x, adjacency)
    return model.eval()


def assert_each_graph_is_as_alone(model, x, adjacency):
    model = settled(model, x, adjacency)
    together = model(x, adjacency)
    assert together.shape == (len(SIZES), K)
    for number in range(len(SIZES)):
        torch.testing.assert_close(model(*alone(x, adjacency, number))[0], together[number], atol=1e-10, rtol=1e-10)
    assert not torch.allclose(together[0], together[2])


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("conv, residual", [("gin", "none"), ("gen", "res_plus"), ("gat", "dense")])
def test_a_graph_of_a_batch_is_as_it_is_alone(readout, conv, residual):
    assert_each_graph_is_as_alone(made(readout, conv=conv, residual=residual, norm="batch"), *batch_of())


@pytest.mark.parametrize("norm", options("norm"))
@pytest.mark.parametrize("residual", options("residual"))
def test_with_every_norm_and_wiring_a_graph_of_a_batch_is_as_it_is_alone(norm, residual):
    changes = {"groups": 2} if residual == "reversible" else {}
    assert_each_graph_is_as_alone(made("max", norm=norm, residual=residual, **changes), *batch_of())


@pytest.mark.parametrize("conv", [name for name in options("conv") if name != "none"])
def test_with_every_conv_a_graph_of_a_batch_is_as_it_is_alone(conv):
    assert_each_graph_is_as_alone(made("sum", conv=conv, norm="layer", residual="res"), *batch_of())


@pytest.mark.parametrize("model", [sgc, appnp, dagnn, gprgnn])
@pytest.mark.parametrize("readout", ["mean", "jumping", "virtual_node"])
def test_models_that_only_propagate_have_a_head_too(model, readout):
    knobs = {appnp: {"alpha": 0.1}, gprgnn: {"alpha": 0.1, "propagated_dropout": 0.0}}.get(model, {})
    body = partial(model, **knobs)
    torch.manual_seed(1)
    keywords = {"layers": 3, "drop": Drop(0.0, 0.0), "norm": None, "residual": None}
    built = graph_model(body, Shape(F, K), readout=builder("readout", readout), hidden=C, **keywords)
    assert_each_graph_is_as_alone(built.double(), *batch_of())


@pytest.mark.parametrize("readout", READOUTS)
def test_the_order_of_nodes_and_edges_changes_nothing(readout):
    x, adjacency = batch_of()
    model = settled(made(readout, conv="gin", norm="graph"), x, adjacency)
    draw = torch.Generator().manual_seed(5)
    order = torch.cat([(adjacency.batch == g).nonzero()[:, 0] for g in range(len(SIZES))])
    order = torch.cat([part[torch.randperm(len(part), generator=draw)] for part in order.split(SIZES)])
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    ends = place[adjacency.edge_index][:, torch.randperm(adjacency.edge_index.size(1), generator=draw)]
    moved = Adjacency(ends, len(order), None, adjacency.batch[order], num_graphs=len(SIZES))
    torch.testing.assert_close(model(x[order], moved), model(x, adjacency), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("readout", READOUTS)
def test_the_order_of_graphs_is_that_of_the_logits(readout):
    x, adjacency = batch_of()
    model = settled(made(readout, conv="gcn", norm="layer"), x, adjacency)
    numbers = [2, 0, 3, 1]
    parts = [alone(x, adjacency, number) for number in numbers]
    starts = torch.tensor([0, *(part[0].size(0) for part in parts)]).cumsum(0)
    ends = torch.cat([part[1].edge_index + start for part, start in zip(parts, starts, strict=False)], dim=1)
    batch = torch.cat([torch.full((part[0].size(0),), place) for place, part in enumerate(parts)])
    other = Adjacency(ends, len(batch), None, batch, num_graphs=4)
    expected = model(x, adjacency)[numbers]
    torch.testing.assert_close(model(torch.cat([part[0] for part in parts]), other), expected, atol=1e-10, rtol=1e-10)


def test_readouts_by_formula():
    x, adjacency = batch_of()
    groups = x.split(SIZES)
    call = {"batch": adjacency.batch, "num_graphs": len(SIZES)}
    by_hand = {"mean": lambda h: h.mean(0), "sum": lambda h: h.sum(0), "max": lambda h: h.amax(0)}
    for name, formula in by_hand.items():
        found = builder("readout", name)(F)(x, **call)
        torch.testing.assert_close(found, torch.stack([formula(h) for h in groups]))
    attention = builder("readout", "attention")(F)
    gate = attention.aggregation.gate_nn
    expected = [((h @ gate.weight.t() + gate.bias).softmax(0) * h).sum(0) for h in groups]
    torch.testing.assert_close(attention(x, **call), torch.stack(expected))
    assert builder("readout", "set2set")(F)(x, **call).shape == (len(SIZES), 2 * F)


def test_jumping_reads_every_layer_and_the_encoder():
    """With the sum and a linear layer: the sum over layers of a linear layer of each one's sum."""
    x, adjacency = batch_of()
    model = made("jumping", conv="gcn", layers=3).eval()
    states = model.body.states(x, adjacency)
    layers = []
    try:
        while True:
            layers.append(next(states).relu())
    except StopIteration as end:
        layers[-1] = end.value
    assert len(layers) == 4
    expected = model.decoder.bias.expand(len(SIZES), K)
    for layer, weight in zip(layers, model.decoder.weight.split(C, dim=1), strict=True):
        expected = expected + torch.stack([part.sum(0) for part in layer.split(SIZES)]) @ weight.t()
    torch.testing.assert_close(model(x, adjacency), expected)


def test_a_virtual_node_is_a_neighbour_of_every_node_of_its_graph_alone():
    x, adjacency = batch_of(edge_dim=2)
    wide, wider = with_virtual_nodes(x, adjacency)
    n, graphs = x.size(0), len(SIZES)
    assert wide.shape == (n + graphs, F) and not wide[n:].any() and torch.equal(wide[:n], x)
    dense = torch.zeros(n + graphs, n + graphs)
    dense[wider.edge_index[1], wider.edge_index[0]] = 1
    expected = torch.nn.functional.one_hot(adjacency.batch).double()
    assert torch.equal(dense[:n, n:], expected) and torch.equal(dense[n:, :n], expected.t())
    assert not dense[n:, n:].any() and wider.edge_attr.shape == (wider.edge_index.size(1), 2)
    assert wider.batch.tolist() == [*adjacency.batch.tolist(), *range(graphs)] and wider.num_graphs == graphs


@pytest.mark.parametrize("readout", ["mean", "virtual_node", "set2set"])
def test_the_gradients_of_reversible_layers_are_those_of_stored_ones(readout):
    x, adjacency = batch_of()
    gradients = []
    for stored in (False, True):
        keywords = {"norm": "graph", "residual": "reversible", "groups": 2, "store_activations": stored}
        model = made(readout, conv="gin", layers=5, **keywords)
        model(x, adjacency).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


def test_the_layers_count_as_in_a_model_of_nodes():
    """A conv as decoder is one more layer of the stack: whole graphs are read out of all of them."""
    body = partial(
        deep_gnn,
        conv=builder("conv", "gcn"),
        encoder="conv",
        decoder="conv",
        encoder_act="relu",
        act="relu",
        identity_mapping=None,
    )
    for layers in (1, 2, 5):
        model = made("mean", body=body, layers=layers)
        convs = [module for module in model.modules() if type(module).__name__ == "GCN"]
        assert len(convs) == layers
        assert model(*batch_of()).shape == (len(SIZES), K)


def test_edge_features_are_read():
    x, adjacency = batch_of(edge_dim=2)
    model = settled(made("mean", conv="gen", edge_dim=2), x, adjacency)
    assert_each_graph_is_as_alone(model, x, adjacency)
    other = adjacency.with_edge_attr(adjacency.edge_attr + 1)
    assert not torch.allclose(model(x, other), model(x, adjacency))


def molecules(seed=0):
    """The union of random graphs whose nodes have ogb's properties of atoms and whose edges those of bonds."""
    _, adjacency = batch_of(edge_dim=1, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    atoms, bonds = (
        torch.stack([torch.randint(size, (rows,), generator=draw) for size in sizes], dim=1)
        for sizes, rows in ((ATOMS, adjacency.num_nodes), (BONDS, adjacency.edge_index.size(1)))
    )
    x, attr = one_hot(atoms, ATOMS, dense=True), one_hot(bonds, BONDS, dense=True)
    return x.double(), adjacency.with_edge_attr(attr.double())


@pytest.mark.parametrize("readout", ["mean", "virtual_node"])
@pytest.mark.parametrize("residual, norm", [("res_plus", "batch"), ("res_plus", "layer"), ("reversible", "graph")])
def test_a_molecule_of_a_batch_is_as_it_is_alone(readout, residual, norm):
    """With ogb's encoders of atoms and bonds, and a conv that reads the latter."""
    changes = {"groups": 2} if residual == "reversible" else {}
    width = (sum(ATOMS), sum(BONDS))
    model = made(readout, conv="gen", norm=norm, residual=residual, edge_dim=width[1], features=width[0], **changes)
    x, adjacency = molecules()
    assert_each_graph_is_as_alone(model, x, adjacency)
    other = adjacency.with_edge_attr(adjacency.edge_attr.roll(1, dims=1))
    assert not torch.allclose(model(x, other), model(x, adjacency))


def test_the_gradients_of_reversible_layers_on_molecules_are_those_of_stored_ones():
    x, adjacency = molecules()
    gradients = []
    for stored in (False, True):
        keywords = {"norm": "layer", "residual": "reversible", "groups": 2, "store_activations": stored}
        model = made("mean", conv="gen", layers=5, edge_dim=sum(BONDS), features=sum(ATOMS), **keywords)
        model(x, adjacency).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(grad is not None for grad in gradients[0].values())
    for name, ours in gradients[0].items():
        torch.testing.assert_close(ours, gradients[1][name], atol=1e-9, rtol=1e-7)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="readout=none, but whole graphs are labelled"):
        made("none")
    body = partial(grand, drop_node=0.5, views=2, temperature=0.5, consistency=0.5)
    keywords = {"layers": 2, "drop": Drop(0.0, 0.0), "norm": None, "residual": None}
    with pytest.raises(ValueError, match="model=grand asks views of nodes to agree"):
        graph_model(body, Shape(F, K), readout=builder("readout", "mean"), hidden=C, **keywords)
