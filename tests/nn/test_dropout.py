"""The masks: their rate, their independence, their seed; and what is dropped by them."""

import math

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.dropout import Dropout, drop_edges, drop_messages, dropout, keep_mask, relu_dropout
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from tests.conftest import undirected
from tests.nn.builders import builder

CPU = torch.device("cpu")
N = 200_000


def far_from(observed, expected, count, variance):
    """By how many standard errors."""
    return abs(observed - expected) / math.sqrt(variance / count)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.6, 0.75, 0.9])
def test_the_rate_is_met(rate):
    mask, keep = keep_mask((N,), rate, CPU)
    assert abs(keep - (1 - rate)) <= 2**-17
    assert far_from(mask.double().mean().item(), 1 - rate, N, rate * (1 - rate)) < 5


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_elements_and_calls_are_independent(rate):
    first, second = (keep_mask((N,), rate, CPU)[0].double() - (1 - rate) for _ in range(2))
    variance = rate * (1 - rate)
    assert far_from((first * second).mean().item(), 0, N, variance**2) < 5
    for lag in (1, 2, 3, 4, 5, 64, 1000):  # four lanes share a random word
        assert far_from((first[lag:] * first[:-lag]).mean().item(), 0, N - lag, variance**2) < 5, lag


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (7, 5), (2, 3, 4)])
def test_any_shape_is_filled(shape):
    mask, _ = keep_mask(shape, 0.5, CPU)
    assert mask.shape == shape and mask.dtype == torch.bool


def test_a_rate_next_to_one_still_keeps_something():
    mask, keep = keep_mask((N * 10,), 1 - 1e-9, CPU)
    assert keep == 2**-16 and 0 < mask.sum() < 200


