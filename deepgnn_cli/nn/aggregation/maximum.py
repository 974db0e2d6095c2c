"""Maximum over the neighbours.

N nodes, E edges, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation import products as sparse
from deepgnn_cli.nn.aggregation.edges import Edges, EdgesContext
from deepgnn_cli.nn.aggregation.products import full_precision, without_autocast


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: EdgesContext, x: Tensor, edges: Edges) -> Tensor:
        out = _forward(x, edges)
        ctx.save_for_backward(x, out)
        ctx.edges = edges
        return out

    @staticmethod
    def backward(ctx: EdgesContext, *gradients: Tensor) -> tuple[Tensor, None]:
        x, out = ctx.saved_tensors
        edges = ctx.edges
        to_x = torch.zeros_like(x)
        with without_autocast(x.device):
            for block in edges.blocks(x.size(1), x.element_size()):
                rows, source = slice(block.first, block.last), edges.source[block.start : block.stop]
                message = x.index_select(0, source)
                # In place, as a number: comparing into booleans and converting them takes three times as long.
                reached = message.eq_(out[rows].index_select(0, block.segments.row))
                share = gradients[0][rows] / block.segments.add(reached)
                edges.add_to_sources(block, reached.mul_(share.index_select(0, block.segments.row)), to_x)
        return to_x, None


def _forward(x: Tensor, edges: Edges) -> Tensor:
    if x.device.type == "cpu":
        return sparse.maximum(edges.matrix(edges.ones(x.dtype)), x)
    out = torch.empty_like(x)
    for block in edges.blocks(x.size(1), x.element_size()):
        out[block.first : block.last] = block.segments.top(x.index_select(0, edges.source[block.start : block.stop]))
    return out


def maximum(x: Tensor, edges: Edges, *, eps: float | None = None) -> Tensor:
    """`max_j m_j` over each node's incoming edges, for every channel by itself; without edges 0.

    Neighbours that share the maximum share its gradient evenly, as in PyG. One sparse product on a CPU; blocks of
    targets on a GPU, and in the backward pass, which gathers again what it compares.

    Args:
        x: [N, C].
        edges: E of them.
        eps: the messages are m = ReLU(x) + eps; None: they are x.

    Returns:
        [N, C], in single precision if `x` comes in a shorter type.
    """
    out: Tensor = _Maximum.apply(full_precision(x), edges)
    if eps is not None:  # ReLU keeps the order, so it may come after
        out = out.relu() + eps * (edges.degree > 0)
    return out
