"""GRAND: random propagation, and a loss that asks several augmentations to agree.

N nodes, F input features, C hidden channels, K classes, L propagation steps, S views.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.decoupled import MLP, Builder, Decoupled, Input, refuse_wiring
from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.nn.sparse_features import SparseFeatures
from deepgnn_cli.nn.stack import States
from deepgnn_cli.rules.types import Count, NonNegative, Positive, Rate

Criterion = Callable[[Tensor, Tensor], Tensor]


class _GRAND(Decoupled):
    def __init__(
        self,
        shape: Shape,
        steps: int,
        hidden: int,
        drop: Drop,
        *,
        drop_node: float,
        views: int,
        temperature: float,
        consistency: float,
    ) -> None:
        super().__init__(steps, drop)
        self.mlp = MLP(shape, hidden, drop)
        self.drop_node, self.views = drop_node, views
        self.temperature, self.consistency = temperature, consistency

    def augment(self, x: Tensor) -> Tensor:
        """DropNode as GRAND means it: whole rows of X are zeroed, the others scaled to keep the mean (training)."""
        if not self.training or not self.drop_node:
            return x
        mask, keep = keep_mask((x.size(0), 1), self.drop_node, x.device)
        return x * (mask / keep)

    def states(self, x: Input, adjacency: Adjacency) -> States:
        h = self.augment(x.dense() if isinstance(x, SparseFeatures) else x)
        operator = self.propagation(h, adjacency)
        total = h
        yield h
        for _ in range(self.steps):
            h = operator(h)
            total = total + h
            yield h
        logits: Tensor = self.mlp(total / (self.steps + 1))
        return logits

    def mix(self, h: Tensor, operator: Operator) -> Tensor:
        """`1/(L+1) Σ_{l≤L} Â^l h`, one fused product a step (Horner's rule)."""
        total = h
        for _ in range(self.steps):
            total = operator(total, h)
        return total / (self.steps + 1)

    def forward(self, x: Input, adjacency: Adjacency) -> Tensor:
        """x: [N, F]; logits: [N, K]. The same as `states`, faster."""
        if self.training:
            h = self.augment(x.dense() if isinstance(x, SparseFeatures) else x)
            logits: Tensor = self.mlp(self.mix(h, self.propagation(h, adjacency)))
            return logits
        # Nothing is dropped between propagation and weights, so the weights come first: C channels to propagate, not F.
        z = self.mlp.first(x) - self.mlp.first.bias
        z = self.mix(z, self.propagation(z, adjacency)) + self.mlp.first.bias
        evaluated: Tensor = self.mlp.second(z.relu())
        return evaluated

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """None of the states depends on parameters: the MLP comes after the last."""
        return [[] for _ in range(self.steps + 1)]

    def loss(self, x: Input, adjacency: Adjacency, y: Tensor, mask: Tensor, criterion: Criterion) -> Tensor:
        """The training loss: over S views, the mean of `criterion`, plus λ times how far the views disagree.

        Args:
            x: [N, F].
            adjacency: its edges.
            y: labels of the nodes in `mask`, [M].
            mask: the labelled nodes, [N] bool or [M] int64.
            criterion: of logits [M, K] and y.
        """
        views = [self(x, adjacency).float() for _ in range(self.views)]
        supervised = torch.stack([criterion(logits[mask], y) for logits in views]).mean()
        if self.views == 1 or not self.consistency:
            return supervised
        return supervised + self.consistency * disagreement(views, self.temperature)


def disagreement(views: list[Tensor], temperature: float) -> Tensor:
    """`mean over views and nodes of |p_s - sharpen(mean of p, T)|²`, the target taken as constant.

    sharpen(p, T)_c = p_c^(1/T) / Σ_c' p_c'^(1/T). views: S times [N, K] logits; result: a scalar.
    """
    probabilities = torch.stack([logits.softmax(dim=-1) for logits in views])  # [S, N, K]
    with torch.no_grad():
        target = (probabilities.mean(dim=0).log() / temperature).softmax(dim=-1)
    return (probabilities - target).square().sum(dim=-1).mean()


def grand(
    shape: Shape,
    *,
    layers: int,
    hidden: int,
    drop: Drop,
    norm: Builder | None,
    residual: Builder | None,
    drop_node: Rate,
    views: Count,
    temperature: Positive,
    consistency: NonNegative,
) -> nn.Module:
    """GRAND (Feng et al., arXiv:2005.11079): `MLP(1/(L+1) Σ_{l≤L} Â^l DropNode(X))`, trained on S views at once.

    Args:
        shape: F, K.
        layers: L.
        hidden: C of the MLP.
        drop: `input` in front of the MLP, `dropout` inside it.
        norm: none.
        residual: none.
        drop_node: the share of nodes whose features a view leaves out. (`drop.node` removes edges instead.)
        views: S.
        temperature: T of the sharpening; below 1 the shared target is made more certain.
        consistency: λ.
    """
    refuse_wiring("grand", norm=norm, residual=residual)
    return _GRAND(
        shape,
        layers,
        hidden,
        drop,
        drop_node=drop_node,
        views=views,
        temperature=temperature,
        consistency=consistency,
    )
