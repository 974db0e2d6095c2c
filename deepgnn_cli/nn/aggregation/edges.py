"""The edges of a graph in the order that aggregation reads: sorted by target, with a second order by source.

N nodes, E edges, C channels, H heads, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.products import csr, maximum, product, without_autocast
from deepgnn_cli.nn.autograd import Context

# What one tensor of a block may take. On a CPU a block stays in the cache, and below the size from which each
# allocation asks the system for fresh pages; on a GPU it is large enough to hide the launch of its kernels.
_BLOCK_BYTES = {"cpu": 2 << 20, "cuda": 128 << 20}


class _SegmentsContext(Context):
    segments: Segments


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _SegmentsContext, entries: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return segments.add(entries)

    @staticmethod
    def backward(ctx: _SegmentsContext, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.segments.row), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _SegmentsContext, rows: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return rows.index_select(0, segments.row)

    @staticmethod
    def backward(ctx: _SegmentsContext, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.segments.add(gradients[0].contiguous()), None


@dataclass(frozen=True)
class Segments:
    """E entries in R groups. Sums are products with an R × E matrix of ones: faster than scattering, and repeatable.

    Args:
        crow: where each group begins in `entry`, [R + 1].
        entry: the entries, group by group, [E]; None: they lie in that order already.
        row: the group of each entry, [E].
    """

    crow: Tensor
    entry: Tensor | None
    row: Tensor

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        count = self.row.numel()
        entry = torch.arange(count, dtype=self.crow.dtype, device=self.row.device) if self.entry is None else self.entry
        ones = torch.ones(count, dtype=dtype, device=self.row.device)
        return csr(self.crow, entry, ones, (self.crow.numel() - 1, count))

    def add(self, entries: Tensor) -> Tensor:
        """The sum of each group's entries: [E, C] -> [R, C]; not seen by autograd."""
        with without_autocast(entries.device):
            return product(self._matrix(entries.dtype), entries)

    def sum(self, entries: Tensor) -> Tensor:
        """The sum of each group's entries: [E, C] -> [R, C]."""
        total: Tensor = _Sum.apply(entries, self)
        return total

    def spread(self, rows: Tensor) -> Tensor:
        """Each entry's group: [R, C] -> [E, C]."""
        entries: Tensor = _Spread.apply(rows, self)
        return entries

    @torch.no_grad()
    def top(self, entries: Tensor) -> Tensor:
        """The maximum of each group's entries [E, C] as a constant, [R, C]; that of an empty group is finite."""
        assert self.entry is None
        if entries.device.type == "cpu":
            return maximum(self._matrix(entries.dtype), entries)
        top = torch.segment_reduce(entries, "max", offsets=self.crow.long(), axis=0, unsafe=True)
        return top.masked_fill_(top == -torch.inf, 0)

    def softmax(self, entries: Tensor) -> Tensor:
        """The softmax within each group: [E, C] -> [E, C]."""
        weights = (entries - self.top(entries).index_select(0, self.row)).exp()
        return weights / self.spread(self.sum(weights))


@dataclass(frozen=True)
class Block:
    """The edges `start:stop` into the targets `first:last`, all the edges of each."""

    first: int
    last: int
    start: int
    stop: int
    segments: Segments  # of these edges, by target, counted from `first`


