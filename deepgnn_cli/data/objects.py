"""PyG's `Data` or a dict of tensors, or a list of them, as a `Graph`: what one's own data comes as.

N nodes, G graphs, E edges, F input features, K classes, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import degree

from deepgnn_cli.data.fields import MASKS, fields_of, joined, labels_graphs, size_of
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.splits import Split, random_masks
from deepgnn_cli.data.tensors import tensor
from deepgnn_cli.rules.tasks import METRICS, Level

ONE_HOT_NODES = 20_000  # an identity matrix of more takes gigabytes


def from_object(value: Any, *, name: str, split: Split, features: str, metric: str | None = None) -> Graph:
    """The `Graph` of a PyG `Data` or a dict of its fields.

    Args:
        value: as `pyg` documents it.
        name: the graph's.
        split: `random`, or `public` for the masks that `value` brings.
        features: see `pyg`.
        metric: see `pyg`.

    Raises:
        ValueError: it is no such thing, or a field is missing or wrong.
    """
    several = isinstance(value, list | tuple) and bool(value)
    each = [fields_of(one, name) for one in value] if several else [fields_of(value, name)]
    level: Level = "graph" if labels_graphs(each) else "node"
    if level == "graph" and not several:
        raise ValueError(
            f"{name} has one label for {size_of(each[0])} nodes; whole graphs are labelled in a list of them"
        )
    fields = joined(each) if several else each[0]
    for field in ("edge_index", "y"):
        if fields.get(field) is None:
            raise ValueError(f"{name} has no {field}; its fields are: {', '.join(map(str, fields))}")
    ends = tensor(fields["edge_index"], "edge_index")
    y, classes, found, names = _labels(fields["y"], metric)
    masks = _given_masks(fields, split)
    x, batch = fields.get("x"), fields.get("batch") if several else None
    if x is None:
        x = _made(features, ends, y.size(0) if batch is None else batch.numel())
    return Graph(
        name=name,
        split="own" if masks else f"random-{split.number}",
        x=x,
        edge_index=ends,
        y=y,
        num_classes=classes,
        metric=metric or found,
        level=level,
        edge_attr=fields.get("edge_attr"),
        edge_weight=fields.get("edge_weight"),
        part_of=batch,
        node_names=_names(fields.get("node_names"), y.size(0)),
        class_names=_names(fields.get("class_names"), classes) or names,
        **(masks or _drawn(split, y, batch, level)),
    )


def _labels(value: object, metric: str | None) -> tuple[Tensor, int, str, tuple[str, ...] | None]:
    """The labels, numbered from 0 in the order of the classes' names, K, the metric to go with them, and those names.

    None for names that are the numbers.
    """
    y = tensor(value, "y")
    if metric is not None and METRICS[metric].kind != "classes":
        y = y.float() if y.dim() == 2 else y.float()[:, None]
        return y, y.size(1), metric, None
    if y.dim() == 2 and y.size(1) > 1:
        hot = y.nan_to_num(0) if y.is_floating_point() else y
        if not bool(((hot == 0) | (hot == 1)).all()):
            return y, y.size(1), "mae", None
        partly = y.isnan().any(1) & ~y.isnan().all(1)  # no one-hot class
        return y, y.size(1), "micro_f1" if bool(((hot.sum(1) > 1) | partly).any()) else "accuracy", None
    y = y.reshape(-1) if y.dim() == 2 else y
    known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    if y.dtype != torch.bool:
        known &= y >= 0
    if y.dim() != 1 or not known.any():
        raise ValueError(
            f"the graph is wrong: y has shape {list(y.shape)} and {int(known.sum())} labels; one a node or graph"
        )
    names, numbers = torch.unique(y[known], return_inverse=True)
    if y.is_floating_point() and names.numel() > 1 and bool((names != names.round()).any()):
        return y[:, None], 1, "mae", None
    labels = torch.full(y.shape, -1)
    labels[known] = numbers
    called = tuple(str(int(name)) for name in names.tolist())
    return labels, len(called), "accuracy", None if called == tuple(map(str, range(len(called)))) else called


def _names(value: object, count: int) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list | tuple) and len(value) == count else None


def _made(features: str, ends: Tensor, n: int) -> Tensor:
    if features == "constant":
        return torch.ones(n, 1)
    if features == "one_hot":
        if n > ONE_HOT_NODES:
            raise ValueError(f"dataset.features=one_hot makes {n} columns for {n} nodes; use degree or constant")
        return torch.eye(n)
    inside = ends[1][(ends[1] >= 0) & (ends[1] < n)] if ends.dim() == 2 and ends.size(0) == 2 else ends.new_empty(0)
    logarithm: Tensor = (1 + degree(inside.long(), n)).log()
    return logarithm[:, None]


def _given_masks(fields: Mapping[str, object], split: Split) -> dict[str, object] | None:
    found = [mask for mask in MASKS if fields.get(mask) is not None]
    if split.kind != "public" or not found:
        return None
    if missing := [mask for mask in MASKS if mask not in found]:
        raise ValueError(f"the graph has {', '.join(found)} but no {missing[0]}; give it or use dataset.split=random")
    return {mask.removesuffix("_mask"): fields[mask] for mask in MASKS}


def _drawn(split: Split, y: Tensor, batch: Tensor | None, level: str) -> dict[str, Tensor]:
    """The masks of a random split: of nodes, or of whole graphs."""
    known = np.where(y.isnan().all(1), -1, 0) if y.is_floating_point() and y.dim() == 2 else y.numpy()
    if level == "node" and batch is not None:
        known = np.zeros(int(batch.max()) + 1, dtype=np.int64)
    masks = random_masks(split, known, "nodes" if batch is None else "graphs")
    drawn = {name: torch.from_numpy(getattr(masks, name)) for name in ("train", "val", "test")}
    return drawn if level == "graph" or batch is None else {name: mask[batch] for name, mask in drawn.items()}
