"""Messages that differ from edge to edge: computed for a block of targets at a time, and once more backwards.

N nodes, E edges, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.edges import Block, Edges, Segments
from deepgnn_cli.nn.aggregation.products import without_autocast
from deepgnn_cli.nn.autograd import Context


@dataclass(frozen=True)
class Part:
    """What a block's function sees of the graph: its edges, grouped by target."""

    segments: Segments


Function = Callable[[Part, tuple[Tensor, ...]], Tensor]


@dataclass(frozen=True)
class _Plan:
    """The function, and how many of its tensors belong to sources, to targets, to edges, and to all."""

    function: Function
    edges: Edges
    channels: int
    counts: tuple[int, int, int, int]

    def kinds(self) -> list[str]:
        """What each tensor belongs to."""
        names = ("source", "target", "edge", "shared")
        return [name for name, count in zip(names, self.counts, strict=True) for _ in range(count)]

    def pick(self, block: Block, tensor: Tensor, kind: str) -> Tensor:
        """The tensor's rows for the edges of the block."""
        edges = slice(block.start, block.stop)
        if kind == "source":
            return tensor.index_select(0, self.edges.source[edges])
        if kind == "target":
            return tensor[block.first : block.last].index_select(0, block.segments.row)
        if kind == "edge":
            return tensor[edges]
        return tensor

    def put(self, block: Block, total: Tensor, gradient: Tensor, kind: str) -> None:
        """Add a block's gradient to the tensor's."""
        edges = slice(block.start, block.stop)
        if kind == "source":
            self.edges.add_to_sources(block, gradient, total)
        elif kind == "target":
            total[block.first : block.last] = block.segments.add(gradient.contiguous())
        elif kind == "edge":
            total[edges] = gradient
        else:
            total.add_(gradient)


class _BlockContext(Context):
    plan: _Plan


class _ByBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _BlockContext, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        kinds, like = plan.kinds(), tensors[0]
        out = like.new_empty(plan.edges.num_nodes, plan.channels)
        with without_autocast(like.device):
            for block in plan.edges.blocks(plan.channels, like.element_size()):
                given = tuple(plan.pick(block, t, kind) for t, kind in zip(tensors, kinds, strict=True))
                out[block.first : block.last] = plan.function(Part(block.segments), given)
        return out

    @staticmethod
    def backward(ctx: _BlockContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        tensors, kinds, wanted = ctx.saved_tensors, plan.kinds(), ctx.needs_input_grad[1:]
        totals = [torch.zeros_like(t) if w else None for t, w in zip(tensors, wanted, strict=True)]
        with without_autocast(tensors[0].device):
            for block in plan.edges.blocks(plan.channels, tensors[0].element_size()):
                given = tuple(plan.pick(block, t, kind).detach() for t, kind in zip(tensors, kinds, strict=True))
                asked = [leaf.requires_grad_() for leaf, w in zip(given, wanted, strict=True) if w]
                with torch.enable_grad():
                    out = plan.function(Part(block.segments), given)
                found = iter(
                    torch.autograd.grad(out, asked, gradients[0][block.first : block.last], materialize_grads=True)
                )
                for total, kind in zip(totals, kinds, strict=True):
                    if total is not None:
                        plan.put(block, total, next(found), kind)
        return None, *totals


def by_block(
    function: Function,
    edges: Edges,
    channels: int,
    *,
    at_source: tuple[Tensor, ...] = (),
    at_target: tuple[Tensor, ...] = (),
    per_edge: tuple[Tensor, ...] = (),
    shared: tuple[Tensor, ...] = (),
) -> Tensor:
    """An aggregation given for one block of targets, over all of them; memory O(N·C), not O(E·C).

    A block is all the edges of so many targets that a tensor [edges, channels] takes 2 MiB (128 MiB on a GPU): see
    `Edges.blocks`. Nothing inside a block is kept: the backward pass evaluates the function again.

    Args:
        function: of a `Part` and the tensors, in the order below, each with a row an edge, or whole where shared;
            gives the targets' rows [targets, channels]. It must not draw random numbers.
        edges: E of them.
        channels: the width of the result.
        at_source: tensors [N, *], read at each edge's source.
        at_target: tensors [N, *], read at each edge's target.
        per_edge: tensors [E, *] in the order of `edges`.
        shared: weights; whoever needs a gradient of them must pass them here, not close over them.

    Returns:
        [N, channels].
    """
    counts = (len(at_source), len(at_target), len(per_edge), len(shared))
    plan = _Plan(function, edges, channels, counts)
    out: Tensor = _ByBlock.apply(plan, *at_source, *at_target, *per_edge, *shared)
    return out
