"""What can be said of a batching strategy before there is a graph; imports no torch."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepgnn_cli.data.knobs import ROOM, check_knobs

PLACES = ("device", "cpu")


def check_batch(config: Mapping[str, Any], *, world: int) -> None:
    """Refuse a `batch` group that no graph could be batched by; what is not ours passes.

    Args:
        config: the resolved group, `_target_` included.
        world: number of processes.

    Raises:
        ValueError: a knob is unknown, of another type or out of its range, or pyg-lib is wanted and absent.
    """
    target = str(config.get("_target_", ""))
    if not target.startswith(ROOM):
        return
    checks: dict[str, Callable[..., None]] = {
        "full": check_full,
        "parts": check_parts,
        "graphs": check_graphs,
        "neighbour": check_neighbour,
    }
    family = target.rpartition(".")[2]
    if family not in checks:
        raise ValueError(f"batch._target_={target} builds no batches; choose a strategy with batch=NAME")
    keys = [key for key in inspect.signature(checks[family]).parameters if key != "world"]
    knobs = {key: value for key, value in config.items() if key not in ("_target_", "_partial_")}
    check_knobs("batch", keys, knobs)
    checks[family](world=world, **knobs)


def check_full(*, evaluate_on: str, world: int) -> None:
    """Check `batch=full`.

    Raises:
        ValueError: several processes would all do the same, or a knob is out of its range.
    """
    _check_place(evaluate_on)
    if world > 1:
        raise ValueError(f"batch=full gives each of {world} processes the same graph; use batch=parts")


def check_parts(*, train_parts: int, eval_parts: int, views: int, evaluate_on: str, world: int) -> None:
    """Check `batch=parts`.

    Raises:
        ValueError: a knob is out of its range, or the processes cannot share the parts equally.
    """
    _check_place(evaluate_on)
    _check_counts(train_parts=train_parts, eval_parts=eval_parts, views=views)
    if eval_parts == 1 and views > 1:
        raise ValueError(f"batch.views={views} needs parts to differ; choose batch.eval_parts=2 or more")
    if train_parts % world:
        raise ValueError(
            f"batch.train_parts={train_parts} cannot be shared equally by {world} processes; "
            f"try {train_parts + world - train_parts % world}"
        )


def check_graphs(*, graphs_per_batch: int, evaluate_on: str, world: int) -> None:
    """Check `batch=graphs`, as far as that goes without the graphs.

    Raises:
        ValueError: a knob is out of its range.
    """
    _check_place(evaluate_on)
    _check_counts(graphs_per_batch=graphs_per_batch, world=world)


def check_neighbour(*, seeds_per_batch: int, neighbours: Sequence[int], evaluate_on: str, world: int) -> None:
    """Check `batch=neighbour`.

    Raises:
        ValueError: pyg-lib is not installed, or a knob is out of its range.
    """
    _check_place(evaluate_on)
    _check_counts(seeds_per_batch=seeds_per_batch, world=world)
    if not neighbours or any(type(count) is not int or (count < 1 and count != -1) for count in neighbours):
        raise ValueError(
            f"batch.neighbours={list(neighbours)} must hold a number for each hop: at least 1, or -1 for all"
        )
    if importlib.util.find_spec("pyg_lib") is None:
        raise ValueError(
            "batch=neighbour needs pyg-lib, which is not installed; install the build for this torch that "
            "PyG's installation page names, or use batch=parts"
        )


def _check_counts(**counts: int) -> None:
    for key, value in counts.items():
        if value < 1:
            raise ValueError(f"batch.{key}={value} must be at least 1")


def _check_place(evaluate_on: str) -> None:
    if evaluate_on not in PLACES:
        raise ValueError(f"batch.evaluate_on={evaluate_on} is not one of {', '.join(PLACES)}")
