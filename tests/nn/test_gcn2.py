"""GCNII's layers behind ReLU and dropout: as one function of autograd the same numbers as step by step."""

import math
from functools import partial

import pytest
import torch

from deepgnn_cli.nn import convs, residuals
from deepgnn_cli.nn.dropout import drop_messages, keep_mask, relu_dropout
from deepgnn_cli.nn.layer import Branches, run_chain
from deepgnn_cli.nn.stack import build_stack, result

N, C, RATE, ALPHA = 12, 8, 0.6, 0.1
TINY = {torch.float32: 1e-6, torch.float64: 1e-14}


def layer(variant="shared", theta=0.5, alpha=ALPHA, dtype=torch.float32):
    torch.manual_seed(3)
    return convs.gcn2(C, 2, theta=theta, variant=variant, alpha=alpha).to(dtype)


def tensors(dtype=torch.float32):
    torch.manual_seed(4)
    return [torch.randn(N, C, dtype=dtype, requires_grad=True) for _ in range(2)]


def seeded(function, *arguments, **keywords):
    torch.manual_seed(5)
    return function(*arguments, **keywords)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", ["shared", "official", "paper"])
@pytest.mark.parametrize("theta", [0.5, None])
@pytest.mark.parametrize("initial", [True, False])
def test_values_and_gradients_are_those_of_the_steps(graph, dtype, variant, theta, initial):
    conv, (x, x0) = layer(variant, theta, dtype=dtype), tensors(dtype)
    weight, given = torch.randn(N, C, dtype=dtype), x0 if initial else None

    def by_steps(x, graph, x0):
        return conv(relu_dropout(x, RATE, True), graph, x0)

    results = []
    for way in (by_steps, partial(conv, rate=RATE)):
        out = seeded(way, x, graph, given)
        wanted = [x, *([x0] if initial else []), *conv.parameters()]
        results.append([out, *torch.autograd.grad((out * weight).sum(), wanted, allow_unused=True)])
    for steps, whole in zip(*results, strict=True):
        assert (steps is None and whole is None) or torch.allclose(steps, whole, rtol=1e-5, atol=TINY[dtype])


def test_the_formula_in_double_precision(graph):
    conv, (x, x0) = layer(dtype=torch.float64), tensors(torch.float64)
    mask, keep = seeded(keep_mask, (N, C), RATE, x.device)
    matrix = graph.operator("sym", torch.float64).matrix.to_dense()
    support = (1 - ALPHA) * matrix @ (x.relu() * mask / keep) + ALPHA * x0
    expected = (1 - conv.beta) * support + conv.beta * support @ conv.weight
    assert torch.allclose(seeded(conv, x, graph, x0, rate=RATE), expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: seeded(conv, given[0], graph, given[1], rate=RATE), (x, x0))
    weight = conv.weight
    assert torch.autograd.gradcheck(lambda w: seeded(_with(conv, w), x, graph, x0, rate=RATE), (weight,))


def _with(conv, weight):
    return lambda *given, **known: torch.func.functional_call(conv, {"weight": weight}, given, known)


def test_five_bytes_an_element_are_kept(graph):
    conv, kept = layer(), {}
    x, x0 = tensors()

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        conv(x, graph, x0, rate=RATE)
    assert sum(kept.values()) == 5 * N * C + 4 * C * C


def test_a_branch_hands_its_relu_and_dropout_over_in_training_only(graph):
    branch = Branches(partial(convs.gcn2, theta=0.5, variant="shared"), None, C, "relu", RATE)(
        C, 1, alpha=ALPHA
    ).float()
    x, x0 = tensors()
    called = []
    branch.conv.register_forward_pre_hook(lambda m, a, k: called.append(k), with_kwargs=True)
    dropped = seeded(branch, x, graph, x0)
    assert torch.allclose(dropped, branch.conv(seeded(relu_dropout, x, RATE, True), graph, x0))
    branch(x, graph, x0, mask=torch.ones_like(x))
    branch.eval()
    assert torch.equal(branch(x, graph, x0), branch.conv(x.relu(), graph, x0))
    assert [bool(k) for k in called] == [True, False, False, False, False]


