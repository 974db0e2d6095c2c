"""Open Graph Benchmark, graph property prediction (arXiv:2005.00687): ogbg-molhiv, -molpcba, -ppa.

N nodes, E edges, G graphs, F input features, D edge features, K classes or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.utils import remove_self_loops

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.datasets.ogb_files import (
    PARTS,
    RawGraph,
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
from deepgnn_cli.data.molecules import ATOMS, BONDS


@dataclass(frozen=True)
class Benchmark:
    """What the files do not say.

    Args:
        archive: the zip file below ogb's folder of graph data sets.
        split: folder of the split.
        num_classes: K.
        metric: the evaluator's score.
        unknown: labels may be missing.
        atoms: categories of the node features; None: nodes have none.
        bonds: categories of the edge features; None: they are numbers.
        edge_features: their columns.
    """

    archive: str
    split: str
    num_classes: int
    metric: str
    unknown: bool = False
    atoms: tuple[int, ...] | None = ATOMS
    bonds: tuple[int, ...] | None = BONDS
    edge_features: int = len(BONDS)

    @property
    def files(self) -> list[str]:
        """All files a run needs."""
        nodes = () if self.atoms is None else ("node-feat",)
        return files_of(("edge", "edge-feat", "num-node-list", "num-edge-list", "graph-label", *nodes), self.split)


BENCHMARKS = {
    "ogbg_molhiv": Benchmark("csv_mol_download/hiv", "scaffold", 1, "roc_auc"),
    "ogbg_molpcba": Benchmark("csv_mol_download/pcba", "scaffold", 128, "average_precision", unknown=True),
    "ogbg_ppa": Benchmark("ogbg_ppi_medium", "species", 37, "accuracy", atoms=None, bonds=None, edge_features=7),
}


def ogbg(
    *,
    name: Literal["ogbg_molhiv", "ogbg_molpcba", "ogbg_ppa"],
    split: Literal["public"],
    root: str | Path,
    seed: int,
) -> Graph:
    """One of the three benchmarks of whole graphs, each edge both ways, one beside the other, without self-loops.

    molhiv: 41,127 molecules, whether one inhibits HIV (ROC-AUC). molpcba: 437,929 molecules, 128 assays of which many
    are unknown (average precision). Atoms have 9 properties and bonds 3, all categories: a linear layer makes of them
    the sum of an embedding a property, which is ogb's AtomEncoder and BondEncoder. Both are split by scaffold.

    ppa: 158,100 neighbourhoods of proteins, of 37 groups of species (accuracy), split by species, with 7 edge features;
    nodes have none of their own and get x_i = sum of e_ij over the edges at i, as DeeperGCN does (arXiv:2006.07739).
    Its 716 million directed edges take 32 GB of memory, and reading them for the first time about twice that.

    Args:
        name: which benchmark.
        split: the one that the benchmark comes with.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    benchmark = BENCHMARKS[name]
    folder = Path(root).expanduser() / name
    paths = fetched(folder, benchmark.files, f"graphproppred/{benchmark.archive}.zip")
    stored = cached(folder / "processed" / "deepgnn.pt", paths, lambda: _parse(folder, benchmark))
    ends, y = stored["edge_index"], stored["y"]
    train, val, test = split_masks(stored, y.size(0))
    if benchmark.unknown:  # a graph of which no task is known teaches nothing, and is not scored
        known = ~y.isnan().all(dim=1)
        train, val, test = train & known, val & known, test & known
    return Graph(
        name=name,
        split="public",
        x=stored["x"].float(),
        edge_index=torch.stack([ends, ends.flip(0)], dim=2).reshape(2, -1),
        y=y,
        num_classes=benchmark.num_classes,
        train=train,
        val=val,
        test=test,
        metric=benchmark.metric,
        level="graph",
        part_of=torch.repeat_interleave(stored["num_nodes"]),
        edge_attr=stored["edge_attr"].float().repeat_interleave(2, dim=0),
        categories=benchmark.atoms,
        edge_categories=benchmark.bonds,
    )


