"""Skips that learn: wirings of single layers, as in `residuals.py`.

N nodes, C channels, L layers. x, x0: [N, C].
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.dropout import dropout
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures


class _Beside(nn.Module):
    """`conv(x) + x W + b`."""

    def __init__(self, conv: nn.Module, width: int, channels: int) -> None:
        super().__init__()
        self.conv, self.skip = conv, Linear(width, channels)
        self.accepts_sparse = getattr(conv, "accepts_sparse", False)

    def forward(self, x: Tensor | SparseFeatures, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(x, adjacency, x0) + self.skip(x)
        return out


class _LinearSkip(nn.Module):
    """`drop(f(x)) + x W + b`."""

    tail = "none"

    def __init__(self, branch: nn.Module, width: int, channels: int, rate: float) -> None:
        super().__init__()
        self.branch, self.rate, self.skip = branch, rate, nn.Linear(width, channels)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        out: Tensor = dropout(self.branch(x, adjacency, x0), self.rate, self.training) + self.skip(x)
        return out


def linear(
    branch: Branches,
    channels: int,
    layer: int,
    *,
    place: Literal["before", "after"],
    in_channels: int | None = None,
) -> nn.Module:
    """A learned skip in every layer ("Classic GNNs are strong baselines", Luo et al., arXiv:2406.08993).

    `before`, as published:  h' = drop(act(norm(conv(h) + h W)))
    `after`:                 h' = drop(act(norm(conv(h)))) + h W

    The first layer goes from the input's width, where a conv is the encoder; behind a linear one it reads its
    output, dropped. The stream of `before` is what stands in front of the norm, as everywhere before a pre-activation.
    """
    width = in_channels or channels
    if place == "after":
        wired = branch(width, layer, order="post", channels=channels)
        wired.rate = 0.0
        return _LinearSkip(wired, width, channels, branch.rate)
    first = "bare" if in_channels else "drop"
    wired = branch(width, layer, order=first if layer == 1 else "pre", channels=channels)
    wired.conv = _Beside(wired.conv, width, channels)
    return wired
