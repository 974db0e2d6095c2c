"""WikiCS (arXiv:2007.02901): Wikipedia articles on computer science and the links between them, with 20 fixed splits.

N nodes, F input features, S splits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch
from torch_geometric.utils import to_undirected

from deepgnn_cli.data.download import direct, obtain, reading
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, sorted_edges, whole_numbers
from deepgnn_cli.data.splits import Masks, SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related

HOME = "https://github.com/pmernyei/wiki-cs-dataset/raw/master/dataset"
FILE = "raw/data.json"


@related(check_split)
def wikics(
    *,
    undirected: bool,
    split: Literal["fixed", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """The graph with the mean word vectors of its articles.

    A fixed split trains, validates (`val_masks`) and tests on the nodes that the file lists; the fourth part, which the
    paper keeps for early stopping (`stopping_masks`), is in none of the three. All splits test on the same nodes.

    Args:
        undirected: list each link both ways.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: the file cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    (path,) = obtain(Path(root) / "wikics", [FILE], [direct({FILE: f"{HOME}/data.json"})])
    with reading(path):
        stored = json.loads(path.read_text(encoding="utf-8"))
        x, y = torch.tensor(stored["features"], dtype=torch.float32), torch.tensor(stored["labels"])
        links = [(node, other) for node, others in enumerate(stored["links"]) for other in others]
        edge_index = sorted_edges(whole_numbers(links, "links").reshape(-1, 2).T, len(x))
        masks = _masks(stored, wanted.number, len(x)) if wanted.kind == "fixed" else None
    if undirected:
        edge_index = to_undirected(edge_index, num_nodes=len(x))
    return assemble("wikics", wanted, x, edge_index, y, masks=masks)


def _masks(stored: dict[str, list[list[bool]]], number: int, n: int) -> Masks:
    there = min(len(stored["train_masks"]), len(stored["val_masks"]))
    if number >= there:
        raise ValueError(f"masks of {there} splits, but split {number} is asked for")
    parts = [stored["train_masks"][number], stored["val_masks"][number], stored["test_mask"]]
    masks = [np.array(part, dtype=bool) for part in parts]
    for mask in masks:
        if mask.shape != (n,):
            raise ValueError(f"a mask of {mask.size} nodes, the graph has {n}")
    return Masks(*masks)
