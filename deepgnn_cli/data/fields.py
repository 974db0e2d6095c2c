"""The fields of one's own graph, under the names that this package gives them.

N nodes, E edges, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from deepgnn_cli.data.label_check import boolean_mask
from deepgnn_cli.data.tensors import rule, tensor
from deepgnn_cli.rules.tasks import Level

MASKS = ("train_mask", "val_mask", "test_mask")
FIELDS = {"x", "edge_index", "y", "edge_attr", "edge_weight", *MASKS}
_CALLED = {"train_mask": ("train",), "val_mask": ("val", "valid", "validation"), "test_mask": ("test",)}


def fields_of(value: object, name: str) -> dict[str, Any]:
    """The fields of one graph: `edge_index` also from `adj_t`, masks also from node numbers, classes also from texts.

    Args:
        value: a PyG `Data` or a dict.
        name: what errors call it.

    Raises:
        ValueError: it is neither, or a field is wrong.
    """
    if not isinstance(value, Mapping | Data):
        raise ValueError(
            f"{name} holds a {type(value).__name__}; give one PyG Data, a dict of tensors, or a list of such graphs"
        )
    fields = dict(value.to_dict() if isinstance(value, Data) else value)
    if fields.get("edge_index") is None and fields.get("adj_t") is not None:
        fields |= _edges_of(fields["adj_t"])
    if isinstance(fields.get("y"), list | tuple) and any(isinstance(each, str) for each in fields["y"]):
        fields |= _numbered(fields["y"])
    x, y = fields.get("x"), fields.get("y")
    if x is None and y is None:
        return fields
    if labels_graphs([fields]):
        return fields | _masks(fields, 1, "graph")
    return fields | _masks(fields, _rows(y if x is None else x), "node")


def size_of(fields: Mapping[str, Any]) -> int:
    """How many nodes a graph has, as far as its fields tell."""
    if fields.get("x") is not None:
        return _rows(fields["x"])
    if fields.get("num_nodes") is not None:
        return int(fields["num_nodes"])
    ends = fields.get("edge_index")
    return 0 if ends is None or not tensor(ends, "edge_index").numel() else int(tensor(ends, "edge_index").max()) + 1


def labels_graphs(graphs: list[dict[str, object]]) -> bool:
    """Whether each graph has one label, and not its nodes."""
    single = all(fields.get("y") is not None and _rows(fields["y"]) == 1 for fields in graphs)
    return single and any(size_of(fields) > 1 for fields in graphs)


def _rows(value: Any) -> int:
    return int(shape[0]) if (shape := np.shape(value)) else 1


def joined(graphs: list[dict[str, object]]) -> dict[str, Any]:
    """The fields of several graphs as those of their union; `batch` [N] says which graph a node is of.

    Raises:
        ValueError: they do not fit together.
    """
    names = {field for fields in graphs for field, value in fields.items() if value is not None}
    found: dict[str, list[Tensor]] = {}
    for field in names & FIELDS:
        parts = [fields.get(field) for fields in graphs]
        if any(part is None for part in parts):
            raise ValueError(f"the graph is wrong: some of the {len(graphs)} graphs have {field} and others have not")
        tensors = [one.reshape(1) if one.dim() == 0 else one for one in (tensor(part, field) for part in parts)]
        if field != "edge_index" and len({part.shape[1:] for part in tensors}) > 1:
            raise ValueError(f"the graph is wrong: {field} is of different widths in the {len(graphs)} graphs")
        found[field] = tensors
    _check_sizes(graphs)
    counts = [part.size(0) for part in found.get("x", found.get("y", []))]
    sizes = torch.tensor([size_of(fields) for fields in graphs] if labels_graphs(graphs) else counts)
    if "edge_index" in found:
        starts = (torch.cumsum(sizes, 0) - sizes).tolist()
        found["edge_index"] = [part.long() + start for part, start in zip(found["edge_index"], starts, strict=True)]
    united = {field: torch.cat(parts, 1 if field == "edge_index" else 0) for field, parts in found.items()}
    return united | {"batch": torch.repeat_interleave(torch.arange(len(graphs)), sizes)}


def _check_sizes(graphs: list[dict[str, object]]) -> None:
    """Refuse a graph without a node, and one whose nodes are not labelled where those of others are."""
    of_graphs = labels_graphs(graphs)
    for number, fields in enumerate(graphs):
        size = size_of(fields)
        if of_graphs:
            rule(size > 0, f"graph {number} of the list has no node, by its x, num_nodes or edges; leave it out")
        elif fields.get("x") is not None and fields.get("y") is not None:
            rule(
                (given := _rows(fields["y"])) == size,
                f"y of graph {number} of the list has {given} rows, and the graph {size} nodes; label each of its "
                "nodes, or every graph of the list once",
            )


def _edges_of(adjacency: object) -> dict[str, Tensor]:
    """`edge_index`, and `edge_weight` where they are not all 1, of `adj_t` [N, N]: row = target, column = source."""
    if not isinstance(adjacency, Tensor):
        raise ValueError(
            f"the graph is wrong: adj_t is a {type(adjacency).__name__}; give edge_index, or a torch tensor"
        )
    entries = adjacency.to_sparse_coo().coalesce()
    targets, sources = entries.indices()
    found = {"edge_index": torch.stack([sources, targets])}
    return found if bool((entries.values() == 1).all()) else found | {"edge_weight": entries.values()}


def _numbered(classes: list[object] | tuple[object, ...]) -> dict[str, object]:
    """Labels of classes that have names; None or an empty text: unknown."""
    texts = ["" if each is None else str(each) for each in classes]
    names = sorted({text for text in texts if text})
    place = {name: number for number, name in enumerate(names)} | {"": -1}
    return {"y": torch.tensor([place[text] for text in texts]), "class_names": names}


def _masks(fields: Mapping[str, object], n: int, level: Level) -> dict[str, Tensor]:
    """The masks, [N] or [N, S] bool, whatever their fields are called and whether they hold numbers of nodes."""
    split = fields.get("split_idx")
    given = dict(fields) | (
        {f"{part}_idx": nodes for part, nodes in split.items()} if isinstance(split, Mapping) else {}
    )
    found = {}
    for mask, parts in _CALLED.items():
        names = [f"{part}_{form}" for part in parts for form in ("mask", "idx", "index")]
        there = next((given[name] for name in names if given.get(name) is not None), None)
        if there is not None:
            if level == "graph" and _rows(there) != 1:
                raise ValueError(
                    f"the graph is wrong: {mask} has {_rows(there)} entries in a graph with one label; graphs are "
                    "labelled, and not nodes: give one, whether the graph is in the set"
                )
            found[mask] = boolean_mask(there, mask.removesuffix("_mask"), n, level)
    return found
