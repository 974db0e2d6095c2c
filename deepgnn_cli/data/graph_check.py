"""What a graph must be before anything reads it: one check of every data set, one's own included, linear in N + E.

Forms that are merely unusual are taken: double, integer, boolean, half, sparse or numpy features; labels [N, 1],
float or one-hot; masks of 0/1 or of node numbers, and [N, k] masks of k splits. All else is refused by field.

N nodes, E edges, F input features, D edge features, K classes (or binary tasks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepgnn_cli.data.graph import METRICS, Graph

MASKS = ("train", "val", "test")


def checked(graph: Any, *, split_index: int = 0) -> Graph:
    """The graph in the form that `Graph` documents.

    Args:
        graph: as a data set's builder returns it.
        split_index: which column of [N, k] masks.

    Raises:
        ValueError: a field is wrong: one line with the field, the rule and the remedy.
    """
    if not isinstance(graph, Graph):
        raise ValueError(f"the data set's function returns a {type(graph).__name__}; return a deepgnn_cli Graph")
    metric, classes = graph.metric, graph.num_classes
    _rule(metric in METRICS, f"metric={metric!r} is not one of {', '.join(METRICS)}")
    _rule(
        isinstance(classes, int) and not isinstance(classes, bool) and classes >= 1,
        f"num_classes={classes!r} must be a whole number of at least 1",
    )
    readable = checked_inputs(graph)
    n = readable.num_nodes
    y = _labels(graph.y, n, classes, metric)
    masks = {name: _mask(getattr(graph, name), name, n, split_index) for name in MASKS}
    _check_masks(masks, y)
    return replace(readable, y=y, train=masks["train"], val=masks["val"], test=masks["test"])


def checked_inputs(graph: Graph) -> Graph:
    """The graph with what a model reads of it, all but labels and masks, in the form that `Graph` documents.

    Raises:
        ValueError: see `checked`.
    """
    x = _features(graph.x)
    n = x.size(0)
    edge_index = _edge_index(graph.edge_index, n)
    batch = graph.part_of if graph.part_of is None else _batch(graph.part_of, edge_index, n)
    attr = None if graph.edge_attr is None else _per_edge(graph.edge_attr, "edge_attr", edge_index.size(1))
    weight = None if graph.edge_weight is None else _per_edge(graph.edge_weight, "edge_weight", edge_index.size(1))
    if weight is not None:
        _rule(weight.size(1) == 1, f"edge_weight has {weight.size(1)} numbers an edge; give one, or use edge_attr")
        _rule(
            bool((weight >= 0).all()),
            "edge_weight has negative values; a degree cannot be built of them: use edge_attr",
        )
        weight = weight[:, 0]
    return replace(graph, x=x, edge_index=edge_index, edge_attr=attr, edge_weight=weight, part_of=batch)


def _rule(holds: bool, line: str) -> None:
    if not holds:
        raise ValueError(f"the graph is wrong: {line}")


def tensor(value: Any, field: str) -> Tensor:
    """A tensor, dense and on the CPU, of what a user's field holds.

    Raises:
        ValueError: it is nothing of numbers.
    """
    if isinstance(value, Tensor):
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        dense = dense.resolve_conj().cpu()
    else:
        try:
            dense = torch.from_numpy(np.array(value.todense() if hasattr(value, "todense") else value))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"the graph is wrong: {field} is a {type(value).__name__}; give a torch tensor of numbers"
            ) from None
    _rule(not dense.is_complex() and not dense.is_quantized, f"{field} is of {dense.dtype}; give real numbers")
    return dense


def _floats(value: Any, field: str) -> Tensor:
    floats = tensor(value, field).float()
    bad = ~floats.isfinite()
    if bad.any():
        at = bad.nonzero()[0].tolist()
        raise ValueError(
            f"the graph is wrong: {field} holds {floats[tuple(at)].item()} at {at} ({int(bad.sum())} such values); "
            "replace what is missing or too large, e.g. by torch.nan_to_num"
        )
    return floats


def _features(value: Any) -> Tensor:
    x = _floats(value, "x")
    remedy = "; try x[:, None]" if x.dim() == 1 else ""
    _rule(x.dim() == 2, f"x has shape {list(x.shape)}, it must be [N, F]: a row of features a node{remedy}")
    _rule(x.size(0) > 0, "x has no row: the graph has no node")
    _rule(x.size(1) > 0, "x has no column: give a feature, e.g. torch.ones(N, 1)")
    return x


def _integers(value: Tensor, field: str) -> Tensor:
    if value.numel() == 0:
        return value.long()
    if value.is_floating_point():
        whole = value.isfinite() & (value == value.round()) & (value.abs() < 2**53)
        _rule(bool(whole.all()), f"{field} holds numbers that are not whole, such as {value[~whole][:1].tolist()}")
    return value.long()


def _edge_index(value: Any, n: int) -> Tensor:
    raw = tensor(value, "edge_index")
    if raw.numel() == 0:
        return torch.empty(2, 0, dtype=torch.int64)
    transposed = "; try edge_index.t()" if raw.dim() == 2 and raw.size(1) == 2 else ""
    _rule(
        raw.dim() == 2 and raw.size(0) == 2,
        f"edge_index has shape {list(raw.shape)}, it must be [2, E]: sources over targets{transposed}",
    )
    _rule(raw.dtype != torch.bool, "edge_index is boolean: give node numbers; of an adjacency matrix, A.nonzero().t()")
    edge_index = _integers(raw, "edge_index")
    low, high = int(edge_index.min()), int(edge_index.max())
    if low < 0 or high >= n:
        wrong = low if low < 0 else high
        hint = "; are the ids counted from 1? subtract 1" if low == 1 and high == n else ""
        raise ValueError(
            f"the graph is wrong: edge_index holds node {wrong}, but x has N={n} rows: ids run from 0 to {n - 1}"
            f"{hint or '; drop such edges, or number the nodes anew'}"
        )
    return edge_index.contiguous()


def _labels(value: Any, n: int, classes: int, metric: str) -> Tensor:
    y = tensor(value, "y")
    if y.dim() == 2 and y.size(1) == 1 and metric == "accuracy":
        y = y[:, 0]
    if y.dim() == 1 and classes == 1 and metric != "accuracy":
        y = y[:, None]
    _rule(y.dim() in (1, 2) and y.size(0) == n, f"y has shape {list(y.shape)}, but x has N={n} rows: a label a node")
    if y.dim() == 2:
        known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
        _rule(bool(((y == 0) | (y == 1))[known].all()), "y of shape [N, K] must hold 0, 1, or NaN where unknown")
        _rule(
            y.size(1) == classes, f"y has {y.size(1)} columns, but num_classes={classes}; set num_classes={y.size(1)}"
        )
        if metric != "accuracy":
            return y.float()
        hot = (y.nan_to_num(0) if y.is_floating_point() else y).long()
        _rule(bool((hot.sum(1) <= 1).all()), "y gives a node several classes; set metric to 'micro_f1' or 'roc_auc'")
        return torch.where(hot.sum(1) == 1, hot.argmax(1), -1)
    _rule(
        metric == "accuracy", f"metric={metric} needs y of shape [N, K] with 0/1; for one class a node use 'accuracy'"
    )
    if y.is_floating_point():
        y = y.nan_to_num(-1, posinf=0.5, neginf=0.5)
    labels = _integers(y, "y")
    top = int(labels.max())
    hint = "; are they counted from 1? subtract 1" if top == classes and int(labels.min()) == 1 else ""
    _rule(
        top < classes,
        f"y holds label {top}, but num_classes={classes}: labels run from 0 to {classes - 1}, -1 where unknown{hint}",
    )
    return labels.clamp(min=-1)


def boolean_mask(value: Any, name: str, n: int) -> Tensor:
    """A mask [N], or [N, S] of S splits, as booleans; of zeros and ones, or of numbers of nodes.

    Raises:
        ValueError: it is nothing of these.
    """
    mask = tensor(value, name)
    if mask.dim() == 2:
        turned = "; try its transpose" if mask.size(1) == n else ""
        _rule(mask.size(0) == n, f"{name} has shape {list(mask.shape)}, it must be [N, splits]={[n]}{turned}")
        _rule(bool(((mask == 0) | (mask == 1)).all()), f"{name} of shape {list(mask.shape)} must hold 0 and 1")
        return mask.bool()
    _rule(mask.dim() == 1, f"{name} has shape {list(mask.shape)}, it must be [N]={[n]} booleans, or node numbers")
    if mask.dtype == torch.bool or (mask.numel() == n and bool(((mask == 0) | (mask == 1)).all()) and n > 2):
        _rule(mask.numel() == n, f"{name} has {mask.numel()} entries, but x has N={n} rows")
        return mask.bool()
    _rule(mask.dtype != torch.uint8, f"{name} is of uint8 and must be [N]={[n]} of 0 and 1")
    nodes = _integers(mask, name)
    _rule(
        not nodes.numel() or 0 <= int(nodes.min()) <= int(nodes.max()) < n,
        f"{name} holds node numbers outside 0..{n - 1}: give a boolean mask [N], or numbers of nodes",
    )
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[nodes] = True
    return chosen


def _mask(value: Any, name: str, n: int, split_index: int) -> Tensor:
    mask = boolean_mask(value, name, n)
    if mask.dim() == 2:
        _rule(
            0 <= split_index < mask.size(1) or mask.size(1) == 1,
            f"{name} holds {mask.size(1)} splits; dataset.split_index={split_index} is not in 0..{mask.size(1) - 1}",
        )
        mask = mask[:, 0 if mask.size(1) == 1 else split_index]
    return mask


def _check_masks(masks: Mapping[str, Tensor], y: Tensor) -> None:
    unlabelled = y < 0 if y.dim() == 1 else y.isnan().all(dim=1)
    for name, mask in masks.items():
        _rule(bool(mask.any()), f"{name} is empty: training, validation and test set need a node each; draw a split")
        bad = (mask & unlabelled).nonzero()[:, 0]
        _rule(
            not bad.numel(),
            f"y has no label for {bad.numel()} nodes of {name}, e.g. {bad[:1].tolist()}; take them out of {name}",
        )
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        both = int((masks[a] & masks[b]).sum())
        _rule(not both, f"{a} and {b} share {both} nodes: the sets must not overlap; take them out of one")


def _batch(value: Any, edge_index: Tensor, n: int) -> Tensor:
    batch = _integers(tensor(value, "batch"), "batch")
    _rule(batch.shape == (n,), f"batch has shape {list(batch.shape)}, it must be [N]={[n]}: the graph of each node")
    _rule(int(batch.min()) >= 0, "batch holds a negative number: graphs are numbered from 0")
    _rule(
        bool((batch[edge_index[0]] == batch[edge_index[1]]).all()),
        "an edge of edge_index joins nodes of two graphs of batch; number them alike, or drop the edge",
    )
    return batch


def _per_edge(value: Any, field: str, edges: int) -> Tensor:
    attr = _floats(value, field)
    attr = attr[:, None] if attr.dim() == 1 else attr
    _rule(
        attr.dim() == 2 and attr.size(0) == edges and attr.size(1) > 0,
        f"{field} has shape {list(attr.shape)}, but edge_index has E={edges} edges: a row an edge",
    )
    return attr