def test_autocast_lowers_the_products_as_before(graph):
    conv, (x, x0) = layer(), tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = seeded(conv, x, graph, x0, rate=RATE)
        expected = conv(seeded(relu_dropout, x, RATE, True), graph, x0)
    assert out.dtype == torch.bfloat16 and torch.equal(out, expected)


def chain(layers=4, theta=0.5, rate=RATE, variant="shared"):
    torch.manual_seed(6)
    branches = Branches(partial(convs.gcn2, theta=theta, variant=variant), None, C, "relu", rate)
    stack = build_stack(partial(residuals.initial, alpha=ALPHA), branches, C, layers).double()
    return stack.train()


def gradients(stack, graph, x, x0, way):
    out = seeded(way, x, graph, x0)
    wanted = [x, x0, *stack.parameters()]
    return [out, *torch.autograd.grad((out * torch.arange(N * C).view(N, C)).sum(), wanted)]


@pytest.mark.parametrize("theta", [0.5, None])
def test_all_layers_at_once_are_the_layers_one_by_one(graph, theta):
    stack, (x, x0) = chain(theta=theta), tensors(torch.float64)
    assert run_chain(list(stack.layers), x, graph, x0) is not None

    def one_by_one(x, graph, x0):
        return result(stack.states(x, graph, x0))

    for whole, single in zip(*(gradients(stack, graph, x, x0, way) for way in (stack, one_by_one)), strict=True):
        assert torch.allclose(whole, single, rtol=1e-12, atol=1e-12)
    assert torch.equal(seeded(stack, x, graph, x0), seeded(one_by_one, x, graph, x0))  # the same masks, bit by bit


def test_all_layers_at_once_by_the_formula(graph):
    stack, (x, x0) = chain(), tensors(torch.float64)
    matrix = graph.operator("sym", torch.float64).matrix.to_dense()
    torch.manual_seed(5)
    h = x
    for number, layer in enumerate(stack.layers, 1):
        mask, keep = keep_mask((N, C), RATE, x.device)
        support = (1 - ALPHA) * matrix @ (h.relu() * mask / keep) + ALPHA * x0
        beta = math.log(0.5 / number + 1)
        h = (1 - beta) * support + beta * support @ layer.conv.weight
    assert torch.allclose(seeded(stack, x, graph, x0), h, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: seeded(stack, given[0], graph, given[1]), (x, x0))


@pytest.mark.parametrize(
    ("why", "variant", "rate"),
    [
        ("two weights", "paper", RATE),
        ("no dropout", "shared", 0.0),
        ("watched", "shared", RATE),
        ("other", "shared", RATE),
    ],
)
def test_layers_that_are_more_than_that_run_one_by_one(graph, why, variant, rate):
    stack, (x, x0), seen = chain(variant=variant, rate=rate), tensors(torch.float64), []
    if why == "watched":
        stack.layers[1].conv.register_forward_hook(lambda *_: seen.append(1))
    if why == "other":
        stack.layers[2].rate = 0.5
    assert run_chain(list(stack.layers), x, graph, x0) is None
    stack(x, graph, x0).sum().backward()
    assert len(seen) == (why == "watched")


def test_dropped_messages_have_their_own_gradient(graph):
    stack, (x, x0) = chain(), tensors(torch.float64)
    thin = drop_messages(graph, 0.4)
    assert run_chain(list(stack.layers), x, thin, x0) is None
    assert torch.autograd.gradcheck(lambda *given: seeded(stack, given[0], thin, given[1]), (x, x0))


def test_a_chain_in_evaluation_is_that_without_dropout(graph):
    stack, (x, x0) = chain(), tensors(torch.float64)
    stack.eval()
    assert run_chain(list(stack.layers), x, graph, x0) is None  # a gradient may be wanted
    given = x.detach().clone(), x0.detach().clone()
    with torch.no_grad():
        whole = run_chain(list(stack.layers), x, graph, x0)
        assert torch.equal(stack(x, graph, x0), whole)
    assert torch.allclose(whole, result(stack.states(x, graph, x0)), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, given[0]) and torch.equal(x0, given[1])
