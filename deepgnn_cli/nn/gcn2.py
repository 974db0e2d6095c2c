"""GCNII's layer, and the same behind a ReLU and a dropout as one function of autograd.

N nodes, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.aggregation.products import product
from deepgnn_cli.nn.autograd import Context
from deepgnn_cli.nn.dropout import PositiveMasks, relu_dropout


def floating(dtype: torch.dtype) -> torch.dtype:
    """The precision of sparse products: single or double; autocast lowers the dense ones around them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class _LayersContext(Context):
    transpose: Tensor
    alpha: float
    betas: Tensor


class _DroppedLayers(torch.autograd.Function):
    """`x_l = S_l W'_l`, `S_l = (1-α) Â drop(relu(x_(l-1))) + α x0`, `W'_l = (1-β_l) I + β_l W_l`, for l = 1 … L.

    Step by step autograd would keep the dropped x and S of a layer, 4 bytes an element each; here it keeps S and one
    byte that says where x passes both the ReLU and the dropout. All layers are one function, so that the gradient of
    x0 adds up where it is, and every other is finished in the memory it is made in.
    """

    @staticmethod
    def forward(
        ctx: _LayersContext,
        x0: Tensor,
        x: Tensor,
        operator: Operator,
        rate: float,
        alpha: float,
        betas: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        # One x for all layers: memory that a layer before has used is still in the cache.
        x, supports = x.clone(), []
        masks, mapped = PositiveMasks(len(weights), x, rate), _mapped(weights, betas)
        # The dropout's scale goes into the product's, and that into the matrix.
        operator = operator.scaled((1 - alpha) / masks.keep)
        for layer, weight in enumerate(mapped):
            masks.pass_(layer, x)
            supports.append(product(operator.matrix, x, x0, base_scale=alpha))
            torch.mm(supports[-1], weight, out=x)
        ctx.save_for_backward(masks.kept, mapped, *supports)
        ctx.transpose, ctx.alpha, ctx.betas = operator.transpose, alpha, betas
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: _LayersContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        masks, mapped, *supports = ctx.saved_tensors
        # What is transposed to [C, N] is the operand in the cache; the other is read as it lies.
        transposed, to_x0 = torch.empty_like(mapped), torch.zeros_like(gradient)
        to_support, passed, factor = (torch.empty_like(gradient) for _ in range(3))
        layers = zip(supports, mapped.mT.unbind(), transposed.unbind(), masks.unbind(), strict=True)
        for support, weight, to_weight, kept in reversed(list(layers)):
            torch.mm(gradient.t(), support, out=to_weight)
            torch.mm(gradient, weight, out=to_support)
            to_x0.add_(to_support, alpha=ctx.alpha)
            product(ctx.transpose, to_support, out=passed).mul_(factor.copy_(kept))
            gradient = passed
        to_weights = torch.mul(transposed.transpose(1, 2), ctx.betas, out=torch.empty_like(mapped))
        return to_x0, gradient, None, None, None, None, *to_weights


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
        """`x = conv(drop(relu(x)))` for each conv, as one function of autograd; None where it does not serve.

        A rate of 0 is for evaluation: no gradient is kept.
        """
        first, operator = convs[0], adjacency.operator("sym", floating(x.dtype))
        if x0 is None or not _plain(operator, x, x0, *(conv.weight for conv in convs)):
            return None
        if not first.alpha or any(conv.weight0 is not None or conv.alpha != first.alpha for conv in convs):
            return None
        betas = x.new_tensor([1.0 if conv.beta is None else conv.beta for conv in convs]).view(-1, 1, 1)
        weights: list[Tensor] = [conv.weight for conv in convs]
        if not rate:
            return _evaluated(x0, x, _mapped(weights, betas), operator, first.alpha)
        out: Tensor = _DroppedLayers.apply(x0, x, operator, rate, first.alpha, betas, *weights)
        return out


def _mapped(weights: Sequence[Tensor], betas: Tensor) -> Tensor:
    """`(1-β_l) I + β_l W_l`, [L, C, C]; five times as fast as a `lerp` of all."""
    mapped = torch.stack(list(weights)).mul_(betas)
    mapped.diagonal(dim1=1, dim2=2).add_(1 - betas[:, :, 0])
    return mapped


def _evaluated(x0: Tensor, x: Tensor, mapped: Tensor, operator: Operator, alpha: float) -> Tensor:
    """What `_DroppedLayers` computes, without dropout and without a gradient."""
    x, support = x.clone(), torch.empty_like(x)
    for weight in mapped:
        product(operator.matrix, x.clamp_(min=0), x0, scale=1 - alpha, base_scale=alpha, out=support)
        torch.mm(support, weight, out=x)
    return x


def _plain(operator: Operator, *tensors: Tensor) -> bool:
    """Whether all are of one precision, none is to be lowered, and the product is with a matrix, not of messages."""
    one = all(tensor.dtype == floating(tensor.dtype) == tensors[0].dtype for tensor in tensors)
    return one and type(operator) is Operator and not torch.is_autocast_enabled(tensors[0].device.type)
