"""Attention as sparse products: coefficients for each edge and head, weighted sums by CSR matrices that hold them.

N nodes, E edges, H heads, D channels a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.edges import Block, Edges, EdgesContext
from deepgnn_cli.nn.aggregation.products import full_precision, product, without_autocast


def _by_head(x: Tensor) -> Tensor:
    """[N, H, D] -> [H, N, D], each head in one piece; [E, H] -> [H, E]."""
    return x.transpose(0, 1).contiguous()


def _sampled(edges: Edges, at_target: Tensor, at_source: Tensor) -> Tensor:
    """`<a_target, b_source>` of every edge and head; a, b: [H, N, D], result: [E, H]."""
    pattern = edges.matrix(edges.ones(at_target.dtype))
    dots = [
        torch.sparse.sampled_addmm(pattern, a, b.t(), beta=0.0).values()
        for a, b in zip(at_target, at_source, strict=True)
    ]
    return torch.stack(dots, dim=1)


def _weighted(matrices: list[Tensor], x: Tensor) -> Tensor:
    """One product a head; x: [H, N, D], result: [N, H, D]."""
    out = x.new_empty(x.size(1), x.size(0), x.size(2))
    for head, (matrix, own) in enumerate(zip(matrices, x, strict=True)):
        out[:, head] = product(matrix, own)
    return out


class _AttendContext(EdgesContext):
    scale: float


class _Attend(torch.autograd.Function):
    """With c the coefficients, d = <g_target, v_source> and g the gradient of `out`:

    that of v is cᵀ g; that of a score is α (d k - <g, out>), k the dropout's factor.
    """  # noqa: D415

    @staticmethod
    def forward(
        ctx: _AttendContext, scores: Tensor, values: Tensor, factor: Tensor | None, scale: float, edges: Edges
    ) -> Tensor:
        by = edges.by_target
        with without_autocast(values.device):
            alpha = (scores - by.top(scores).index_select(0, by.row)).exp_()
            alpha.div_(by.add(alpha).index_select(0, by.row))
            coefficients = _by_head(_dropped(alpha, factor, scale))
            out = _weighted([edges.matrix(c) for c in coefficients], _by_head(values))
        ctx.save_for_backward(alpha, values, factor, out)
        ctx.edges, ctx.scale = edges, scale
        return out

    @staticmethod
    def backward(ctx: _AttendContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        alpha, values, factor, out = ctx.saved_tensors
        edges = ctx.edges
        to_scores = to_values = None
        with without_autocast(values.device):
            gradient = _by_head(gradients[0])
            if ctx.needs_input_grad[1]:
                coefficients = _by_head(_dropped(alpha, factor, ctx.scale))
                to_values = _weighted([edges.transpose(c) for c in coefficients], gradient)
            if ctx.needs_input_grad[0]:
                # The gradients through a row's normalisation add up to <g, out>: nothing to sum over its edges.
                through = (gradients[0] * out).sum(-1)
                to_scores = _dropped(_sampled(edges, gradient, _by_head(values)), factor, ctx.scale)
                to_scores.sub_(through.index_select(0, edges.target)).mul_(alpha)
        return to_scores, to_values, None, None, None


def _dropped(x: Tensor, factor: Tensor | None, scale: float) -> Tensor:
    return x if factor is None else (x * factor).mul_(scale)


def attend(scores: Tensor, values: Tensor, edges: Edges, *, kept: Tensor | None = None, keep: float = 1.0) -> Tensor:
    """`Σ_j α_ij v_j`, α the softmax of the scores over each node's incoming edges, for every head by itself.

    Args:
        scores: [E, H] in the order of `edges`.
        values: [N, H, D].
        edges: E of them.
        kept: dropout of the coefficients: which remain, [E, H] bool; None: all.
        keep: the share that remains; the others are divided by it.

    Returns:
        [N, H, D]; without edges 0. Kept for the backward pass: O(N·H·D + E·H).
    """
    factor = None if kept is None else kept.view(torch.uint8)
    out: Tensor = _Attend.apply(full_precision(scores), full_precision(values), factor, 1 / keep, edges)
    return out


class _AtSource(torch.autograd.Function):
    @staticmethod
    def forward(ctx: EdgesContext, x: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        return x.index_select(0, edges.source)

    @staticmethod
    def backward(ctx: EdgesContext, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.edges.by_source.add(gradients[0].contiguous()), None


def additive(source: Tensor, target: Tensor, edges: Edges, own: Tensor | None, negative_slope: float) -> Tensor:
    """GAT's scores `LeakyReLU(s_j + t_i [+ own_e])`.

    source, target: [N, H]; own: a term of each edge's own, [E, H] in the order of `edges`; result: [E, H].
    """
    at_source: Tensor = _AtSource.apply(full_precision(source), edges)
    scores = at_source + edges.by_target.spread(full_precision(target))
    if own is not None:
        scores = scores + own
    return torch.nn.functional.leaky_relu(scores, negative_slope)


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: EdgesContext, query: Tensor, key: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.edges = edges
        with without_autocast(query.device):
            return _sampled(edges, _by_head(query), _by_head(key))

    @staticmethod
    def backward(ctx: EdgesContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key = ctx.saved_tensors
        edges = ctx.edges
        with without_autocast(query.device):
            gradient = _by_head(gradients[0])
            to_query = _weighted([edges.matrix(g) for g in gradient], _by_head(key))
            to_key = _weighted([edges.transpose(g) for g in gradient], _by_head(query))
        return to_query, to_key, None


def dot(query: Tensor, key: Tensor, edges: Edges) -> Tensor:
    """`<q_i, k_j>` of every edge j -> i; query, key: [N, H, D], result: [E, H] in the order of `edges`."""
    scores: Tensor = _Dot.apply(full_precision(query), full_precision(key), edges)
    return scores


class _DynamicContext(EdgesContext):
    slope: float


class _Dynamic(torch.autograd.Function):
    """GATv2's scores, block by block: z = s_j + t_i [+ W e], LeakyReLU(z) times [H·D, H], a head's weights a column."""

    @staticmethod
    def forward(
        ctx: _DynamicContext,
        source: Tensor,
        target: Tensor,
        weight: Tensor,
        features: Tensor | None,
        mixing: Tensor | None,
        edges: Edges,
        slope: float,
    ) -> Tensor:
        ctx.save_for_backward(source, target, weight, features, mixing)
        ctx.edges, ctx.slope = edges, slope
        scores = source.new_empty(edges.count, weight.size(1))
        with without_autocast(source.device):
            for block in edges.blocks(source.size(1), source.element_size()):
                z = _sums(block, source, target, features, mixing, edges)
                torch.mm(torch.nn.functional.leaky_relu_(z, slope), weight, out=scores[block.start : block.stop])
        return scores

    @staticmethod
    def backward(ctx: _DynamicContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        source, target, weight, features, mixing = ctx.saved_tensors
        edges = ctx.edges
        to_source, to_target, to_weight = (torch.zeros_like(t) for t in (source, target, weight))
        to_features = torch.zeros_like(features) if ctx.needs_input_grad[3] else None
        to_mixing = None if mixing is None else torch.zeros_like(mixing)
        with without_autocast(source.device):
            for block in edges.blocks(source.size(1), source.element_size()):
                entries = slice(block.start, block.stop)
                gradient = gradients[0][entries]
                z = _sums(block, source, target, features, mixing, edges)
                to_z = torch.ops.aten.leaky_relu_backward(gradient @ weight.t(), z, ctx.slope, False)
                to_weight.addmm_(torch.nn.functional.leaky_relu_(z, ctx.slope).t(), gradient)
                to_target[block.first : block.last] = block.segments.add(to_z)
                edges.add_to_sources(block, to_z, to_source)
                if features is not None and to_mixing is not None:
                    to_mixing.addmm_(to_z.t(), features[entries])
                if to_features is not None:
                    to_features[entries] = to_z @ mixing
        return to_source, to_target, to_weight, to_features, to_mixing, None, None


def _sums(
    block: Block, source: Tensor, target: Tensor, features: Tensor | None, mixing: Tensor | None, edges: Edges
) -> Tensor:
    entries = slice(block.start, block.stop)
    z = source.index_select(0, edges.source[entries])
    z += target[block.first : block.last].index_select(0, block.segments.row)
    if features is not None and mixing is not None:
        z.addmm_(features[entries], mixing.t())
    return z


def dynamic(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    edges: Edges,
    *,
    negative_slope: float,
    features: Tensor | None = None,
    mixing: Tensor | None = None,
) -> Tensor:
    """GATv2's scores `a · LeakyReLU(s_j + t_i [+ W e])`, over blocks of targets, twice evaluated (arXiv:2105.14491).

    Args:
        source: s, [N, H, D].
        target: t, [N, H, D].
        weight: a, [H, D].
        edges: E of them.
        negative_slope: of the LeakyReLU.
        features: e, [E, F] in the order of `edges`; None: none.
        mixing: W, [H·D, F].

    Returns:
        [E, H] in the order of `edges`.
    """
    heads, width = weight.shape
    # As a product with one column a head: what a block needs is one dense product.
    columns = torch.block_diag(*full_precision(weight).unsqueeze(-1))
    source, target = (full_precision(t).reshape(-1, heads * width) for t in (source, target))
    features, mixing = (None if t is None else full_precision(t) for t in (features, mixing))
    scores: Tensor = _Dynamic.apply(source, target, columns, features, mixing, edges, negative_slope)
    return scores
