"""Models that propagate apart from transforming: `layers` is L, the number of propagation steps, without weights.

Each model is called `model(x, adjacency)` and has `states(x, adjacency)`, which yields the representation before the
first step and after each one, and returns the logits. Â is the GCN's adjacency (`sym`).

N nodes, F input features, C hidden channels, K classes, L propagation steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.dropout import dropout, relu_dropout
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures, drop_features
from deepgnn_cli.nn.stack import States, result
from deepgnn_cli.rules.types import Rate, Share

Input = Tensor | SparseFeatures
Builder = Callable[..., nn.Module | None]


class MLP(nn.Module):
    """`drop → linear → ReLU → drop → linear`, F -> C -> K; reads sparse features."""

    def __init__(self, shape: Shape, hidden: int, drop: Drop) -> None:
        super().__init__()
        self.first, self.second = Linear(shape.features, hidden), Linear(hidden, shape.outputs(hidden))
        self.drop = drop

    def forward(self, x: Input) -> Tensor:
        """x: [N, F]; result: [N, K]."""
        h = self.first(drop_features(x, self.drop.input, self.training))
        logits: Tensor = self.second(relu_dropout(h, self.drop.dropout, self.training))
        return logits


class Decoupled(nn.Module, ABC):
    """What these models share: L, the drops, and a forward pass that is `states` run to its end."""

    reads_edge_weight = True

    def __init__(self, steps: int, drop: Drop) -> None:
        super().__init__()
        self.steps, self.drop = steps, drop

    def propagation(self, x: Tensor, adjacency: Adjacency) -> Operator:
        """Â of what is left of the graph for this step."""
        adjacency = self.drop.of_graph(adjacency) if self.training else adjacency
        return adjacency.operator("sym", torch.float64 if x.dtype == torch.float64 else torch.float32)

    @abstractmethod
    def states(self, x: Input, adjacency: Adjacency) -> States:
        """The representation before the first step and after each one; returns the logits [N, K]."""

    def activated(self, state: Tensor) -> Tensor:
        """One of `states` as the next step reads it."""
        return state

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """The parameters that make each of `states`: all stand before the first step."""
        return [list(self.parameters()), *([] for _ in range(self.steps))]

    def forward(self, x: Input, adjacency: Adjacency) -> Tensor:
        """x: [N, F]; logits: [N, K]."""
        return result(self.states(x, adjacency))


class _SGC(Decoupled):
    def __init__(self, shape: Shape, steps: int, hidden: int, drop: Drop) -> None:
        super().__init__(steps, drop)
        self.linear = Linear(shape.features, shape.outputs(hidden), bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.outputs(hidden)))

    def states(self, x: Input, adjacency: Adjacency) -> States:
        # Weights first: to propagate K channels is cheaper than F, and comes to the same.
        h: Tensor = self.linear(drop_features(x, self.drop.input, self.training))
        operator = self.propagation(h, adjacency)
        yield h
        for _ in range(self.steps):
            h = operator(h)
            yield h
        return h + self.bias


class _APPNP(Decoupled):
    def __init__(self, shape: Shape, steps: int, hidden: int, drop: Drop, alpha: float) -> None:
        super().__init__(steps, drop)
        self.mlp, self.alpha = MLP(shape, hidden, drop), alpha

    def states(self, x: Input, adjacency: Adjacency) -> States:
        first: Tensor = self.mlp(x)
        h = first
        operator = self.propagation(h, adjacency)
        yield h
        for _ in range(self.steps):
            h = operator(h, first, 1 - self.alpha, self.alpha)
            yield h
        return h


class _DAGNN(Decoupled):
    def __init__(self, shape: Shape, steps: int, hidden: int, drop: Drop) -> None:
        super().__init__(steps, drop)
        self.mlp, self.gate = MLP(shape, hidden, drop), nn.Linear(shape.outputs(hidden), 1)

    def states(self, x: Input, adjacency: Adjacency) -> States:
        h: Tensor = self.mlp(x)
        operator = self.propagation(h, adjacency)
        total: Tensor = self.gate(h).sigmoid() * h  # gate: [N, 1]
        yield h
        for _ in range(self.steps):
            h = operator(h)
            total = total + self.gate(h).sigmoid() * h
            yield h
        return total


class _GPRGNN(Decoupled):
    def __init__(self, shape: Shape, steps: int, hidden: int, drop: Drop, alpha: float, propagated: float) -> None:
        super().__init__(steps, drop)
        self.mlp, self.propagated = MLP(shape, hidden, drop), propagated
        powers = alpha * (1 - alpha) ** torch.arange(steps + 1, dtype=torch.get_default_dtype())
        powers[-1] = (1 - alpha) ** steps
        self.weights = nn.Parameter(powers)

    def states(self, x: Input, adjacency: Adjacency) -> States:
        h = dropout(self.mlp(x), self.propagated, self.training)
        operator = self.propagation(h, adjacency)
        total = self.weights[0] * h
        yield h
        for weight in self.weights[1:]:
            h = operator(h)
            total = total + weight * h
            yield h
        return total


def refuse_wiring(model: str, **parts: Builder | None) -> None:
    """Raise ValueError where a norm or a residual is given to layers that have no weights to wire."""
    for part, builder in parts.items():
        name = "none" if builder is None else getattr(builder, "func", builder).__name__
        if name != "none":
            raise ValueError(
                f"model={model} does not combine with {part}={name}: its layers are propagation steps without a "
                f"{part}; use {part}=none, or a model made of convolutions such as model=gcn"
            )


def sgc(
    shape: Shape, *, layers: int, hidden: int, drop: Drop, norm: Builder | None, residual: Builder | None
) -> nn.Module:
    """SGC (Wu et al., arXiv:1902.07153): `Â^L X W + b`, a linear model; `hidden` and `drop.dropout` play no part.

    In a model of whole graphs it gives `hidden` channels.
    """
    refuse_wiring("sgc", norm=norm, residual=residual)
    return _SGC(shape, layers, hidden, drop)


def appnp(
    shape: Shape,
    *,
    layers: int,
    hidden: int,
    drop: Drop,
    norm: Builder | None,
    residual: Builder | None,
    alpha: Share,
) -> nn.Module:
    """APPNP (Gasteiger et al., arXiv:1810.05997): `Z ← (1-α) Â Z + α Z0`, L times, from `Z0 = MLP(X)`."""
    refuse_wiring("appnp", norm=norm, residual=residual)
    return _APPNP(shape, layers, hidden, drop, alpha)


def dagnn(
    shape: Shape, *, layers: int, hidden: int, drop: Drop, norm: Builder | None, residual: Builder | None
) -> nn.Module:
    """DAGNN (Liu et al., arXiv:2007.09296): `Σ_{l≤L} σ(Z_l s) Z_l`, `Z_l = Â^l MLP(X)`: each node weighs its hops."""
    refuse_wiring("dagnn", norm=norm, residual=residual)
    return _DAGNN(shape, layers, hidden, drop)


def gprgnn(
    shape: Shape,
    *,
    layers: int,
    hidden: int,
    drop: Drop,
    norm: Builder | None,
    residual: Builder | None,
    alpha: Share,
    propagated_dropout: Rate,
) -> nn.Module:
    """GPR-GNN (Chien et al., arXiv:2006.07988): `Σ_{l≤L} γ_l Â^l MLP(X)` with learned γ, which may turn negative.

    γ starts as personalised PageRank: α (1-α)^l, and (1-α)^L for the last. `propagated_dropout` is on MLP(X).
    """
    refuse_wiring("gprgnn", norm=norm, residual=residual)
    return _GPRGNN(shape, layers, hidden, drop, alpha, propagated_dropout)
