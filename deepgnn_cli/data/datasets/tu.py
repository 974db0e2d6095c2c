"""The TU collection (arXiv:2007.08663): sets of small graphs, a class each, in ten folds.

Files lie below `ROOT/tu`: `NAME.zip` as the collection publishes it, `NAME_splits.json` where folds are published.
MUTAG is also in a wheel of the package index, whose files go to `ROOT/tu/MUTAG`.

N nodes, G graphs, E edges.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import GRAKEL, direct, obtain, reading, wheel, zipped
from deepgnn_cli.data.folds import FOLDS, dealt, fold_masks, numbered_masks
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.relations import tu_folds
from deepgnn_cli.data.splits import Masks
from deepgnn_cli.data.transfer import Unreachable
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.rules.types import Seed

HOME = "https://www.chrsmrrs.com/graphkerneldatasets"
SPLITS = "https://raw.githubusercontent.com/diningphil/gnn-comparison/master/data_splits"
PUBLISHED = {
    **dict.fromkeys(("DD", "ENZYMES", "NCI1", "PROTEINS_full"), "CHEMICAL"),
    **dict.fromkeys(("COLLAB", "IMDB-BINARY", "IMDB-MULTI", "REDDIT-BINARY", "REDDIT-MULTI-5K"), "COLLABORATIVE_1"),
}
"""The folder of each set whose folds are published ("A fair comparison of graph neural networks", arXiv:1912.09893)."""
MUTAG = ("A", "graph_indicator", "graph_labels", "node_labels", "edge_labels")


@related(tu_folds)
def tu(
    *,
    name: str,
    split: Literal["stratified", "published"],
    fold: Annotated[int, Ge(0), Le(FOLDS - 1)],
    split_seed: Seed,
    node_attributes: bool,
    edge_labels: bool,
    features: Literal["degree", "constant"],
    root: str | Path,
    seed: int,
) -> Graph:
    """One of the collection's sets: MUTAG, NCI1, PROTEINS, ENZYMES, IMDB-BINARY and others.

    Features are the node labels, one-hot, with the node attributes beside them if asked for. Of ten folds with equal
    shares of each class one tests and the next validates; published folds test one and validate on a tenth of the rest.

    Args:
        name: as the collection calls it.
        split: `stratified` folds, drawn by `split_seed`, or the `published` ones.
        fold: which one tests, 0..9.
        split_seed: draws the folds: the same ones for every seed of a run.
        node_attributes: read the nodes' real-valued attributes.
        edge_labels: read the edges' labels, for a model that reads edge features.
        features: of a set without node labels: `degree`, one-hot, or `constant`.
        root: folder of all data.
        seed: not used: nothing here is drawn by it.

    Raises:
        ValueError: there are no published folds, or no node attributes where they are asked for.
        DataError: files cannot be had, or read.
    """
    tu_folds(name=name, split=split)
    folder = Path(root).expanduser() / "tu"
    stored = _stored(folder, name)
    if node_attributes and "node_attributes" not in stored:
        raise ValueError(f"dataset.node_attributes=true, and {name} has none; leave it false")
    y = stored["y"]
    masks = _published(folder, name, fold, len(y)) if split == "published" else None
    if masks is None:
        masks = fold_masks(dealt(y.numpy(), split_seed), fold)
    x, categories = _features(stored, node_attributes, features)
    edges = _categories(stored["edge_labels"]) if edge_labels and "edge_labels" in stored else None
    return Graph(
        name=name.lower(),
        split=f"{'fold' if split == 'stratified' else 'published'}-{fold}",
        x=x,
        edge_index=stored["edge_index"],
        y=y,
        num_classes=int(y.max()) + 1,
        train=torch.from_numpy(masks.train),
        val=torch.from_numpy(masks.val),
        test=torch.from_numpy(masks.test),
        level="graph",
        part_of=stored["part_of"],
        categories=categories,
        edge_attr=None if edges is None else stored["edge_labels"].float(),
        edge_categories=edges,
    )


def _stored(folder: Path, name: str) -> Tensors:
    copy = folder / "processed" / f"{name}.pt"
    if name == "MUTAG":
        files = [f"MUTAG/MUTAG_{part}.txt" for part in MUTAG]
        members = {file: f"grakel/tests/data/{file}" for file in files}
        ways = [zipped(f"{HOME}/MUTAG.zip", {file: file for file in files}), wheel(members, GRAKEL)]
        paths = obtain(folder, files, ways)
        found = {path.stem.removeprefix("MUTAG_"): path for path in paths}
        return cached(copy, paths, lambda: _parse(folder, lambda part: _text(found.get(part))))
    (archive,) = obtain(folder, [f"{name}.zip"], [direct({f"{name}.zip": f"{HOME}/{name}.zip"})])

    def parse() -> Tensors:
        with reading(archive), zipfile.ZipFile(archive) as opened:
            there = set(opened.namelist())

            def text(part: str) -> str | None:
                member = f"{name}/{name}_{part}.txt"
                return opened.read(member).decode() if member in there else None

            return _parse(archive, text)

    return cached(copy, [archive], parse)


def _text(path: Path | None) -> str | None:
    return None if path is None else path.read_text()


def _parse(path: Path, text: Callable[[str], str | None]) -> Tensors:
    """The files' tables as tensors; nodes and graphs are numbered from 0 and stand graph by graph.

    Args:
        path: to be named where something is wrong.
        text: the content of a part (`A`, `graph_indicator`, …), None if there is no such file.
    """
    with reading(path):
        ends, part_of = (_table(text(part), part).astype(np.int64) - 1 for part in ("A", "graph_indicator"))
        ends, part_of = ends.T, part_of[:, 0]
        labels = _table(text("graph_labels"), "graph_labels")
        order = np.argsort(part_of, kind="stable")  # nodes graph by graph, as they nearly always are
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        if ends.size and not 0 <= ends.min() <= ends.max() < len(order):
            raise ValueError(f"an edge ends at node {ends.max() + 1}, and there are {len(order)} nodes")
        if len(np.unique(part_of)) != len(labels) or part_of.max() + 1 != len(labels):
            raise ValueError(f"{len(labels)} labels for {len(np.unique(part_of))} graphs")
        edges = place[ends]
        keep = np.flatnonzero(edges[0] != edges[1])
        keep = keep[np.lexsort((edges[1, keep], edges[0, keep]))]  # so stand the edges graph by graph, too
        keep = keep[np.append(True, (np.diff(edges[:, keep]) != 0).any(axis=0))[: len(keep)]]
        found = {
            "edge_index": torch.from_numpy(np.ascontiguousarray(edges[:, keep])),
            "part_of": torch.from_numpy(part_of[order]),
            "y": torch.from_numpy(np.unique(labels[:, 0], return_inverse=True)[1].astype(np.int64)),
        }
        for part, rows, where in (("node_labels", len(order), order), ("edge_labels", ends.shape[1], keep)):
            if (content := text(part)) is not None:
                found[part] = _numbered(_rows(content, part, rows)[where])
        if (content := text("node_attributes")) is not None:
            found["node_attributes"] = torch.from_numpy(_rows(content, "node_attributes", len(order))[order]).float()
        return found


def _table(content: str | None, part: str) -> NDArray[Any]:
    import pandas

    if content is None:
        raise ValueError(f"there is no _{part}.txt")
    return np.array(pandas.read_csv(io.StringIO(content), header=None, skipinitialspace=True))


def _rows(content: str, part: str, count: int) -> NDArray[Any]:
    table = _table(content, part)
    if len(table) != count:
        raise ValueError(f"{len(table)} rows of {part} where {count} should be")
    return table


def _numbered(labels: NDArray[Any]) -> Tensor:
    """Each column's labels as categories 0, 1, …."""
    columns = [np.unique(column, return_inverse=True)[1] for column in labels.T]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.int64))


