"""Laws of the reversible stack: it is the stored network, in less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from deepgnn_cli.nn.dropout import drop_edges, dropout
from deepgnn_cli.nn.reversible.stack import ReversibleStack, check_groups
from tests.nn.reversible_cases import (
    CONVS,
    NODES,
    NORMS,
    WIDTH,
    branches,
    one_pass,
    reads_edges,
    relative_error,
    small_graph,
    stack_of,
    stored,
)


@pytest.fixture(autouse=True)
def _float32(_float64):
    """Sizes and precisions are named where they matter; what names none is in torch's own default."""
    torch.set_default_dtype(torch.float32)


class Plain(nn.Module):
    """norm → relu → linear → propagate, with or without dropout of its own."""

    def __init__(self, rate: float = 0.0, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm or nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.rate = rate

    def forward(self, x, graph, x0=None, mask=None):
        h = dropout(self.norm(x).relu(), self.rate, self.training)
        h = h if mask is None else h * mask
        h = self.linear(h)
        h = graph.operator("mean", h.dtype if h.dtype == torch.float64 else torch.float32)(h)
        return h if x0 is None else h + 0.1 * x0


class AttentionAndDropEdge(nn.Module):
    """GAT with attention dropout on a graph thinned by DropEdge: all the randomness there is, inside the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GATConv(WIDTH, WIDTH, heads=2, concat=False, dropout=0.5, edge_dim=3)
        self.drop = nn.Dropout(0.3)

    def forward(self, x, graph, x0=None, mask=None):
        thin = drop_edges(graph, 0.3, 0.1) if self.training else graph
        return self.drop(self.conv(x, thin.edge_index, thin.edge_attr))


class Identity(nn.Module):
    def forward(self, x, graph, x0=None, mask=None):
        return x


class Shift(nn.Module):
    """A bias as large as the stream: autograd hands its gradient on without a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(NODES, WIDTH))

    def forward(self, x, graph, x0=None, mask=None):
        return x + self.bias


class Constant(nn.Module):
    def forward(self, x, graph, x0=None, mask=None):
        return torch.full_like(x, 0.25)


@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("conv", sorted(CONVS))
def test_gradients_equal_stored_ones_for_every_conv_and_norm(conv, norm):
    stack = stack_of(branches(conv, norm), layers=3)
    edges = reads_edges(conv)
    expected, found = one_pass(stored(stack), masked=False, edges=edges), one_pass(stack, masked=False, edges=edges)
    assert relative_error(found, expected) < 1e-9
    assert torch.allclose(found.output, expected.output, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_gradients_equal_stored_ones_for_any_number_of_groups(groups, exact, scale):
    stack = stack_of(lambda: Plain(rate=0.4), layers=4, groups=groups, scale=scale, exact=exact)
    expected, found = one_pass(stored(stack)), one_pass(stack)
    assert relative_error(found, expected) < 1e-9
    for name in ("x", "x0", "mask"):
        assert found.gradients[name].abs().sum() > 0


@pytest.mark.parametrize("store_activations", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_one_layer_its_inverse_and_its_gradient_are_the_equation_of_the_paper(scale, exact, store_activations):
    """y_0 = x_2 + x_3; y_i = x_i + s f_i(y_{i-1}), written out; on the grid, up to its rounding."""
    stack = stack_of(Plain, layers=1, groups=3, scale=scale, exact=exact, store_activations=store_activations)
    graph, x = small_graph(), torch.randn(NODES, 3 * WIDTH, dtype=torch.float64, requires_grad=True)
    x1, x2, x3 = x.chunk(3, dim=1)
    f1, f2, f3 = stack.layers[0]
    y1 = x1 + scale * f1(x2 + x3, graph)
    y2 = x2 + scale * f2(y1, graph)
    y3 = x3 + scale * f3(y2, graph)
    expected, found = torch.cat([y1, y2, y3], dim=1), stack(x, graph)
    atol = 1e-10 if exact else 1e-13
    assert torch.allclose(found, expected, rtol=0, atol=atol)
    assert torch.allclose(stack.inverse(found.detach(), graph), x, rtol=0, atol=atol)
    at = torch.randn_like(x)
    (given,), (wanted,) = torch.autograd.grad(found, x, at), torch.autograd.grad(expected, x, at)
    assert torch.allclose(given, wanted, rtol=1e-9, atol=1e-9)


def test_randomness_inside_a_branch_is_replayed():
    stack = stack_of(AttentionAndDropEdge, layers=5)
    expected, found = one_pass(stored(stack)), one_pass(stack)
    assert relative_error(found, expected) < 1e-9
    assert found.gradients["edge_attr"].abs().sum() > 0


def test_the_global_random_stream_is_not_disturbed():
    stack = stack_of(lambda: Plain(rate=0.5), layers=3)
    x, graph = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True), small_graph()
    torch.manual_seed(3)
    loss = stack(x, graph).sum()
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    stored(stack)(x, graph)
    assert torch.equal(before, torch.get_rng_state()), "stored and reversible draw the same numbers"


def test_branches_and_steps_draw_different_numbers():
    seen: list[Tensor] = []

    class Draws(nn.Module):
        def forward(self, x, graph, x0=None, mask=None):
            seen.append(torch.rand(3))
            return x * 0

    stack = stack_of(Draws, layers=4)
    x = torch.zeros(NODES, 2 * WIDTH, dtype=torch.float64)
    with torch.no_grad():
        stack(x, None)
        stack(x, None)
    assert len({tuple(numbers.tolist()) for numbers in seen}) == 16


def test_evaluation_draws_nothing():
    stack = stack_of(lambda: Plain(rate=0.5), layers=2).eval()
    x, graph = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True), small_graph()
    before = torch.get_rng_state()
    with_gradient = stack(x, graph)
    with torch.no_grad():
        without = stack(x, graph)
    with torch.inference_mode():
        inferred = stack(x, graph)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(with_gradient, without) and torch.equal(without, inferred)
    assert with_gradient.requires_grad and not without.requires_grad


