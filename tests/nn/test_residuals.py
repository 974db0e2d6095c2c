"""The wirings against their formulas, with branches that can be computed by hand."""

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv

from deepgnn_cli.nn import deepen, residuals
from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.layer import Branches, IdentityMapping, beta_of, map_identity
from deepgnn_cli.nn.stack import build_stack
from tests.conftest import N
from tests.nn.builders import builder, options

C, L = 8, 3


def branches(norm="layer", rate=0.0, conv="gcn", theta=None):
    return Branches(builder("conv", conv), builder("norm", norm), C, "relu", rate, theta)


def stack_of(residual, *, layers=L, make=None, **knobs):
    return build_stack(builder("residual", residual, **knobs), make or branches(), C, layers)


def convolve(branch, h, normalised):
    return normalised @ h @ branch.conv.linear.weight.t()


def pre(branch, h, normalised):
    """norm → ReLU → conv"""
    return convolve(branch, branch.norm(h).relu(), normalised)


def post(branch, h, normalised):
    """conv → norm → ReLU"""
    return branch.norm(convolve(branch, h, normalised)).relu()


@pytest.fixture
def h0():
    return torch.randn(N, C)


def test_none(graph, normalised, x, h0):
    stack = stack_of("none")
    want = x
    for layer in stack.layers:
        want = pre(layer, want, normalised)
    assert torch.allclose(stack(x, graph, h0), want)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_initial(graph, normalised, x, h0, alpha):
    stack = stack_of("initial", alpha=alpha)
    want = x
    for layer in stack.layers:
        want = (1 - alpha) * pre(layer, want, normalised) + alpha * h0
    assert torch.allclose(stack(x, graph, h0), want)


def test_initial_is_mixed_inside_a_conv_that_takes_it(graph, normalised, x, h0):
    stack = stack_of("initial", alpha=0.2, make=branches("none", conv="gcn2"))
    want = x
    for number, layer in enumerate(stack.layers, 1):
        beta = beta_of(0.5, number)
        support = 0.8 * normalised @ want.relu() + 0.2 * h0
        want = (1 - beta) * support + beta * support @ layer.conv.weight
    assert torch.allclose(stack(x, graph, h0), want)


@pytest.mark.parametrize(("conv", "alpha"), [("gcn2", 0.1), ("gcn", 0.5)])
def test_initial_without_a_share_takes_the_papers_inside_a_conv_and_half_around_one(conv, alpha):
    (layer,) = stack_of("initial", layers=1, alpha=None, make=branches("none", conv=conv)).layers
    assert layer.alpha == alpha


@pytest.mark.parametrize("name", options("residual"))
def test_the_states_end_in_what_the_forward_pass_returns(name, graph, x, h0):
    stack = stack_of(name)
    states = stack.states(x, graph, h0)
    assert len(list(states)) == L
    assert torch.allclose(residuals.result(stack.states(x, graph, h0)), stack(x, graph, h0))


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_res(graph, normalised, x, h0, alpha):
    stack = stack_of("res", alpha=alpha)
    want = x
    for layer in stack.layers:
        inner = (1 - alpha) * convolve(layer.branch, want, normalised) + alpha * h0
        want = want + layer.branch.norm(inner).relu()
    assert torch.allclose(stack(x, graph, h0), want)
    assert stack.tail == "drop"


@pytest.mark.parametrize("drop", ["branch", "stream"])
def test_res_drops_what_it_is_told_to(graph, x, h0, drop):
    stack = stack_of("res", layers=1, make=branches(rate=0.5), drop=drop)
    torch.manual_seed(5)
    mask, keep = keep_mask((N, C), 0.5, x.device)
    torch.manual_seed(5)
    out = stack(x, graph, h0)
    (layer,), kept = stack.eval().layers, mask / keep
    want = x + kept * layer.branch(x, graph, h0) if drop == "branch" else stack(x * kept, graph, h0)
    assert torch.allclose(out, want)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_res_plus(graph, normalised, x, h0, alpha):
    stack = stack_of("res_plus", alpha=alpha)
    first, *others = stack.layers
    assert first.norm is None
    want = (1 - alpha) * convolve(first, x, normalised) + alpha * h0
    for layer in others:
        want = want + (1 - alpha) * pre(layer.branch, want, normalised) + alpha * h0
    assert torch.allclose(stack(x, graph, h0), want)


def test_dense(graph, normalised, x, h0):
    stack = stack_of("dense")
    want = x
    for layer in stack.layers:
        want = torch.cat([want, pre(layer.branch, want, normalised)], 1)
    assert torch.allclose(stack(x, graph, h0), want)
    assert stack.out_channels == want.size(1) == C * (L + 1)


