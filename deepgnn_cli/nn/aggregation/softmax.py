"""Softmax aggregation as two sparse products (DeeperGCN, arXiv:2006.07739).

N nodes, E edges, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.aggregation.edge_blocks import Part, by_block
from deepgnn_cli.nn.aggregation.edges import Edges, EdgesContext
from deepgnn_cli.nn.aggregation.products import full_precision, without_autocast
from deepgnn_cli.nn.late import LateNumber

# How far t·m may range within a channel before some row's weights, all of them small beside the channel's maximum,
# come near the smallest number there is: exp(-60) = 9e-27 against 1e-38 in single precision. Between the two fit the
# gradient divided by such a row's sum, and the smallest of messages multiplied by it.
_RANGE = {torch.float32: 60.0, torch.float64: 600.0}
_SPREAD = "_spread_of_last_call"  # the attribute of an aggregation that remembers how far it ranged


def rectified(x: Tensor, eps: float | None) -> Tensor:
    """The messages: ReLU(x) + eps, or x itself."""
    return x if eps is None else x.relu().add_(eps)


def through_rectifier(gradient: Tensor, x: Tensor, eps: float | None) -> Tensor:
    """The gradient of x, from that of its messages."""
    return gradient if eps is None else torch.ops.aten.threshold_backward(gradient, x, 0)


class _SoftmaxContext(EdgesContext):
    eps: float | None
    stop_gradient: bool


class _Softmax(torch.autograd.Function):
    """With e = exp(t m - top), a = Aᵀ(g / A e) and b = Aᵀ(g out / A e), g the gradient of `out`:

    out = A(e m) / A e;  the gradient of m is e a + u t, u = e (m a - b);  that of t is Σ u m.
    """  # noqa: D415

    @staticmethod
    def forward(
        ctx: _SoftmaxContext, x: Tensor, t: Tensor, edges: Edges, eps: float | None, stop_gradient: bool
    ) -> Tensor:
        with without_autocast(x.device):
            message = rectified(x, eps)
            high, low = message.amax(0) * t, message.amin(0) * t
            top = torch.maximum(high, low)
            weight = (message * t).sub_(top).exp_()
            total = edges.gather(weight).clamp_(min=torch.finfo(x.dtype).tiny)  # without edges: 0 / tiny
            out = edges.gather(weight.mul_(message)).div_(total)
        ctx.save_for_backward(x, t, top, total, None if stop_gradient else out)
        ctx.edges, ctx.eps, ctx.stop_gradient = edges, eps, stop_gradient
        return out

    @staticmethod
    def backward(ctx: _SoftmaxContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, t, top, total, out = ctx.saved_tensors
        edges = ctx.edges
        with without_autocast(x.device):
            message = rectified(x, ctx.eps)
            weight = (message * t).sub_(top).exp_()
            scaled = gradients[0] / total
            to_message = edges.scatter(scaled)  # a
            to_t = None
            if not ctx.stop_gradient:
                slope = torch.addcmul(edges.scatter(scaled.mul_(out)), message, to_message, value=-1).neg_()
                slope.mul_(weight)  # u
                to_message = to_message.mul_(weight).addcmul_(slope, t.expand_as(slope))
                if ctx.needs_input_grad[1]:
                    to_t = slope.mul_(message).sum(0).sum_to_size(t.shape)
            else:
                to_message.mul_(weight)
            to_x = through_rectifier(to_message, x, ctx.eps)
        return to_x, to_t, None, None, None


def _exactly(part: Part, x: Tensor, t: Tensor, eps: float | None, stop_gradient: bool) -> Tensor:
    """Softmax of one block's messages x [edges, C], each row less its own maximum."""
    message = x if eps is None else x.relu() + eps
    if stop_gradient:
        with torch.no_grad():
            weight = part.segments.softmax(message * t)
    else:
        weight = part.segments.softmax(message * t)
    return part.segments.sum(weight * message)


