"""Ordered gates: a wiring whose gates never open again, as in `residuals.py`.

N nodes, C channels, P gates a node, L layers. x: [N, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepgnn_cli.nn import norms
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.checkpointing import run_layers
from deepgnn_cli.nn.layer import Branches, normalised
from deepgnn_cli.nn.stack import Stack, States
from deepgnn_cli.rules.types import Count


class _OrderedLayer(nn.Module):
    """One layer on `[x, g]`, g [N, P] the gates of the layer before."""

    def __init__(self, branch: nn.Module, norm: nn.Module, channels: int, chunk: int) -> None:
        super().__init__()
        self.branch, self.norm = branch, norm
        self.channels, self.chunk = channels, chunk
        self.gate = nn.Linear(2 * channels, channels // chunk)

    def forward(self, state: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        x, before = state[:, : self.channels], state[:, self.channels :]
        heard = self.branch(x, adjacency, x0).to(x.dtype)
        rising = self.gate(torch.cat([x, heard], dim=1)).softmax(dim=1).cumsum(dim=1)
        gates = before + (1 - before) * rising  # [N, P]
        mixed = torch.lerp(heard, x, gates.to(x.dtype).repeat_interleave(self.chunk, dim=1))
        return torch.cat([normalised(self.norm, mixed, adjacency), gates.to(x.dtype)], dim=1)


class _Ordered(Stack):
    def __init__(self, layers: Sequence[nn.Module], channels: int, gates: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out_channels, self.tail, self.gates = channels, "drop", gates
        self.checkpoint_every = 0

    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        state = self._start(x)
        for layer in self.layers:
            state = run_layers([layer], min(1, self.checkpoint_every), state, adjacency, x0)
            yield state[:, : self.out_channels]
        return state[:, : self.out_channels]

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        state = run_layers(list(self.layers), self.checkpoint_every, self._start(x), adjacency, x0)
        return state[:, : self.out_channels]

    def _start(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(x.size(0), self.gates)], dim=1)


def ordered(branch: Branches, channels: int, layers: int, *, chunk: Count) -> nn.Module:
    """Ordered GNN (Song et al., arXiv:2302.01524): what a node has heard of one hop is kept apart from farther ones.

    m = conv(drop(x));  s = cumsum(softmax([x, m] W + b)), P = C / chunk gates a node, which rise to 1
    g = g_before + (1 - g_before) s;  x' = norm(g x + (1 - g) m), each gate over `chunk` channels

    g_before is the layer's before, at first 0: the channels that a node keeps only grow in number. The paper's m is the
    plain mean of the neighbours, `conv=mean`, its norm that of each node: norm=none is that one, too.

    Args:
        branch: makes m.
        channels: C.
        layers: L.
        chunk: how many channels share a gate.

    Raises:
        ValueError: `chunk` does not divide the channels.
    """
    if channels % chunk:
        raise ValueError(f"channels={channels} is not divisible by chunk={chunk}; use {channels - channels % chunk}")
    made = []
    for layer in range(1, layers + 1):
        norm = branch.norm(channels) if branch.norm is not None else None
        made.append(
            _OrderedLayer(branch(channels, layer, order="drop"), norm or norms.layer(channels), channels, chunk)
        )
    return _Ordered(made, channels, channels // chunk)
