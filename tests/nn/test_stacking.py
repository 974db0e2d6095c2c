"""Laws of stacked modules: n modules in one compute what they compute apart."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv

from deepgnn_cli.nn.convs import gcn2
from deepgnn_cli.nn.reversible.stack import ReversibleStack
from deepgnn_cli.nn.reversible.stacking import StackedModules, alike, held_by, stack_alike
from tests.nn.reversible_cases import CONVS, NODES, NORMS, WIDTH, branches, one_pass, reads_edges, small_graph, stack_of


@pytest.fixture(autouse=True)
def _float32(_float64):
    torch.set_default_dtype(torch.float32)


def apart(stack: ReversibleStack) -> ReversibleStack:
    """The same branches, each with tensors of its own."""
    modules = nn.ModuleList(copy.deepcopy(branch) for layer in stack.layers for branch in layer)
    return ReversibleStack(modules, stack.groups, exact=stack.exact, store_activations=stack.store_activations)


def assert_same_pass(stack: ReversibleStack, edges: bool) -> None:
    """One training pass gives the same bits: output, every gradient, every buffer, random numbers."""
    twin = apart(stack)
    found, expected = (one_pass(each, masked=False, edges=edges) for each in (stack, twin))
    assert torch.equal(found.output, expected.output) and torch.equal(found.drawn_after, expected.drawn_after)
    count = len(twin.branches)
    for kind in ("gradients", "buffers"):
        of_stack, of_twin = getattr(found, kind), getattr(expected, kind)
        for name, whole in of_stack.items():
            if not name.startswith("branches.template."):
                other = of_twin[name]
                assert whole is other if whole is None or other is None else torch.equal(whole, other), name
                continue
            rows = [of_twin[name.replace("template", str(i))] for i in range(count)]
            assert (whole is None) == all(row is None for row in rows), name
            for row, own in zip(rows, [] if whole is None else whole, strict=whole is not None):
                assert torch.equal(own, torch.zeros_like(own) if row is None else row), name


@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("conv", sorted(set(CONVS) - {"gcn2"}))
def test_a_stack_computes_what_its_modules_do(conv, norm):
    for store in (False, True):
        stack = stack_of(branches(conv, norm), layers=3, store_activations=store)
        assert isinstance(stack.branches, StackedModules) and len(stack.branches) == 6
        assert_same_pass(stack, reads_edges(conv))


@pytest.mark.parametrize("store", [False, True])
def test_a_stack_in_evaluation_and_after_it(store):
    stack = stack_of(branches("gat", "batch"), layers=3, store_activations=store)
    twin = apart(stack)
    x, graph = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64), small_graph()
    for each in (stack, twin):
        torch.manual_seed(2)
        each(x, graph, x)  # moves the running statistics
        each.eval()
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            assert torch.equal(stack(x, graph, x), twin(x, graph, x))
    assert all(torch.equal(a, b) for a, b in zip(stack.inverse(x, graph, x), twin.inverse(x, graph, x), strict=True))


def test_frozen_parameters_of_a_stack_get_no_gradient():
    def made():
        for branch in branches("gcn", "layer"):
            branch.norm.requires_grad_(False)
            yield branch

    stack = stack_of(made(), layers=3)
    assert isinstance(stack.branches, StackedModules)
    assert_same_pass(stack, edges=False)
    assert {p.requires_grad for p in stack.parameters()} == {True, False}
    stack.zero_grad()
    stack.requires_grad_(False)
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
    stack(x, small_graph(), x).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in stack.parameters())


def test_the_modules_are_made_one_by_one_and_none_is_kept():
    living: list[weakref.ref[nn.Module]] = []
    most = 0

    def made():
        nonlocal most
        for _ in range(20):
            module = nn.Linear(3, 3)
            living.append(weakref.ref(module))
            yield module
            del module
            most = max(most, sum(ref() is not None for ref in living))

    stack = stack_alike(made(), 20)
    gc.collect()
    assert most <= 3 and [ref() is not None for ref in living] == [True] + [False] * 19
    assert {name: list(p.shape) for name, p in stack.named_parameters()} == {
        "template.weight": [20, 3, 3],
        "template.bias": [20, 3],
    }


def test_rows_are_the_modules_tensors_in_order_and_share_their_memory():
    modules = [nn.BatchNorm1d(3).requires_grad_(False) for _ in range(4)]
    for number, module in enumerate(modules):
        nn.init.constant_(module.weight, number)
        module.running_mean += number
    stack = stack_alike(modules, 4)
    for number in range(4):
        row = stack.module(number)
        assert (row.weight == number).all() and (row.running_mean == number).all() and not row.weight.requires_grad
        row.weight.data += 10
    assert stack.template.weight[:, 0].tolist() == [10, 11, 12, 13]


def test_weights_tied_within_a_module_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.b.weight = self.a.weight

        def forward(self, x, graph, x0=None, mask=None):
            return self.b(self.a(x).tanh())

    stack = stack_of(Tied, layers=3)
    assert isinstance(stack.branches, StackedModules) and len(list(stack.parameters())) == 3
    assert_same_pass(stack, edges=False)


class Scaled(nn.Linear):
    def __init__(self, what: object) -> None:
        super().__init__(2, 2)
        self.what = what


def _marked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight.decays = False
    return module


def _tied(*pair: int) -> nn.Module:
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    module[pair[1]].weight = module[pair[0]].weight
    return module


def _hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Linear(2, 2), nn.Linear(2, 3)),
        (nn.Linear(2, 2), nn.Linear(2, 2, bias=False)),
        (nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.float64)),
        (nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)),
        (nn.Linear(2, 2), nn.Linear(2, 2).eval()),
        (nn.Linear(2, 2), _hooked()),
        (_marked(), _marked()),
        (_tied(0, 1), _tied(0, 2)),
        (nn.Sequential(*[nn.Linear(2, 2)] * 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False)),
        (nn.Sequential(nn.Tanh()), nn.Sequential(nn.ReLU())),
        (nn.Sequential(nn.Tanh()), nn.Sequential(nn.Tanh(), nn.Tanh())),
        (gcn2(4, 1, theta=0.5, variant="official"), gcn2(4, 2, theta=0.5, variant="official")),
        (Scaled(lambda x: x), Scaled(lambda x: x)),
        (Scaled(torch.ones(2)), Scaled(torch.zeros(2))),
        (Scaled([1, {"a": 2}]), Scaled([1, {"a": 3}])),
        (Scaled(torch.Generator().manual_seed(1)), Scaled(torch.Generator().manual_seed(2))),
        (Scaled(object()), Scaled({})),
    ],
)
def test_modules_that_differ_are_not_stacked(first, second):
    assert not alike(first, second)
    apart = stack_alike([first, second], 2)
    assert list(apart) == [first, second]


@pytest.mark.parametrize("what", [[1, {"a": (2.0, "b")}], torch.ones(2), nn.functional.relu, None, object()])
def test_equal_attributes_are_no_difference(what):
    assert alike(Scaled(what), Scaled(copy.copy(what)))


def test_a_first_operator_of_its_class_is_like_the_others():
    class Fresh(GCNConv):  # what PyG learns of a class it learns from the first instance
        pass

    assert alike(Fresh(2, 2), Fresh(2, 2))


def test_operators_that_wait_for_their_first_input_are_not_stacked():
    assert isinstance(stack_alike([GCNConv(-1, 2), GCNConv(-1, 2)], 2), nn.ModuleList)


@pytest.mark.parametrize("odd", range(5))
def test_one_odd_module_leaves_all_as_they_were(odd):
    def made():
        for number in range(5):
            yield nn.Linear(3, 3, bias=number != odd)

    torch.manual_seed(0)
    expected = list(made())
    torch.manual_seed(0)
    found = stack_alike(made(), 5)
    assert isinstance(found, nn.ModuleList) and len({id(module) for module in found}) == 5
    for ours, module in zip(found, expected, strict=True):
        assert torch.equal(ours.weight, module.weight) and isinstance(ours.weight, nn.Parameter)
        assert (ours.bias is None) == (module.bias is None)


@pytest.mark.parametrize("pair", [(0, 1), (0, 4), (2, 4), (3, 4)])
def test_a_parameter_of_two_modules_stays_one(pair):
    def made():
        shared = nn.Parameter(torch.randn(3, 3))
        for number in range(5):
            module = nn.Linear(3, 3)
            if number in pair:
                module.weight = shared
            yield module

    found = stack_alike(made(), 5)
    a, b = (found[number] for number in pair)
    assert isinstance(found, nn.ModuleList) and a.weight is b.weight
    assert len(list(found.parameters())) == 9


def test_a_stack_travels():
    """Copied, cast, saved and loaded as any module."""
    stack = stack_of(branches("gcn", "batch"), layers=2)
    twin = copy.deepcopy(stack).float()
    assert all(p.dtype == torch.float32 for p in twin.parameters())
    twin.double().load_state_dict(stack.state_dict())
    x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64)
    torch.manual_seed(0)
    out = stack(x, small_graph(), x)
    torch.manual_seed(0)
    assert torch.equal(twin(x, small_graph(), x), out)
    assert len(held_by(stack)) == len(held_by(twin))
