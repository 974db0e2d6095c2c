"""The graphs and the ten splits that Geom-GCN (arXiv:2002.05287) publishes.

Web pages of three universities (texas, wisconsin, cornell), Wikipedia pages (chameleon, squirrel), film
actors (actor): mostly heterophilous, neighbours differ. Edges are directed, and stay as the files list them,
self-loops included; a knob adds the reverse edges.

N nodes, E edges, F input features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import to_undirected

from deepgnn_cli.data.download import Way, direct, obtain, open_npz, reading
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, row_normalized, sorted_edges
from deepgnn_cli.data.splits import Masks, Split, SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related

NODES, EDGES = "raw/out1_node_feature_label.txt", "raw/out1_graph_edges.txt"
HOME = "https://raw.githubusercontent.com/graphdml-uiuc-jlu/geom-gcn/master"
THEIR_NAME = {"actor": "film"}


@related(check_split)
def geom(
    *,
    name: Literal["texas", "wisconsin", "cornell", "chameleon", "squirrel", "actor"],
    normalize_features: bool,
    undirected: bool,
    split: Literal["geom", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """One of Geom-GCN's graphs.

    Args:
        name: texas, wisconsin, cornell, chameleon, squirrel or actor.
        normalize_features: divide each row of features by its sum.
        undirected: list each edge both ways.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    folder, theirs = Path(root) / name, THEIR_NAME.get(name, name)
    urls = {file: f"{HOME}/new_data/{theirs}/{Path(file).name}" for file in (NODES, EDGES)}
    nodes, edges = obtain(folder, [NODES, EDGES], [direct(urls)])
    with reading(nodes):
        x, y = _nodes(nodes, indexed=name == "actor")
    with reading(edges):
        ends = np.array([line.split("\t") for line in _lines(edges)], dtype=np.int64).reshape(-1, 2)
        edge_index = sorted_edges(ends.T, len(y))
    if undirected:
        edge_index = to_undirected(edge_index, num_nodes=len(y))
    masks = geom_masks(folder, theirs, wanted, len(y)) if wanted.kind == "geom" else None
    return assemble(name, wanted, row_normalized(x) if normalize_features else x, edge_index, y, masks=masks)


def _nodes(path: Path, *, indexed: bool) -> tuple[Tensor, Tensor]:
    """Features [N, F] and labels [N] of lines `node <tab> features <tab> label` below a header.

    Features are F numbers, or (`indexed`) the columns that are one.
    """
    rows: dict[int, tuple[list[int], int]] = {}
    for line in _lines(path):
        node, features, label = line.split("\t")
        rows[int(node)] = [int(value) for value in features.split(",") if value], int(label)
    if sorted(rows) != list(range(len(rows))):
        raise ValueError(f"the {len(rows)} nodes are not numbered from 0 to {len(rows) - 1}")
    values = [rows[node][0] for node in range(len(rows))]
    if indexed:
        x = torch.zeros(len(values), 1 + max(max(columns, default=0) for columns in values))
        for i, columns in enumerate(values):
            x[i, columns] = 1
    else:
        x = torch.tensor(values, dtype=torch.float32)
    return x, torch.tensor([rows[node][1] for node in range(len(rows))])


def _lines(path: Path) -> list[str]:
    """The lines below the header."""
    header, *lines = path.read_text().splitlines() or [""]
    if "\t" not in header or not lines:
        raise ValueError("it has no header or no lines below it")
    return lines


def geom_masks(folder: Path, theirs: str, split: Split, n: int) -> Masks:
    """One of the ten splits of a graph of N nodes; only the file of this split is fetched.

    Args:
        folder: `ROOT/DATASET`.
        theirs: the data set's name in the file.
        split: a geom split.
        n: N.

    Raises:
        DataError: the file cannot be had, or read.
    """
    file = f"raw/{theirs}_split_0.6_0.2_{split.number}.npz"
    ways: list[Way] = [direct({file: f"{HOME}/splits/{Path(file).name}"})]
    (path,) = obtain(folder, [file], ways)
    with reading(path), open_npz(path) as stored:
        masks = [stored[f"{part}_mask"].astype(bool) for part in ("train", "val", "test")]
        if any(mask.shape != (n,) for mask in masks):
            raise ValueError(f"its masks have {masks[0].size} nodes, the graph has {n}")
    return Masks(*masks)
