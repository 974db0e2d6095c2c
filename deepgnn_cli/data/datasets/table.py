"""One's own graph as tables: a row an edge, a row a node, with columns of any names and ids of any type.

N nodes, E edges, F input features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
import torch

from deepgnn_cli.data.download import open_npz
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.objects import from_object
from deepgnn_cli.data.relations import own_split, table_files
from deepgnn_cli.data.splits import SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": None}
# What arrays of an .npz file are called in published data.
_ARRAYS = {"node_features": "x", "features": "x", "node_labels": "y", "labels": "y", "edges": "edge_index"}
_ARRAYS |= {f"{name}_masks": f"{name}_mask" for name in ("train", "val", "test")}


@related(own_split, table_files)
def table(
    *,
    path: str | None,
    source: str,
    target: str,
    weight: str | None,
    undirected: bool,
    id: str,
    label: str,
    split_column: str | None,
    features: Literal["degree", "one_hot", "constant"],
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """The graph of a folder with `edges` and `nodes` (.csv or .parquet), or of an .npz file.

    Classes are numbered in the order of their names (of numbers: of their values). Every column of nodes that has no
    other meaning is a feature, every further one of edges an edge feature. An .npz file holds the fields of a PyG
    `Data` as arrays (`x`, `edge_index` or `edges` [E, 2], `y`, masks).

    Args:
        path: the folder, or the .npz file.
        source: column of edges.
        target: column of edges.
        weight: column of edges; `weight` where there is one, any other must be there; None: there is none.
        undirected: each row of edges stands for both directions.
        id: column of nodes.
        label: column of nodes; empty where unknown.
        split_column: column of nodes: train, val, test or empty. A table without the column `split` is split at
            random; one by another name must be there.
        features: of a graph without feature columns, see `pyg`.
        split: `public`, the table's own, or `random`.
        root: not used.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: a file is missing or wrong: one line with file, line, column and rule.
    """
    wanted = check_split(seed=seed, split=split, **knobs | {"split_index": 0})
    if wanted.kind == "public":
        wanted = replace(wanted, number=seed if knobs["split_seed"] is None else knobs["split_seed"])
    files = table_files(path=path)
    if len(files) == 1:
        fields = _arrays(files[0])
    else:
        nodes, edges = (_Table(file) for file in files)
        fields = _nodes(nodes, id, label, split_column) | _edges(edges, nodes, source, target, weight, id)
    if undirected:
        fields |= _both_ways(fields)
    assert path is not None
    return from_object(fields, name=Path(path).stem, split=wanted, features=features)


_CSV: dict[str, Any] = {
    "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", "skipinitialspace": True, "index_col": False,
}  # fmt: skip
_USUAL = {"weight": "weight", "split_column": "split"}
_TRUTHS = {"True": "1", "true": "1", "False": "0", "false": "0"}


def _text(value: object) -> str:
    unknown = value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value))
    return "" if unknown else str(value)


class _Table:
    """A file of rows, every value a string: what is wrong is said with file, line and column."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            if file.suffix == ".parquet":
                self.rows = pd.read_parquet(file).map(_text)
            else:
                with warnings.catch_warnings():  # a first row longer than the header
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    self.rows = pd.read_csv(file, **_CSV)
        except ImportError:
            raise ValueError(
                f"{file} needs pyarrow: pip install 'deepgnn[parquet]', or save the table as .csv"
            ) from None
        except pd.errors.ParserWarning:
            raise ValueError(f"{file}, line 2: the row has more fields than the header has names") from None
        except (ValueError, OSError, pd.errors.ParserError) as error:
            raise ValueError(f"{file} cannot be read as a table: {' '.join(str(error).split())}") from None

    def column(self, name: str, key: str) -> pd.Series[str]:
        """A column that must be there; `key` is what names it in the configuration."""
        if name not in self.rows.columns:
            known = ", ".join(map(str, self.rows.columns))
            raise ValueError(f"{self.file} has no column {name!r} (dataset.{key}); it has: {known}")
        return self.rows[name]

    def optional(self, name: str | None, key: str) -> str | None:
        """`name` where there is such a column. By the name that it has anyway it may be missing, by another not."""
        if name not in (None, _USUAL[key]):
            self.column(str(name), key)
        return name if name in self.rows.columns else None

    def wrong(self, row: int, column: str, rule: str) -> ValueError:
        """The error of one value; a header is line 1."""
        value = self.rows[column].iloc[row]
        return ValueError(f"{self.file}, line {row + 2}, column {column}: {value!r} {rule}")

    def numbers(self, columns: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[rows, columns] of finite numbers."""
        values = np.empty((len(self.rows), len(columns)), dtype=np.float32)
        for place, column in enumerate(columns):
            values_of = self.rows[column].replace(_TRUTHS)
            found = pd.to_numeric(values_of, errors="coerce").to_numpy(dtype=np.float64)
            if not np.isfinite(found).all():
                raise self.wrong(int(np.flatnonzero(~np.isfinite(found))[0]), column, "is no finite number")
            values[:, place] = found
        return values


def _nodes(nodes: _Table, id: str, label: str, split_column: str | None) -> dict[str, object]:
    ids, labels = nodes.column(id, "id"), nodes.column(label, "label")
    if (twice := ids.duplicated()).any():
        raise nodes.wrong(int(np.flatnonzero(twice)[0]), id, "stands there twice: each node has an id of its own")
    used = [id, label]
    y, names = _classes(labels)
    fields: dict[str, object] = {"y": y, "class_names": names, "node_names": tuple(ids)}
    if (split_column := nodes.optional(split_column, "split_column")) is not None:
        used.append(split_column)
        parts = nodes.rows[split_column].str.strip().str.lower()
        if not (known := parts.isin(list(_PARTS))).all():
            raise nodes.wrong(int(np.flatnonzero(~known)[0]), split_column, "is none of train, val, test")
        part = parts.map(lambda word: _PARTS[word] or "")
        fields |= {
            f"{name}_mask": torch.from_numpy((part == name).to_numpy(copy=True)) for name in ("train", "val", "test")
        }
    columns = [column for column in nodes.rows.columns if column not in used]
    return fields | ({"x": torch.from_numpy(nodes.numbers(columns))} if columns else {})


def _classes(labels: pd.Series[str]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The number of each node's class, -1 where unknown, and what the classes are called."""
    known = labels.str.strip() != ""
    numbers = pd.to_numeric(labels[known], errors="coerce")
    values = numbers.to_numpy() if numbers.notna().all() else labels[known].to_numpy(dtype=str)
    classes = np.full(len(labels), -1, dtype=np.int64)
    names, classes[known.to_numpy()] = np.unique(values, return_inverse=True)
    return torch.from_numpy(classes), tuple(map(str, names))


def _edges(edges: _Table, nodes: _Table, source: str, target: str, weight: str | None, id: str) -> dict[str, object]:
    place = pd.Series(range(len(nodes.rows)), index=nodes.rows[id])
    ends = []
    for name, key in ((source, "source"), (target, "target")):
        found = edges.column(name, key).map(place)
        if found.isna().any():
            row = int(np.flatnonzero(found.isna())[0])
            raise edges.wrong(row, name, f"is no {id} of {nodes.file.name}")
        ends.append(found.to_numpy(dtype=np.int64))
    fields: dict[str, object] = {"edge_index": torch.from_numpy(np.stack(ends))}
    used = [source, target]
    if (weight := edges.optional(weight, "weight")) is not None:
        used.append(weight)
        fields["edge_weight"] = torch.from_numpy(edges.numbers([weight])[:, 0])
    more = [column for column in edges.rows.columns if column not in used]
    return fields | ({"edge_attr": torch.from_numpy(edges.numbers(more))} if more else {})


def _arrays(file: Path) -> dict[str, object]:
    try:
        with open_npz(file) as stored:
            arrays = {_ARRAYS.get(name, name): stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} cannot be read as arrays: {' '.join(str(error).split())}") from None
    fields: dict[str, Any] = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    ends = fields.get("edge_index")
    if ends is not None and ends.dim() == 2 and ends.size(0) != 2 and ends.size(1) == 2:
        fields["edge_index"] = ends.t()
    for name in ("train", "val", "test"):  # published masks are [k, N]
        mask, y = fields.get(f"{name}_mask"), fields.get("y")
        if mask is not None and y is not None and mask.dim() == 2 and mask.size(1) == len(y) != mask.size(0):
            fields[f"{name}_mask"] = mask.t()
    return fields


def _both_ways(fields: dict[str, Any]) -> dict[str, Any]:
    """Every edge in both directions, self-loops once."""
    ends = fields["edge_index"]
    outer = ends[0] != ends[1]
    back = {
        name: torch.cat([fields[name], fields[name][outer]]) for name in ("edge_weight", "edge_attr") if name in fields
    }
    return {"edge_index": torch.cat([ends, ends[:, outer].flip(0)], 1)} | back
