"""The co-author and co-purchase graphs of Shchur et al. (arXiv:1811.05868).

They have no fixed split: the paper draws 20 training and 30 validation nodes a class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack

from torch_geometric.io.npz import parse_npz

from deepgnn_cli.data.download import direct, obtain, open_npz, reading
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, row_normalized
from deepgnn_cli.data.splits import SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related

HOME = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"
FILES = {
    "coauthor_cs": "ms_academic_cs.npz",
    "coauthor_physics": "ms_academic_phy.npz",
    "amazon_computers": "amazon_electronics_computers.npz",
    "amazon_photo": "amazon_electronics_photo.npz",
}


@related(check_split)
def shchur(
    *,
    name: Literal["coauthor_cs", "coauthor_physics", "amazon_computers", "amazon_photo"],
    normalize_features: bool,
    split: Literal["random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """One of the four graphs, undirected, without self-loops, with 0/1 bags of words.

    Args:
        name: one of `FILES`.
        normalize_features: divide each row of features by its sum.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for the random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: the file cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    file = f"raw/{FILES[name]}"
    (path,) = obtain(Path(root) / name, [file], [direct({file: f"{HOME}/{FILES[name]}"})])
    with reading(path):
        with open_npz(path) as stored:
            data = parse_npz(stored)
        if not data.x.size(0) == data.y.size(0) > int(data.edge_index.max()):
            raise ValueError(f"{data.x.size(0)} rows of features, {data.y.size(0)} labels")
    x = row_normalized(data.x) if normalize_features else data.x
    return assemble(name, wanted, x, data.edge_index, data.y)
