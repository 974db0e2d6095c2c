"""Normalisations: `(channels, *, …options)` -> a module called `norm(x, batch)`.

x: [N, C]; batch: [N] int64, which graph each node belongs to, or None for one graph.

Where a formula says "over the nodes", it means the nodes of the same graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import norm as pyg

from deepgnn_cli.rules.types import Count, NonNegative, Positive

ALL_PAIRS = 20_000  # nodes; a matrix of all pairs of more takes gigabytes in every layer


class _PerNode(nn.Module):
    """A norm that never looks at which graph a node belongs to."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        normalised: Tensor = self.operator(x)
        return normalised


class _BatchNorm(nn.BatchNorm1d):
    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        return super().forward(x)


class _LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        return super().forward(x)


def none(channels: int) -> None:
    """No normalisation."""


def batch(channels: int) -> nn.Module:
    """Batch normalisation over all nodes of a step (arXiv:1502.03167): `γ (x - mean) / std + β`, a channel each."""
    return _BatchNorm(channels)


def layer(channels: int) -> nn.Module:
    """Layer normalisation of each node's own channels (arXiv:1607.06450): `γ (x - mean) / std + β`."""
    return _LayerNorm(channels)


def instance(channels: int, *, affine: bool) -> nn.Module:
    """Instance normalisation over the nodes of each graph (arXiv:1607.08022): `(x - mean) / std`, a channel each.

    Unlike batch normalisation it keeps no running statistics. With `affine`, `γ · + β` follows.
    """
    operator: nn.Module = pyg.InstanceNorm(channels, affine=affine)
    return operator


def graph(channels: int) -> nn.Module:
    """GraphNorm (arXiv:2009.03294): as instance, but how much of the mean is taken away is learned, a channel each.

    γ (x - α mean) / sqrt(mean over the nodes of (x - α mean)²) + β
    """
    operator: nn.Module = pyg.GraphNorm(channels)
    return operator


def pair(channels: int, *, scale: Positive, individually: bool) -> nn.Module:
    """PairNorm (arXiv:1909.12223): centre over the nodes, then keep the total pairwise distance constant.

    x_c = x - mean;  s x_c / sqrt(mean over the nodes of |x_c|²), or with `individually` (PairNorm-SI) s x_c / |x_c|.
    """
    operator: nn.Module = pyg.PairNorm(scale=scale, scale_individually=individually)
    return operator


def group(channels: int, *, groups: Count, lamda: NonNegative) -> nn.Module:
    """Differentiable group normalisation (arXiv:2006.06972): batch normalisation of soft clusters of nodes.

    x + λ Σ_g BatchNorm(S_g ⊙ x), S = softmax(x W) [N, groups].
    """
    return _PerNode(pyg.DiffGroupNorm(channels, groups, lamda=lamda))


def mean_subtraction(channels: int) -> nn.Module:
    """Mean subtraction (arXiv:2003.13663): `x - mean` over the nodes, which takes away what all nodes agree on."""
    operator: nn.Module = pyg.MeanSubtractionNorm()
    return operator


class _NodeNorm(nn.Module):
    def __init__(self, power: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.power, self.eps = power, eps

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        variance = x.var(dim=-1, correction=0, keepdim=True)  # [N, 1]
        return x / (variance + self.eps).pow(0.5 / self.power)


def node(channels: int, *, power: Positive) -> nn.Module:
    """NodeNorm (arXiv:2006.07107): divide each node by a root of the spread of its own channels.

    x_i / σ_i^(1/power), with σ_i² = mean over the channels of (x_i - mean_i)², plus 1e-5. Power 1 takes all
    differences of spread between nodes away, higher powers leave some.
    """
    return _NodeNorm(power)


class _ContraNorm(nn.Module):
    def __init__(self, channels: int, scale: float, temperature: float) -> None:
        super().__init__()
        self.scale, self.temperature, self.layer = scale, temperature, nn.LayerNorm(channels)

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        if self.training and x.size(0) > ALL_PAIRS:
            raise ValueError(f"norm=contra compares all pairs of {x.size(0)} nodes; use batch=parts, or another norm")
        unit = functional.normalize(x, dim=-1)
        similar = unit @ unit.t() / self.temperature  # [N, N]
        if batch is not None:
            similar = similar.masked_fill(batch[:, None] != batch, -torch.inf)
        apart: Tensor = self.layer(x - self.scale * similar.softmax(dim=-1) @ x)
        return apart


def contra(channels: int, *, scale: NonNegative, temperature: Positive) -> nn.Module:
    """ContraNorm (arXiv:2303.06562): a step that drives similar nodes apart, then layer normalisation.

    LayerNorm(x - s softmax(u uᵀ / τ) x), u the rows of x at unit length, as in the authors' code for transformers;
    keeps [N, N] a layer. Their code for graphs leaves neighbours out of the softmax and has no LayerNorm.
    """
    return _ContraNorm(channels, scale, temperature)
