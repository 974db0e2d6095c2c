"""Whom the nodes of a run hear: the share of influence by hop, a curve a depth.

Reads `influence.csv` beside a run's row.

G groups, H hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepgnn_cli.analysis.curves import Columns, families, order, read_columns
from deepgnn_cli.analysis.tables import label


@dataclass(frozen=True)
class Heard:
    """One depth: the share of the influence from each hop, [H + 1], at the best epoch and before training."""

    layers: Any
    share: np.ndarray
    untrained: np.ndarray


@dataclass(frozen=True)
class Hearing:
    """The depths of one family of runs."""

    label: str
    depths: tuple[Heard, ...]


def influence_curves(runs: pd.DataFrame, by: Sequence[str]) -> tuple[Hearing, ...]:
    """The curves of each family, means over replicates; a run whose `influence.csv` is missing or torn adds none."""
    rest = families(by)
    tables: dict[tuple[object, ...], dict[Any, list[Columns]]] = {}
    for row in runs[(runs["folder"] != "") & (runs["status"] == "ok") & (runs["layers"] != "")].to_dict("records"):
        found = read_columns(Path(row["folder"], "influence.csv"))
        if {"share", "share_untrained"} <= found.keys():
            family = tables.setdefault(tuple(row[name] for name in rest), {})
            family.setdefault(row["layers"], []).append(found)
    return tuple(
        Hearing(
            label(rest, key),
            tuple(
                Heard(depth, _mean(tables[key][depth], "share"), _mean(tables[key][depth], "share_untrained"))
                for depth in sorted(tables[key])
            ),
        )
        for key in sorted(tables, key=order)
    )


def _mean(found: Sequence[Columns], column: str) -> np.ndarray:
    """The mean over runs; a hop that a run does not reach, or an empty cell, has no share in it."""
    width = max(len(table[column]) for table in found)
    rows = [np.pad(np.nan_to_num(table[column]), (0, width - len(table[column]))) for table in found]
    mean: np.ndarray = np.mean(rows, axis=0)
    return mean
