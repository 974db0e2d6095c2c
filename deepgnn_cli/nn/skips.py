"""Skips that learn, scale or gate: further wirings, as in `residuals.py`.

N nodes, C channels, L layers. x, x0: [N, C]. f is a branch, of a pre-activation where nothing else is said.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from deepgnn_cli.nn import norms as _norms
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.dropout import dropout
from deepgnn_cli.nn.layer import ACTIVATIONS, Branches, act_dropout, normalised
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures
from deepgnn_cli.nn.stack import Layers
from deepgnn_cli.rules.types import NonNegative, Positive


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


class _Scaled(nn.Module):
    """`x + s f(x)`, s a number, a learned one, or one a channel."""

    tail = "norm-act-drop"

    def __init__(self, branch: nn.Module, scale: Tensor | float) -> None:
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(scale) if isinstance(scale, Tensor) else scale

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        out: Tensor = x + self.scale * self.branch(x, adjacency, x0)
        return out


def rezero(branch: Branches, channels: int, layer: int) -> nn.Module:
    """ReZero (arXiv:2003.04887): `x + a f(x)`, one learned a for each layer, at first 0: no layer does anything."""
    return _Scaled(branch(channels, layer), torch.zeros(()))


def layer_scale(branch: Branches, channels: int, layer: int, *, start: float) -> nn.Module:
    """LayerScale (arXiv:2103.17239): `x + λ ⊙ f(x)`, one learned λ a layer and channel, all at `start` first.

    The paper starts at 0.1 up to 18 layers, at 1e-5 for 24 and at 1e-6 for deeper networks.
    """
    return _Scaled(branch(channels, layer), torch.full((channels,), start))


def scaled(branch: Branches, channels: int, layers: int, *, depth_scaling: NonNegative) -> nn.Module:
    """Scaling by depth (arXiv:2206.06929): `x + L^-β f(x)`; from β = 1/2 on the stream keeps its size at any depth.

    Args:
        branch: makes f.
        channels: C.
        layers: L.
        depth_scaling: β; 0 is an ordinary residual.
    """
    scale = layers**-depth_scaling
    return Layers([_Scaled(branch(channels, layer), scale) for layer in range(1, layers + 1)], channels)


def state_space(branch: Branches, channels: int, layer: int, *, memory: Positive, entry: Positive) -> nn.Module:
    """A linear state-space model over the layers (arXiv:2502.10818): `Λ x + B f(x)`, f = act(norm(conv(drop(x)))).

    Λ and B are fixed, here multiples of the identity: the layer's Jacobian is Λ + B f', whose eigenvalues lie within
    B |f'| of Λ, so that gradients neither vanish nor explode over many layers where Λ is near 1 and B is small.

    Args:
        branch: makes f.
        channels: C.
        layer: which one, from 1.
        memory: Λ.
        entry: B.
    """
    return _StateSpace(branch(channels, layer, order="post"), memory, entry)


class _StateSpace(nn.Module):
    """`Λ x + B f(x)`."""

    tail = "drop"

    def __init__(self, branch: nn.Module, memory: float, entry: float) -> None:
        super().__init__()
        self.branch, self.memory, self.entry = branch, memory, entry

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        out: Tensor = self.memory * x + self.entry * self.branch(x, adjacency, x0)
        return out


class _DeepNorm(nn.Module):
    """`norm(α x + drop(act(conv(x))))`."""

    tail = "drop"

    def __init__(self, conv: nn.Module, norm: nn.Module, alpha: float, act: str, rate: float) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.alpha, self.act, self.rate = alpha, act, rate

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        added = act_dropout(self.conv(x, adjacency, None), self.act, self.rate, self.training)
        return normalised(self.norm, self.alpha * x + added, adjacency)


def deep_norm(branch: Branches, channels: int, layers: int) -> nn.Module:
    """DeepNorm (DeepNet, arXiv:2203.00555): `norm(α x + f(x))`, f = drop(act(conv(x))), with small first weights.

    The paper's encoder of M layers has two branches a layer, α = (2M)^¼, and weights scaled by β = (8M)^-¼. A layer
    here is one branch, L = 2M: α = L^¼, β = (4L)^-¼. With norm=none it takes the paper's, layer normalisation: without
    one α x would grow. Every matrix of the conv is made smaller; the paper leaves an attention's queries and keys.
    """
    made: list[nn.Module] = []
    for layer in range(1, layers + 1):
        conv = branch.operator(channels, channels, layer, theta=branch.theta)
        with torch.no_grad():
            for weight in conv.parameters():
                if weight.dim() > 1:
                    weight.mul_((4 * layers) ** -0.25)
        norm = _norm_of(branch, channels) or _norms.layer(channels)
        made.append(_DeepNorm(conv, norm, layers**0.25, branch.act, branch.rate))
    return Layers(made, channels)


class _Highway(nn.Module):
    """`T f(x) + (1 - T) x`."""

    tail = "drop"

    def __init__(self, branch: nn.Module, channels: int, start: float) -> None:
        super().__init__()
        self.branch, self.gate = branch, nn.Linear(channels, channels)
        nn.init.constant_(self.gate.bias, start)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        new = self.branch(x, adjacency, x0)
        return torch.lerp(x.to(new.dtype), new, torch.sigmoid(self.gate(x)).to(new.dtype))


def highway(branch: Branches, channels: int, layer: int, *, start: float) -> nn.Module:
    """Highway network (arXiv:1505.00387): `T ⊙ f(x) + (1 - T) ⊙ x`, T = sigmoid(x W + b), f = act(norm(conv(drop(x)))).

    b begins at `start`, below 0: at first most of x is carried on, sigmoid(-start)^L of it through L layers.
    """
    return _Highway(branch(channels, layer, order="post"), channels, start)


class _GradientGating(nn.Module):
    """`(1 - τ) x + τ f(x)`."""

    tail = "drop"
    reads_edge_weight = True

    def __init__(self, branch: nn.Module, gate: nn.Module | None, act: str, p: float) -> None:
        super().__init__()
        self.branch, self.gate, self.act, self.p = branch, gate, act, p

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        new = self.branch(x, adjacency, x0)
        y = new if self.gate is None else ACTIVATIONS[self.act](self.gate(x, adjacency, None))
        return torch.lerp(x.to(new.dtype), new, torch.tanh(self._differences(y, adjacency)).to(new.dtype))

    def _differences(self, y: Tensor, adjacency: Adjacency) -> Tensor:
        """The mean over the neighbours j of `|y_j - y_i|^p`, [N, C]."""
        mean = adjacency.with_operators(None).operator(
            "mean", torch.float64 if y.dtype == torch.float64 else torch.float32
        )
        if self.p == 2:  # Σ m (y_j - y_i)² multiplied out: nothing of E × C; a node without neighbours has no mean
            has = mean(torch.ones_like(y[:, :1]))
            return (mean(y * y) - 2 * y * mean(y) + has * y * y).clamp(min=0)
        target, source = mean.ends()
        powers = (y[source] - y[target]).abs() ** self.p * mean.matrix.values()[:, None]  # [E, C]
        return torch.zeros_like(y).index_add(0, target, powers)


def gradient_gating(
    branch: Branches, channels: int, layer: int, *, p: Annotated[float, Ge(1)], own_conv: bool
) -> nn.Module:
    """Gradient gating, G² (arXiv:2210.00513): each channel of each node moves as fast as its neighbourhood differs.

    (1 - τ) ⊙ x + τ ⊙ f(x),  τ_i = tanh(mean over the neighbours j of |y_j - y_i|^p),  y = act(conv'(x))

    as the authors' code has it (`heterophilic_graphs`), where all layers share their weights; here each has its own.
    f is act(norm(conv(drop(x)))). Where neighbours agree τ is 0 and a node stays as it is.

    Args:
        branch: makes f.
        channels: C.
        layer: which one, from 1.
        p: the power of the differences.
        own_conv: whether the gate has a conv' of its own; false: y = f(x).
    """
    gate = branch.operator(channels, channels, layer, theta=branch.theta) if own_conv else None
    return _GradientGating(branch(channels, layer, order="post"), gate, branch.act, p)


def _norm_of(branch: Branches, channels: int) -> nn.Module | None:
    return branch.norm(channels) if branch.norm is not None else None