class Edges:
    """Directed edges source -> target, sorted by target and then by source. Parallel edges stay apart.

    Args:
        edge_index: [2, E] int64.
        num_nodes: N.
        loops: every node gets one edge to itself, behind the others, in place of those that it has.
        has_loops: False: there is no self-loop to be replaced, and none is looked for, which a GPU would wait for.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int, *, loops: bool = False, has_loops: bool = True) -> None:
        self.num_nodes = n = num_nodes
        self.kept: Tensor | None = None  # the numbers of the edges given that remain; None: all
        source, target = edge_index
        if loops and has_loops:
            self.kept = (source != target).nonzero().flatten()
            source, target = source[self.kept], target[self.kept]
        if loops:
            own = torch.arange(n, device=source.device)
            source, target = torch.cat([source, own]), torch.cat([target, own])
        self.loops = loops
        self.order = torch.argsort(target * n + source)  # [E], from this order to the one given
        narrow = torch.int32 if max(n, source.numel()) < 2**31 else torch.int64
        self.source: Tensor = source[self.order].to(narrow)
        self.target: Tensor = target[self.order].to(narrow)
        self.crow = offsets(self.target, n)
        self._ones: dict[torch.dtype, Tensor] = {}
        self._blocks: dict[int, list[Block]] = {}

    @property
    def count(self) -> int:
        """E."""
        return self.source.numel()

    @cached_property
    def by_target(self) -> Segments:
        """The edges into each node."""
        return Segments(self.crow, None, self.target)

    @cached_property
    def by_source(self) -> Segments:
        """The edges out of each node."""
        entry = torch.argsort(self.source, stable=True).to(self.source.dtype)
        return Segments(offsets(self.source[entry], self.num_nodes), entry, self.source)

    @cached_property
    def _target_by_source(self) -> Tensor:
        entry = self.by_source.entry
        assert entry is not None
        return self.target[entry]

    @cached_property
    def degree(self) -> Tensor:
        """The number of edges into each node, [N, 1] int64."""
        return self.crow.diff().long().unsqueeze(1)

    def ones(self, dtype: torch.dtype) -> Tensor:
        """[E]."""
        if dtype not in self._ones:
            self._ones[dtype] = torch.ones(self.count, dtype=dtype, device=self.source.device)
        return self._ones[dtype]

    def matrix(self, values: Tensor) -> Tensor:
        """M[target, source] with the values [E] of the edges."""
        return csr(self.crow, self.source, values, (self.num_nodes, self.num_nodes))

    def transpose(self, values: Tensor) -> Tensor:
        """M[source, target] with the values [E] of the edges."""
        by = self.by_source
        assert by.entry is not None
        if values is not self._ones.get(values.dtype):
            values = values.index_select(0, by.entry)
        return csr(by.crow, self._target_by_source, values, (self.num_nodes, self.num_nodes))

    def gather(self, x: Tensor) -> Tensor:
        """The sum of x [N, C] over each node's incoming edges; not seen by autograd."""
        return product(self.matrix(self.ones(x.dtype)), x)

    def scatter(self, x: Tensor) -> Tensor:
        """The sum of x [N, C] over each node's outgoing edges; not seen by autograd."""
        return product(self.transpose(self.ones(x.dtype)), x)

    def arrange(self, values: Tensor) -> Tensor:
        """What belongs to the edges given, [E, D], in this order. A self-loop gets the mean of a node's other edges."""
        values = values if self.kept is None else values.index_select(0, self.kept)
        if self.loops:
            n, into = self.num_nodes, self._given_target
            total = torch.zeros(n, values.size(1), dtype=values.dtype, device=values.device).index_add(0, into, values)
            values = torch.cat([values, total / (self.degree - 1).clamp(min=1)])
        return values.index_select(0, self.order)

    @cached_property
    def _given_target(self) -> Tensor:
        back = torch.empty_like(self.target)
        back[self.order] = self.target
        return back[: self.count - self.num_nodes]

    def add_to_sources(self, block: Block, entries: Tensor, total: Tensor) -> None:
        """Add what a block's edges carry, [edges, C], to the rows of their sources in `total` [N, C]."""
        # On a CPU torch adds rows by 64-bit numbers four times as fast as by 32-bit ones.
        total.index_add_(0, self.source[block.start : block.stop].long(), entries)

    def blocks(self, width: int, itemsize: int) -> list[Block]:
        """The edges in blocks of whole targets, of which a tensor [edges, width] takes 2 MiB (128 MiB on a GPU).

        A target with more edges than that has a block of its own.
        """
        limit = max(1, _BLOCK_BYTES.get(self.source.device.type, 128 << 20) // (width * itemsize))
        if limit not in self._blocks:
            self._blocks[limit] = list(self._cut(limit))
        return self._blocks[limit]

    @cached_property
    def _crow_on_cpu(self) -> Tensor:
        return self.crow.cpu().long()

    def _cut(self, limit: int) -> Iterator[Block]:
        if self.count <= limit and self.num_nodes:  # known without looking at the offsets
            yield Block(0, self.num_nodes, 0, self.count, self.by_target)
            return
        crow = self._crow_on_cpu
        first, starts = 0, crow.tolist()
        while first < self.num_nodes:
            last = int(torch.searchsorted(crow, starts[first] + limit, right=True)) - 1
            last = min(max(last, first + 1), self.num_nodes)
            start, stop = starts[first], starts[last]
            local = Segments(self.crow[first : last + 1] - start, None, self.target[start:stop] - first)
            yield Block(first, last, start, stop, local)
            first = last


def offsets(row: Tensor, rows: int) -> Tensor:
    """Where each of the rows begins in entries sorted by row, [rows + 1]. To count them a GPU would wait."""
    starts = torch.arange(rows + 1, dtype=row.dtype, device=row.device)
    return torch.searchsorted(row, starts, out_int32=row.dtype == torch.int32)


class EdgesContext(Context):
    """Of a function that keeps the edges."""

    edges: Edges
