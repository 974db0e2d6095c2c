"""The adjacency of a graph: normalised once, then multiplied by as a sparse matrix.

N nodes, E edges, C channels.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.edges import Edges, offsets
from deepgnn_cli.nn.aggregation.products import csr as pattern
from deepgnn_cli.nn.aggregation.products import product, without_autocast
from deepgnn_cli.nn.autograd import Context


class _MultiplyContext(Context):
    operator: Operator
    scale: float
    base_scale: float


class _Multiply(torch.autograd.Function):
    """`scale * M x + base_scale * base`, with the transpose of M at hand for the backward pass."""

    @staticmethod
    def forward(
        ctx: _MultiplyContext, x: Tensor, base: Tensor | None, operator: Operator, scale: float, base_scale: float
    ) -> Tensor:
        ctx.operator, ctx.scale, ctx.base_scale = operator, scale, base_scale
        return _multiply(x, base, operator, scale, base_scale)

    @staticmethod
    def backward(ctx: _MultiplyContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        to_x = to_base = None
        if ctx.needs_input_grad[0]:
            to_x = ctx.operator.transposed()(gradient, scale=ctx.scale)
        if ctx.needs_input_grad[1]:
            to_base = gradient * ctx.base_scale
        return to_x, to_base, None, None, None


def _multiply(x: Tensor, base: Tensor | None, operator: Operator, scale: float, base_scale: float) -> Tensor:
    with without_autocast(x.device):
        return product(operator.matrix, x, base, scale=scale, base_scale=base_scale)


@dataclass(frozen=True)
class Operator:
    """A fixed sparse matrix M [N, N] and its transpose, both CSR: what a linear aggregation multiplies by.

    A symmetric matrix is its own transpose and is held once.
    """

    matrix: Tensor
    transpose: Tensor

    def __call__(self, x: Tensor, base: Tensor | None = None, scale: float = 1.0, base_scale: float = 1.0) -> Tensor:
        """`scale * M x + base_scale * base` in one kernel; x, base, result: [N, C]."""
        dtype = self.matrix.dtype
        base = None if base is None else base.to(dtype)
        x = x.to(dtype)
        if not torch.is_grad_enabled() or not (x.requires_grad or (base is not None and base.requires_grad)):
            return _multiply(x, base, self, scale, base_scale)  # spares what costs as much as a small product
        product: Tensor = _Multiply.apply(x, base, self, scale, base_scale)
        return product

    def scaled(self, scale: float) -> Operator:
        """`scale M` as an operator."""
        matrix = _scaled(self.matrix, scale)
        return Operator(matrix, matrix if self.transpose is self.matrix else _scaled(self.transpose, scale))

    def ends(self) -> tuple[Tensor, Tensor]:
        """The target and the source of each entry of M, [E] int64 each."""
        source = self.matrix.col_indices().long()
        entry = torch.arange(source.numel(), device=source.device)
        return torch.searchsorted(self.matrix.crow_indices()[1:].long(), entry, right=True), source

    def transposed(self) -> Operator:
        """Mᵀ as an operator."""
        return Operator(self.transpose, self.matrix)


class Adjacency:
    """The edges of one (batch of) graph(s), and each normalisation of them, built once when first asked for.

    Args:
        edge_index: directed edges source -> target, [2, E] int64.
        num_nodes: N.
        edge_attr: edge features [E, D], or edge weights [E], for the convs that read them. May need gradients.
        batch: [N] int64, which graph each node belongs to; None: one graph.
        edge_weight: [E], what the entries of A are in `operator`; None: 1 each.
        fleeting: it serves a step or so: whether its matrices are symmetric is not worth finding out.
        has_loops: whether an edge may be a self-loop; None: it is looked for when that matters.
        num_graphs: how many graphs `batch` numbers; None: they are counted when that matters.
    """

    gathers = False  # whether convs are to gather and scatter over `edge_index`, even where a sparse product is faster
    instead: Callable[[Operator], Operator] | None = None  # what stands in for each `operator`

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        fleeting: bool = False,
        has_loops: bool | None = None,
        num_graphs: int | None = None,
    ) -> None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(f"edge_index has shape {tuple(edge_index.shape)}; it must be [2, E]")
        self.edge_index = edge_index
        self.num_nodes = num_nodes
        self.edge_attr = edge_attr
        self.batch = batch
        self.edge_weight = edge_weight
        self.fleeting, self._has_loops = fleeting, has_loops
        self._graphs = num_graphs
        self._operators: dict[tuple[str, torch.dtype], Operator] = {}
        self._edges: dict[bool, Edges] = {}
        self._looped: list[Adjacency] = []

    def with_edge_attr(self, edge_attr: Tensor | None) -> Adjacency:
        """The same graph, sharing every operator built so far or later, with other edge features."""
        other = copy.copy(self)
        other.edge_attr = edge_attr
        return other

    def with_edges(self, keep: Tensor) -> Adjacency:
        """The graph with only the edges where `keep` ([E] bool) holds; its normalisations are built anew.

        On a GPU this waits once: how many edges are left is a size.
        """
        left = keep.nonzero().flatten()
        attr = None if self.edge_attr is None else self.edge_attr.index_select(0, left)
        weight = None if self.edge_weight is None else self.edge_weight.index_select(0, left)
        ends = self.edge_index.index_select(1, left)
        loops, graphs = self.has_loops, self._graphs
        return Adjacency(
            ends, self.num_nodes, attr, self.batch, weight, fleeting=True, has_loops=loops, num_graphs=graphs
        )

    def with_operators(self, instead: Callable[[Operator], Operator] | None) -> Adjacency:
        """The same graph, sharing what was built, with another operator in place of each; None: as they are."""
        other = copy.copy(self)
        other.instead = instead
        return other

    @property
    def has_loops(self) -> bool:
        """Whether an edge may be a self-loop."""
        if self._has_loops is None:
            self._has_loops = bool((self.edge_index[0] == self.edge_index[1]).any())
        return self._has_loops

    @property
    def num_graphs(self) -> int:
        """How many graphs `batch` numbers."""
        if self._graphs is None:
            self._graphs = 1 if self.batch is None else int(self.batch.max()) + 1
        return self._graphs

    def looped(self) -> Adjacency:
        """The graph with one self-loop a node, in place of those there are, and without edge features; made once."""
        if not self._looped:
            outer = self.with_edges(self.edge_index[0] != self.edge_index[1]) if self.has_loops else self
            nodes = torch.arange(self.num_nodes, device=self.edge_index.device)
            edges = torch.cat([outer.edge_index, nodes.expand(2, -1)], dim=1)
            weight = outer.edge_weight
            if weight is not None:
                weight = torch.cat([weight, weight.new_ones(self.num_nodes)])
            n, graphs = self.num_nodes, self._graphs
            wider = Adjacency(
                edges, n, None, self.batch, weight, fleeting=self.fleeting, has_loops=True, num_graphs=graphs
            )
            self._looped.append(wider)
        looped = self._looped[0]
        return looped if self.instead is None else looped.with_operators(self.instead)

    def operator(self, normalisation: str, dtype: torch.dtype = torch.float32) -> Operator:
        """The aggregation matrix M[target, source] of a linear convolution, CSR, built at the first call.

        - `sym`: D^-1/2 (A + I) D^-1/2, the GCN's (arXiv:1609.02907); D are the row sums of A + I;
          a self-loop already there is kept rather than doubled.
        - `sym_loopless`: D^-1/2 A D^-1/2, D the row sums of A (TAGCN, arXiv:1710.10370); without edges, a zero row.
        - `mean`: D^-1 A, the mean over the neighbours (GraphSAGE, arXiv:1706.02216).
        - `sum`: A (GIN, arXiv:1810.00826).
        """
        key = (normalisation, dtype)
        if key not in self._operators:
            self._operators[key] = self._build(normalisation, dtype)
        operator = self._operators[key]
        return operator if self.instead is None else self.instead(operator)

    def edges(self, *, loops: bool = False) -> Edges:
        """The edges sorted for aggregation, with one self-loop a node if `loops`; sorted at the first call.

        Raises:
            ValueError: another operator stands in for each, and whoever asks for edges would not use it.
        """
        if self.instead is not None:
            raise ValueError("drop.message applies to convs that multiply by a matrix; this one weighs each edge")
        if loops not in self._edges:
            self._edges[loops] = Edges(self.edge_index, self.num_nodes, loops=loops, has_loops=loops and self.has_loops)
        return self._edges[loops]

    def _build(self, normalisation: str, dtype: torch.dtype) -> Operator:
        source, target = self.edge_index
        n, device = self.num_nodes, self.edge_index.device
        given = self.edge_weight
        entry = torch.ones_like(target, dtype=dtype) if given is None else given.to(dtype)
        if normalisation == "sym":
            outer = source != target
            own = torch.arange(n, device=device)
            # No entry is taken out, which a GPU would wait for: a self-loop counts 0 where it was, and in its node's.
            loops = torch.ones(n + 1, dtype=dtype, device=device)
            loops[torch.where(outer, n, target)] = entry
            given = entry = torch.cat([entry * outer, loops[:n]])
            source, target = torch.cat([source, own]), torch.cat([target, own])
        degree = torch.zeros(n, dtype=dtype, device=device)
        degree.scatter_add_(0, target, entry)
        if normalisation in ("sym", "sym_loopless"):
            # In a directed graph a source may have no edge of its own coming in.
            root = degree.rsqrt().masked_fill(degree == 0, 0)
            weight = root[target] * root[source]
            weight = weight if given is None else weight * entry
        elif normalisation == "mean":
            # Neighbours whose weights are all 0 have no mean: the row stays zero.
            weight = entry * degree.reciprocal().masked_fill(degree == 0, 0)[target]
        elif normalisation == "sum":
            weight = entry
        else:
            raise ValueError(f"normalisation={normalisation!r} is not one of sym, sym_loopless, mean, sum")
        matrix = csr(target, source, weight, (n, n))
        transpose = csr(source, target, weight, (n, n))
        return Operator(matrix, matrix if not self.fleeting and _equal(matrix, transpose) else transpose)


def csr(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix from its entries; entries at one place add up. 32-bit indices, which the kernels read fastest.

    On a CPU they are added up here; elsewhere, where their number would be waited for, in every product.
    """
    index = torch.int32 if max(shape[0], shape[1], value.numel()) < 2**31 else torch.int64
    if value.device.type != "cpu":
        return _unsummed(row, column, value, shape, index)
    with warnings.catch_warnings():  # torch calls its CSR support beta, once a process
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)
        coo = torch.sparse_coo_tensor(torch.stack([row, column]), value, shape, check_invariants=False)
        matrix = coo.coalesce().to_sparse_csr()
        return torch.sparse_csr_tensor(
            matrix.crow_indices().to(index),
            matrix.col_indices().to(index),
            matrix.values(),
            shape,
            check_invariants=False,
        )


def _unsummed(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int], index: torch.dtype) -> Tensor:
    order = torch.argsort(row * shape[1] + column, stable=True)
    crow = offsets(row[order].to(index), shape[0])
    return pattern(crow, column[order].to(index), value[order], shape)


def _scaled(matrix: Tensor, scale: float) -> Tensor:
    shape = matrix.size(0), matrix.size(1)
    return pattern(matrix.crow_indices(), matrix.col_indices(), matrix.values() * scale, shape)


def _equal(a: Tensor, b: Tensor) -> bool:
    return (
        a.values().numel() == b.values().numel()
        and torch.equal(a.crow_indices(), b.crow_indices())
        and torch.equal(a.col_indices(), b.col_indices())
        and torch.equal(a.values(), b.values())
    )
