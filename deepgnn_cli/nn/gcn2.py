"""GCNII's layer.

N nodes, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.aggregation.products import floating
from deepgnn_cli.nn.chain import Chain, ChainedConv
from deepgnn_cli.nn.dropout import relu_dropout


class GCN2(ChainedConv):
    """GCNII's layer: see `convs.gcn2`. Without `x0` the initial residual is left out: identity mapping alone."""

    identity: Tensor

    takes_x0 = True
    reads_edge_weight = True
    takes_rate = True

    def __init__(self, channels: int, *, alpha: float, beta: float | None, variant: str) -> None:
        super().__init__()
        self.alpha, self.beta, self.variant = alpha, beta, variant
        self.weight = nn.Parameter(torch.empty(channels, channels))
        second = variant != "shared" and alpha > 0  # without an initial residual there is nothing to multiply
        self.weight0 = nn.Parameter(torch.empty(channels, channels)) if second else None
        self.register_buffer("identity", torch.eye(channels), persistent=False)
        bound = 1 / math.sqrt(channels)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def _map(self, weight: Tensor, scale: float = 1.0) -> Tensor:
        """`(1 - β) scale I + β W`: the identity mapping, folded into one [C, C] weight."""
        if self.beta is None:
            return weight
        identity = self.identity if scale == 1 else self.identity * scale
        return torch.lerp(identity, weight, self.beta)

    def forward(
        self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None, *, rate: float | None = None
    ) -> Tensor:
        """x, x0, result: [N, C]. With a `rate` the layer reads `drop(relu(x))`, in training, in place of x."""
        operator = adjacency.operator("sym", floating(x.dtype))
        alpha = 0.0 if x0 is None else self.alpha
        if rate is not None:
            whole = GCN2.chain([self], x, adjacency, x0, rate)
            if whole is not None:
                return whole
            x = relu_dropout(x, rate, True)
        if x0 is None or not alpha:
            return operator(x) @ self._map(self.weight)
        if self.weight0 is None:
            return operator(x, x0, 1 - alpha, alpha) @ self._map(self.weight)
        if self.variant == "paper":
            own, initial = self._map(self.weight) * (1 - alpha), self._map(self.weight0) * alpha
        else:
            own, initial = self._map(self.weight, 1 - alpha), self._map(self.weight0, alpha)
        return torch.addmm(operator(x) @ own, x0, initial)

    @staticmethod
    def chain(convs: Sequence[GCN2], x: Tensor, adjacency: Adjacency, x0: Tensor | None, rate: float) -> Tensor | None:
        """`x = conv(drop(relu(x)))` for each conv, as one step; None where that does not serve."""
        alpha = 0.0 if x0 is None else convs[0].alpha
        if any(conv.weight0 is not None or conv.alpha != convs[0].alpha for conv in convs):
            return None
        operator = adjacency.operator("sym", floating(x.dtype))
        betas = [1.0 if conv.beta is None else conv.beta for conv in convs]
        return Chain(operator, alpha, betas)(x, x0, [conv.weight for conv in convs], rate=rate)
