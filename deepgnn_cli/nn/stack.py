"""The stack of a deep GNN: its layers as a wiring of `residuals.py` joins them.

N nodes, C channels, L layers. x, x0: [N, C].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import cast

from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.checkpointing import run_layers
from deepgnn_cli.nn.layer import Branches, run_chain, takes

States = Generator[Tensor, None, Tensor]


class Stack(nn.Module, ABC):
    """All layers of a network, wired: [N, C] -> [N, out_channels]. `tail` says what must happen before the decoder."""

    out_channels: int
    tail: str
    checkpoint_every: int

    @abstractmethod
    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        """The representation after each layer, [N, C]."""


class Layers(Stack):
    """Layers one after the other: the stack of every layer-by-layer wiring."""

    def __init__(self, layers: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out_channels = channels
        self.tail = getattr(layers[0], "tail", "norm-act-drop") if layers else "norm-act-drop"
        self.checkpoint_every = 0

    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        """The representation after each layer, [N, C]."""
        for layer in self.layers:
            x = run_layers([layer], min(1, self.checkpoint_every), x, adjacency, x0)
            yield x
        return x

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        """x, result: [N, C]."""
        layers = list(self.layers)
        whole = None if self.checkpoint_every else run_chain(layers, x, adjacency, x0)
        return run_layers(layers, self.checkpoint_every, x, adjacency, x0) if whole is None else whole


def build_stack(
    residual: Callable[..., nn.Module],
    branch: Branches,
    channels: int,
    layers: int,
    first: int = 1,
    checkpoint_every: int = 0,
) -> Stack:
    """The stack of `layers` layers, numbered from `first`, that `residual` wires; of none, nothing.

    With `checkpoint_every` = k > 0 it keeps the input of every k-th layer only (`checkpointing.py`); a reversible
    stack, which keeps none, has nothing to gain from it.
    """
    if layers and takes(residual, "layers"):
        stack = cast(Stack, residual(branch, channels, layers))
    else:
        stack = Layers([residual(branch, channels, layer) for layer in range(first, first + layers)], channels)
    if checkpoint_every and not hasattr(stack, "checkpoint_every"):
        raise ValueError("gradient checkpointing does not apply to this residual; leave it at 0")
    stack.checkpoint_every = checkpoint_every
    return stack


def result(states: States) -> Tensor:
    """What `states` returns when it has run to its end."""
    while True:
        try:
            next(states)
        except StopIteration as end:
            returned: Tensor = end.value
            return returned