def test_gradients_in_evaluation_mode():
    stack = stack_of(branches("gat", "batch"), layers=3)
    one_pass(stack)
    stack.zero_grad()
    stack.eval()
    assert relative_error(one_pass(stack), one_pass(stored(stack))) < 1e-9


def test_dropout_modules_alone_in_training_mode_are_replayed():
    stack = stack_of(AttentionAndDropEdge, layers=3).eval()
    for module in stack.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    assert relative_error(one_pass(stack), one_pass(stored(stack))) < 1e-9


def test_batch_statistics_are_counted_once_a_step():
    stack = stack_of(lambda: Plain(norm=nn.BatchNorm1d(WIDTH)), layers=3)
    twin = stored(stack)
    for step in (1, 2):
        expected, found = one_pass(twin), one_pass(stack)
        for name, buffer in expected.buffers.items():
            assert torch.allclose(found.buffers[name], buffer, rtol=1e-12), name
        counts = [b.item() for name, b in found.buffers.items() if name.endswith("num_batches_tracked")]
        assert counts == [step] * 6


def test_buffers_are_the_same_objects_after_a_step():
    stack = stack_of(lambda: Plain(norm=nn.BatchNorm1d(WIDTH)), layers=2)
    before = {name: id(buffer) for name, buffer in stack.named_buffers()}
    one_pass(stack)
    assert before == {name: id(buffer) for name, buffer in stack.named_buffers()}


@pytest.mark.parametrize("exact", [False, True])
def test_autocast_is_restored_in_the_backward_pass(exact):
    """The second evaluation runs in the forward pass's 16 bits, though backward() is called outside autocast."""
    dtypes: list[torch.dtype] = []

    class Spy(Plain):
        def forward(self, x, graph, x0=None, mask=None):
            dtypes.append(self.linear(x).dtype)
            return super().forward(x, graph, x0, mask)

    stack = stack_of(Spy, layers=4, dtype=torch.float32, exact=exact)
    twin = stored(stack)
    x, graph = torch.randn(NODES, 2 * WIDTH), small_graph(torch.float32)
    gradients = []
    for network in (stack, twin):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = network(leaf, graph)
        assert out.dtype == torch.float32
        out.sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in network.parameters())])
    assert set(dtypes) == {torch.bfloat16}
    for found, expected in zip(*gradients, strict=True):
        tolerance = 0 if exact else 0.02 * expected.abs().max()
        assert (found - expected).abs().max() <= tolerance


def test_backward_inside_autocast_finds_weights_that_need_gradients():
    class Dense(nn.Linear):
        def forward(self, x, graph, x0=None, mask=None):
            return super().forward(x).tanh()

    stack = stack_of(lambda: Dense(WIDTH, WIDTH), layers=2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stack(torch.randn(NODES, 2 * WIDTH), None).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stack.parameters())


def test_a_stream_that_autocast_made_coarse_is_widened_again():
    stack = stack_of(Plain, layers=2, dtype=torch.float32)
    encoder, graph = nn.Linear(5, 2 * WIDTH), small_graph(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = encoder(torch.randn(NODES, 5))
        assert h.dtype == torch.bfloat16
        out = stack(h, graph)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert encoder.weight.grad is not None


def test_a_stream_in_16_bits_is_refused_with_a_remedy():
    stack = stack_of(Plain, layers=2, dtype=torch.bfloat16)
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="autocast.*store_activations"):
        stack(x, small_graph(torch.bfloat16))


