"""A graph of one's own: PyG's `Data` or a dict of tensors, from a file or from Python.

N nodes, E edges, F input features, K classes, S splits.
"""

from __future__ import annotations

import http.client
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import degree

from deepgnn_cli.data.download import DataError, locked
from deepgnn_cli.data.fields import MASKS, fields_of, joined
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import tensor
from deepgnn_cli.data.graph_file import read_graph
from deepgnn_cli.data.relations import own_source, own_split
from deepgnn_cli.data.splits import Split, SplitKnobs, check_split, random_masks
from deepgnn_cli.rules.signatures import related

ONE_HOT_NODES = 20_000  # an identity matrix of more takes gigabytes


@related(own_split, own_source)
def pyg(
    *,
    path: str | None,
    target: str | None,
    arguments: dict[str, Any] | None,
    features: Literal["degree", "one_hot", "constant"],
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """The graph in a file that `torch.save` wrote, or one of PyG's data sets.

    A file holds a PyG `Data`, a dict of its fields, or a list of them: several graphs, seen as one union (inductive).
    Fields: `x` [N, F], `edge_index` [2, E] or `adj_t`, `y` (-1 or NaN where unknown; any numbers name the classes),
    `train_mask`, `val_mask`, `test_mask` ([N], [N, S] or node numbers; without them the split is random),
    `edge_weight`, `edge_attr`.

    Args:
        path: the file.
        target: in place of it, a PyG data set class: its dotted name, or its name in `torch_geometric.datasets`.
        arguments: what the class is called with; `root` is the data folder.
        features: of a graph without `x`: `degree`, `one_hot` (a column a node) or `constant`.
        split: `public` takes the graph's own masks where it has some; or `random`.
        root: folder of all data.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the file cannot be read, or its graph is wrong.
        DataError: the class cannot load its data.
    """
    wanted = check_split(seed=seed, split=split, **knobs | {"split_index": 0})
    if wanted.kind == "public":
        wanted = replace(wanted, number=seed if knobs["split_seed"] is None else knobs["split_seed"])
    own_source(path=path, target=target, arguments=arguments)
    if path is None:
        assert target is not None
        stored, name = _data_set(target, arguments or {}, Path(root)), target.rpartition(".")[2]
    else:
        file = Path(path).expanduser()
        stored, name = read_graph(file, f"dataset.path={file}"), file.stem
    return from_object(stored, name=name, split=wanted, features=features)


def _data_set(target: str, arguments: Mapping[str, Any], root: Path) -> Any:
    """The graph, or the list of graphs, of a PyG data set class; its files lie below `root`."""
    module, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module or "torch_geometric.datasets"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"dataset.target={target} cannot be imported ({error})") from None
    folder = root / "pyg" / "_".join([name, *(re.sub(r"\W+", "-", str(value)) for value in arguments.values())])
    given = {"root": str(folder)} if "root" in inspect.signature(made).parameters else {}
    try:
        with locked(folder):
            loaded = made(**given, **arguments)
    except TypeError as error:
        raise ValueError(f"dataset.target={target} with dataset.arguments={dict(arguments)}: {error}") from None
    except (OSError, RuntimeError, ImportError, http.client.HTTPException) as error:
        raise DataError(f"dataset.target={target} cannot load its data below {folder}: {error}") from None
    return loaded[0] if len(loaded) == 1 else list(loaded)


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
    several = isinstance(value, list | tuple) and bool(value)
    each = [fields_of(one, name) for one in value] if several else [fields_of(value, name)]
    fields = joined(each) if several else each[0]
    for field in ("edge_index", "y"):
        if fields.get(field) is None:
            raise ValueError(f"{name} has no {field}; its fields are: {', '.join(map(str, fields))}")
    ends = tensor(fields["edge_index"], "edge_index")
    y, classes, multi_label, names = _labels(fields["y"])
    masks = _given_masks(fields, split)
    x = fields.get("x")
    if x is None:
        x = _made(features, ends, y.size(0))
    batch = fields.get("batch") if several else None
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
        part_of=batch,
        node_names=_names(fields.get("node_names"), y.size(0)),
        class_names=_names(fields.get("class_names"), classes) or names,
        **(masks or _drawn(split, y, batch)),
    )


def _labels(value: Any) -> tuple[Tensor, int, bool, tuple[str, ...] | None]:
    """The labels, numbered from 0 in the order of the classes' names, K, whether a node has several, and those names.

    None for names that are the numbers.
    """
    y = tensor(value, "y")
    if y.dim() == 2 and y.size(1) > 1:
        hot = y.nan_to_num(0) if y.is_floating_point() else y
        several = bool((hot.sum(1) > 1).any())
        return y, y.size(1), several, None
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
    called = tuple(str(int(name)) for name in names.tolist())
    return labels, len(called), False, None if called == tuple(map(str, range(len(called)))) else called


def _names(value: Any, count: int) -> tuple[str, ...] | None:
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


def _given_masks(fields: Mapping[str, Any], split: Split) -> dict[str, Any] | None:
    found = [mask for mask in MASKS if fields.get(mask) is not None]
    if split.kind != "public" or not found:
        return None
    if missing := [mask for mask in MASKS if mask not in found]:
        raise ValueError(f"the graph has {', '.join(found)} but no {missing[0]}; give it or use dataset.split=random")
    return {mask.removesuffix("_mask"): fields[mask] for mask in MASKS}


def _drawn(split: Split, y: Tensor, batch: Tensor | None) -> dict[str, Tensor]:
    """The masks of a random split: of nodes, or of whole graphs."""
    masks = random_masks(split, y.numpy() if batch is None else np.zeros(int(batch.max()) + 1, dtype=np.int64))
    drawn = {name: torch.from_numpy(getattr(masks, name)) for name in ("train", "val", "test")}
    return drawn if batch is None else {name: mask[batch] for name, mask in drawn.items()}
