"""Open Graph Benchmark, node property prediction (arXiv:2005.00687): ogbn-arxiv, -products, -proteins.

Files lie below `ROOT/NAME` as ogb lays them out, so that an ogb root can be used as it is. ogb's own reader
parses them, once: a processed copy serves every later run. Its data set class is not used, because that asks
questions on stdin, loads pickles, and leaves half a data set behind when a download breaks off.

N nodes, E edges, F input features, D edge features, K classes or tasks.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import remove_self_loops, to_undirected
from tqdm import tqdm

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import obtain, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.transfer import CHUNK_BYTES

HOME = "https://snap.stanford.edu/ogb/data/nodeproppred"


@dataclass(frozen=True)
class Benchmark:
    """What the files do not say.

    Args:
        archive: name of the zip file, and of the folder in it.
        split: folder of the split.
        features: the raw file of features: `node-feat` or `edge-feat`.
        num_classes: K.
        metric: the evaluator's score.
        listed_once: the raw file lists each undirected edge one way only.
    """

    archive: str
    split: str
    features: str
    num_classes: int
    metric: str
    listed_once: bool

    @property
    def files(self) -> list[str]:
        """All files a run needs."""
        raw = ("edge", "num-node-list", "num-edge-list", "node-label", self.features)
        return [
            *(f"raw/{name}.csv.gz" for name in raw),
            *(f"split/{self.split}/{name}.csv.gz" for name in ("train", "valid", "test")),
            "RELEASE_v1.txt",
        ]


BENCHMARKS = {
    "ogbn_arxiv": Benchmark("arxiv", "time", "node-feat", 40, "accuracy", False),
    "ogbn_products": Benchmark("products", "sales_ranking", "node-feat", 47, "accuracy", True),
    "ogbn_proteins": Benchmark("proteins", "species", "edge-feat", 112, "roc_auc", True),
}


def ogbn(
    *,
    name: Literal["ogbn_arxiv", "ogbn_products", "ogbn_proteins"],
    undirected: bool,
    split: Literal["public"],
    root: str | Path,
    seed: int,
) -> Graph:
    """One of the three benchmarks, without self-loops.

    arxiv: 169,343 papers, 1,166,243 citations. products: 2,449,029 products bought together. proteins:
    132,534 proteins, 39,561,252 associations with 8 edge features each, 112 binary tasks; its nodes have no
    features of their own and get x_i = sum of e_ij over the edges at i, as DeeperGCN does (arXiv:2006.07739).

    Args:
        name: one of `BENCHMARKS`.
        undirected: list each edge both ways.
        split: `public`.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    benchmark = BENCHMARKS[name]
    members = {file: f"{benchmark.archive}/{file}" for file in benchmark.files}
    folder = Path(root).expanduser() / name
    paths = obtain(folder, benchmark.files, [zipped(f"{HOME}/{benchmark.archive}.zip", members)])
    stored = cached(folder / "processed" / "deepgnn.pt", paths, lambda: _parse(folder, benchmark))
    edge_index, edge_attr = _both_ways(stored, benchmark) if undirected else _one_way(stored)
    masks = [torch.zeros(stored["x"].size(0), dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, ("train", "valid", "test"), strict=True):
        mask[stored[part]] = True
    return Graph(
        name,
        "public",
        stored["x"],
        edge_index,
        stored["y"],
        benchmark.num_classes,
        train=masks[0],
        val=masks[1],
        test=masks[2],
        metric=benchmark.metric,
        edge_attr=edge_attr,
    )


def _one_way(stored: Tensors) -> tuple[Tensor, Tensor | None]:
    return stored["edge_index"], stored.get("edge_attr")


def _both_ways(stored: Tensors, benchmark: Benchmark) -> tuple[Tensor, Tensor | None]:
    edge_index, edge_attr = _one_way(stored)
    if not benchmark.listed_once:
        return to_undirected(edge_index, num_nodes=stored["x"].size(0)), None
    both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    return both, None if edge_attr is None else torch.cat([edge_attr, edge_attr])


def _parse(folder: Path, benchmark: Benchmark) -> Tensors:
    for name in tqdm(benchmark.files[:-1], desc=f"{folder.name}: checking", disable=None, leave=False):
        with reading(folder / name), gzip.open(folder / name) as file:
            if not file.read(1):
                raise ValueError("it is empty")
            while file.read(CHUNK_BYTES):
                pass
    read = _ogb_reader()
    with reading(folder / "raw"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        (raw,) = read(str(folder / "raw"))
    n, ends = raw["num_nodes"], torch.from_numpy(np.ascontiguousarray(raw["edge_index"]))
    edge_attr = None if raw["edge_feat"] is None else torch.from_numpy(raw["edge_feat"]).float()
    _check_edges(folder, ends, edge_attr, n)
    tensors = {"y": _labels(folder / "raw" / "node-label.csv.gz", benchmark, n)}
    ends, edge_attr = remove_self_loops(ends, edge_attr)
    if edge_attr is not None:
        tensors["edge_attr"] = edge_attr
        tensors["x"] = torch.zeros(n, edge_attr.size(1))
        for side in ends:
            tensors["x"].index_add_(0, side, edge_attr)
    else:
        tensors["x"] = torch.from_numpy(raw["node_feat"]).float()
        with reading(folder / "raw" / "node-feat.csv.gz"):
            _same("rows of features", len(raw["node_feat"]), n)
    for name in benchmark.files[-4:-1]:
        tensors[Path(name).name.split(".")[0]] = _nodes(folder / name, n)
    return tensors | {"edge_index": ends}


def _check_edges(folder: Path, ends: Tensor, edge_attr: Tensor | None, n: int) -> None:
    with reading(folder / "raw" / "edge.csv.gz"):
        (count,) = _table(folder / "raw" / "num-edge-list.csv.gz")[:, 0].tolist()
        _same("edges", ends.size(1), count)
        if ends.numel() and not 0 <= int(ends.min()) <= int(ends.max()) < n:
            raise ValueError(f"an edge ends at node {int(ends.max())} of {n}")
    with reading(folder / "raw" / "edge-feat.csv.gz"):
        if edge_attr is not None:
            _same("rows of edge features", edge_attr.size(0), ends.size(1))


def _labels(path: Path, benchmark: Benchmark, n: int) -> Tensor:
    with reading(path):
        labels = torch.from_numpy(_table(path))
        _same("labels", labels.size(0), n)
        if benchmark.metric == "roc_auc":
            _same("tasks", labels.size(1), benchmark.num_classes)
            return labels.float()
        y = labels[:, 0].nan_to_num(-1).long() if labels.is_floating_point() else labels[:, 0].long()
        if int(y.max()) >= benchmark.num_classes:
            raise ValueError(f"class {int(y.max())} of {benchmark.num_classes}")
        return y


def _nodes(path: Path, n: int) -> Tensor:
    with reading(path):
        nodes = torch.from_numpy(_table(path))[:, 0].long()
        if nodes.numel() and not 0 <= int(nodes.min()) <= int(nodes.max()) < n:
            raise ValueError(f"node {int(nodes.max())} of {n}")
        return nodes


def _same(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"{found} {what} where {wanted} should be")


def _table(path: Path) -> np.ndarray:
    import pandas

    # A copy: pandas 3 hands out arrays that may not be written to.
    return np.array(pandas.read_csv(path, header=None))


def _ogb_reader() -> Callable[[str], list[dict[str, Any]]]:
    """The csv reader of ogb; imported only when there is something to parse, because that takes seconds."""
    with _no_version_check():
        from ogb.io.read_graph_raw import read_csv_graph_raw
    reader: Callable[[str], list[dict[str, object]]] = read_csv_graph_raw
    return reader


@contextmanager
def _no_version_check() -> Iterator[None]:
    """Hide the package with which ogb asks the network for its newest version while it is imported."""
    hidden = "outdated" not in sys.modules
    sys.modules.setdefault("outdated", None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["outdated"]
