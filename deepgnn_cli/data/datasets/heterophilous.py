"""The heterophilous graphs of "A critical look at the evaluation of GNNs under heterophily" (arXiv:2302.11640).

Five graphs of its own, and the Wikipedia graphs chameleon and squirrel without their duplicated nodes. Ten fixed splits
come with each: 50/25/25, and 48/32/20 of the filtered graphs.

N nodes, M undirected edges, F input features, S splits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.utils import to_undirected

from deepgnn_cli.data.download import direct, obtain, open_npz, reading
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, row_normalized, sorted_edges, whole_numbers
from deepgnn_cli.data.relations import one_of_ten
from deepgnn_cli.data.splits import Masks, SplitKnobs, check_split, random_masks
from deepgnn_cli.rules.signatures import related

HOME = "https://github.com/yandex-research/heterophilous-graphs/raw/main/data"
SHA256 = {
    "raw/minesweeper.npz": "e664c8dacf1e8ac466c2c09ed4b237bd2c5541f47a6eae9c6092cb87f16412b3",
    "raw/chameleon_filtered.npz": "bf46f07e1fb5249280447e5fe3100f3e82fc4b93ad1e13ffcfdec924b6ac0bb5",
    "raw/squirrel_filtered.npz": "f06370ffb3116c5de8b7a600005400b2293c025e0ce2f6916d8201a825505ac7",
}

BINARY = ("minesweeper", "tolokers", "questions")


@related(check_split, one_of_ten)
def heterophilous(
    *,
    name: Literal[
        "roman_empire",
        "amazon_ratings",
        "minesweeper",
        "tolokers",
        "questions",
        "chameleon_filtered",
        "squirrel_filtered",
    ],
    normalize_features: bool,
    split: Literal["fixed", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """One of the graphs, undirected.

    Graphs of two classes (minesweeper, tolokers, questions) are one binary task, scored by the area under the ROC curve
    of class 1, as in the paper; the others by accuracy.

    Args:
        name: which graph.
        normalize_features: divide each row of features by its sum.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: the file cannot be had, or read.
    """
    one_of_ten(split_index=knobs["split_index"])
    wanted = check_split(seed=seed, split=split, **knobs)
    file = f"raw/{name}.npz"
    (path,) = obtain(Path(root) / name, [file], [direct({file: f"{HOME}/{name}.npz"})], sha256=SHA256)
    with reading(path), open_npz(path) as stored:
        x = _features(stored)
        labels = _labels(stored, len(x), binary=name in BINARY)
        ends = _ends(stored, len(x))
        masks = fixed_masks(stored, wanted.number, len(x)) if wanted.kind == "fixed" else random_masks(wanted, labels)
    x, y = row_normalized(x) if normalize_features else x, torch.from_numpy(labels)
    if name not in BINARY:
        return assemble(name, wanted, x, ends, y, masks=masks)
    return assemble(name, wanted, x, ends, y[:, None].float(), masks=masks, num_classes=1, metric="roc_auc")


def _features(stored: np.lib.npyio.NpzFile) -> Tensor:
    """X, [N, F].

    Raises:
        ValueError: the archive holds none.
    """
    features = stored["node_features"]
    if np.iscomplexobj(features):
        raise ValueError("node_features are complex numbers")
    return torch.from_numpy(features).float()


def _ends(stored: np.lib.npyio.NpzFile, n: int) -> Tensor:
    """Every edge both ways, [2, E].

    Raises:
        ValueError: the archive holds other edges.
    """
    edges = whole_numbers(stored["edges"], "edges")
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(f"edges of shape {list(edges.shape)}, they must be [M, 2]")
    ends: Tensor = to_undirected(sorted_edges(edges.T, n), num_nodes=n)
    return ends


def _labels(stored: np.lib.npyio.NpzFile, n: int, *, binary: bool) -> NDArray[np.int64]:
    """The class of each node, [N].

    Raises:
        ValueError: the archive holds other ones.
    """
    labels = whole_numbers(stored["node_labels"], "node_labels")
    if labels.shape != (n,) or n == 0:
        raise ValueError(f"labels of shape {list(labels.shape)} for {n} nodes")
    if binary and sorted(set(labels.tolist())) != [0, 1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, they must be 0 and 1")
    return labels


def fixed_masks(stored: np.lib.npyio.NpzFile, number: int, n: int) -> Masks:
    """Split `number` of the masks [S, N] in an archive.

    Raises:
        ValueError: it holds no such masks.
    """
    stacks: list[NDArray[np.bool_]] = [stored[f"{part}_masks"].astype(bool) for part in ("train", "val", "test")]
    for masks in stacks:
        if masks.ndim != 2 or masks.shape[1] != n or number >= len(masks):
            raise ValueError(f"masks of shape {list(masks.shape)}, but split {number} of {n} nodes is asked for")
    return Masks(*(masks[number] for masks in stacks))
