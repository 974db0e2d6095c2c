"""Layers that are a product with the graph's matrix and one with weights, ReLU and dropout before them: as one step.

N nodes, C channels, L layers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.aggregation.products import floating, product
from deepgnn_cli.nn.autograd import Context
from deepgnn_cli.nn.dropout import PositiveMasks


class ChainedConv(nn.Module):
    """A conv whose layers may run as one step. A class below one of these may compute something else, and is none."""

    @staticmethod
    @abstractmethod
    def chain(convs: Sequence[Any], x: Tensor, adjacency: Adjacency, x0: Tensor | None, rate: float) -> Tensor | None:
        """`x = conv(drop(relu(x)))` for each of these convs; None where a `Chain` does not serve."""


@dataclass(frozen=True)
class Chain:
    """`x_l = S_l W'_l + b_l`, `S_l = (1-α) M drop(relu(x_(l-1))) + α x0`, for l = 1 … L.

    Args:
        operator: M.
        alpha: α; 0: without x0.
        betas: β_l of the identity mapping `W'_l = (1-β_l) I + β_l W_l`; None: W'_l = W_l.
        transposed: the weights come as W_lᵀ, as `torch.nn.Linear` holds them.
    """

    operator: Operator
    alpha: float = 0.0
    betas: Sequence[float] | None = None
    transposed: bool = False

    def __call__(
        self, x: Tensor, x0: Tensor | None, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), *, rate: float
    ) -> Tensor | None:
        """x_L, [N, C]; None where it does not serve. A rate of 0 is for evaluation: no gradient is kept.

        Args:
            x: x_0 before ReLU and dropout, [N, C].
            x0: the initial representation, [N, C]; not read if α is 0.
            weights: L of them, [C, C].
            biases: L of them, [C], or none.
            rate: of dropout.
        """
        x0 = x0 if self.alpha else None
        if not self._serves(x, weights, biases if x0 is None else (*biases, x0)):
            return None
        if not rate:
            return self._evaluated(x, x0, self.mapped(weights), biases)
        out: Tensor = _DroppedLayers.apply(self, rate, len(weights), x, x0, *weights, *biases)
        return out

    def _serves(self, x: Tensor, weights: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
        """All are of one precision, none is to be lowered, no layer changes the width, and M is no sum of messages."""
        one = all(tensor.dtype == floating(tensor.dtype) == x.dtype for tensor in (x, *weights, *others))
        square = all(weight.shape == (x.size(1), x.size(1)) for weight in weights)
        return one and square and type(self.operator) is Operator and not torch.is_autocast_enabled(x.device.type)

    def mapped(self, weights: Sequence[Tensor]) -> Tensor:
        """W'_l, or its transpose: [L, C, C]; five times as fast as a `lerp` of all."""
        mapped = torch.stack(list(weights))
        if self.betas is not None:
            betas = mapped.new_tensor(self.betas)
            mapped.mul_(betas[:, None, None]).diagonal(dim1=1, dim2=2).add_(1 - betas[:, None])
        return mapped

    def _evaluated(self, x: Tensor, x0: Tensor | None, mapped: Tensor, biases: Sequence[Tensor]) -> Tensor:
        """What `_DroppedLayers` computes, without dropout and without a gradient."""
        x, support = x.clone(), None if x0 is None else torch.empty_like(x)
        scales = {"scale": 1 - self.alpha, "base_scale": self.alpha}
        for layer, weight in enumerate(mapped.mT if self.transposed else mapped):
            passed = product(self.operator.matrix, x.clamp_(min=0), x0, **scales, out=support)
            _affine(passed, weight, biases[layer] if biases else None, x)
        return x


class _LayersContext(Context):
    chain: Chain
    transpose: Tensor
    biased: bool


class _DroppedLayers(torch.autograd.Function):
    """A chain in training.

    Step by step autograd would keep the dropped x and S of a layer, 4 bytes an element each; here it keeps S and one
    byte that says where x passes both the ReLU and the dropout. All layers are one function, so that the gradient of
    x0 adds up where it is, and every other is finished in the memory it is made in.
    """

    @staticmethod
    def forward(
        ctx: _LayersContext, chain: Chain, rate: float, layers: int, x: Tensor, x0: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        weights, biases = parameters[:layers], parameters[layers:]
        # One x for all layers: memory that a layer before has used is still in the cache.
        x, supports = x.clone(), []
        masks, mapped = PositiveMasks(layers, x, rate), chain.mapped(weights)
        # The dropout's scale goes into the product's, and that into the matrix.
        operator = chain.operator.scaled((1 - chain.alpha) / masks.keep)
        for layer, weight in enumerate(mapped.mT if chain.transposed else mapped):
            masks.pass_(layer, x)
            supports.append(product(operator.matrix, x, x0, base_scale=chain.alpha))
            _affine(supports[-1], weight, biases[layer] if biases else None, x)
        ctx.save_for_backward(masks.kept, mapped, *supports)
        ctx.chain, ctx.transpose, ctx.biased = chain, operator.transpose, bool(biases)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: _LayersContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        masks, mapped, *supports = ctx.saved_tensors
        chain = ctx.chain
        to_x0 = torch.zeros_like(gradient) if chain.alpha else None
        # What is transposed to [C, N] is the operand in the cache; the other is read as it lies.
        to_weights = torch.empty_like(mapped)
        to_biases = mapped.new_empty(len(mapped), mapped.size(2)) if ctx.biased else mapped.new_empty(0)
        to_support, passed, factor = (torch.empty_like(gradient) for _ in range(3))
        backwards = mapped if chain.transposed else mapped.mT
        for layer in reversed(range(len(mapped))):
            torch.mm(gradient.t(), supports[layer], out=to_weights[layer])
            if ctx.biased:
                torch.sum(gradient, 0, out=to_biases[layer])
            torch.mm(gradient, backwards[layer], out=to_support)
            if to_x0 is not None:
                to_x0.add_(to_support, alpha=chain.alpha)
            product(ctx.transpose, to_support, out=passed).mul_(factor.copy_(masks[layer]))
            gradient = passed
        return None, None, None, gradient, to_x0, *_unmapped(chain, to_weights), *to_biases


def _unmapped(chain: Chain, transposed: Tensor) -> Tensor:
    """The weights' gradients, [L, C, C], as the weights lie, from those of W'_lᵀ."""
    if chain.betas is not None:
        transposed.mul_(transposed.new_tensor(chain.betas)[:, None, None])
    return transposed if chain.transposed else transposed.mT.contiguous()


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)
