"""Normalisations: `(channels, *, …knobs)` -> a module called `norm(x, batch)`.

x: [N, C]; batch: [N] int64, which graph each node belongs to, or None for one graph.
"""

from __future__ import annotations

from torch import Tensor, nn


class _PerNode(nn.Module):
    """A norm that never looks at which graph a node belongs to."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        normalised: Tensor = self.operator(x)
        return normalised


def batch(channels: int) -> nn.Module:
    """Batch normalisation over the nodes of a step (arXiv:1502.03167)."""
    return _PerNode(nn.BatchNorm1d(channels))


def layer(channels: int) -> nn.Module:
    """Layer normalisation of each node's own channels (arXiv:1607.06450)."""
    return _PerNode(nn.LayerNorm(channels))
