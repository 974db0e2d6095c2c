"""What happens to representations and gradients layer by layer: the rows of `layers.csv`.

N nodes, C channels, K classes, L layers, M labelled nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deepgnn_cli.measure.smoothness import Smoothness, measured


@dataclass(frozen=True)
class LayerRow(Smoothness):
    """One layer's numbers; layer 0 is the encoder's output. None: there is no such thing.

    Args:
        layer: 0 … L.
        output_gradient_norm: |∂loss/∂h_l|, the Frobenius norm over [N, C]; None where the loss does not depend on h_l.
        parameter_gradient_norm: |∂loss/∂W_l| over all parameters of the layer; None for a layer without any.
    """

    layer: int
    output_gradient_norm: float | None
    parameter_gradient_norm: float | None


class HasEdges(Protocol):
    """A graph, as far as it matters here."""

    @property
    def edge_index(self) -> Tensor:
        """[2, E] int64."""


class HasModules(Protocol):
    """A module."""

    def modules(self) -> Iterator[nn.Module]:
        """As any `nn.Module`."""


class Layered(HasModules, Protocol):
    """A module that lets its layers be seen."""

    def states(self, x: Any, adjacency: Any) -> Generator[Tensor, None, Tensor]:
        """Yields the encoder's output and each layer's [N, C], and returns the logits [N, K]."""

    def layer_parameters(self) -> Sequence[Sequence[nn.Parameter]]:
        """The parameters that make each of `states`."""


def layer_diagnostics(
    model: Layered,
    x: object,
    adjacency: HasEdges,
    y: Tensor,
    mask: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    look: Callable[[int, Tensor], None] = lambda layer, state: None,
) -> list[LayerRow]:
    """Look at every layer in one evaluation pass (no dropout) and the backward pass of its loss.

    Leaves no trace: training mode, `.grad` fields, buffers and random numbers are as before. Keeps the activations
    that a training step of this model keeps (of a reversible one, one layer's), and no gradient longer than it takes
    to measure.

    Args:
        model: a module with `states` and `layer_parameters`.
        x: node features, in whatever form the model reads.
        adjacency: its edges; given to the model as it is.
        y: the labels of the nodes in `mask`, [M] or [M, K].
        mask: the nodes the loss is over, [N] bool or [M] int64.
        criterion: of logits [M, K] and y.
        look: called with each layer's number and its representation.
    """
    smooth: list[Smoothness] = []
    seen = _Gradients()
    with undisturbed(model, y.device), torch.enable_grad(), seen:
        states = model.states(x, adjacency)
        logits = None
        while logits is None:
            try:
                state = next(states)
            except StopIteration as end:
                logits = end.value
            else:
                seen.watch(state)
                smooth.append(measured(state.detach(), adjacency.edge_index))
                look(len(smooth) - 1, state.detach())
        loss = criterion(logits[mask], y)
        at_parameters = seen.of(loss, model.layer_parameters())
    rows = zip(smooth, seen.norms(len(smooth)), at_parameters, strict=True)
    return [
        LayerRow(layer=layer, **asdict(each), output_gradient_norm=at_output, parameter_gradient_norm=at)
        for layer, (each, at_output, at) in enumerate(rows)
    ]


class _Gradients:
    """Takes the norms of gradients as they pass, so that none is kept."""

    def __init__(self) -> None:
        self._count = 0
        self._norms: dict[int, Tensor] = {}
        self._leaves: list[Tensor] = []

    def __enter__(self) -> _Gradients:
        return self

    def __exit__(self, *_: object) -> None:
        for leaf in self._leaves:
            leaf.requires_grad_(False)

    def watch(self, state: Tensor) -> None:
        """Note the norm of `state`'s gradient, once there is one."""
        if not state.requires_grad:  # no parameter before it: it is made a leaf of the graph for the while
            self._leaves.append(state.requires_grad_())
        number = self._count
        self._count += 1
        state.register_hook(lambda gradient: self._norms.__setitem__(number, _norm([gradient])))

    def of(self, loss: Tensor, layers: Sequence[Sequence[nn.Parameter]]) -> list[float | None]:
        """Run the backward pass; the gradient norm of each layer's parameters."""
        parameters = list(dict.fromkeys(p for layer in layers for p in layer if p.requires_grad))
        wanted = [*parameters, *self._leaves]
        if not loss.requires_grad or not wanted:
            return [None] * len(layers)
        found = dict(zip(wanted, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True))
        return [self._total([found[p] for p in layer if found.get(p) is not None]) for layer in layers]

    def norms(self, count: int) -> list[float | None]:
        """The gradient norm of each watched state."""
        return [self._norms[number].item() if number in self._norms else None for number in range(count)]

    @staticmethod
    def _total(gradients: Sequence[Tensor]) -> float | None:
        return _norm(gradients).item() if gradients else None


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Frobenius norm of all together, in double precision: squares of tiny gradients vanish in single."""
    norms = [torch.linalg.vector_norm(tensor.detach().double()) for tensor in tensors]
    together: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return together


@contextmanager
def undisturbed(model: HasModules, device: torch.device) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode and the random numbers as they were.

    Without cuDNN, whose LSTM refuses a backward pass in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    try:
        with forked, torch.backends.cudnn.flags(enabled=False):
            for module in modes:
                module.training = False
            yield
    finally:
        for module, training in modes.items():
            module.training = training
