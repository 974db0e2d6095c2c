"""What can be said of a data set's config before anything is loaded; imports no torch.

Every builder begins with the same checks, so that a call from Python is held to them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.knobs import ROOM, check_knobs
from deepgnn_cli.data.splits import SplitKnobs, check_public, check_split

ALL = ("public", "geom", "random")
# The kinds of split of every data set, by the function that builds it.
OFFERED: dict[str, dict[str, tuple[str, ...]]] = {
    "cora": {"cora": ALL},
    "planetoid": {"citeseer": ALL, "pubmed": ALL},
    "geom": dict.fromkeys(("texas", "wisconsin", "cornell", "chameleon", "squirrel", "actor"), ("geom", "random")),
    "shchur": dict.fromkeys(("coauthor_cs", "coauthor_physics", "amazon_computers", "amazon_photo"), ("random",)),
    "ppi": {"ppi": ("public",)},
    "flickr": {"flickr": ("public", "random")},
    "reddit": {"reddit": ("public", "random")},
    "ogbn": dict.fromkeys(("ogbn_arxiv", "ogbn_products", "ogbn_proteins"), ("public",)),
    "csbm": {"csbm": ("random",)},
    "ring_transfer": {"ring_transfer": ("random",)},
    "neighbors_match": {"neighbors_match": ("random",)},
    "pyg": {"pyg": ("public", "random")},
}
KEYS: dict[str, tuple[str, ...]] = {
    "cora": ("normalize_features",),
    "planetoid": ("name", "normalize_features"),
    "geom": ("name", "normalize_features", "undirected"),
    "shchur": ("name", "normalize_features"),
    "ppi": ("standardize_features",),
    "flickr": ("standardize_features",),
    "reddit": ("standardize_features",),
    "ogbn": ("name", "undirected"),
    "csbm": (
        *("num_nodes", "num_classes", "average_degree", "homophily", "num_features", "feature_noise"),
        "graph_seed",
    ),
    "ring_transfer": ("num_samples", "distance", "num_classes", "graph_seed"),
    "neighbors_match": ("num_samples", "tree_depth", "graph_seed"),
    "pyg": ("path", "features"),
}
FEATURES = ("degree", "one_hot", "constant")
ONLY_PUBLIC = ("ppi", "ogbn")


def check_dataset(config: Mapping[str, Any], *, seed: int) -> None:
    """Refuse a `dataset` group that cannot be built; what is not ours (`_target_` elsewhere) passes.

    Args:
        config: the resolved group, `_target_` included.
        seed: the run's seed.

    Raises:
        ValueError: a knob is unknown, missing, of another type or out of its range, or a split does not exist.
    """
    target = str(config.get("_target_", ""))
    if not target.startswith(ROOM):
        return
    family = target.rpartition(".")[2]
    if family not in KEYS:
        raise ValueError(f"dataset._target_={target} builds no data set; choose one with dataset=NAME")
    split_keys = ("split",) if family in ONLY_PUBLIC else tuple(SplitKnobs.__annotations__)
    knobs = {key: value for key, value in config.items() if key != "_target_"}
    check_knobs("dataset", (*KEYS[family], *split_keys), knobs)
    kinds = offered(family, knobs.get("name"))
    split = {key: knobs[key] for key in split_keys}
    if family == "pyg":
        check_own(knobs["path"], knobs["features"])
        split["split_index"] = 0  # a column of the file's masks: how many there are, the file says
    if family in ONLY_PUBLIC:
        check_public(**split)
    else:
        check_split(kinds, seed=seed, **split)
    own = {key: knobs[key] for key in KEYS[family]}
    if family == "csbm":
        check_csbm(**own)
    elif family in ("ring_transfer", "neighbors_match"):
        check_longrange(**own)


def check_own(path: str | None, features: str) -> None:
    """Check the knobs of `pyg`.

    Raises:
        ValueError: there is no such file, or no such way to make features.
    """
    if path is None:
        raise ValueError("dataset.path is missing; give the file of your graph: dataset=pyg dataset.path=graph.pt")
    if not Path(path).expanduser().is_file():
        raise ValueError(f"dataset.path={path}: there is no such file; give what torch.save wrote")
    if features not in FEATURES:
        raise ValueError(f"dataset.features={features} is not one of {', '.join(FEATURES)}")


def offered(family: str, name: str | None = None) -> tuple[str, ...]:
    """The kinds of split of a data set.

    Args:
        family: the function that builds it.
        name: which one, where the function builds several.

    Raises:
        ValueError: the function builds no such data set.
    """
    known = OFFERED[family]
    name = family if name is None else name
    if name not in known:
        raise ValueError(f"dataset.name={name} is not one of {', '.join(known)}; choose it with dataset=NAME")
    return known[name]


def check_csbm(
    *,
    num_nodes: int,
    num_classes: int,
    average_degree: float,
    homophily: float,
    num_features: int,
    feature_noise: float,
    graph_seed: int | None,
) -> int:
    """The number of undirected edges that the knobs of `csbm` ask for.

    Raises:
        ValueError: a knob is out of its range, or so many edges do not exist.
    """
    if not 2 <= num_classes <= num_nodes // 2:
        raise ValueError(
            f"dataset.num_classes={num_classes} is not in 2..{num_nodes // 2}: each class of "
            f"dataset.num_nodes={num_nodes} nodes needs two"
        )
    if not 0 <= homophily <= 1:
        raise ValueError(f"dataset.homophily={homophily} is a share of edges: choose a value from 0 to 1")
    if num_features < 1:
        raise ValueError(f"dataset.num_features={num_features} must be at least 1")
    if not 0 <= feature_noise < float("inf"):
        raise ValueError(f"dataset.feature_noise={feature_noise} is a deviation: choose 0 or more")
    _check_graph_seed(graph_seed)
    if not 0 < average_degree < num_nodes:
        raise ValueError(f"dataset.average_degree={average_degree} is not between 0 and num_nodes={num_nodes}")
    edges = round(num_nodes * average_degree / 2)
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


def check_longrange(
    *,
    num_samples: int,
    graph_seed: int | None,
    distance: int | None = None,
    tree_depth: int | None = None,
    num_classes: int | None = None,
) -> None:
    """Check the knobs of `ring_transfer` and `neighbors_match`.

    Raises:
        ValueError: a knob is out of its range.
    """
    if num_samples < 3:
        raise ValueError(f"dataset.num_samples={num_samples} must be at least 3: to train, validate and test")
    if distance is not None and distance < 2:
        raise ValueError(f"dataset.distance={distance} must be at least 2: a ring has 2 * distance nodes")
    if num_classes is not None and not 2 <= num_classes <= num_samples:
        raise ValueError(f"dataset.num_classes={num_classes} is not in 2..num_samples={num_samples}")
    if tree_depth is not None and not 1 <= tree_depth <= 10:
        raise ValueError(f"dataset.tree_depth={tree_depth} is not in 1..10; a tree has 2^tree_depth leaves")
    _check_graph_seed(graph_seed)


def _check_graph_seed(graph_seed: int | None) -> None:
    if graph_seed is not None and graph_seed < 0:
        raise ValueError(f"dataset.graph_seed={graph_seed} is negative; seeds start at 0, null takes the run's")