@pytest.mark.parametrize("mode", ["cat", "max"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_jumping(graph, normalised, x, h0, mode, alpha):
    stack = stack_of("jumping", mode=mode, alpha=alpha)
    h, seen = x, []
    for layer in stack.layers:
        h = layer.norm((1 - alpha) * convolve(layer, h, normalised) + alpha * h0).relu()
        seen.append(h)
    want = torch.cat(seen, 1) if mode == "cat" else torch.stack(seen).max(0).values
    assert torch.allclose(stack(x, graph, h0), want)
    assert stack.out_channels == want.size(1)


def test_jumping_by_lstm_weighs_the_layers_of_each_node(graph, x, h0):
    stack = stack_of("jumping", mode="lstm")
    layers = torch.stack(list(stack.states(x, graph, h0)))  # [L, N, C]
    out = stack(x, graph, h0)
    assert out.shape == (N, C) and stack.out_channels == C
    assert (out <= layers.max(0).values + 1e-12).all() and (out >= layers.min(0).values - 1e-12).all()


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_reversible(graph, normalised, x, h0, groups, alpha, beta):
    """y0 = x2 + … + xG;  y_i = x_i + L^-β f_i(y_{i-1})"""
    stack = stack_of("reversible", groups=groups, alpha=alpha, depth_scaling=beta)
    share = len(stack.layers) ** -beta
    parts, starts = list(x.chunk(groups, 1)), h0.chunk(groups, 1)
    for layer in stack.layers:
        previous = sum(parts[1:])
        for i, branch in enumerate(layer):
            f = (1 - alpha) * pre(branch, previous, normalised) + alpha * starts[i]
            previous = parts[i] + share * f
            parts[i] = previous
    assert torch.allclose(stack(x, graph, h0), torch.cat(parts, 1))


def test_reversible_groups_start_with_different_weights():
    for layer in stack_of("reversible").layers:
        first, second = (branch.conv.linear.weight for branch in layer)
        assert not torch.equal(first, second)


@pytest.mark.parametrize("store", [False, True])
def test_reversible_layers_share_one_dropout_mask_split_over_the_groups(graph, normalised, x, h0, store):
    stack = stack_of("reversible", make=branches(rate=0.5), store_activations=store)
    torch.manual_seed(5)
    mask, keep = keep_mask((N, C), 0.5, x.device)
    masks = (mask / keep).chunk(2, 1)
    torch.manual_seed(5)
    out = stack(x, graph, h0)
    parts = list(x.chunk(2, 1))
    for layer in stack.layers:
        previous = parts[1]
        for i, branch in enumerate(layer):
            f = convolve(branch, branch.norm(previous).relu() * masks[i], normalised)
            previous = parts[i] + f / len(stack.layers)
            parts[i] = previous
    assert torch.allclose(out, torch.cat(parts, 1))


@pytest.mark.parametrize("shared_mask", [True, False])
def test_reversible_gradients_equal_stored_ones(graph, x, h0, shared_mask):
    gradients = []
    for store in (False, True):
        torch.manual_seed(1)
        stack = stack_of("reversible", make=branches(rate=0.5), shared_mask=shared_mask, store_activations=store)
        start = x.clone().requires_grad_()
        torch.manual_seed(2)
        stack(start, graph, h0).square().sum().backward()
        gradients.append([start.grad, *(p.grad for p in stack.parameters())])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_without_a_shared_mask_each_layer_draws_its_own(graph, x, h0):
    stack = stack_of("reversible", make=branches(rate=0.5), shared_mask=False)
    torch.manual_seed(1)
    first = stack(x, graph, h0)
    torch.manual_seed(1)
    again = stack(x, graph, h0)
    stack.shared_mask = True
    torch.manual_seed(1)
    assert torch.equal(first, again) and not torch.allclose(stack(x, graph, h0), first)


@pytest.mark.parametrize("residual", ["dense", "jumping", "reversible", "none"])
def test_no_layers_leave_the_stream_alone(graph, x, h0, residual):
    stack = stack_of(residual, layers=0)
    assert stack(x, graph, h0) is x and stack.out_channels == C


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match="residual.alpha must be a number of at least 0 and at most 1"):
        stack_of("initial", alpha=1.5)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"act": "swish"}, "act=swish is not one of relu"), ({"rate": 1.0}, "dropout=1.0 is not a rate")],
)
def test_a_wrong_activation_or_rate_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        Branches(builder("conv", "gcn"), None, C, **({"act": "relu", "rate": 0.0} | knobs))


def test_identity_mapping():
    weight = torch.randn(4, 4)
    assert torch.allclose(IdentityMapping(0.3)(weight), 0.7 * torch.eye(4) + 0.3 * weight)


def test_identity_mapping_is_put_on_square_weights_only():
    conv = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 6), nn.BatchNorm1d(6))
    before, other = conv[0].weight.clone(), conv[1].weight.clone()
    map_identity(conv, 0.25)
    assert torch.allclose(conv[0].weight, 0.75 * torch.eye(4) + 0.25 * before)
    assert torch.equal(conv[1].weight, other)


def test_the_deeper_the_layer_the_closer_its_weight_to_the_identity(graph, normalised, x, h0):
    stack = stack_of("none", make=branches("none", theta=0.5))
    want = x
    for number, layer in enumerate(stack.layers, 1):
        lin = layer.conv.linear
        beta = beta_of(0.5, number)
        mapped = (1 - beta) * torch.eye(C) + beta * lin.parametrizations.weight.original
        want = normalised @ want.relu() @ mapped.t()
    assert torch.allclose(stack(x, graph, h0), want)


def test_the_room_holds_a_builder_for_every_yaml():
    for name in options("residual"):
        made = builder("residual", name).func
        assert made.__name__ == name and made.__module__.startswith("deepgnn_cli.nn.")


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("name", [name for name in options("residual") if name != "reversible"])
def test_gradient_checkpointing_changes_no_number_of_any_wiring(name, every, x, graph):
    def gradients(k):
        torch.manual_seed(3)
        operator = lambda c: GCNConv(c, c)  # noqa: E731
        body = deepen(operator, 8, 5, residual=name, norm="batch", dropout=0.3, checkpoint_every=k)
        out = body(x, graph.edge_index)
        return out, torch.autograd.grad(out.square().sum(), list(body.parameters())), body.state_dict()

    (plain, stored, before), (same, recomputed, after) = gradients(0), gradients(every)
    assert torch.equal(plain, same)
    for a, b in zip(stored, recomputed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_gradient_checkpointing_of_a_reversible_stack_is_refused():
    with pytest.raises(ValueError, match="gradient checkpointing does not apply"):
        deepen(lambda c: GCNConv(c, c), 8, 2, residual="reversible", checkpoint_every=1)