def test_frozen_parameters_get_no_gradient_and_others_their_own():
    stack = stack_of(lambda: Plain(rate=0.2), layers=4)
    for layer in (0, 1, 2):
        for branch in stack.layers[layer]:
            branch.requires_grad_(False)
    stack.layers[3][0].linear.bias.requires_grad_(False)
    expected, found = one_pass(stored(stack)), one_pass(stack)
    assert relative_error(found, expected) < 1e-9
    for name, gradient in expected.gradients.items():
        assert (gradient is None) == (found.gradients[name] is None), name


def test_layers_below_the_lowest_trained_one_are_not_evaluated_again():
    calls = []

    class Counted(Plain):
        def forward(self, x, graph, x0=None, mask=None):
            calls.append(self)
            return super().forward(x, graph, x0, mask)

    stack = stack_of(Counted, layers=5)
    for layer in range(3):
        for branch in stack.layers[layer]:
            branch.requires_grad_(False)
    stack(torch.randn(NODES, 2 * WIDTH, dtype=torch.float64), small_graph()).sum().backward()
    assert len(calls) == 10 + 4


def test_every_branch_is_evaluated_twice_a_step():
    calls = []

    class Counted(Plain):
        def forward(self, x, graph, x0=None, mask=None):
            calls.append(self)
            return super().forward(x, graph, x0, mask)

    one_pass(stack_of(Counted, layers=6, groups=3))
    assert len(calls) == 2 * 6 * 3


@pytest.mark.parametrize("branch", [Identity, Shift, Constant])
def test_branches_without_parameters_or_that_hand_gradients_through(branch):
    mixed = iter([branch(), Plain(), Plain(), branch(), branch(), branch()])
    stack = stack_of(mixed, layers=3)
    expected, found = one_pass(stored(stack)), one_pass(stack)
    assert relative_error(found, expected) < 1e-9


def test_only_branches_without_parameters():
    stack = stack_of(Identity, layers=3)
    assert relative_error(one_pass(stack), one_pass(stored(stack))) < 1e-12


def test_one_branch_shared_by_all_layers_and_groups():
    branch = Plain(rate=0.3)
    stack = stack_of(lambda: branch, layers=4)
    assert relative_error(one_pass(stack), one_pass(stored(stack))) < 1e-9


def test_two_passes_through_the_same_weights_before_the_backward_pass():
    stack = stack_of(lambda: Plain(rate=0.3, norm=nn.BatchNorm1d(WIDTH)), layers=3)
    found = {}
    for network in (stack, stored(stack)):
        graph, x = small_graph(), torch.linspace(-1, 1, NODES * 2 * WIDTH, dtype=torch.float64).view(NODES, -1)
        torch.manual_seed(5)
        a, b = network(x, graph, x), network(-x, graph)
        (a.square().sum() + (a * b).sum()).backward()
        found[network] = [p.grad for p in network.parameters()]
    for ours, expected in zip(*found.values(), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_a_stack_may_be_applied_to_its_own_output():
    stack = stack_of(Plain, layers=2)
    found = []
    for network in (stack, stored(stack)):
        x = torch.sin(torch.arange(NODES * 2.0 * WIDTH, dtype=torch.float64)).view(NODES, -1).requires_grad_()
        network(network(x, small_graph()), small_graph()).square().sum().backward()
        found.append([x.grad, *(p.grad for p in network.parameters())])
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9)


def test_gradients_accumulate_over_steps():
    stack = stack_of(lambda: Plain(rate=0.3), layers=3)
    once = {name: g.clone() for name, g in one_pass(stack).gradients.items() if name in dict(stack.named_parameters())}
    twice = one_pass(stack).gradients
    for name, gradient in once.items():
        assert torch.allclose(twice[name], 2 * gradient, rtol=1e-12)


