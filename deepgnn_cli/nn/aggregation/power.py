"""Power-mean, mean and sum aggregation, each one sparse product (DeeperGCN, arXiv:2006.07739).

N nodes, E edges, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.edges import Edges, EdgesContext
from deepgnn_cli.nn.aggregation.products import full_precision, without_autocast
from deepgnn_cli.nn.aggregation.softmax import rectified, through_rectifier


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: EdgesContext, x: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        with without_autocast(x.device):
            return edges.gather(x)

    @staticmethod
    def backward(ctx: EdgesContext, *gradients: Tensor) -> tuple[Tensor, None]:
        with without_autocast(gradients[0].device):
            return ctx.edges.scatter(gradients[0]), None


def add(x: Tensor, edges: Edges) -> Tensor:
    """`Σ_j x_j` over each node's incoming edges: [N, C] -> [N, C]."""
    total: Tensor = _Add.apply(full_precision(x), edges)
    return total


def mean(x: Tensor, edges: Edges) -> Tensor:
    """`mean_j x_j` over each node's incoming edges, without edges 0: [N, C] -> [N, C]."""
    return add(x, edges) / edges.degree.clamp(min=1)


class _Power(torch.autograd.Function):
    """out = clamp(mean_j q_j)^(1/p), q = clamp(m)^p; a clamp passes the gradient within its bounds, ends included."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p: Tensor | float, edges: Edges, eps: float | None, low: float | None, high: float | None
    ) -> Tensor:
        with without_autocast(x.device):
            raised = rectified(x, eps).clamp(low, high).pow(p)
            mean = edges.gather(raised).div_(edges.degree.clamp(min=1))
            out = mean.clamp(low, high).pow_(1 / p)
        ctx.learned = isinstance(p, Tensor)
        ctx.save_for_backward(x, mean, out, p if isinstance(p, Tensor) else None)
        ctx.p, ctx.edges, ctx.eps, ctx.low, ctx.high = None if ctx.learned else p, edges, eps, low, high
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, out, learned = ctx.saved_tensors
        p = learned if ctx.learned else ctx.p
        edges = ctx.edges
        with without_autocast(x.device):
            inside = mean.clamp(ctx.low, ctx.high)
            to_out = gradients[0] * out
            to_p = None
            if ctx.needs_input_grad[1]:
                to_p = -(to_out * inside.log()).sum(0) / p**2
            to_mean = _within(mean, inside, to_out.div_(inside)).div_(edges.degree.clamp(min=1) * p)
            to_raised = edges.scatter(to_mean)
            message = rectified(x, ctx.eps)
            base = message.clamp(ctx.low, ctx.high)
            if to_p is not None:
                to_p = (to_p + (to_raised * base.pow(p) * base.log()).sum(0)).sum_to_size(p.shape)
            to_message = _within(message, base, to_raised.mul_(base.pow(p - 1)).mul_(p))
            to_x = through_rectifier(to_message, x, ctx.eps)
        return to_x, to_p, None, None, None, None


def _within(x: Tensor, clamped: Tensor, gradient: Tensor) -> Tensor:
    """The gradient where the clamp left x as it was, otherwise 0."""
    return gradient.masked_fill_(x != clamped, 0)


def power_mean(
    x: Tensor,
    edges: Edges,
    p: Tensor | float,
    *,
    eps: float | None = None,
    low: float | None,
    high: float | None,
) -> Tensor:
    """`(mean_j m_j^p)^(1/p)` over each node's incoming edges; messages and their mean are clamped to [low, high].

    Args:
        x: [N, C].
        edges: E of them.
        p: the power, a number, or learned: [1], or [C] for one of each channel's own. With the number 1 the mean.
        eps: the messages are m = ReLU(x) + eps; None: they are x.
        low: lower bound; None: none.
        high: upper bound; None: none.

    Returns:
        [N, C], in single precision if `x` comes in a shorter type.
    """
    x = full_precision(x)
    if isinstance(p, Tensor):
        p = p.to(x.dtype).reshape(-1)
    elif p == 1:
        return mean(x if eps is None else x.relu() + eps, edges)
    out: Tensor = _Power.apply(x, p, edges, eps, low, high)
    return out