def softmax(
    x: Tensor,
    edges: Edges,
    t: Tensor | float,
    *,
    eps: float | None = None,
    stop_gradient: bool = False,
    owner: nn.Module | None = None,
) -> Tensor:
    """`Σ_j softmax_j(t m_j) m_j` over each node's incoming edges, for every channel by itself; without edges 0.

    As `A(e m) / A e` with e = exp(t m - its maximum over all nodes). Where t·m ranges over more than 60 in a channel
    (600 in double precision) a row far below the maximum could underflow: such channels are computed over blocks of
    targets instead, less each row's own maximum. On a GPU, where to look at the range is to wait, the range of the
    call before decides for all channels, and half of it is enough; the first call, and a CUDA graph's, are by blocks.

    Args:
        x: [N, C].
        edges: E of them.
        t: inverse temperature, a number, [1], or [C] for one of each channel's own.
        eps: the messages are m = ReLU(x) + eps; None: they are x.
        stop_gradient: the weights count as constants in the backward pass.
        owner: what remembers the range from one call to the next; None: nothing does.

    Returns:
        [N, C], in single precision if `x` comes in a shorter type.
    """
    x = full_precision(x)
    # Filled and not uploaded: an upload waits.
    t = t.to(x).reshape(-1) if isinstance(t, Tensor) else torch.full((1,), t, dtype=x.dtype, device=x.device)
    if not x.numel():
        return torch.zeros_like(x)
    with torch.no_grad():
        high, low = x.amax(0), x.amin(0)
        if eps is not None:
            high, low = high.relu(), low.relu()
        spread = (high - low) * t.abs()
    if not _waits_for_nothing(x.device):
        edges.blocks(x.size(1), x.element_size())  # cut before a capture, which could not
        narrow = _was_narrow(owner, spread.max(), _RANGE[x.dtype])
        return (_fast if narrow else _blocks)(x, t, edges, eps, stop_gradient)
    wide = spread > _RANGE[x.dtype]
    if not wide.any():
        return _fast(x, t, edges, eps, stop_gradient)
    return _split(x, t, edges, eps, stop_gradient, wide)


def _fast(x: Tensor, t: Tensor, edges: Edges, eps: float | None, stop_gradient: bool) -> Tensor:
    out: Tensor = _Softmax.apply(x, t, edges, eps, stop_gradient)
    return out


def _waits_for_nothing(device: torch.device) -> bool:
    return device.type == "cpu"


def _was_narrow(owner: nn.Module | None, spread: Tensor, limit: float) -> bool:
    """Whether t·m ranged over half the limit at most in the call before; this call's range is left for the next.

    A new object each time: a second evaluation, which finds the attributes of the first, decides as the first did.
    """
    if owner is None or (spread.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    before: LateNumber | None = getattr(owner, _SPREAD, None)
    setattr(owner, _SPREAD, LateNumber(spread))
    return before is not None and before.read() <= limit / 2


def _blocks(x: Tensor, t: Tensor, edges: Edges, eps: float | None, stop_gradient: bool) -> Tensor:
    return by_block(
        lambda part, tensors: _exactly(part, tensors[0], tensors[1], eps, stop_gradient),
        edges,
        x.size(1),
        at_source=(x,),
        shared=(t,),
    )


def _split(x: Tensor, t: Tensor, edges: Edges, eps: float | None, stop_gradient: bool, wide: Tensor) -> Tensor:
    """The channels in `wide` [C] block by block, the others as products."""
    if wide.all():
        return _blocks(x, t, edges, eps, stop_gradient)
    far, near = wide.nonzero().flatten(), (~wide).nonzero().flatten()
    own = t.numel() > 1
    exact = _blocks(x.index_select(1, far), t[far] if own else t, edges, eps, stop_gradient)
    fast = _fast(x.index_select(1, near), t[near] if own else t, edges, eps, stop_gradient)
    return torch.cat([exact, fast], 1).index_select(1, torch.argsort(torch.cat([far, near])))
