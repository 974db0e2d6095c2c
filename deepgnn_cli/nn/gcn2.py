"""GCNII's layer, and the same behind a ReLU and a dropout as one function of autograd.

N nodes, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.dropout import kept_positive, relu_dropout


def floating(dtype: torch.dtype) -> torch.dtype:
    """The precision of sparse products: single or double; autocast lowers the dense ones around them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class _DroppedLayer(torch.autograd.Function):
    """`S ((1-β) I + β W)`, `S = (1-α) Â drop(relu(x)) + α x0`.

    Step by step autograd would keep the dropped x and S, 4 bytes an element each; here it keeps S and one byte that
    says where x passes both the ReLU and the dropout, and every gradient is finished in the memory it is made in.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x0: Tensor,
        x: Tensor,
        weight: Tensor,
        identity: Tensor,
        operator: Operator,
        rate: float,
        alpha: float,
        beta: float,
    ) -> Tensor:
        kept, keep = kept_positive(x, rate)
        # By way of bytes: a boolean factor takes a path four times slower. The dropout's scale goes into the product's.
        scale = (1 - alpha) / keep
        support = operator(kept.to(x.dtype).mul_(x), x0, scale, alpha)
        mapped = torch.lerp(identity, weight, beta)
        ctx.save_for_backward(kept, support, mapped)
        ctx.operator, ctx.scale, ctx.alpha, ctx.beta = operator, scale, alpha, beta
        return support @ mapped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, support, mapped = ctx.saved_tensors
        to_weight = (support.t() @ gradient).mul_(ctx.beta)
        to_support = gradient @ mapped.t()
        to_x = ctx.operator.transposed()(to_support, scale=ctx.scale).mul_(kept.to(gradient.dtype))
        return to_support.mul_(ctx.alpha), to_x, to_weight, None, None, None, None, None


class GCN2(nn.Module):
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
            if x0 is not None and alpha and self.weight0 is None and _plain(x, x0, self.weight, operator):
                beta = 1.0 if self.beta is None else self.beta
                given = (self.weight, self.identity, operator, rate, alpha, beta)
                dropped: Tensor = _DroppedLayer.apply(x0, x, *given)
                return dropped
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


def _plain(x: Tensor, x0: Tensor, weight: Tensor, operator: Operator) -> bool:
    """Whether all are of one precision, and none is to be lowered."""
    one = x.dtype == x0.dtype == weight.dtype == floating(x.dtype)
    return one and isinstance(operator, Operator) and not torch.is_autocast_enabled(x.device.type)
