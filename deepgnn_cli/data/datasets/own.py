"""A graph of one's own: PyG's `Data` or a dict of tensors, from a file or from Python.

N nodes, E edges, F input features, K classes, S splits.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import GlobalStorage
from torch_geometric.utils import degree

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import tensor
from deepgnn_cli.data.relations import own_file, own_split
from deepgnn_cli.data.splits import Split, SplitKnobs, check_split, random_masks
from deepgnn_cli.rules.signatures import related

GIVEN = ("x", "edge_index", "y", "edge_attr", "edge_weight", "batch")
ONE_HOT_NODES = 20_000  # an identity matrix of more takes gigabytes


@related(own_split, own_file)
def pyg(
    *,
    path: str | None,
    features: Literal["degree", "one_hot", "constant"],
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """The graph in a file that `torch.save` wrote: a PyG `Data`, or a dict of its fields.

    Fields: `x` [N, F], `edge_index` [2, E] or `adj_t`, `y` (-1 or NaN where unknown; any numbers name the classes),
    `train_mask`, `val_mask`, `test_mask` ([N], [N, S] or node numbers; without them the split is random),
    `edge_weight`, `edge_attr`.

    Args:
        path: the file.
        features: of a graph without `x`: `degree`, `one_hot` (a column a node) or `constant`.
        split: `public` takes the file's own masks where it has some; or `random`.
        root: not used: nothing is stored.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the file cannot be read, or its graph is wrong.
    """
    wanted = check_split(seed=seed, split=split, **knobs | {"split_index": 0})
    if wanted.kind == "public":
        wanted = replace(wanted, number=seed if knobs["split_seed"] is None else knobs["split_seed"])
    file = own_file(path=path)
    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            stored = torch.load(file, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"dataset.path={path} cannot be read without running code from it ({type(error).__name__}); "
            "save a plain dict instead: torch.save(data.to_dict(), PATH)"
        ) from None
    return from_object(stored, name=file.stem, split=wanted, features=features)


def as_graph(value: Any, *, name: str, seed: int) -> Graph:
    """What a data set's function returns: a `Graph` as it is, or a PyG `Data` with its masks or a random split.

    Raises:
        ValueError: see `from_object`.
    """
    if isinstance(value, Graph):
        return value
    return from_object(value, name=name, split=Split("public", seed, 0.6, 0.2, per_class=False), features="degree")


def from_object(value: Any, *, name: str, split: Split, features: str) -> Graph:
    """The `Graph` of a PyG `Data` or a dict of its fields.

    Args:
        value: as `pyg` documents it.
        name: the graph's.
        split: `random`, or `public` for the masks that `value` brings.
        features: see `pyg`.

    Raises:
        ValueError: it is no such thing, or a field is missing or wrong.
    """
    fields = dict(value.to_dict() if isinstance(value, Data) else value) if isinstance(value, Mapping | Data) else None
    if fields is None:
        raise ValueError(f"{name} holds a {type(value).__name__}; give one PyG Data or a dict of tensors (one graph)")
    if fields.get("edge_index") is None and fields.get("adj_t") is not None:
        adjacency = fields["adj_t"]
        if isinstance(adjacency, Tensor):
            rows, columns = adjacency.to_dense().nonzero().t()
            fields["edge_index"] = torch.stack([columns, rows])
    for field in ("edge_index", "y"):
        if fields.get(field) is None:
            raise ValueError(f"{name} has no {field}; its fields are: {', '.join(map(str, fields))}")
    ends = tensor(fields["edge_index"], "edge_index")
    y, classes, multi_label = _labels(fields["y"])
    masks = _given_masks(fields, split)
    x = fields.get("x")
    if x is None:
        x = _made(features, ends, y.size(0))
    return Graph(
        name=name,
        split="own" if masks else f"random-{split.number}",
        x=x,
        edge_index=ends,
        y=y,
        num_classes=classes,
        metric="micro_f1" if multi_label else "accuracy",
        edge_attr=fields.get("edge_attr"),
        edge_weight=fields.get("edge_weight"),
        **(masks or _drawn(split, y)),
    )


def _labels(value: Any) -> tuple[Tensor, int, bool]:
    """The labels with classes numbered from 0 in the order of what names them, K, and whether a node has several."""
    y = tensor(value, "y")
    if y.dim() == 2 and y.size(1) > 1:
        hot = y.nan_to_num(0) if y.is_floating_point() else y
        several = bool((hot.sum(1) > 1).any())
        return y, y.size(1), several
    y = y.reshape(-1) if y.dim() == 2 else y
    known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    if y.dtype != torch.bool:
        known &= y >= 0
    if y.dim() != 1 or not known.any():
        raise ValueError(f"the graph is wrong: y has shape {list(y.shape)} and {int(known.sum())} labels; one a node")
    names, numbers = torch.unique(y[known], return_inverse=True)
    if y.is_floating_point() and names.numel() > 1 and bool((names != names.round()).any()):
        raise ValueError("the graph is wrong: y holds numbers that are not whole; regression is not supported")
    labels = torch.full(y.shape, -1)
    labels[known] = numbers
    return labels, names.numel(), False


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


def _given_masks(fields: Mapping[str, Any], split: Split) -> dict[str, Any] | None:
    masks = {name: fields.get(f"{name}_mask", fields.get(f"{name}_idx")) for name in ("train", "val", "test")}
    found = [name for name, mask in masks.items() if mask is not None]
    if split.kind != "public" or not found:
        return None
    if len(found) < 3:
        missing = next(name for name in masks if masks[name] is None)
        raise ValueError(
            f"the graph has {', '.join(found)} masks but no {missing}_mask; give it or use dataset.split=random"
        )
    return masks


def _drawn(split: Split, y: Tensor) -> dict[str, Tensor]:
    masks = random_masks(split, y.numpy())
    return {name: torch.from_numpy(getattr(masks, name)) for name in ("train", "val", "test")}
