"""What a GPU is asked a pass later, so that no step waits: played on a CPU, which could be asked at once."""

import copy
from functools import partial

import pytest
import torch
from torch_geometric.nn import aggr

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.aggregation import operators, softmax
from deepgnn_cli.nn.late import LateCheck, LateNumber
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.residuals import reversible
from deepgnn_cli.nn.reversible.stack import ReversibleStack
from tests.conftest import N, undirected
from tests.nn.builders import builder
from tests.rehearsal.device import META, rehearsal


def test_a_check_looks_at_once_on_a_cpu_and_elsewhere_a_pass_later_or_when_asked():
    seen: list[float] = []
    check = LateCheck()
    check.look(torch.tensor(3.0), seen.append)
    assert seen == [3.0]
    with rehearsal() as notes:
        check.look(torch.empty((), device=META), seen.append)
        assert len(seen) == 1
        check.look(torch.empty((), device=META), seen.append)
        assert len(seen) == 2
        check.settle()
        check.settle()
    assert len(seen) == 3 and not notes.waits


def test_a_late_number_is_what_it_was_and_travels_in_copies():
    number = torch.tensor(2.0)
    late = LateNumber(number.clone())
    number.fill_(5.0)
    assert late.read() == copy.deepcopy(late).read() == 2.0
    check = LateCheck()
    check._waiting = late, print
    assert copy.deepcopy(check)._waiting is None


@pytest.fixture
def late(monkeypatch):
    """On a CPU checks are late, too."""

    def look(self, number, judge):
        self.settle()
        self._waiting = LateNumber(number), judge

    monkeypatch.setattr(LateCheck, "look", look)


class Restless(torch.nn.Module):
    """Another result at every evaluation."""

    def forward(self, x, graph, x0=None, mask=None):
        return x * float(torch.rand(()) if self.training else 1) + torch.randn(1, generator=DRAW)


DRAW = torch.Generator()


def stack(branches, **settings):
    return ReversibleStack(torch.nn.ModuleList(branches), 2, store_activations=False, **settings)


def step(made, x):
    made(x.requires_grad_(), None).sum().backward()


def test_a_branch_that_cannot_be_repeated_is_found_in_the_next_step_or_before_an_evaluation(late, x):
    for found in (lambda made: step(made, x), lambda made: torch.no_grad()(made)(x, None)):
        made = stack([Restless(), Restless()], exact=False)
        step(made, x)
        with pytest.raises(ValueError, match="do not find their input again"):
            found(made)


def test_an_exact_stream_out_of_range_is_found_in_the_next_step_or_before_an_evaluation(late, x):
    for found in (lambda made: step(made, x), lambda made: torch.no_grad()(made)(x, None)):
        made = stack([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)], exact=True)
        made.branches = torch.nn.ModuleList(map(Called, made.branches))
        step(made, x * 1e6)
        with pytest.raises(FloatingPointError, match="residual.exact=true: the stream reached"):
            found(made)


class Called(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, graph, x0=None, mask=None):
        return self.inner(x)


@pytest.fixture
def unwaiting(monkeypatch):
    """The softmax must not look at its range; the ways it took are listed."""
    ways = []
    monkeypatch.setattr(softmax, "_waits_for_nothing", lambda device: False)
    for name in ("_fast", "_blocks"):
        own = getattr(softmax, name)
        monkeypatch.setattr(softmax, name, lambda *args, own=own, name=name: ways.append(name) or own(*args))
    return ways


def test_the_range_of_the_call_before_decides_and_every_value_is_that_of_pyg(unwaiting):
    """Half of the limit is enough for the products; from there on, and at first, by blocks."""
    edges = Adjacency(undirected(), N).edges()
    how = aggr.SoftmaxAggregation(t=1.0)
    x = torch.randn(N, 8)
    x = x / (x.amax(0) - x.amin(0))
    for spread in (1, 1, 299, 301, 301, 599, 1, 1):
        message = x * spread
        expected = how(message[edges.source.long()], edges.target.long(), dim_size=N)
        torch.testing.assert_close(operators.aggregate(how, message, edges), expected, rtol=1e-9, atol=1e-12)
    assert unwaiting == [
        "_blocks", "_fast", "_fast", "_fast", "_blocks", "_blocks", "_blocks", "_fast",
    ]  # fmt: skip


def test_a_second_evaluation_takes_the_way_of_the_first(unwaiting):
    """Also where the ranges lie on both sides of what is enough: reversible gradients are those stored."""
    make = Branches(builder("conv", "gen"), builder("norm", "layer"), 4, "relu", 0.0)
    graph, x = Adjacency(undirected(), N), torch.randn(N, 8)
    gradients = []
    for stored in (False, True):
        torch.manual_seed(0)
        made = partial(reversible, groups=2, exact=False, shared_mask=False, alpha=0.0, depth_scaling=1.0)(
            make, 8, 3, store_activations=stored
        )
        found = []
        for scale in (1.0, 1.0, 1e4, 1.0):
            leaf = (x * scale).requires_grad_()
            found += torch.autograd.grad(made(leaf, graph, None).square().sum(), [leaf, *made.parameters()])
        gradients.append(found)
        ways, unwaiting[:] = list(unwaiting), []
    assert {"_fast", "_blocks"} <= set(ways)
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-9)
