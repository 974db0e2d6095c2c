"""Open Graph Benchmark, node property prediction (arXiv:2005.00687): ogbn-arxiv, -products, -proteins.

N nodes, E edges, F input features, D edge features, K classes or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import remove_self_loops, to_undirected

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.datasets.ogb_files import (
    PARTS,
    fetched,
    files_of,
    numbers_of,
    read_graphs,
    rows_of,
    same,
    split_masks,
    table,
)
from deepgnn_cli.data.download import reading
from deepgnn_cli.data.graph import Graph


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
        return files_of(("edge", "num-node-list", "num-edge-list", "node-label", self.features), self.split)


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
        name: which benchmark.
        undirected: list each edge both ways.
        split: the one that the benchmark comes with.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    benchmark = BENCHMARKS[name]
    folder = Path(root).expanduser() / name
    paths = fetched(folder, benchmark.files, f"nodeproppred/{benchmark.archive}.zip")
    stored = cached(folder / "processed" / "deepgnn.pt", paths, lambda: _parse(folder, benchmark))
    edge_index, edge_attr = _both_ways(stored, benchmark) if undirected else _one_way(stored)
    train, val, test = split_masks(stored, stored["x"].size(0))
    return Graph(
        name,
        "public",
        stored["x"],
        edge_index,
        stored["y"],
        benchmark.num_classes,
        train=train,
        val=val,
        test=test,
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
    rows_of(folder, benchmark.files)
    graphs = read_graphs(folder)
    with reading(folder / "raw" / "num-node-list.csv.gz"):
        same("graphs", len(graphs), 1)
    (raw,) = graphs
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
            same("rows of features", len(raw["node_feat"]), n)
    for part in PARTS:
        tensors[part] = numbers_of(folder / "split" / benchmark.split / f"{part}.csv.gz", n, "node")
    return tensors | {"edge_index": ends}


def _check_edges(folder: Path, ends: Tensor, edge_attr: Tensor | None, n: int) -> None:
    with reading(folder / "raw" / "edge.csv.gz"):
        (count,) = table(folder / "raw" / "num-edge-list.csv.gz")[:, 0].tolist()
        same("edges", ends.size(1), count)
        if ends.numel() and not 0 <= int(ends.min()) <= int(ends.max()) < n:
            raise ValueError(f"an edge ends at node {int(ends.max())} of {n}")
    with reading(folder / "raw" / "edge-feat.csv.gz"):
        if edge_attr is not None:
            same("rows of edge features", edge_attr.size(0), ends.size(1))


def _labels(path: Path, benchmark: Benchmark, n: int) -> Tensor:
    with reading(path):
        labels = torch.from_numpy(table(path))
        same("labels", labels.size(0), n)
        if benchmark.metric == "roc_auc":
            same("tasks", labels.size(1), benchmark.num_classes)
            return labels.float()
        y = labels[:, 0].nan_to_num(-1).long() if labels.is_floating_point() else labels[:, 0].long()
        if int(y.max()) >= benchmark.num_classes:
            raise ValueError(f"class {int(y.max())} of {benchmark.num_classes}")
        return y
