"""PPI: protein-protein interactions of 24 human tissues (GraphSAGE, arXiv:1706.02216).

Inductive and multi-label: 20 graphs train, 2 validate, 2 test, and no model sees the last four while it
trains.

N nodes, E edges, F input features, K labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import obtain, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import sorted_edges, standardized

URL = "https://data.dgl.ai/dataset/ppi.zip"
PARTS = ("train", "valid", "test")
KINDS = ("feats.npy", "labels.npy", "graph_id.npy", "graph.json")
FILES = tuple(f"raw/{part}_{kind}" for part in PARTS for kind in KINDS)


def ppi(*, standardize_features: bool, split: Literal["public"], root: str | Path, seed: int) -> Graph:
    """The 24 graphs as one disjoint union, `part_of` numbering them.

    About 57,000 proteins, 50 features, 121 labels; the score is micro F1 pooled over the graphs.

    Args:
        standardize_features: shift and scale each feature to mean 0, deviation 1 over the training graphs.
        split: `public`.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    paths = obtain(Path(root) / "ppi", FILES, [zipped(URL, {file: Path(file).name for file in FILES})])
    stored = cached(paths[0].parents[1] / "processed" / "deepgnn.pt", paths, lambda: _parse(paths))
    x, part = stored["x"], stored["part"]
    return Graph(
        name="ppi",
        split="public",
        x=standardized(x, part == 0) if standardize_features else x,
        edge_index=stored["edge_index"],
        y=stored["y"],
        num_classes=stored["y"].size(1),
        train=part == 0,
        val=part == 1,
        test=part == 2,
        metric="micro_f1",
        part_of=stored["part_of"],
    )


def _parse(paths: list[Path]) -> Tensors:
    columns: dict[str, list[Tensor]] = {key: [] for key in ("x", "y", "part_of", "edge_index", "part")}
    nodes = graphs = 0
    for part in range(len(PARTS)):
        feats, labels, ids, edges = paths[part * len(KINDS) : (part + 1) * len(KINDS)]
        x, y, number = (_array(path) for path in (feats, labels, ids))
        with reading(ids):
            if not x.shape[0] == y.shape[0] == number.shape[0]:
                raise ValueError(f"{len(number)} nodes, but {len(x)} rows of features and {len(y)} of labels")
            _, number = np.unique(number, return_inverse=True)
        with reading(edges):
            edge_index = _edges(edges, number)
        columns["x"].append(torch.from_numpy(x).float())
        columns["y"].append(torch.from_numpy(y).float())
        columns["part_of"].append(torch.from_numpy(number) + graphs)
        columns["edge_index"].append(edge_index + nodes)
        columns["part"].append(torch.full((len(number),), part))
        nodes, graphs = nodes + len(number), graphs + int(number.max()) + 1
    return {key: torch.cat(values, dim=1 if key == "edge_index" else 0) for key, values in columns.items()}


def _array(path: Path) -> np.ndarray:
    with reading(path):
        return np.asarray(np.load(path, allow_pickle=False))


def _edges(path: Path, number: np.ndarray) -> Tensor:
    """The edges of a node-link file, both ways if it says undirected; self-loops are dropped, as PyG does."""
    stored = json.loads(path.read_text())
    ends = np.array([(link["source"], link["target"]) for link in stored["links"]], dtype=np.int64).reshape(-1, 2).T
    if not stored.get("directed", False):
        ends = np.concatenate([ends, ends[::-1]], axis=1)
    edge_index = sorted_edges(ends[:, ends[0] != ends[1]], len(number))
    if (number[edge_index[0]] != number[edge_index[1]]).any():
        raise ValueError("an edge joins two graphs")
    return edge_index
