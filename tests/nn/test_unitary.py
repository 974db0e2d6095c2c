"""The unitary conv against the matrix exponential, and the law it is there for: it keeps norms."""

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency
from tests.conftest import N
from tests.nn.builders import builder

C = 8


def test_it_is_the_matrix_exponential(graph, dense_graph, x):
    conv = builder("conv", "unitary")(C, 1, terms=40)
    degree = dense_graph.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), 0)
    skew = conv.weight - conv.weight.t()
    generator = torch.kron(root[:, None] * dense_graph * root, skew.t().contiguous())  # acts on x row by row
    want = (torch.linalg.matrix_exp(generator) @ x.flatten()).view(N, C) + torch.nn.init.normal_(conv.bias)
    assert torch.allclose(conv(x, graph), want)


def test_a_deep_stack_keeps_the_norm_of_features_and_of_gradients(graph, x):
    x = x.clone().requires_grad_()
    h = x
    for layer in range(50):
        h = builder("conv", "unitary")(C, layer, terms=40, bias=False)(h, graph)
    assert h.norm().item() == pytest.approx(x.norm().item())
    seed = torch.randn_like(h)
    (gradient,) = torch.autograd.grad(h, x, seed)
    assert gradient.norm().item() == pytest.approx(seed.norm().item())


def test_a_layer_hears_as_many_hops_as_it_has_terms(x):
    ends = torch.arange(N - 1)
    path = Adjacency(torch.stack([torch.cat([ends, ends + 1]), torch.cat([ends + 1, ends])]), N)
    conv = builder("conv", "unitary")(C, 1, terms=3)
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(conv(x, path)[0].sum(), x)
    assert gradient[:4].abs().sum(1).gt(0).all() and not gradient[4:].any()


def test_its_gradient(graph, x):
    conv = builder("conv", "unitary")(3, 1)
    assert torch.autograd.gradcheck(lambda h: conv(h, graph), x[:, :3].clone().requires_grad_())
