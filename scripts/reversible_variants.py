"""The five ways to run one reversible network, for the benchmark and the GPU check.

Needs torch, PyG, deepgnn_cli's nn, measure and training.

N nodes, E edges, C channels, G groups, L layers.
"""

from __future__ import annotations

import copy
import gc
import time
import traceback
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.rev_gnn import GroupAddRev

from deepgnn_cli.measure import PeakMemory, SavedTensors
from deepgnn_cli.measure.timing import StepTimer
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.checkpointing import run_layers
from deepgnn_cli.nn.reversible.stack import ReversibleStack
from deepgnn_cli.training.errors import status_of

VARIANTS = ("stored", "checkpointed", "GroupAddRev", "reversible", "exact")


class Block(nn.Module):
    """LayerNorm, ReLU, [dropout], Linear, sparse product: [N, C / G] -> [N, C / G]."""

    def __init__(self, width: int, rate: float = 0.0) -> None:
        super().__init__()
        self.norm, self.linear, self.rate = nn.LayerNorm(width), nn.Linear(width, width), rate

    def forward(self, x: Tensor, graph: Adjacency, x0: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x, mask, result: [N, C / G]."""
        h = nn.functional.dropout(self.norm(x).relu(), self.rate, self.training)
        h = self.linear(h if mask is None else h * mask)
        return graph.operator("sym", h.dtype if h.dtype == torch.float64 else torch.float32)(h)


class Checkpointed(nn.Module):
    """Every layer checkpointed by itself."""

    def __init__(self, blocks: list[list[nn.Module]]) -> None:
        super().__init__()
        stacks = (
            ReversibleStack(nn.ModuleList(layer), len(layer), exact=False, store_activations=True) for layer in blocks
        )
        self.layers = nn.ModuleList(stacks)

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x, result: [N, C]."""
        return run_layers(self.layers, 1, x, graph)


class Peer(nn.Module):
    """PyG's reversible layers. They free the memory of their input: it gets a copy."""

    def __init__(self, blocks: list[list[nn.Module]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GroupAddRev(nn.ModuleList(layer)) for layer in blocks)

    def forward(self, x: Tensor, graph: Adjacency) -> Tensor:
        """x, result: [N, C]."""
        x = x.clone()
        for layer in self.layers:
            x = layer(x, graph)
        return x


@dataclass(frozen=True)
class Problem:
    """One network and its input; every variant has the same weights."""

    x: Tensor
    graph: Adjacency
    blocks: list[list[nn.Module]]

    @staticmethod
    def random(
        *,
        nodes: int,
        edges: int,
        channels: int,
        groups: int,
        layers: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        rate: float = 0.0,
    ) -> Problem:
        """A random directed graph of N nodes and E edges, weights and features; always the same ones."""
        torch.manual_seed(0)
        graph = Adjacency(torch.randint(0, nodes, (2, edges)).to(device), nodes)
        graph.operator("sym", dtype)
        made = [[Block(channels // groups, rate).to(device, dtype) for _ in range(groups)] for _ in range(layers)]
        return Problem(torch.randn(nodes, channels).to(device, dtype), graph, made)

    def network(self, variant: str) -> nn.Module:
        """The network run as `variant`, one of `VARIANTS`; `stored exact` is the grid by plain autograd."""
        if variant == "checkpointed":
            return Checkpointed(self.blocks)
        if variant == "GroupAddRev":
            return Peer(self.blocks)
        blocks = [block for layer in self.blocks for block in layer]
        stored = "stored" in variant
        modules = nn.ModuleList(blocks if stored else map(copy.deepcopy, blocks))
        return ReversibleStack(modules, len(self.blocks[0]), exact="exact" in variant, store_activations=stored)

    def step(self, network: nn.Module) -> list[Tensor]:
        """A training step without optimiser; the gradients of the input and of all weights."""
        x = self.x.clone().requires_grad_()
        network(x, self.graph).square().mean().backward()
        found = [x.grad, *(p.grad for p in network.parameters())]
        network.zero_grad(set_to_none=True)
        return [gradient for gradient in found if gradient is not None]


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """|found - expected| / |expected|, all gradients taken as one vector."""
    difference = sum((a.double() - b.double()).square().sum().item() for a, b in zip(found, expected, strict=True))
    return (difference / sum(b.double().square().sum().item() for b in expected)) ** 0.5


@dataclass(frozen=True)
class Measured:
    """What a variant costs. `kept_mib` is None where it hides from autograd what it keeps.

    Out of memory, a variant has no numbers, and the others no ratio and no error where the stored one has none.
    """

    variant: str
    step_seconds: float | None
    ratio: float | None
    peak_mib: float | None
    kept_mib: float | None
    gradient_error: float | None


class ProcessTimer:
    """As `StepTimer`, but the processor time of this process: for a machine that others use as well."""

    def __init__(self) -> None:
        self._spans: list[float] = []

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *error: object) -> None:
        self._spans.append(time.process_time() - self._start)

    def seconds(self) -> list[float]:
        """The length of every step since the last call, in seconds."""
        spans, self._spans = self._spans, []
        return spans


def measure(problem: Problem, variants: list[str], rounds: int, *, clock: str = "wall") -> list[Measured]:
    """Time the variants in turn, `rounds` times; then each one's memory, and its gradients against the stored ones.

    The ratio is the median of the rounds' own ratios, so that a slow moment of the machine touches both sides.
    `clock`: `wall`, or `process` for the processor time (CPU only, one thread).
    """
    networks = {variant: problem.network(variant) for variant in variants}
    expected = problem.step(problem.network("stored"))
    expected_exact = problem.step(problem.network("stored exact")) if "exact" in variants else expected
    timer = StepTimer(problem.x.device) if clock == "wall" else ProcessTimer()
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, network in networks.items():
            with timer:
                problem.step(network)
            (taken,) = timer.seconds()
            if number:  # the first round warms up
                seconds[variant].append(taken)
    rows = []
    for variant, network in networks.items():
        error = relative_error(problem.step(network), expected_exact if variant == "exact" else expected)
        ratio = median(own / base for own, base in zip(seconds[variant], seconds["stored"], strict=True))
        rows.append(Measured(variant, median(seconds[variant]), ratio, *_memory(variant, problem, network), error))
    return rows


def measure_alone(problem: Problem, variants: list[str], rounds: int) -> list[Measured]:
    """As `measure`, one variant after another, where the stored one does not fit beside the others."""
    return [_alone(problem, variant, rounds) for variant in variants]


def _alone(problem: Problem, variant: str, rounds: int) -> Measured:
    timer = StepTimer(problem.x.device)
    try:
        network = problem.network(variant)
        for _ in range(rounds + 1):
            with timer:
                problem.step(network)
        return Measured(variant, median(timer.seconds()[1:]), None, *_memory(variant, problem, network), None)
    except RuntimeError as error:
        if status_of(error) != "oom":
            raise
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    return Measured(variant, None, None, None, None, None)


def _memory(variant: str, problem: Problem, network: nn.Module) -> tuple[float, float | None]:
    """The peak of a step, and what autograd keeps of it, in MiB."""
    return _peak(problem, network), None if variant == "GroupAddRev" else _kept(problem, network)


def _peak(problem: Problem, network: nn.Module) -> float:
    """The peak of a step above what was in use before it."""
    with PeakMemory(problem.x.device) as before:
        pass
    with PeakMemory(problem.x.device) as during:
        problem.step(network)
    gc.collect()
    return during.peak_mib - before.peak_mib


def _kept(problem: Problem, network: nn.Module) -> float:
    x = problem.x.clone().requires_grad_()
    with SavedTensors() as saved:
        out = network(x, problem.graph)
    del out
    return saved.mib
