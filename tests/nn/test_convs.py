"""Convolutions against dense algebra written here."""

import math

import pytest
import torch

from deepgnn_cli.nn.adapters import adapt
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.attention import gat, gatv2, transformer
from deepgnn_cli.nn.convs import gcn2, gin, sage, tag
from deepgnn_cli.nn.convs import graph as graph_conv
from deepgnn_cli.nn.gen import gen
from deepgnn_cli.nn.sparse_features import features
from tests.conftest import N
from tests.nn.builders import builder, knobs

C = 8


def rows(adjacency):
    """The neighbours of each node."""
    return [row.nonzero().flatten() for row in adjacency]


@pytest.mark.parametrize("bias", [False, True])
def test_gcn(graph, normalised, x, bias):
    conv = builder("conv", "gcn")(5, 1, in_channels=C, bias=bias)
    want = normalised @ x @ conv.linear.weight.t()
    if bias:
        want += torch.nn.init.normal_(conv.bias)
    assert torch.allclose(conv(x, graph), want)


@pytest.mark.parametrize("layer", [1, 5])
@pytest.mark.parametrize("theta", [0.5, 1.5, None])
def test_gcnii(graph, normalised, x, layer, theta):
    """S = (1-α) Â H + α H0;  H' = S ((1-β) I + β W)"""
    x0 = torch.randn(N, C)
    conv = gcn2(C, layer, theta=theta, variant="shared", alpha=0.2)
    beta = 1.0 if theta is None else math.log(theta / layer + 1)
    support = 0.8 * normalised @ x + 0.2 * x0
    want = (1 - beta) * support + beta * support @ conv.weight
    assert torch.allclose(conv(x, graph, x0), want)


@pytest.mark.parametrize("layer", [1, 5])
def test_gcnii_star_as_the_authors_code_computes_it(graph, normalised, x, layer):
    """β [Â H ‖ H0] [W1; W2] + (1-β) ((1-α) Â H + α H0)"""
    x0 = torch.randn(N, C)
    conv = gcn2(C, layer, theta=0.5, variant="official", alpha=0.2)
    beta = math.log(0.5 / layer + 1)
    hi = normalised @ x
    stacked = torch.cat([hi, x0], 1) @ torch.cat([conv.weight, conv.weight0], 0)
    assert torch.allclose(conv(x, graph, x0), beta * stacked + (1 - beta) * (0.8 * hi + 0.2 * x0))


@pytest.mark.parametrize("layer", [1, 5])
def test_gcnii_star_as_the_paper_prints_it(graph, normalised, x, layer):
    """(1-α) Â H ((1-β) I + β W1) + α H0 ((1-β) I + β W2)"""
    x0, eye = torch.randn(N, C), torch.eye(C)
    conv = gcn2(C, layer, theta=0.5, variant="paper", alpha=0.2)
    beta = math.log(0.5 / layer + 1)
    own, initial = ((1 - beta) * eye + beta * w for w in (conv.weight, conv.weight0))
    assert torch.allclose(conv(x, graph, x0), 0.8 * normalised @ x @ own + 0.2 * x0 @ initial)


@pytest.mark.parametrize("variant", ["shared", "official", "paper"])
def test_gcnii_without_initial_residual_is_identity_mapping_alone(graph, normalised, x, variant):
    conv = gcn2(C, 2, theta=0.5, variant=variant)
    beta = math.log(0.5 / 2 + 1)
    hi = normalised @ x
    assert torch.allclose(conv(x, graph, torch.randn(N, C)), (1 - beta) * hi + beta * hi @ conv.weight)
    assert len(list(conv.parameters())) == 1


def test_gcnii_weights_start_uniform_within_one_over_the_root_of_the_width():
    weight = gcn2(100, 1, theta=0.5, variant="shared", alpha=0.1).weight
    assert weight.abs().max() <= 0.1
    assert weight.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def aggregated(adjacency, x, how):
    out = torch.zeros_like(x)
    for i, neighbours in enumerate(rows(adjacency)):
        if len(neighbours):
            values = x[neighbours]
            out[i] = {"mean": values.mean(0), "sum": values.sum(0), "max": values.max(0).values}[how]
    return out


