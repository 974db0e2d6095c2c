"""A graph of one's own: PyG's `Data` or a dict of tensors, from a file or from Python.

N nodes, E edges, F input features, K classes, S splits.
"""

from __future__ import annotations

import hashlib
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
from torch_geometric.data import Data
from torch_geometric.utils import degree, from_networkx

from deepgnn_cli.data.download import DataError, locked
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import tensor
from deepgnn_cli.data.graph_file import read_graph
from deepgnn_cli.data.relations import own_source, own_split
from deepgnn_cli.data.splits import Split, SplitKnobs, check_split, random_masks
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.runfiles.record import write_atomic

GIVEN = ("x", "edge_index", "y", "edge_attr", "edge_weight", "batch")
_FIELDS = {"x", "edge_index", "y", "edge_attr", "edge_weight", *(f"{name}_mask" for name in ("train", "val", "test"))}
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
    each = [_fields(one, name) for one in value] if several else [_fields(value, name)]
    fields = _joined(each) if several else each[0]
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


def _fields(value: Any, name: str) -> dict[str, Any]:
    """The fields of one graph, `edge_index` among them and as many labels as nodes."""
    if not isinstance(value, Mapping | Data):
        raise ValueError(
            f"{name} holds a {type(value).__name__}; give one PyG Data, a dict of tensors, or a list of such graphs"
        )
    fields = dict(value.to_dict() if isinstance(value, Data) else value)
    if fields.get("edge_index") is None and fields.get("adj_t") is not None:
        fields |= _edges_of(fields["adj_t"])
    x, y = fields.get("x"), fields.get("y")
    if x is not None and y is not None and tensor(y, "y").size(0) == 1 != tensor(x, "x").size(0):
        raise ValueError(f"{name} has one label for {len(x)} nodes; labels of whole graphs are not supported")
    return fields


def _joined(graphs: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of several graphs as those of their union; `batch` [N] says which graph a node is of."""
    names = {field for fields in graphs for field, value in fields.items() if value is not None} - {"batch", "ptr"}
    joined: dict[str, Any] = {}
    for field in names & _FIELDS:
        parts = [fields.get(field) for fields in graphs]
        if any(part is None for part in parts):
            raise ValueError(f"the graph is wrong: some of the {len(graphs)} graphs have {field} and others have not")
        tensors = [tensor(part, field) for part in parts]
        if field != "edge_index" and len({part.shape[1:] for part in tensors}) > 1:
            raise ValueError(f"the graph is wrong: {field} is of different widths in the {len(graphs)} graphs")
        joined[field] = tensors
    sizes = torch.tensor([part.size(0) for part in joined.get("x", joined.get("y", []))])
    if "edge_index" in joined:
        starts = (torch.cumsum(sizes, 0) - sizes).tolist()
        joined["edge_index"] = [part.long() + start for part, start in zip(joined["edge_index"], starts, strict=True)]
    united = {field: torch.cat(parts, 1 if field == "edge_index" else 0) for field, parts in joined.items()}
    return united | {"batch": torch.repeat_interleave(torch.arange(len(graphs)), sizes)}


def _edges_of(adjacency: Any) -> dict[str, Tensor]:
    """`edge_index`, and `edge_weight` where they are not all 1, of `adj_t` [N, N]: row = target, column = source."""
    if not isinstance(adjacency, Tensor):
        raise ValueError(
            f"the graph is wrong: adj_t is a {type(adjacency).__name__}; give edge_index, or a torch tensor"
        )
    entries = adjacency.to_sparse_coo().coalesce()
    targets, sources = entries.indices()
    found = {"edge_index": torch.stack([sources, targets])}
    return found if bool((entries.values() == 1).all()) else found | {"edge_weight": entries.values()}


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


def _drawn(split: Split, y: Tensor, batch: Tensor | None) -> dict[str, Tensor]:
    """The masks of a random split: of nodes, or of whole graphs."""
    masks = random_masks(split, y.numpy() if batch is None else np.zeros(int(batch.max()) + 1, dtype=np.int64))
    drawn = {name: torch.from_numpy(getattr(masks, name)) for name in ("train", "val", "test")}
    return drawn if batch is None else {name: mask[batch] for name, mask in drawn.items()}


def store(value: Any, folder: Path) -> Path:
    """Write a graph that lives in Python where `pyg` reads it again; the file is named by what is in it.

    Args:
        value: a PyG `Data`, a dict of tensors, a list of them, a NetworkX graph (`x`, `y`, `train_mask`, … on its
            nodes) or a DGL graph (`feat`, `label`, … in `ndata`).
        folder: where.

    Raises:
        ValueError: it is none of these.
    """
    plain = _plain(value)
    digest = hashlib.sha256()
    for fields in plain if isinstance(plain, list) else [plain]:
        for name in sorted(fields):
            digest.update(f"{name} {fields[name].dtype} {list(fields[name].shape)}".encode())
            digest.update(fields[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    path = folder / f"{digest.hexdigest()[:12]}.pt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: torch.save(plain, file))
    return path


def _plain(value: Any) -> Any:
    """The graph as a dict of dense tensors, or a list of such."""
    if isinstance(value, list | tuple) and value:
        return [_plain(each) for each in value]
    if hasattr(value, "nodes") and hasattr(value, "is_directed") and not hasattr(value, "ndata"):  # NetworkX
        value = from_networkx(value)
    elif hasattr(value, "ndata") and hasattr(value, "edges"):  # DGL
        aliases = {"feat": "x", "label": "y"}
        nodes = {aliases.get(name, name): found for name, found in value.ndata.items()}
        value = {"edge_index": torch.stack(list(value.edges())).long(), **nodes}
    if not isinstance(value, Mapping | Data):
        raise ValueError(
            f"dataset is a {type(value).__name__}; give a name, a PyG Data, a dict of tensors, a NetworkX or DGL graph"
        )
    fields = dict(value.to_dict() if isinstance(value, Data) else value)
    wanted = {name: found for name, found in fields.items() if found is not None and name in _FIELDS | {"adj_t"}}
    return {name: tensor(found, name) for name, found in wanted.items()}
