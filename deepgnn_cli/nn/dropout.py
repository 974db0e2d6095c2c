"""Random masks that are not the bottleneck on a CPU, and the dropout and edge drops made of them.

torch's CPU generator is serial: on a CPU a Bernoulli mask costs more than the matrix product behind it. Here a
state of 252 random bits is drawn from torch's generator for each mask, and numpy's SFC64 expands it to random words,
each read as four 16-bit lanes. The whole state stays in torch's generator: seeding, checkpointing and replaying it
is enough. The rate is met to 2^-17, and the survivors are scaled by the rate really used, so the mean is kept.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.autograd import Context

_LANES = 1 << 16
_THREAD = threading.local()


def keep_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> tuple[Tensor, float]:
    """Independent booleans, True with probability `1 - rate`, and the probability really used.

    The last is within 2^-17 of `1 - rate` on a CPU (and at least 2^-16), and equal to it elsewhere.
    """
    masks, keep = _keep_masks(1, shape, rate, device)
    return masks[0], keep


def _keep_masks(count: int, shape: tuple[int, ...], rate: float, device: torch.device) -> tuple[Tensor, float]:
    """The masks that so many calls of `keep_mask` would draw, [count, *shape]."""
    if device.type != "cpu":
        masks = torch.empty(count, *shape, dtype=torch.bool, device=device)
        for mask in masks:
            torch.ge(torch.rand(shape, device=device), rate, out=mask)
        return masks, 1 - rate
    dropped = min(round(rate * _LANES), _LANES - 1)
    kept = np.empty((count, math.prod(shape)), dtype=bool)
    states = torch.empty(count, 4, dtype=torch.int64).random_().numpy().view(np.uint64)
    for mask, state in zip(kept, states, strict=True):
        _draw(mask, dropped, state)
    return torch.from_numpy(kept).view(count, *shape), 1 - dropped / _LANES


class PositiveMasks:
    """ReLUs and dropouts of L layers' inputs, with the masks that `keep_mask` would draw one by one.

    They are drawn at once: between the layers' products, which leave their own data in the cache, each would take
    twice as long on a CPU.

    Attributes:
        kept: a byte an element, [L, N, C]: whether the dropout keeps it and, once its layer is passed, the ReLU too.
        keep: the probability with which an element passes the dropout.
    """

    def __init__(self, layers: int, x: Tensor, rate: float) -> None:
        masks, self.keep = _keep_masks(layers, tuple(x.shape), rate, x.device)
        # By way of bytes: a boolean factor takes a path four times slower.
        self.kept, self._factor = masks.view(torch.uint8), torch.empty_like(x)

    def pass_(self, layer: int, x: Tensor) -> Tensor:
        """Make of x, [N, C], the layer's `drop(relu(x)) * keep`, where it is."""
        kept = self.kept[layer]
        x.mul_(self._factor.copy_(kept)).clamp_(min=0)
        kept.view(torch.bool).copy_(x)  # what is not zero has passed both
        return x


def _draw(kept: NDArray[np.bool_], dropped: int, state: NDArray[np.uint64]) -> None:
    """Fill `kept` with what SFC64 draws from a state, each False with probability `dropped` / 2^16."""
    # A generator of each thread is set to the state: to make one takes as long as to draw a small mask.
    if not hasattr(_THREAD, "generator"):
        _THREAD.generator = np.random.SFC64()
    generator = _THREAD.generator
    generator.state = {"bit_generator": "SFC64", "state": {"state": state}, "has_uint32": 0, "uinteger": 0}
    generator.random_raw(8, output=False)  # torch draws 63 bits: now all 64 are random
    words = generator.random_raw(-(-kept.size // 4))
    # numpy compares 16-bit lanes ten times faster than torch.
    np.greater_equal(words.view(np.uint16)[: kept.size], np.uint16(dropped), out=kept)


class _DropoutContext(Context):
    rectify: bool
    keep: float


class _Drop(torch.autograd.Function):
    """`x * mask / keep`, or `relu(x) * mask / keep`, keeping for the backward pass no more than one tensor.

    After a ReLU the output itself says where the gradient passes: where it is positive.
    """

    @staticmethod
    def forward(ctx: _DropoutContext, x: Tensor, rate: float, rectify: bool) -> Tensor:
        mask, keep = keep_mask(tuple(x.shape), rate, x.device)
        # By way of bytes: a boolean factor, and even its conversion, takes a path four times slower.
        kept = mask.view(torch.uint8)
        out = kept.to(x.dtype).mul_(x)
        if rectify:
            out.clamp_(min=0)
        out.mul_(1 / keep)
        ctx.save_for_backward(out if rectify else kept)
        ctx.rectify, ctx.keep = rectify, keep
        return out

    @staticmethod
    def backward(ctx: _DropoutContext, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (kept,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(gradient, kept, 0) if ctx.rectify else gradient * kept
        return passed.mul_(1 / ctx.keep), None, None


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zero each element with probability `rate` and scale the others to keep the mean (training only)."""
    if not training or rate == 0:
        return x
    dropped: Tensor = _Drop.apply(x, rate, False)
    return dropped


def relu_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`dropout(relu(x))` in one step."""
    if not training or rate == 0:
        return x.relu()
    dropped: Tensor = _Drop.apply(x, rate, True)
    return dropped


class Dropout(nn.Module):
    """`dropout` as a module, for the places that want one."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x, result: [N, C]."""
        return dropout(x, self.rate, self.training)


def drop_edges(adjacency: Adjacency, edge_rate: float, node_rate: float) -> Adjacency:
    """A thinner graph for one training step; its normalisations are built anew from what is left.

    DropEdge (arXiv:1907.10903) removes each directed edge with probability `edge_rate`; DropNode
    (arXiv:2008.12578) removes with probability `node_rate` a node's every edge, in and out.
    """
    keep = torch.ones_like(adjacency.edge_index[0], dtype=torch.bool)
    if edge_rate:
        keep &= keep_mask((keep.numel(),), edge_rate, keep.device)[0]
    if node_rate:
        alive = keep_mask((adjacency.num_nodes,), node_rate, keep.device)[0]
        keep &= alive[adjacency.edge_index].all(dim=0)
    return adjacency.with_edges(keep)


@dataclass(frozen=True)
class MessageDropping(Operator):
    """`M x` as a sum of messages M_ij x_j, [E, C], each element of which is dropped by itself."""

    rate: float

    def __call__(self, x: Tensor, base: Tensor | None = None, scale: float = 1.0, base_scale: float = 1.0) -> Tensor:
        """As of `Operator`, at a cost of E × C."""
        values, (target, source) = self.matrix.values(), self.ends()
        mask, keep = keep_mask((source.numel(), x.size(1)), self.rate, x.device)
        messages = x.to(values.dtype)[source] * (values[:, None] * (scale / keep) * mask)
        out = messages.new_zeros(self.matrix.size(0), x.size(1)).index_add(0, target, messages)
        return out if base is None else out + base_scale * base.to(values.dtype)


def drop_messages(adjacency: Adjacency, rate: float) -> Adjacency:
    """DropMessage (arXiv:2204.10037): zero each element of each message with probability `rate`, scale the others.

    Dropout of x, DropEdge and DropNode zero some of the same elements together; here each falls by itself, in each
    layer anew. For convs whose aggregation is a product with a matrix.
    """
    return adjacency.with_operators(partial(_dropping, rate=rate))


def _dropping(operator: Operator, *, rate: float) -> Operator:
    return MessageDropping(operator.matrix, operator.transpose, rate)
