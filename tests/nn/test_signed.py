"""The convs for heterophilous graphs against dense algebra and loops written here."""

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency
from tests.conftest import N
from tests.nn.builders import builder

C = 8


def test_gcn_with_the_node_apart(graph, dense_graph, x):
    conv = builder("conv", "gcn_separate")(5, 1, in_channels=C)
    degree = dense_graph.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), 0)
    op = conv.operator
    mixed = root[:, None] * dense_graph * root @ x
    want = x @ op.lin_r.weight.t() + mixed @ op.lin_l.weight.t() + torch.nn.init.normal_(op.lin_l.bias)
    assert torch.allclose(conv(x, graph), want)


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("gathers", [False, True])
def test_fagcn_weighs_each_neighbour_with_a_sign(graph, dense_graph, x, self_loops, gathers):
    conv, x0 = builder("conv", "fa", self_loops=self_loops)(C, 1, alpha=0.3), torch.randn(N, C)
    graph.gathers = gathers
    looped = dense_graph + torch.eye(N) * self_loops
    degree = looped.sum(1).clamp(min=1)
    want = 0.3 * x0
    for i in range(N):
        for j in looped[i].nonzero().flatten():
            weight = (x[i] @ conv.at_target + x[j] @ conv.at_source).tanh() / (degree[i] * degree[j]).sqrt()
            want[i] = want[i] + weight * x[j]
    assert torch.allclose(conv(x, graph, x0), want)
    assert torch.allclose(conv(x, graph), want - 0.3 * x0)


def test_graff_is_a_step_down_its_energy(graph, normalised, x):
    x, x0 = x.clone().requires_grad_(), torch.randn(N, C)
    conv = builder("conv", "graff", step=0.3)(C, 1, alpha=0.2)
    torch.nn.init.normal_(conv.own)
    mix = (conv.weight + conv.weight.t()) / 2
    energy = (conv.own * x**2).sum() / 2 - conv.source * (x * x0).sum() - (normalised * (x @ mix @ x.t())).sum() / 2
    (slope,) = torch.autograd.grad(energy, x)
    assert torch.allclose(conv(x, graph, x0), x - 0.3 * slope)
    assert torch.allclose(conv(x, graph), conv(x, graph, x0) - 0.3 * 0.2 * x0)
    assert builder("conv", "graff")(C, 1).source is None


def test_the_mean_has_no_weights(graph, dense_graph, x):
    conv = builder("conv", "mean")(C, 1)
    want = torch.stack([x[row > 0].mean(0) if row.any() else torch.zeros(C) for row in dense_graph])
    assert torch.allclose(conv(x, graph), want) and not list(conv.parameters())


def gated_sum(conv, graph, x, edge_terms=None):
    out = x @ conv.own.weight.t() + conv.own.bias
    for e, (j, i) in enumerate(graph.edge_index.t()):
        gate = x[i] @ conv.gate_target.weight.t() + conv.gate_target.bias + x[j] @ conv.gate_source.weight.t()
        gate = gate if edge_terms is None else gate + edge_terms[e]
        out[i] = out[i] + gate.sigmoid() * (x[j] @ conv.value.weight.t())
    return out


def test_gated_gcn(graph, x):
    conv = builder("conv", "gated")(5, 1, in_channels=C)
    assert torch.allclose(conv(x, graph), gated_sum(conv, graph, x))


def test_gated_gcn_reads_edge_features_in_its_gate(graph, x):
    attributes = torch.randn(graph.edge_index.size(1), 3)
    conv = builder("conv", "gated")(5, 1, in_channels=C, edge_dim=3)
    terms = attributes @ conv.gate_edge.weight.t()
    out = conv(x, Adjacency(graph.edge_index, N, attributes))
    assert torch.allclose(out, gated_sum(conv, graph, x, terms))


def test_their_gradients(graph, x):
    x = x[:, :3].clone().requires_grad_()
    for name in ("gcn_separate", "fa", "graff", "gated"):
        conv = builder("conv", name)(3, 1)
        assert torch.autograd.gradcheck(lambda h, conv=conv: conv(h, graph), x), name
