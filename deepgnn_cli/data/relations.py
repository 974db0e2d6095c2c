"""What must hold between the values of a data set or of a batching strategy; imports no torch.

The builders name these functions with `rules.signatures.related`: they are called before anything is loaded, and by the
builders themselves.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.splits import Split, check_split


def csbm_edges(*, num_nodes: int, num_classes: int, average_degree: float, homophily: float, num_features: int) -> int:
    """The number of undirected edges that a `csbm` has.

    Raises:
        ValueError: a class has fewer than two nodes, so many edges do not exist, or no memory holds the graph.
    """
    if num_classes > num_nodes // 2:
        raise ValueError(
            f"dataset.num_classes={num_classes} is more than {num_nodes // 2}: each class of "
            f"dataset.num_nodes={num_nodes} nodes needs two"
        )
    if average_degree >= num_nodes:
        raise ValueError(f"dataset.average_degree={average_degree} is not below num_nodes={num_nodes}")
    edges = round(num_nodes * average_degree / 2)
    if (gib := (4 * num_nodes * num_features + 32 * edges) / 2**30) > 1024:
        raise ValueError(
            f"dataset.num_nodes={num_nodes} with num_features={num_features} and average_degree={average_degree} "
            f"is a graph of {gib:.4g} GiB; choose a smaller one"
        )
    # K balanced classes: `more` of them have a node more. By hand, for any N: nothing is allocated here.
    size, more = divmod(num_nodes, num_classes)
    within = num_classes * (size * (size - 1) // 2) + more * size
    inside = round(homophily * edges)
    for kind, asked, there in (
        ("within", inside, within),
        ("between", edges - inside, num_nodes * (num_nodes - 1) // 2 - within),
    ):
        if asked > there:
            raise ValueError(
                f"dataset.average_degree={average_degree} with homophily={homophily} asks for {asked} edges "
                f"{kind} classes, but only {there} pairs of nodes exist; lower the degree or add nodes"
            )
    return edges


def within_pairs(sizes: NDArray[np.int64]) -> int:
    """How many pairs of nodes share a class; `sizes` [K] are the nodes of each class."""
    return int((sizes * (sizes - 1) // 2).sum())


def between_pairs(sizes: NDArray[np.int64]) -> int:
    """How many pairs of nodes have two classes."""
    n = int(sizes.sum())
    return n * (n - 1) // 2 - within_pairs(sizes)


def classes_of_rings(*, num_samples: int, num_classes: int) -> None:
    """Every class of a transfer task has a sample.

    Raises:
        ValueError: there are more classes than samples.
    """
    if num_classes > num_samples:
        raise ValueError(f"dataset.num_classes={num_classes} is more than dataset.num_samples={num_samples}")


def one_of_ten(*, split_index: int) -> None:
    """The heterophilous graphs come with ten splits.

    Raises:
        ValueError: there is no such split.
    """
    if split_index >= 10:
        raise ValueError(f"dataset.split_index={split_index} is not in 0..9: the file holds ten fixed splits")


def own_split(
    *,
    seed: int,
    split: str,
    split_seed: int | None,
    train_fraction: float,
    val_fraction: float,
    train_per_class: int | None,
    val_per_class: int,
) -> Split:
    """The split of a graph of one's own, whose `split_index` is a column of its masks.

    Raises:
        ValueError: see `check_split`.
    """
    return check_split(
        seed=seed,
        split=split,
        split_index=0,
        split_seed=split_seed,
        train_fraction=train_fraction,
        val_fraction=val_fraction,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
    )


def own_source(*, path: str | None, target: str | None, arguments: object) -> None:
    """A graph of one's own is in a file, or is one of PyG's data sets.

    Raises:
        ValueError: it is neither or both, or there is no such file.
    """
    if path is None and target is None:
        raise ValueError(
            "dataset.path is missing; give the file of your graph, dataset=pyg dataset.path=graph.pt, or one of PyG's "
            "data sets, dataset.target=WikiCS"
        )
    if path is not None and target is not None:
        raise ValueError(f"dataset.path={path} and dataset.target={target}: give one of them")
    if path is not None and not Path(path).expanduser().is_file():
        raise ValueError(f"dataset.path={path}: there is no such file; give what torch.save wrote")
    if arguments is not None and not isinstance(arguments, dict):
        raise ValueError(f"dataset.arguments={arguments}: give the class's keywords, dataset.arguments={{name: Cora}}")


def table_files(*, path: str | None) -> list[Path]:
    """The files of a graph in tables: nodes and edges, or one file of arrays.

    Raises:
        ValueError: one of them is missing.
    """
    if path is None:
        raise ValueError(
            "dataset.path is missing; give the folder of nodes.csv and edges.csv: dataset=table dataset.path=FOLDER"
        )
    place = Path(path).expanduser()
    if place.suffix == ".npz" and place.is_file():
        return [place]
    if not place.is_dir():
        pyg = "; a file of torch.save is dataset=pyg" if place.suffix in (".pt", ".pth") else ""
        raise ValueError(
            f"dataset.path={path} is no folder; give the one that holds nodes.csv and edges.csv (or .parquet){pyg}"
        )
    found = []
    for name in ("nodes", "edges"):
        files = [file for ending in (".csv", ".parquet") if (file := place / f"{name}{ending}").is_file()]
        if len(files) != 1:
            what = f"both {name}.csv and {name}.parquet" if files else f"neither {name}.csv nor {name}.parquet"
            raise ValueError(f"dataset.path={path} has {what}; one of them is wanted")
        found += files
    return found


def one_process(*, world: int) -> None:
    """The whole graph in one step is for one process.

    Raises:
        ValueError: several would all do the same.
    """
    if world > 1:
        raise ValueError(f"batch=full gives each of {world} processes the same graph; use batch=parts")


def shared_parts(*, train_parts: int, eval_parts: int, views: int, world: int) -> None:
    """The parts of `batch=parts` are dealt out evenly, and views of them differ.

    Raises:
        ValueError: they are not, or do not.
    """
    if eval_parts == 1 and views > 1:
        raise ValueError(f"batch.views={views} needs parts to differ; choose batch.eval_parts=2 or more")
    if train_parts % world:
        raise ValueError(
            f"batch.train_parts={train_parts} cannot be shared equally by {world} processes; "
            f"try {train_parts + world - train_parts % world}"
        )


def some_at_each_hop(*, neighbours: list[int]) -> None:
    """`batch=neighbour` follows some edges at each hop.

    Raises:
        ValueError: none at one of them.
    """
    if 0 in neighbours:
        raise ValueError(f"batch.neighbours={neighbours} must hold a number for each hop: at least 1, or -1 for all")


def tu_folds(*, name: str, split: str) -> None:
    """A set of the TU collection is named as it is there; folds are published of some."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ValueError(f"dataset.name={name}: sets of the TU collection have names such as MUTAG or IMDB-BINARY")
    if split == "published" and name == "MUTAG":
        raise ValueError("dataset.split=published: no folds of MUTAG are published; use dataset.split=stratified")


def rising_sizes(*, min_nodes: int, max_nodes: int) -> None:
    """The least graph is no larger than the largest."""
    if min_nodes > max_nodes:
        raise ValueError(f"dataset.min_nodes={min_nodes} is more than max_nodes={max_nodes}; exchange them")
