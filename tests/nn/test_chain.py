"""A chain of layers as one step: the same numbers as the layers one by one, GCN's and GCNII's without x0."""

from functools import partial

import pytest
import torch
from torch import nn

from deepgnn_cli.nn import convs, norms, residuals
from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.layer import Branches, run_chain
from deepgnn_cli.nn.stack import build_stack, result

N, C, RATE, LAYERS = 12, 8, 0.6, 4
CONVS = {
    "gcn": partial(convs.gcn, bias=True),
    "gcn without bias": partial(convs.gcn, bias=False),
    "gcnii without x0": partial(convs.gcn2, theta=0.5, variant="shared"),
}


def chain(conv="gcn", residual=residuals.none, rate=RATE, norm=None):
    torch.manual_seed(6)
    stack = build_stack(residual, Branches(CONVS[conv], norm, C, "relu", rate), C, LAYERS).double().train()
    for name, parameter in stack.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return stack


def tensor():
    torch.manual_seed(4)
    return torch.randn(N, C, dtype=torch.float64, requires_grad=True)


def seeded(function, *arguments):
    torch.manual_seed(5)
    return function(*arguments)


@pytest.mark.parametrize("conv", CONVS)
def test_all_layers_at_once_are_the_layers_one_by_one(graph, conv):
    stack, x = chain(conv), tensor()
    weight = torch.arange(N * C).view(N, C)
    assert run_chain(list(stack.layers), x, graph, x) is not None

    def one_by_one(x, graph, x0):
        return result(stack.states(x, graph, x0))

    found = []
    for way in (stack, one_by_one):
        out = seeded(way, x, graph, x)
        found.append([out, *torch.autograd.grad((out * weight).sum(), [x, *stack.parameters()])])
    for whole, single in zip(*found, strict=True):
        assert whole.is_contiguous() and torch.allclose(whole, single, rtol=1e-12, atol=1e-12)


def test_gcn_by_the_formula(graph):
    stack, x = chain(), tensor()
    matrix = graph.operator("sym", torch.float64).matrix.to_dense()
    torch.manual_seed(5)
    h = x
    for layer in stack.layers:
        mask, keep = keep_mask((N, C), RATE, x.device)
        h = matrix @ (h.relu() * mask / keep) @ layer.conv.linear.weight.t() + layer.conv.bias
    assert torch.allclose(seeded(stack, x, graph, x), h, atol=1e-12)
    names, parameters = zip(*stack.named_parameters(), strict=True)

    def run(x, *given):
        return seeded(torch.func.functional_call, stack, dict(zip(names, given, strict=True)), (x, graph, x))

    assert torch.autograd.gradcheck(run, (x, *parameters))


@pytest.mark.parametrize("conv", CONVS)
def test_evaluation_is_that_without_dropout(graph, conv):
    stack, x = chain(conv).eval(), tensor()
    given = x.detach().clone()
    assert run_chain(list(stack.layers), x, graph, x) is None  # a gradient may be wanted
    with torch.no_grad():
        whole = run_chain(list(stack.layers), x, graph, x)
        assert torch.allclose(whole, result(stack.states(x, graph, x)), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, given)


@pytest.mark.parametrize("why", ["mixed outside", "norm", "no dropout", "watched inside", "wider", "a class below"])
def test_layers_that_are_more_than_that_run_one_by_one(graph, why):
    stack = chain(
        residual=partial(residuals.initial, alpha=0.1) if why == "mixed outside" else residuals.none,
        norm=norms.layer if why == "norm" else None,
        rate=0.0 if why == "no dropout" else RATE,
    )
    x, seen = tensor(), []
    if why == "watched inside":
        stack.layers[1].conv.linear.register_forward_hook(lambda *_: seen.append(1))
    if why == "a class below":
        stack.layers[2].conv.__class__ = type("Own", (convs.GCN,), {})
    if why == "wider":
        stack.layers[0].conv = convs.gcn(C, 1, bias=True, in_channels=C + 2).double()
        x = torch.randn(N, C + 2, dtype=torch.float64, requires_grad=True)
    assert run_chain(list(stack.layers), x, graph, x[:, :C]) is None
    stack(x, graph, x[:, :C]).sum().backward()
    assert x.grad.abs().sum() > 0 and len(seen) == (why == "watched inside")


def test_what_a_chain_keeps_for_the_backward_pass(graph):
    stack, kept = chain().float(), {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        stack(tensor().detach().float().requires_grad_(), graph, None)
    assert sum(kept.values()) == LAYERS * (5 * N * C + 4 * C * C)