def test_the_seed_decides_and_the_state_replays():
    torch.manual_seed(7)
    first = keep_mask((100,), 0.5, CPU)[0]
    state = torch.get_rng_state()
    second = keep_mask((100,), 0.5, CPU)[0]
    torch.set_rng_state(state)
    assert torch.equal(keep_mask((100,), 0.5, CPU)[0], second)
    torch.manual_seed(7)
    assert torch.equal(keep_mask((100,), 0.5, CPU)[0], first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("drop", [dropout, relu_dropout])
@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_survivors_are_scaled_and_the_gradient_passes_where_they_are(drop, rate):
    x = torch.randn(50, 40, requires_grad=True)
    torch.manual_seed(1)
    mask, keep = keep_mask((50, 40), rate, CPU)
    torch.manual_seed(1)
    out = drop(x, rate, True)
    plain = x.relu() if drop is relu_dropout else x
    assert torch.allclose(out, plain * mask / keep)
    weight = torch.randn(50, 40)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    passes = mask & (x > 0) if drop is relu_dropout else mask
    assert torch.allclose(gradient, weight * passes / keep)


def test_the_mean_is_kept():
    out = dropout(torch.ones(N), 0.6, True)
    assert far_from(out.mean().item(), 1, N, 0.6 / 0.4) < 5


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_an_evaluation_drops_nothing(rate):
    x = torch.randn(5, 4)
    before = torch.get_rng_state()
    assert dropout(x, rate, False) is x
    assert torch.equal(relu_dropout(x, rate, False), x.relu())
    assert Dropout(rate).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_does_not_write_to_its_input():
    x = torch.randn(50, 4)
    before = x.clone()
    dropout(x, 0.5, True)
    relu_dropout(x, 0.5, True)
    assert torch.equal(x, before)


def normalised(edge_index, n):
    a = torch.eye(n)
    a[edge_index[1], edge_index[0]] = 1
    root = a.sum(1).rsqrt()
    return root[:, None] * a * root


def test_drop_edge_removes_edges_and_normalises_what_is_left():
    n = 300
    edges = undirected([(i, (i + k) % n) for i in range(n) for k in range(1, 8)])
    attributes = torch.arange(edges.size(1)).view(-1, 1)
    thinner = drop_edges(Adjacency(edges, n, attributes), 0.3, 0.0)
    left = thinner.edge_index.size(1)
    assert far_from(left / edges.size(1), 0.7, edges.size(1), 0.21) < 5
    assert torch.equal(edges[:, thinner.edge_attr[:, 0]], thinner.edge_index)
    x = torch.randn(n, 3)
    assert torch.allclose(thinner.operator("sym", torch.float64)(x), normalised(thinner.edge_index, n) @ x)
    other = drop_edges(Adjacency(edges, n), 0.3, 0.0)
    assert not torch.equal(thinner.edge_index, other.edge_index)


def test_drop_node_removes_every_edge_of_a_node_and_no_other():
    n = 300
    edges = undirected([(i, (i + 1) % n) for i in range(n)])
    torch.manual_seed(2)
    alive = keep_mask((n,), 0.25, CPU)[0]
    torch.manual_seed(2)
    thinner = drop_edges(Adjacency(edges, n), 0.0, 0.25)
    kept = {tuple(pair) for pair in thinner.edge_index.t().tolist()}
    assert kept == {(i, j) for i, j in edges.t().tolist() if alive[i] and alive[j]}
    x = torch.randn(n, 2)
    out = thinner.operator("sym", torch.float64)(x)
    assert torch.allclose(out[~alive], x[~alive]), "a dropped node keeps its own features: Â has its self-loop"
    assert torch.allclose(out, normalised(thinner.edge_index, n) @ x)


def test_a_graph_without_edges_can_be_thinned():
    assert drop_edges(Adjacency(torch.empty(2, 0, dtype=torch.long), 3), 0.5, 0.5).edge_index.shape == (2, 0)


def test_both_drops_together_keep_what_both_keep():
    edges = undirected([(i, j) for i in range(60) for j in range(i)])
    thinner = drop_edges(Adjacency(edges, 60), 0.5, 0.2)
    assert far_from(thinner.edge_index.size(1) / edges.size(1), 0.5 * 0.64, 60, 0.25) < 5


@pytest.mark.parametrize("drop", [dropout, relu_dropout])
def test_any_device_keeps_for_the_backward_pass_what_a_cpu_does(drop):
    def kept_bytes(device):
        kept = {}

        def note(tensor):
            kept[id(tensor)] = (tensor, tensor.numel() * tensor.element_size())
            return tensor

        x = torch.empty(100, 64, device=device, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            drop(x, 0.5, True).sum().backward()
        return sum(size for _, size in kept.values())

    assert kept_bytes("meta") == kept_bytes("cpu") > 0


@pytest.mark.parametrize("normalisation", ["sym", "sym_loopless", "mean", "sum"])
def test_each_element_of_each_message_is_dropped_by_itself(normalisation, graph):
    x = torch.randn(graph.num_nodes, 3, requires_grad=True)
    base = torch.randn(graph.num_nodes, 3)
    matrix = graph.operator(normalisation, torch.float64).matrix
    torch.manual_seed(3)
    out = drop_messages(graph, 0.4).operator(normalisation, torch.float64)(x, base, 0.5, 2.0)
    torch.manual_seed(3)
    mask, keep = keep_mask((matrix.values().numel(), 3), 0.4, CPU)
    want, entries = 2.0 * base, zip(matrix.to_sparse_coo().coalesce().indices().t(), matrix.values(), mask, strict=True)
    for (i, j), value, kept in entries:
        want = want.index_add(0, i[None], (0.5 * value * x[j] * kept / keep)[None])
    assert torch.allclose(out, want)
    weight = torch.randn_like(out)
    gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (out, want)]
    assert torch.allclose(*gradients)


def test_the_mean_of_what_is_left_of_messages_is_the_whole(graph):
    x = torch.ones(graph.num_nodes, 5000)
    out = drop_messages(graph, 0.5).operator("mean", torch.float64)(x)
    assert torch.allclose(out.mean(1), graph.operator("mean", torch.float64)(x)[:, 0], atol=0.05)
    assert not torch.equal(out[:, 0], out[:, 1])


def test_dropping_messages_leaves_the_graph_as_it_was(graph):
    x = torch.randn(graph.num_nodes, 2)
    dropped = drop_messages(graph, 0.9)
    for whole, thin in ((graph, dropped), (graph.looped(), dropped.looped())):
        before = whole.operator("mean", torch.float64)(x)
        assert not torch.allclose(thin.operator("mean", torch.float64)(x), before)
        assert torch.equal(whole.operator("mean", torch.float64)(x), before)
    with pytest.raises(ValueError, match="multiply by a matrix"):
        dropped.edges()


@pytest.mark.parametrize("residual", ["none", "reversible", "gradient_gating"])
def test_a_model_drops_messages_in_training_only(residual, graph):
    model = deep_gnn(
        Shape(3, 2),
        layers=4,
        hidden=4,
        norm=None,
        residual=builder("residual", residual),
        drop=Drop(0.0, 0.0, message=0.5),
        conv=builder("conv", "gcn"),
        encoder="linear",
        decoder="linear",
        encoder_act="none",
        act="relu",
        identity_mapping=None,
    )
    x = torch.randn(graph.num_nodes, 3)
    assert not torch.equal(model(x, graph), model(x, graph))
    model(x, graph).sum().backward()
    model.eval()
    assert torch.equal(model(x, graph), model(x, graph))