def _categories(labels: Tensor) -> tuple[int, ...]:
    return tuple((labels.max(dim=0).values + 1).tolist())


def _features(stored: Tensors, attributes: bool, missing: str) -> tuple[Tensor, tuple[int, ...] | None]:
    """x, and the categories where all of it is such."""
    labels, numbers = stored.get("node_labels"), stored.get("node_attributes") if attributes else None
    if labels is None and numbers is None:
        n = stored["part_of"].numel()
        if missing == "constant":
            return torch.ones(n, 1), None
        labels = torch.bincount(stored["edge_index"][1], minlength=n)[:, None]
    if numbers is None:
        assert labels is not None
        return labels.float(), _categories(labels)
    if labels is None:
        return numbers, None
    hot = [one_hot(column, size) for column, size in zip(labels.t(), _categories(labels), strict=True)]
    return torch.cat([numbers, *(each.float() for each in hot)], dim=1), None


def _published(folder: Path, name: str, fold: int, count: int) -> Masks:
    """The masks of a published fold: its own test graphs, and those of its model selection to train and validate."""
    file = f"{name}_splits.json"
    ways = [direct({file: f"{SPLITS}/{PUBLISHED[name]}/{file}"})] if name in PUBLISHED else [_unpublished(name)]
    (path,) = obtain(folder, [file], ways)
    with reading(path):
        chosen = json.loads(path.read_text(encoding="utf-8"))[fold]
        inner = chosen["model_selection"][0]
        return numbered_masks(count, inner["train"], inner["validation"], chosen["test"])


def _unpublished(name: str) -> Callable[..., None]:
    def way(folder: Path, names: object) -> None:
        raise Unreachable(f"no folds of {name} are published; use dataset.split=stratified")

    return way
