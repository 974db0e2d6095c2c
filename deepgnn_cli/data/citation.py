"""The citation graphs of Planetoid (arXiv:1603.08861): Cora, Citeseer, PubMed.

N nodes, E edges, F input features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.splits import Masks, Split, SplitKnobs, check_split, masks_of, random_masks

SPLITS = ("public", "random")


def cora(*, normalize_features: bool, root: str | Path, seed: int, **knobs: Unpack[SplitKnobs]) -> Graph:
    """Cora in Planetoid's node order, out of the package: no download.

    2,708 papers, 1,433 words, 7 classes, 5,278 citations, each listed both ways. The public split trains on
    20 nodes a class, validates on 500 and tests on 1,000.

    Args:
        normalize_features: divide each row of the 0/1 word matrix by its sum.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.

    """
    split = check_split(SPLITS, seed=seed, **knobs)
    with np.load(Path(__file__).with_name("cora.npz"), allow_pickle=False) as stored:
        counts, columns = stored["words_per_node"], stored["word_columns"].astype(np.int64)
        once, labels = stored["edges"].astype(np.int64), stored["labels"].astype(np.int64)
        words = np.zeros((len(counts), int(stored["num_words"])), dtype=np.float32)
    words[np.repeat(np.arange(len(counts)), counts), columns] = 1
    ends = np.concatenate([once, once[::-1]], axis=1)
    ends = ends[:, np.lexsort((ends[1], ends[0]))]
    public = masks_of(len(labels), np.arange(140), np.arange(140, 640), np.arange(1708, 2708))
    x = torch.from_numpy(words)
    return _graph("cora", split, row_normalized(x) if normalize_features else x, ends, labels, public)


def _graph(name: str, split: Split, x: Tensor, ends: np.ndarray, labels: np.ndarray, public: Masks) -> Graph:
    masks = public if split.kind == "public" else random_masks(split, labels)
    return Graph(
        name=name,
        split=split.label,
        x=x,
        edge_index=torch.from_numpy(ends),
        y=torch.from_numpy(labels),
        num_classes=int(labels.max()) + 1,
        train=torch.from_numpy(masks.train),
        val=torch.from_numpy(masks.val),
        test=torch.from_numpy(masks.test),
    )


def row_normalized(x: Tensor) -> Tensor:
    """Divide each row of x, [N, F], by its sum; rows of zeros stay zero."""
    total = x.sum(dim=1, keepdim=True)
    return torch.where(total == 0, x, x / total)
