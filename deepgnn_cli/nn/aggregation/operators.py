"""PyG's convs, evaluated from their own parameters without a tensor of E × C.

`twin(operator, edge_attr)` finds the function `(operator, x, adjacency) -> [N, C]` that computes what the operator
would, or None where there is none: another class, an option that is not covered, hooks or an explainer attached.

N nodes, E edges, C channels, H heads, D channels a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GENConv,
    GINConv,
    GraphConv,
    MessagePassing,
    SAGEConv,
    TransformerConv,
    aggr,
)

from deepgnn_cli.nn.aggregation import attention
from deepgnn_cli.nn.aggregation.edge_blocks import Part, by_block
from deepgnn_cli.nn.aggregation.edges import Edges
from deepgnn_cli.nn.aggregation.maximum import maximum
from deepgnn_cli.nn.aggregation.power import add, mean, power_mean
from deepgnn_cli.nn.aggregation.products import full_precision
from deepgnn_cli.nn.aggregation.softmax import softmax
from deepgnn_cli.nn.dropout import keep_mask

if TYPE_CHECKING:
    from deepgnn_cli.nn.adjacency import Adjacency

Twin = Callable[[object, Tensor, "Adjacency"], Tensor]


def aggregate(how: nn.Module, x: Tensor, edges: Edges, eps: float | None = None) -> Tensor:
    """PyG's aggregation module `how` over each node's neighbours; messages ReLU(x) + eps, or x. [N, C] -> [N, C]."""
    if isinstance(how, aggr.SoftmaxAggregation):
        constant = how.semi_grad and not how.learn
        return softmax(x, edges, how.t, eps=eps, stop_gradient=constant, owner=how)
    if isinstance(how, aggr.PowerMeanAggregation):
        return power_mean(x, edges, how.p, eps=eps, low=how.min_value, high=how.max_value)
    if isinstance(how, aggr.MaxAggregation):
        return maximum(x, edges, eps=eps)
    message = x if eps is None else x.relu() + eps
    return mean(message, edges) if isinstance(how, aggr.MeanAggregation) else add(message, edges)


def _aggregate_block(how: nn.Module, part: Part, message: Tensor, learned: Tensor | None) -> Tensor:
    """The same for the messages [edges, C] of one block; `learned` is t or p where it is a parameter."""
    segments = part.segments
    if isinstance(how, aggr.SoftmaxAggregation):
        scaled = message * (how.t if learned is None else learned)
        constant = how.semi_grad and not how.learn
        weight = segments.softmax(scaled.detach() if constant else scaled)
        return segments.sum(weight * message)
    if isinstance(how, aggr.MaxAggregation):
        top = segments.top(message)
        reached = (message == top.index_select(0, segments.row)).to(message.dtype)
        share = reached / segments.add(reached).index_select(0, segments.row)
        through = segments.sum(message * share)
        return top + (through - through.detach())
    if isinstance(how, aggr.SumAggregation):
        return segments.sum(message)
    count = segments.crow.diff().clamp(min=1).unsqueeze(1)
    if not isinstance(how, aggr.PowerMeanAggregation):
        return segments.sum(message) / count
    p = how.p if learned is None else learned
    if isinstance(p, float | int) and p == 1:
        return segments.sum(message) / count
    low, high = how.min_value, how.max_value
    raised: Tensor = message.clamp(low, high).pow(p)
    return (segments.sum(raised) / count).clamp(low, high).pow(1 / p)


def _gen(operator: GENConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    source = operator.lin_src(x) if hasattr(operator, "lin_src") else x
    edges, how, eps = adjacency.edges(), operator.aggr_module, operator.eps
    if adjacency.edge_attr is None:
        out = aggregate(how, source, edges, eps)
    else:
        linear = getattr(operator, "lin_edge", None)
        learned = [p.reshape(-1) for p in how.parameters()]
        weights = [] if linear is None else [linear.weight] + ([] if linear.bias is None else [linear.bias])

        def messages(part: Part, tensors: tuple[Tensor, ...]) -> Tensor:
            x_j, features, *shared = tensors
            own = shared[: len(learned)]
            if linear is not None:
                features = functional.linear(features, *shared[len(learned) :])
            return _aggregate_block(how, part, (x_j + features).relu() + eps, own[0] if own else None)

        source = full_precision(source)
        out = by_block(
            messages, edges, source.size(1),
            at_source=(source,), per_edge=(edges.arrange(full_precision(adjacency.edge_attr)),),
            shared=(*learned, *weights),
        )  # fmt: skip
    if hasattr(operator, "msg_norm"):
        out = operator.msg_norm(x, out)
    mixed: Tensor = operator.mlp(out + (operator.lin_dst(x) if hasattr(operator, "lin_dst") else x))
    return mixed


def _attended(operator: object, scores: Tensor, values: Tensor, edges: Edges) -> Tensor:
    kept, keep = _coefficients_kept(operator, edges)
    out = attention.attend(scores, values, edges, kept=kept, keep=keep)
    return _joined(operator, out)


def _coefficients_kept(operator: Any, edges: Edges) -> tuple[Tensor | None, float]:
    if not operator.training or not operator.dropout:
        return None, 1.0
    return keep_mask((edges.count, operator.heads), operator.dropout, edges.source.device)


def _joined(operator: Any, out: Tensor) -> Tensor:
    return out.flatten(1) if operator.concat else out.mean(dim=1)


def _finished(operator: Any, out: Tensor, x: Tensor) -> Tensor:
    if operator.res is not None:
        out = out + operator.res(x)
    return out if operator.bias is None else out + operator.bias


def _gat(operator: GATConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    edges = adjacency.edges(loops=operator.add_self_loops)
    values = full_precision(operator.lin(x)).view(-1, operator.heads, operator.out_channels)
    source, target = ((values * weight).sum(-1) for weight in (operator.att_src, operator.att_dst))
    own = None
    if operator.lin_edge is not None and adjacency.edge_attr is not None:
        # a · (W e) = (Wᵀ a) · e: nothing of width C for an edge; and the mean over edges may follow.
        weight = operator.lin_edge.weight.view(operator.heads, operator.out_channels, -1)
        folded = (weight * operator.att_edge.squeeze(0).unsqueeze(-1)).sum(1)
        features = full_precision(adjacency.edge_attr)
        own = edges.arrange(full_precision(features.view(features.size(0), -1) @ folded.t()))
    scores = attention.additive(source, target, edges, own, operator.negative_slope)
    return _finished(operator, _attended(operator, scores, values, edges), x)


def _gatv2(operator: GATv2Conv, x: Tensor, adjacency: Adjacency) -> Tensor:
    edges = adjacency.edges(loops=operator.add_self_loops)
    shape = (-1, operator.heads, operator.out_channels)
    values = full_precision(operator.lin_l(x)).view(shape)
    target = values if operator.share_weights else full_precision(operator.lin_r(x)).view(shape)
    features = mixing = None
    if adjacency.edge_attr is not None:
        features = edges.arrange(full_precision(adjacency.edge_attr).view(adjacency.edge_attr.size(0), -1))
        mixing = operator.lin_edge.weight
    scores = attention.dynamic(
        values, target, operator.att.squeeze(0), edges,
        negative_slope=operator.negative_slope, features=features, mixing=mixing,
    )  # fmt: skip
    return _finished(operator, _attended(operator, scores, values, edges), x)


def _transformer(operator: TransformerConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    edges, heads, width = adjacency.edges(), operator.heads, operator.out_channels
    query, key, value = (full_precision(lin(x)) for lin in (operator.lin_query, operator.lin_key, operator.lin_value))
    query = query / math.sqrt(width)
    shape = (-1, heads, width)
    if adjacency.edge_attr is None:
        scores = attention.dot(query.view(shape), key.view(shape), edges)
        out = _attended(operator, scores, value.view(shape), edges)
    else:
        kept, keep = _coefficients_kept(operator, edges)
        factor = [] if kept is None else [kept.to(query.dtype) / keep]

        def messages(part: Part, tensors: tuple[Tensor, ...]) -> Tensor:
            key_j, value_j, query_i, features, *dropped, weight = tensors
            mixed = functional.linear(features, weight)
            scores = (query_i * (key_j + mixed)).view(shape).sum(-1)
            alpha = part.segments.softmax(scores)
            alpha = alpha * dropped[0] if dropped else alpha
            return part.segments.sum(((value_j + mixed).view(shape) * alpha.unsqueeze(-1)).flatten(1))

        features = edges.arrange(full_precision(adjacency.edge_attr))
        out = by_block(
            messages, edges, heads * width,
            at_source=(key, value), at_target=(query,), per_edge=(features, *factor),
            shared=(operator.lin_edge.weight,),
        )  # fmt: skip
        out = _joined(operator, out.view(shape))
    if operator.root_weight:
        own: Tensor = operator.lin_skip(x)
        if operator.lin_beta is None:
            return out + own
        beta = operator.lin_beta(torch.cat([out, own, out - own], dim=-1)).sigmoid()
        out = beta * own + (1 - beta) * out
    return out


def _sage(operator: SAGEConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    source = operator.lin(x).relu() if operator.project else x
    out: Tensor = operator.lin_l(aggregate(operator.aggr_module, source, adjacency.edges()))
    if operator.root_weight:
        out = out + operator.lin_r(x)
    return functional.normalize(out, p=2.0, dim=-1) if operator.normalize else out


def _graph(operator: GraphConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    out: Tensor = operator.lin_rel(aggregate(operator.aggr_module, x, adjacency.edges())) + operator.lin_root(x)
    return out


def _gin(operator: GINConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    out: Tensor = operator.nn(aggregate(operator.aggr_module, x, adjacency.edges()) + (1 + operator.eps) * x)
    return out


def _gcn(operator: GCNConv, x: Tensor, adjacency: Adjacency) -> Tensor:
    h = full_precision(operator.lin(x))
    out = adjacency.operator("sym", h.dtype)(h)
    return out if operator.bias is None else out + operator.bias


_AGGREGATIONS = (
    aggr.SoftmaxAggregation, aggr.PowerMeanAggregation, aggr.MaxAggregation, aggr.MeanAggregation, aggr.SumAggregation,
)  # fmt: skip


def _covered(operator: Any, edge_attr: Tensor | None) -> Twin | None:
    kind, plain = type(operator), edge_attr is None
    aggregated, summed = type(operator.aggr_module) in _AGGREGATIONS, type(operator.aggr_module) is aggr.SumAggregation
    matrix = plain or (edge_attr is not None and edge_attr.dim() == 2)
    if kind is GENConv:
        return _gen if aggregated and matrix and isinstance(operator.in_channels, int) else None
    if kind is GATConv:
        return _gat if summed and operator.lin is not None and operator.fill_value == "mean" else None
    if kind is GATv2Conv:
        fits = summed and (plain or operator.lin_edge is not None)
        return _gatv2 if fits and operator.fill_value == "mean" else None
    if kind is TransformerConv:
        return _transformer if summed and matrix and plain == (operator.lin_edge is None) else None
    linear: dict[type, Twin] = {SAGEConv: _sage, GraphConv: _graph, GINConv: _gin}
    if kind in linear:
        return linear[kind] if plain and aggregated else None
    normal = kind is GCNConv and operator.normalize and operator.add_self_loops and not operator.improved
    return _gcn if normal and summed and plain else None


def twin(operator: nn.Module, edge_attr: Tensor | None) -> Twin | None:
    """The function that computes what `operator` would with these edge features; None: the operator itself must."""
    if not isinstance(operator, MessagePassing) or operator.flow != "source_to_target" or operator.explain:
        return None
    hooks = (
        operator._forward_hooks, operator._forward_pre_hooks, operator._backward_hooks,
        operator._propagate_forward_hooks, operator._propagate_forward_pre_hooks,
        operator._message_forward_hooks, operator._message_forward_pre_hooks,
        operator._aggregate_forward_hooks, operator._aggregate_forward_pre_hooks,
        operator._edge_update_forward_hooks, operator._edge_update_forward_pre_hooks,
    )  # fmt: skip
    if any(hooks) or operator.decomposed_layers != 1:
        return None
    return _covered(operator, edge_attr)
