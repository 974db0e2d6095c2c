"""The check of the reversible engine that `deepgnn doctor` runs on the user's own machine.

N nodes, E edges, C channels, G groups, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from deepgnn_cli.measure.timing import StepTimer
from deepgnn_cli.nn import convs, norms
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.reversible.stack import ReversibleStack

_NODES, _EDGES, _CHANNELS, _GROUPS, _LAYERS = 1_000, 8_000, 64, 2, 64
_ROUNDS = 3


@dataclass(frozen=True)
class SelfCheck:
    """Reversible gradients against stored ones: |difference| / |stored|, all gradients taken as one vector.

    `step_time_ratio` is the reversible step's time over the stored one's, each the median of a few.
    """

    layers: int
    float64_error: float
    float32_error: float
    exact_error: float
    step_time_ratio: float

    @property
    def ok(self) -> bool:
        """Whether the gradients agree as far as the arithmetic lets them."""
        return self.float64_error < 1e-9 and self.float32_error < 1e-2 and self.exact_error == 0


def reversible_selfcheck(device: torch.device) -> SelfCheck:
    """Compare a reversible GCN (LayerNorm, dropout) with its stored twin on `device`; takes a few seconds.

    The program's random stream stands afterwards where it stood.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        errors = {
            (dtype, exact): _error(device, dtype, exact)
            for dtype, exact in ((torch.float64, False), (torch.float32, False), (torch.float32, True))
        }
        return SelfCheck(
            layers=_LAYERS,
            float64_error=errors[torch.float64, False],
            float32_error=errors[torch.float32, False],
            exact_error=errors[torch.float32, True],
            step_time_ratio=_ratio(device),
        )


def _error(device: torch.device, dtype: torch.dtype, exact: bool) -> float:
    expected = _gradients(*_problem(device, dtype, exact=exact, store_activations=True))
    found = _gradients(*_problem(device, dtype, exact=exact, store_activations=False))
    return float((found - expected).norm() / expected.norm())


def _ratio(device: torch.device) -> float:
    problems = [_problem(device, torch.float32, exact=False, store_activations=stored) for stored in (False, True)]
    timer = StepTimer(device)
    for problem in problems * (_ROUNDS + 1):
        with timer:
            _gradients(*problem)
    seconds = timer.seconds()[2:]  # the first step of each warms up
    return median(seconds[0::2]) / median(seconds[1::2])


def _problem(
    device: torch.device, dtype: torch.dtype, *, exact: bool, store_activations: bool
) -> tuple[ReversibleStack, Tensor, Adjacency]:
    """Always the same weights, features [N, C] and graph."""
    torch.manual_seed(0)
    make = Branches(partial(convs.gcn, bias=True), norms.layer, _CHANNELS // _GROUPS, "relu", 0.2)
    branches = (make(_CHANNELS // _GROUPS, layer) for layer in range(1, _LAYERS + 1) for _ in range(_GROUPS))
    stack = ReversibleStack(nn.ModuleList(branches), _GROUPS, exact=exact, store_activations=store_activations)
    x, edge_index = torch.randn(_NODES, _CHANNELS), torch.randint(0, _NODES, (2, _EDGES))
    return stack.to(device, dtype), x.to(device, dtype), Adjacency(edge_index.to(device), _NODES)


def _gradients(stack: ReversibleStack, x: Tensor, graph: Adjacency) -> Tensor:
    """One step's gradients of the input and of all weights, as one vector."""
    torch.manual_seed(1)
    leaf = x.clone().requires_grad_()
    found = torch.autograd.grad(stack(leaf, graph).square().mean(), [leaf, *stack.parameters()])
    return torch.cat([gradient.flatten() for gradient in found])
