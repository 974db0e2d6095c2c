"""A graph that a trained model is to look at: its labels, if it has any, are not read.

N nodes, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked_inputs
from deepgnn_cli.data.objects import from_object
from deepgnn_cli.data.splits import Split

_GIVEN = Split("public", 0, 0.6, 0.2, per_class=False)


def new_graph(value: object, trained_on: Graph, *, reads_edges: bool, features: str) -> Graph:
    """The graph of a PyG `Data`, a list of them, or a dict of tensors, in the form of the one a model was trained on.

    Its labels are zeros, and every node, or graph, is in each of its masks.

    Args:
        value: as `dataset=pyg` takes it; `y` and the masks may be missing.
        trained_on: what the widths are to be.
        reads_edges: whether the model reads `edge_attr`; otherwise it may be there or not.
        features: of a graph without `x`, as `dataset.features`.

    Raises:
        ValueError: it is no such thing, a field is wrong, or its features are not those that the model reads.
    """
    if not isinstance(value, Graph):
        value = _from_object(value, features)
    graph = checked_inputs(value)
    own = trained_on.edge_categories if reads_edges else None
    graph = replace(graph, x=_numbered(graph.x, trained_on.categories))
    if graph.edge_attr is not None:
        graph = replace(graph, edge_attr=_numbered(graph.edge_attr, own))
    _same_width("x", graph.x.size(1), trained_on.x.size(1))
    if reads_edges:
        _same_width("edge_attr", _width(graph), _width(trained_on))
    if trained_on.level == "graph":
        part_of = torch.zeros(graph.num_nodes, dtype=torch.int64) if graph.part_of is None else graph.part_of
        graph = replace(graph, level="graph", part_of=part_of)
    graph = checked_inputs(replace(graph, categories=trained_on.categories, edge_categories=own))
    n, everyone = graph.num_items, torch.ones(graph.num_items, dtype=torch.bool)
    one_class = trained_on.task.kind == "classes"
    y = torch.zeros(n, dtype=torch.int64) if one_class else torch.zeros(n, trained_on.num_classes)
    classes, metric = trained_on.num_classes, trained_on.metric
    return replace(graph, y=y, num_classes=classes, metric=metric, train=everyone, val=everyone, test=everyone)


def _from_object(value: Any, features: str) -> Graph:
    several = isinstance(value, list | tuple) and bool(value)
    each = [_unlabelled(one) for one in (value if several else [value])]
    graph = from_object(each if several else each[0], name="the new graph", split=_GIVEN, features=features)
    return graph if several else replace(graph, part_of=each[0].get("batch"))


def _unlabelled(value: object) -> dict[str, Any]:
    """The fields of one graph, with labels and masks that say nothing."""
    if not isinstance(value, Data | Mapping):
        raise ValueError(f"the new graph is a {type(value).__name__}; give a PyG Data, a list of them, or a dict")
    fields = dict(value.to_dict() if isinstance(value, Data) else value)
    n = _count(fields)
    everyone = torch.ones(n, dtype=torch.bool)
    nothing = {"y": torch.zeros(n, dtype=torch.int64)}
    return fields | nothing | dict.fromkeys(("train_mask", "val_mask", "test_mask"), everyone)


def _count(fields: Mapping[str, Any]) -> int:
    for name in ("x", "y", "batch"):
        if fields.get(name) is not None:
            return len(fields[name])
    if fields.get("num_nodes") is not None:
        return int(fields["num_nodes"])
    raise ValueError("the new graph has no x, and num_nodes does not say how many nodes there are")


def _numbered(values: Tensor, sizes: tuple[int, ...] | None) -> Tensor:
    """The category of each row by each property, also of one-hot columns, which PyG's data sets of this kind hold."""
    if sizes is None or values.size(1) != sum(sizes) or len(sizes) == sum(sizes):
        return values
    columns = values.split(list(sizes), dim=1)
    one_hot = all(bool(((part == 0) | (part == 1)).all() and (part.sum(dim=1) == 1).all()) for part in columns)
    return torch.stack([part.argmax(dim=1) for part in columns], dim=1).to(values.dtype) if one_hot else values


def _width(graph: Graph) -> int:
    return 0 if graph.edge_attr is None else graph.edge_attr.size(1)


def _same_width(field: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise ValueError(f"the new graph has {given} columns of {field}, and the model was trained on {wanted}")