def test_the_graph_may_be_kept_and_walked_again():
    stack = stack_of(lambda: Plain(rate=0.3), layers=3)
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
    out = stack(x, small_graph())
    first = torch.autograd.grad(out.sum(), [x, *stack.parameters()], retain_graph=True)
    second = torch.autograd.grad(out.sum(), [x, *stack.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


def test_second_derivatives_are_refused():
    stack = stack_of(Plain, layers=2)
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (gradient,) = torch.autograd.grad(stack(x, small_graph()).square().sum(), x, create_graph=True)
        gradient.sum().backward()


def test_a_weight_changed_between_the_passes_is_noticed():
    stack = stack_of(Plain, layers=2)
    loss = stack(torch.randn(NODES, 2 * WIDTH, dtype=torch.float64), small_graph()).sum()
    with torch.no_grad():
        next(stack.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


def test_a_hook_on_a_parameter_sees_its_gradient_once():
    stack = stack_of(Plain, layers=2)
    plain = one_pass(copy.deepcopy(stack))
    seen = []
    name, parameter = next(iter(stack.named_parameters()))
    parameter.register_hook(lambda gradient: seen.append(1) or gradient * 0.5)
    assert torch.allclose(one_pass(stack).gradients[name], 0.5 * plain.gradients[name])
    assert len(seen) == 1


def test_weights_put_in_by_functional_call_get_the_gradients():
    stack = stack_of(Plain, layers=2)
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64)
    found = []
    for network in (stack, stored(stack)):
        weights = {name: (p.detach() * 1.5).requires_grad_() for name, p in network.named_parameters()}
        out = torch.func.functional_call(network, weights, (x, small_graph()))
        found.append(torch.autograd.grad(out.square().sum(), list(weights.values())))
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9)


def test_inputs_survive_and_keep_their_values():
    stack = stack_of(lambda: Plain(rate=0.3), layers=3)
    for rows in (1, NODES):
        ring = torch.arange(rows)
        graph = type(small_graph())(torch.stack([ring, (ring + 1) % rows]), rows)
        x = torch.randn(rows, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
        inputs = [x, x.detach().clone(), torch.ones_like(x)]
        before = [tensor.detach().clone() for tensor in inputs]
        out = stack(inputs[0], graph, inputs[1], inputs[2])
        kept = out.detach().clone()
        out.sum().backward()
        with torch.no_grad():
            stack(inputs[0], graph, inputs[1], inputs[2])
        assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))
        assert torch.equal(out, kept), "the output is read by others, too"


def test_x_may_serve_as_x0_as_well():
    stack = stack_of(Plain, layers=3)
    found = []
    for network in (stack, stored(stack)):
        x = torch.sin(torch.arange(NODES * 2.0 * WIDTH, dtype=torch.float64)).view(NODES, -1).requires_grad_()
        network(x, small_graph(), x).square().sum().backward()
        found.append(x.grad)
    assert torch.allclose(*found, rtol=1e-9)


def test_states_are_the_stream_after_each_layer():
    stack = stack_of(Plain, layers=3).eval()
    x, graph = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64), small_graph()
    with torch.no_grad():
        states = list(stack.states(x, graph, x))
        assert torch.equal(states[-1], stack(x, graph, x))
        shallow = ReversibleStack(nn.ModuleList(stack.layers[0]), 2, exact=False, store_activations=False).eval()
        assert len(states) == 3 and torch.equal(states[0], shallow(x, graph, x))


@pytest.mark.parametrize(
    ("channels", "groups", "message"),
    [
        (65, 2, "hidden=65 is not divisible by residual.groups=2; try hidden=64"),
        (2, 3, "hidden=2 is not divisible by residual.groups=3; try hidden=3"),
        (64, 1, "residual.groups=1.*try residual.groups=2"),
        (64, 0, "residual.groups=0.*at least 2"),
    ],
)
def test_channels_that_do_not_split_are_refused_with_a_remedy(channels, groups, message):
    with pytest.raises(ValueError, match=message):
        check_groups(channels, groups)


def test_a_stream_that_does_not_split_is_refused():
    stack = stack_of(Plain, layers=1)
    with pytest.raises(ValueError, match="hidden=9 is not divisible"):
        stack(torch.zeros(NODES, 9, dtype=torch.float64), small_graph())
    with pytest.raises(ValueError, match="x0 is"):
        stack(torch.zeros(NODES, 8, dtype=torch.float64), small_graph(), torch.zeros(NODES, 4, dtype=torch.float64))


def test_branches_that_cannot_be_undone_are_refused():
    class Grows(nn.Module):
        def forward(self, x, graph, x0=None, mask=None):
            return torch.cat([x, x], dim=1)

    class Overwrites(nn.Module):
        def forward(self, x, graph, x0=None, mask=None):
            return nn.functional.relu(x, inplace=True) * 2

    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
    for branch, message in ((Grows, "keep the size"), (Overwrites, "inplace=False")):
        with pytest.raises(ValueError, match=message):
            stack_of(branch, layers=2)(x * 1, None)
    with pytest.raises(ValueError, match="keep the size"):
        stack_of(Grows, layers=2, store_activations=True)(x * 1, None)
