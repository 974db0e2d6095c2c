"""What a graph must be before anything reads it: one check of every data set, one's own included, linear in N + E.

Forms that are merely unusual are taken: double, integer, boolean, half, sparse or numpy features; labels [N, 1],
float or one-hot; masks of 0/1 or of node numbers, and [N, k] masks of k splits. All else is refused by field.

N nodes, G graphs, M = N or G labelled items, E edges, F input features, D edge features, K classes (or tasks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.label_check import check_masks, check_score, labels, mask_of, numbers
from deepgnn_cli.data.tensors import floats, integers, rule, tensor

MASKS = ("train", "val", "test")


def checked(graph: object, *, split_index: int = 0) -> Graph:
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
    try:
        kind = graph.task.kind
    except ValueError as error:
        raise ValueError(f"the graph is wrong: {error}") from None
    rule(
        isinstance(classes, int) and not isinstance(classes, bool) and classes >= 1,
        f"num_classes={classes!r} must be a whole number of at least 1",
    )
    readable = checked_inputs(graph)
    n, level = readable.num_items, graph.level
    y = numbers(graph.y, n, classes, level) if kind == "regression" else labels(graph.y, n, classes, metric, level)
    masks = {name: mask_of(getattr(graph, name), name, n, split_index, level) for name in MASKS}
    check_masks(masks, y, level)
    check_score(masks, y, metric, level)
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
    if graph.level == "graph":
        batch, edge_index, order = _by_graph(batch, edge_index)
        if order is not None:
            attr, weight = (_at(getattr(graph, name), name, order) for name in ("edge_attr", "edge_weight"))
            graph = replace(graph, edge_attr=attr, edge_weight=weight)
    attr = None if graph.edge_attr is None else _per_edge(graph.edge_attr, "edge_attr", edge_index.size(1))
    weight = None if graph.edge_weight is None else _per_edge(graph.edge_weight, "edge_weight", edge_index.size(1))
    if weight is not None:
        rule(weight.size(1) == 1, f"edge_weight has {weight.size(1)} numbers an edge; give one, or use edge_attr")
        rule(
            bool((weight >= 0).all()),
            "edge_weight has negative values; a degree cannot be built of them: use edge_attr",
        )
        weight = weight[:, 0]
    _check_categories("x", x, graph.categories)
    _check_categories("edge_attr", attr, graph.edge_categories)
    return replace(graph, x=x, edge_index=edge_index, edge_attr=attr, edge_weight=weight, part_of=batch)


def _by_graph(batch: Tensor | None, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The graphs' numbers and the edges in their order; and that order, None where they stood so."""
    rule(batch is not None, "level='graph', but part_of does not say which graph each node belongs to")
    assert batch is not None
    steps = batch.diff()
    rule(
        int(batch[0]) == 0 and bool(((steps == 0) | (steps == 1)).all()),
        "part_of must number the graphs 0, 1, 2, … with the nodes of each side by side: sort the nodes by graph",
    )
    of_edge = batch[edge_index[0]]
    if bool((of_edge.diff() >= 0).all()):
        return batch, edge_index, None
    order = torch.argsort(of_edge, stable=True)
    return batch, edge_index[:, order], order


def _at(value: object, field: str, order: Tensor) -> Tensor | None:
    """A field of the edges in another order."""
    if value is None:
        return None
    found = tensor(value, field)
    rule(found.size(0) == order.numel(), f"{field} has {found.size(0)} rows, and there are {order.numel()} edges")
    return found[order]


def _check_categories(field: str, values: Tensor | None, sizes: Sequence[int] | None) -> None:
    if sizes is None or values is None:
        return
    rule(values.size(1) == len(sizes), f"{field} has {values.size(1)} columns, and categories of {len(sizes)}")
    rule(bool((values == values.round()).all()), f"{field} holds numbers that are no categories: they are not whole")
    for column, size in enumerate(sizes):
        low, high = int(values[:, column].min()), int(values[:, column].max())
        rule(
            0 <= low <= high < size,
            f"{field} holds category {high if high >= size else low} in column {column}, "
            f"and there are {size}, counted from 0",
        )


def _features(value: object) -> Tensor:
    x = floats(value, "x")
    remedy = "; try x[:, None]" if x.dim() == 1 else ""
    rule(x.dim() == 2, f"x has shape {list(x.shape)}, it must be [N, F]: a row of features a node{remedy}")
    rule(x.size(0) > 0, "x has no row: the graph has no node")
    rule(x.size(1) > 0, "x has no column: give a feature, e.g. torch.ones(N, 1)")
    return x


def _edge_index(value: object, n: int) -> Tensor:
    raw = tensor(value, "edge_index")
    if raw.numel() == 0:
        return torch.empty(2, 0, dtype=torch.int64)
    transposed = "; try edge_index.t()" if raw.dim() == 2 and raw.size(1) == 2 else ""
    rule(
        raw.dim() == 2 and raw.size(0) == 2,
        f"edge_index has shape {list(raw.shape)}, it must be [2, E]: sources over targets{transposed}",
    )
    rule(raw.dtype != torch.bool, "edge_index is boolean: give node numbers; of an adjacency matrix, A.nonzero().t()")
    edge_index = integers(raw, "edge_index")
    low, high = int(edge_index.min()), int(edge_index.max())
    if low < 0 or high >= n:
        wrong = low if low < 0 else high
        hint = "; are the ids counted from 1? subtract 1" if low == 1 and high == n else ""
        raise ValueError(
            f"the graph is wrong: edge_index holds node {wrong}, but x has N={n} rows: ids run from 0 to {n - 1}"
            f"{hint or '; drop such edges, or number the nodes anew'}"
        )
    return edge_index.contiguous()


def _batch(value: object, edge_index: Tensor, n: int) -> Tensor:
    batch = integers(tensor(value, "batch"), "batch")
    rule(batch.shape == (n,), f"batch has shape {list(batch.shape)}, it must be [N]={[n]}: the graph of each node")
    rule(int(batch.min()) >= 0, "batch holds a negative number: graphs are numbered from 0")
    rule(
        bool((batch[edge_index[0]] == batch[edge_index[1]]).all()),
        "an edge of edge_index joins nodes of two graphs of batch; number them alike, or drop the edge",
    )
    return batch


def _per_edge(value: object, field: str, edges: int) -> Tensor:
    attr = floats(value, field)
    attr = attr[:, None] if attr.dim() == 1 else attr
    rule(
        attr.dim() == 2 and attr.size(0) == edges and attr.size(1) > 0,
        f"{field} has shape {list(attr.shape)}, but edge_index has E={edges} edges: a row an edge",
    )
    return attr
