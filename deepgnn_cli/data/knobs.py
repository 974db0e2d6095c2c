"""The keys of the `dataset` and `batch` groups: which there are, and of which type; imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

ROOM = "deepgnn_cli.data."  # `_target_`s elsewhere are not ours to check
TYPES: dict[str, type] = {
    **dict.fromkeys(("name", "split", "evaluate_on", "path", "features"), str),
    **dict.fromkeys(("normalize_features", "standardize_features", "undirected"), bool),
    **dict.fromkeys(("split_index", "split_seed", "train_per_class", "val_per_class", "graph_seed"), int),
    **dict.fromkeys(("num_nodes", "num_classes", "num_features", "num_samples", "distance", "tree_depth"), int),
    **dict.fromkeys(("train_parts", "eval_parts", "views", "graphs_per_batch", "seeds_per_batch"), int),
    **dict.fromkeys(("train_fraction", "val_fraction", "average_degree", "homophily", "feature_noise"), float),
    "neighbours": list,
}
MAY_BE_NULL = ("path", "split_seed", "train_per_class", "graph_seed")


def check_knobs(group: str, keys: Sequence[str], knobs: Mapping[str, Any]) -> None:
    """Hold a config group to its keys and their types.

    Args:
        group: `dataset` or `batch`.
        keys: the keys it must have.
        knobs: what it has.

    Raises:
        ValueError: a key is unknown or missing, or its value is of another type.
    """
    for key in knobs:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {group}.{near[0]}?" if near else f"there are: {', '.join(keys)}"
            raise ValueError(f"{group}.{key} is not a key of this {group}; {hint}")
    for key in keys:
        if key not in knobs:
            raise ValueError(f"{group}.{key} is missing; give it a value")
        _check_type(group, key, knobs[key])


def _check_type(group: str, key: str, value: object) -> None:
    if value is None and key in MAY_BE_NULL:
        return
    wanted = TYPES[key]
    fits = isinstance(value, (int, float) if wanted is float else wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        null = " or null" if key in MAY_BE_NULL else ""
        raise ValueError(f"{group}.{key}={value} is not of the type {wanted.__name__}{null}")