@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_sage(graph, dense_graph, x, how):
    conv = sage(5, 1, aggregation=how, self_loops=False, normalize=False, bias=True, in_channels=C)
    op = conv.operator
    want = aggregated(dense_graph, x, how) @ op.lin_l.weight.t() + op.lin_l.bias + x @ op.lin_r.weight.t()
    assert torch.allclose(conv(x, graph), want)
    op.normalize = True
    assert torch.allclose(conv(x, graph), want / want.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_sage_over_the_node_itself_as_well(graph, dense_graph, x, how):
    conv = builder("conv", "sage", aggregation=how, self_loops=True)(5, 1, in_channels=C)
    op = conv.operator
    looped = dense_graph + torch.eye(N)
    want = aggregated(looped, x, how) @ op.lin_l.weight.t() + op.lin_l.bias + x @ op.lin_r.weight.t()
    assert torch.allclose(conv(x, graph), want)
    doubled = Adjacency(torch.cat([graph.edge_index, torch.tensor([[3], [3]])], 1), N)
    assert torch.allclose(conv(x, doubled), want)  # a loop that is there already counts once


@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_graph_conv(graph, dense_graph, x, how):
    conv = graph_conv(5, 1, aggregation=how, bias=True, in_channels=C)
    op = conv.operator
    want = aggregated(dense_graph, x, how) @ op.lin_rel.weight.t() + op.lin_rel.bias + x @ op.lin_root.weight.t()
    assert torch.allclose(conv(x, graph), want)


def test_gin(graph, dense_graph, x):
    conv = gin(5, 1, eps=0.3, train_eps=True, mlp_layers=2, mlp_norm=None, in_channels=C)
    first, second = conv.operator.nn.lins
    want = ((1.3 * x + dense_graph @ x) @ first.weight.t() + first.bias).relu() @ second.weight.t() + second.bias
    assert torch.allclose(conv(x, graph), want)


def test_tag(graph, dense_graph, x):
    conv = tag(5, 1, hops=3, bias=True, in_channels=C)
    degree = dense_graph.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
    hop = root[:, None] * dense_graph * root
    want = conv.operator.bias + sum(
        torch.linalg.matrix_power(hop, k) @ x @ conv.operator.lins[k].weight.t() for k in range(4)
    )
    assert torch.allclose(conv(x, graph), want)


def test_antisymmetric(graph, normalised, x):
    conv = builder("conv", "antisymmetric", epsilon=0.2, gamma=0.3)(C, 1)
    op = conv.operator
    torch.nn.init.normal_(op.bias)
    inner = x @ (op.W - op.W.t() - 0.3 * torch.eye(C)).t() + normalised @ x @ op.phi.lin.weight.t() + op.bias
    assert torch.allclose(conv(x, graph), x + 0.2 * inner.tanh())


def looped(edge_index, attributes):
    """Self-loops as GAT adds them: with the mean of the incoming edges' features."""
    own = torch.stack([attributes[edge_index[1] == i].mean(0).nan_to_num() for i in range(N)])
    loops = torch.arange(N).repeat(2, 1)
    return torch.cat([edge_index, loops], 1), torch.cat([attributes, own])


def attended(edge_index, scores, values):
    """softmax over each target's edges, then the weighted sum of `values`; scores [E, H], values [E, H, D]."""
    out = torch.zeros(N, *values.shape[1:])
    for i in range(N):
        into = edge_index[1] == i
        if into.any():
            out[i] = (scores[into].softmax(0).unsqueeze(-1) * values[into]).sum(0)
    return out


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("kind", ["gat", "gatv2", "transformer"])
def test_attention(graph, x, heads, kind):
    """Two heads of 4 concatenated, three heads of 8 averaged: 3 does not divide 8."""
    attributes = torch.randn(26, 5)
    shared = {"heads": heads, "attention_dropout": 0.0, "bias": True, "in_channels": C, "edge_dim": 5}
    make = {"gat": gat, "gatv2": gatv2, "transformer": transformer}[kind]
    own = {"gat": {"negative_slope": 0.2}, "transformer": {"beta": False}}
    own["gatv2"] = {"negative_slope": 0.2, "share_weights": False}
    conv = make(8, 1, **shared, **own[kind])
    op, width = conv.operator, 4 if heads == 2 else 8
    edges = graph.edge_index if kind == "transformer" else looped(graph.edge_index, attributes)[0]
    e = attributes if kind == "transformer" else looped(graph.edge_index, attributes)[1]
    source, target = edges
    e = op.lin_edge(e).view(-1, heads, width)
    if kind == "gat":
        h = op.lin(x).view(N, heads, width)
        values = h[source]
        raw = (values * op.att_src).sum(-1) + (h[target] * op.att_dst).sum(-1) + (e * op.att_edge).sum(-1)
        scores = torch.nn.functional.leaky_relu(raw, 0.2)
    elif kind == "gatv2":
        values = op.lin_l(x).view(N, heads, width)[source]
        raw = values + op.lin_r(x).view(N, heads, width)[target] + e
        scores = (torch.nn.functional.leaky_relu(raw, 0.2) * op.att).sum(-1)
    else:
        query, key = (lin(x).view(N, heads, width) for lin in (op.lin_query, op.lin_key))
        values = op.lin_value(x).view(N, heads, width)[source] + e
        scores = (query[target] * (key[source] + e)).sum(-1) / math.sqrt(width)
    out = attended(edges, scores, values)
    out = out.reshape(N, 8) if heads == 2 else out.mean(1)
    out = out + (op.lin_skip(x) if kind == "transformer" else op.bias)
    assert torch.allclose(conv(x, graph.with_edge_attr(attributes)), out)


def softmax_aggregation(messages, t):
    return ((t * messages).softmax(0) * messages).sum(0)


AGGREGATIONS = {
    "softmax": lambda m: softmax_aggregation(m, 0.7),
    "power": lambda m: m.clamp(1e-7, 10).pow(3).mean(0).clamp(1e-7, 10).pow(1 / 3),
    "max": lambda m: m.max(0).values,
    "mean": lambda m: m.mean(0),
    "add": lambda m: m.sum(0),
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("edge_dim", [None, 5, C])
@pytest.mark.parametrize("message_norm", [False, True])
def test_gen(graph, dense_graph, x, aggregation, edge_dim, message_norm):
    attributes = None if edge_dim is None else torch.randn(26, edge_dim)
    values = knobs("conv", "gen") | {"aggregation": aggregation, "t": 0.7, "p": 3.0, "mlp_layers": 2, "mlp_norm": None}
    values |= {"message_norm": message_norm, "learn_message_scale": True}
    conv = gen(C, 1, edge_dim=edge_dim, **{k: v for k, v in values.items() if not k.startswith("_")})
    op = conv.operator
    e = torch.zeros(26, C) if attributes is None else op.lin_edge(attributes)
    out = x.clone()
    for i in range(N):
        into = graph.edge_index[1] == i
        if into.any():
            m = AGGREGATIONS[aggregation]((x[graph.edge_index[0][into]] + e[into]).relu() + 1e-7)
            out[i] += m if not message_norm else m / m.norm() * x[i].norm() * op.msg_norm.scale.squeeze()
        elif aggregation == "power":  # an empty mean, clamped
            empty = torch.full((C,), 1e-7).pow(1 / 3)
            out[i] += empty if not message_norm else empty / empty.norm() * x[i].norm()
    first, second = op.mlp[0], op.mlp[-1]
    want = (out @ first.weight.t() + first.bias).relu() @ second.weight.t() + second.bias
    assert first.weight.shape == (2 * C, C)
    assert torch.allclose(conv(x, graph.with_edge_attr(attributes)), want)


def test_gen_stops_the_gradient_through_the_softmax_weights_only_if_told(graph, x):
    x = x.requires_grad_()
    gradients = []
    for stop in (True, False):
        torch.manual_seed(0)
        conv = builder("conv", "gen", t=1.0, stop_gradient=stop, mlp_norm=None)(C, 1)
        gradients.append(torch.autograd.grad(conv(x, graph).sum(), x)[0])
    assert not torch.allclose(*gradients)
    torch.manual_seed(0)
    conv = builder("conv", "gen", t=1.0, stop_gradient=True, mlp_norm=None)(C, 1)
    source, target = graph.edge_index
    message = x.relu() + 1e-7
    weights = torch.zeros(26, C)
    for i in range(N):
        weights[target == i] = message[source[target == i]].detach().softmax(0)
    out = x + torch.zeros(N, C).index_add(0, target, weights * message[source])
    (want,) = torch.autograd.grad((out @ conv.operator.mlp[0].weight.t()).sum(), x)
    assert torch.allclose(gradients[0], want)


@pytest.mark.parametrize(("aggregation", "name"), [("softmax", "t"), ("power", "p")])
def test_gen_learns_its_temperature_and_power(graph, x, aggregation, name):
    conv = builder("conv", "gen", aggregation=aggregation, stop_gradient=False, **{f"learn_{name}": True})(C, 1)
    conv(x, graph).square().sum().backward()
    learned = getattr(conv.operator.aggr_module, name)
    assert learned.grad is not None and learned.grad.abs() > 0


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sage", {"aggregation": "median"}, "model.conv.aggregation must be one of mean, sum, max"),
        ("graph", {"aggregation": "add"}, "model.conv.aggregation must be one of"),
        ("gen", {"aggregation": "sum"}, "model.conv.aggregation must be one of softmax, power, max, mean, add"),
        ("gen", {"mlp_norm": "instance"}, r"model.conv.mlp_norm must be one of batch, layer \(or null\)"),
        ("gen", {"mlp_layers": 0}, "model.conv.mlp_layers must be a whole number of at least 1"),
        ("gen", {"learn_t": True}, "learn_t=true needs the gradient"),
        ("gin", {"mlp_layers": 0}, "model.conv.mlp_layers must be a whole number of at least 1"),
        ("gin", {"mlp_norm": "pair"}, "model.conv.mlp_norm must be one of"),
        ("tag", {"hops": -1}, "model.conv.hops must be a whole number of at least 1"),
        ("gcn2", {"variant": "star"}, "model.conv.variant must be one of shared, official, paper"),
        ("gat", {"heads": 0}, "model.conv.heads must be a whole number of at least 1"),
        (
            "gatv2",
            {"attention_dropout": 1.0},
            "model.conv.attention_dropout must be a number of at least 0 and below 1",
        ),
    ],
)
def test_a_wrong_knob_is_named(name, changes, message):
    with pytest.raises(ValueError, match=message):
        builder("conv", name, **changes)(C, 1)


def test_sparse_features_reach_the_first_convolution(graph):
    bag = (torch.rand(N, 50) < 0.05).float()
    conv = builder("conv", "gcn")(4, 1, in_channels=50).float()
    assert torch.allclose(conv(features(bag), graph), conv(bag, graph), atol=1e-6)


def test_any_pyg_conv_can_be_wrapped(x):
    from torch_geometric.nn import ChebConv, GCNConv

    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    conv = adapt(lambda c: ChebConv(c, c, K=2))(C, 1)
    assert torch.equal(conv(x, Adjacency(edges, N)), conv.operator(x, edges))
    conv, weight = adapt(lambda c: GCNConv(c, c))(C, 1), torch.rand(3)
    assert torch.equal(conv(x, Adjacency(edges, N, weight)), conv.operator(x, edges, weight))
