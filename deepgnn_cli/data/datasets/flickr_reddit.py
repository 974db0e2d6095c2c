"""Flickr (GraphSAINT, arXiv:1907.04931) and Reddit (GraphSAGE, arXiv:1706.02216), in the raw form PyG uses.

N nodes, E edges, F input features.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import direct, obtain, open_npz, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, sorted_edges, standardized
from deepgnn_cli.data.splits import Masks, Split, SplitKnobs, check_split, masks_of
from deepgnn_cli.rules.signatures import related

DRIVE = "https://drive.usercontent.google.com/download?confirm=t&id="
FLICKR = {
    "raw/adj_full.npz": f"{DRIVE}1crmsTbd1-2sEXsGwa2IKnIB7Zd3TmUsy",
    "raw/feats.npy": f"{DRIVE}1join-XdvX3anJU_MLVtick7MgeAQiWIZ",
    "raw/class_map.json": f"{DRIVE}1uxIkbtg5drHTsKt-PAsZZ4_yJmgFmle9",
    "raw/role.json": f"{DRIVE}1htXCtuktuCW8TR8KiKfrFDAxUgekQoV7",
}
REDDIT_URL = "https://data.dgl.ai/dataset/reddit.zip"
REDDIT = ("raw/reddit_data.npz", "raw/reddit_graph.npz")


@related(check_split)
def flickr(
    *,
    standardize_features: bool,
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Flickr: 89,250 images, 899,756 directed edges, 500 features, 7 classes.

    Args:
        standardize_features: shift and scale each feature to mean 0, deviation 1 over the training nodes.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    adjacency, features, classes, roles = obtain(Path(root) / "flickr", list(FLICKR), [direct(FLICKR)])
    with reading(features):
        x = torch.from_numpy(np.load(features, allow_pickle=False)).float()
    with reading(adjacency):
        edge_index = _sparse_edges(adjacency, x.size(0))
    with reading(classes):
        labels = {int(node): int(label) for node, label in json.loads(classes.read_text()).items()}
        y = torch.full((x.size(0),), -1)
        y[list(labels)] = torch.tensor(list(labels.values()))
    with reading(roles):
        role = json.loads(roles.read_text())
        public = masks_of(x.size(0), *(np.array(role[part], dtype=np.int64) for part in ("tr", "va", "te")))
    return _transductive("flickr", wanted, x, edge_index, y, public, standardize_features)


@related(check_split)
def reddit(
    *,
    standardize_features: bool,
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Reddit: 232,965 posts, 114,615,892 directed edges, 602 features, 41 communities; split by day.

    Args:
        standardize_features: shift and scale each feature to mean 0, deviation 1 over the training nodes.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    way = zipped(REDDIT_URL, {file: Path(file).name for file in REDDIT})
    paths = obtain(Path(root) / "reddit", REDDIT, [way])
    stored = cached(paths[0].parents[1] / "processed" / "deepgnn.pt", paths, lambda: _reddit(*paths))
    public = Masks(*((stored["part"] == part).numpy() for part in (1, 2, 3)))
    return _transductive("reddit", wanted, stored["x"], stored["edge_index"], stored["y"], public, standardize_features)


def _reddit(nodes: Path, graph: Path) -> Tensors:
    with reading(nodes), open_npz(nodes) as raw:
        x = torch.from_numpy(raw["feature"]).float()
        y = torch.from_numpy(raw["label"]).long()
        part = torch.from_numpy(raw["node_types"]).long()
        if not x.size(0) == y.size(0) == part.size(0):
            raise ValueError(f"{x.size(0)} rows of features, {y.size(0)} labels, {part.size(0)} node types")
    with reading(graph):
        edge_index = _sparse_edges(graph, x.size(0))
    return {"x": x, "y": y, "part": part, "edge_index": edge_index}


def _sparse_edges(path: Path, n: int) -> Tensor:
    """The entries of a stored SciPy matrix as edges row -> column; a CSR file may not name its format."""
    with open_npz(path) as raw:
        if "format" in raw.files:
            matrix = scipy.sparse.load_npz(path).tocoo()
        else:
            matrix = scipy.sparse.csr_matrix((raw["data"], raw["indices"], raw["indptr"]), raw["shape"]).tocoo()
    if matrix.shape != (n, n):
        raise ValueError(f"a matrix of {matrix.shape} for {n} nodes")
    return sorted_edges(np.stack([matrix.row, matrix.col]).astype(np.int64), n)


def _transductive(
    name: str, split: Split, x: Tensor, edge_index: Tensor, y: Tensor, public: Masks, standardize: bool
) -> Graph:
    masks = public if split.kind == "public" else None
    graph = assemble(name, split, x, edge_index, y, masks=masks)
    return replace(graph, x=standardized(x, graph.train)) if standardize else graph