def _parse(folder: Path, benchmark: Benchmark) -> Tensors:
    """Nodes numbered over all graphs; edges [2, E] and their features [E, D] one way; labels; the split's numbers."""
    raw = folder / "raw"
    num_nodes, num_edges = _counts(folder, benchmark)
    count = len(num_nodes)
    labels = _labels(raw / "graph-label.csv.gz", benchmark, count)
    parts = {part: numbers_of(folder / "split" / benchmark.split / f"{part}.csv.gz", count, "graph") for part in PARTS}
    graphs = read_graphs(folder)
    ends = _edges(raw / "edge.csv.gz", graphs, num_nodes, num_edges)
    edge_attr = _features(raw / "edge-feat.csv.gz", graphs, "edge_feat", benchmark.bonds, benchmark.edge_features)
    ends, kept = remove_self_loops(ends, edge_attr)
    assert kept is not None
    if benchmark.atoms is None:
        x = torch.zeros(int(num_nodes.sum()), kept.size(1))
        for side in ends:
            x.index_add_(0, side, kept)
    else:
        x = _features(raw / "node-feat.csv.gz", graphs, "node_feat", benchmark.atoms, len(benchmark.atoms))
    return parts | {
        "x": x,
        "edge_index": ends,
        "edge_attr": kept,
        "y": labels,
        "num_nodes": torch.from_numpy(num_nodes),
    }


def _counts(folder: Path, benchmark: Benchmark) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many nodes and edges each graph has, [G] each, held to the rows of all tables."""
    rows = {Path(name).name.partition(".")[0]: found for name, found in rows_of(folder, benchmark.files).items()}
    found = []
    for what in ("node", "edge"):
        path = folder / "raw" / f"num-{what}-list.csv.gz"
        with reading(path):
            counts = table(path)[:, 0].astype(np.int64)
            if (wrong := np.flatnonzero(counts < (what == "node"))).size:
                raise ValueError(f"graph {wrong[0]} has {counts[wrong[0]]} {what}s")
        found.append(counts)
    nodes, edges = found
    held = {
        "num-edge-list": ("numbers of edges", len(nodes)),
        "edge": ("edges", int(edges.sum())),
        "edge-feat": ("rows of edge features", int(edges.sum())),
        "node-feat": ("rows of node features", int(nodes.sum())),
    }
    for name, (what, wanted) in held.items():
        if name in rows:
            with reading(folder / "raw" / f"{name}.csv.gz"):
                same(what, rows[name], wanted)
    return nodes, edges


def _edges(path: Path, graphs: list[RawGraph], num_nodes: NDArray[np.int64], num_edges: NDArray[np.int64]) -> Tensor:
    """The edges of all graphs one way, [2, E], nodes numbered over all of them."""
    with reading(path):
        ends = np.concatenate([graph["edge_index"] for graph in graphs], axis=1)
        of = np.repeat(np.arange(len(num_nodes)), num_edges)
        if (wrong := np.flatnonzero(((ends < 0) | (ends >= num_nodes[of])).any(axis=0))).size:
            graph, pair = of[wrong[0]], ends[:, wrong[0]].tolist()
            raise ValueError(f"graph {graph} has {num_nodes[graph]} nodes, counted from 0, and an edge {pair}")
        return torch.from_numpy(ends + (np.cumsum(num_nodes) - num_nodes)[of])


def _features(path: Path, graphs: list[RawGraph], field: str, sizes: tuple[int, ...] | None, columns: int) -> Tensor:
    """The rows of all graphs, [·, columns]: categories in a byte each, or numbers."""
    with reading(path):
        rows = np.concatenate([graph[field] for graph in graphs])
        same("columns", rows.shape[1], columns)
        if sizes is None:
            if not np.isfinite(rows).all():
                raise ValueError("it holds what is no number")
            return torch.from_numpy(rows).float()
        if (wrong := np.argwhere((rows < 0) | (rows >= sizes) | (rows != np.round(rows)))).size:
            row, column = wrong[0]
            raise ValueError(
                f"row {row} has {rows[row, column]} in column {column}: 0 to {sizes[column] - 1} are there"
            )
        return torch.from_numpy(rows.astype(np.uint8))


def _labels(path: Path, benchmark: Benchmark, count: int) -> Tensor:
    """Classes [G] int64, or binary tasks [G, K] float32, NaN where unknown."""
    one_class = benchmark.metric == "accuracy"
    top = benchmark.num_classes - 1 if one_class else 1
    with reading(path):
        labels: NDArray[Any] = table(path).astype(np.float64)
        same("graphs with labels", len(labels), count)
        same("columns", labels.shape[1], 1 if one_class else benchmark.num_classes)
        known = ~np.isnan(labels)
        if not benchmark.unknown and not known.all():
            raise ValueError(f"graph {np.argwhere(~known)[0, 0]} has no label")
        if (wrong := np.argwhere(known & ((labels < 0) | (labels > top) | (labels != np.round(labels))))).size:
            graph, column = wrong[0]
            raise ValueError(f"graph {graph} has label {labels[graph, column]:g}: 0 to {top} are there")
        return torch.from_numpy(labels[:, 0]).long() if one_class else torch.from_numpy(labels).float()
