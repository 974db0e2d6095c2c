"""What the pictures show: groups of runs against depth, layer by layer, and epoch by epoch.

G groups, L layers. Reads `layers.csv` and `epochs.csv` beside a run's `result.csv`; a run without them,
or with torn ones, adds nothing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepgnn_cli.analysis.summary import is_percent, metrics_of, spread
from deepgnn_cli.analysis.tables import label

LAST_RANK = "last_effective_rank"
PANELS = {
    LAST_RANK: "effective rank of the last layer (1: all nodes alike)",
    "range_hops": "range: mean distance of what a node hears (hops)",
    "step_seconds": "training step (s)",
    "peak_memory_mib": "peak memory (MiB)",
}
# Title and one line of meaning; first those that do not change when the features grow.
DIAGNOSTICS = {
    "effective_rank": (
        "effective rank of the features",
        "How many dimensions the nodes' features use; 1: all nodes point along one direction, whatever their length.",
    ),
    "numerical_rank": (
        "numerical rank of the features",
        "|X|²_F / |X|²_2: as the effective rank, but not moved by small singular values; 1: one direction.",
    ),
    "mad_all": (
        "mean average distance (MAD) of all nodes",
        "The mean of 1 - cosine over all pairs of nodes; 0: all alike but for their length.",
    ),
    "mad_neighbours": (
        "mean average distance (MAD) of neighbours",
        "The mean of 1 - cosine over the edges; small beside that of all nodes: alike within a neighbourhood only.",
    ),
    "rayleigh_quotient": (
        "Dirichlet energy over |X|² (Rayleigh quotient)",
        "How much neighbours differ for the size of the features; 0: only the smoothest component is left.",
    ),
    "dirichlet_energy": (
        "Dirichlet energy",
        "How much neighbours differ; it grows with the features, so that it can rise while all nodes become alike.",
    ),
    "output_gradient_norm": (
        "gradient norm at the layer's output",
        "How strongly the loss depends on the layer's output; falling by orders towards layer 0: vanishing gradients.",
    ),
    "parameter_gradient_norm": (
        "gradient norm of the layer's parameters",
        "How strongly the loss depends on the layer's weights at the best epoch.",
    ),
}

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A group against depth: mean and sample standard deviation at each `layers` (NaN where unknown)."""

    label: str
    layers: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """The curves of one quantity, scores in percent. `log`: the values span orders of magnitude."""

    title: str
    curves: tuple[Curve, ...]
    log: bool
    limits: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class HeatMap:
    """A diagnostic of every layer: `values` [G, L + 1], NaN beyond a group's last layer; `meaning`: in one line."""

    title: str
    meaning: str
    labels: tuple[str, ...]
    values: np.ndarray
    log: bool


@dataclass(frozen=True)
class Training:
    """The runs of one group: the name of each and the columns of its `epochs.csv`; `percent`: scores are fractions."""

    label: str
    runs: tuple[tuple[str, Columns], ...]
    percent: bool = True


def depth_curves(runs: pd.DataFrame, by: Sequence[str], metric: str) -> tuple[Panel, ...]:
    """The metric, the last layer's effective rank, the range, step time and peak memory of each group, against layers.

    Panels for each of several data sets; where anything was measured, those that hold nothing are left out.

    Raises:
        ValueError: no run says its layers.
    """
    runs = runs[runs["layers"] != ""]
    if runs.empty:
        raise ValueError("no run says its layers: there is no depth to draw against")
    runs = runs.assign(**{LAST_RANK: [last_of(folder, "effective_rank") for folder in runs["folder"]]})
    datasets = list(dict.fromkeys(runs["dataset"])) if "dataset" in by else []
    apart = len(datasets) > 1
    grouped = [*(name for name in families(by) if not (apart and name == "dataset")), "layers"]
    what = metric
    if metric.endswith("_score") and len(scored := metrics_of(runs)) == 1:
        what = metric.replace("score", scored.pop())
    title = f"{metric} (%)" if is_percent(runs, metric) else what.replace("_", " ")
    panels = [
        _panel(runs[runs["dataset"] == dataset] if apart else runs, grouped, column, f"{shown}{ending}")
        for dataset, ending in ([(name, f" · {name}") for name in datasets] if apart else [(None, "")])
        for column, shown in {metric: title, **PANELS}.items()
    ]
    return tuple(panel for panel in panels if panel.curves) or tuple(panels[:1])


def heat_maps(runs: pd.DataFrame, by: Sequence[str]) -> tuple[HeatMap, ...]:
    """The diagnostics that were measured: a row for each family at its greatest depth, a column a layer.

    Where there is one family only, its depths are the rows.
    """
    rest = families(by)
    measured = runs[(runs["folder"] != "") & (runs["status"] == "ok") & (runs["layers"] != "")]
    tables: dict[tuple[Any, ...], list[Columns]] = {}
    for row in measured.to_dict("records"):
        if layers := read_columns(Path(row["folder"], "layers.csv")):
            tables.setdefault((*(row[name] for name in rest), row["layers"]), []).append(layers)
    deepest = {key[:-1]: max(other[-1] for other in tables if other[:-1] == key[:-1]) for key in tables}
    shown = [key for key in sorted(tables, key=order) if len(deepest) == 1 or key[-1] == deepest[key[:-1]]]
    labels = tuple(label([*rest, "layers"], key) for key in shown)
    maps = []
    for column, (title, meaning) in DIAGNOSTICS.items():
        values = _stack([_mean_column(tables[key], column) for key in shown])
        if np.isfinite(values).any():
            maps.append(HeatMap(title, meaning, labels, values, _spans_orders(values)))
    return tuple(maps)


def training(runs: pd.DataFrame, by: Sequence[str]) -> tuple[tuple[str, tuple[Training, ...]], ...]:
    """The training curves: for each family its name and its groups, one a depth."""
    rest, percent = families(by), is_percent(runs, "val_score")
    found: dict[str, dict[object, list[tuple[str, Columns]]]] = {}
    rows = runs[runs["folder"] != ""].to_dict("records")
    for row in sorted(rows, key=lambda row: order((*(row[name] for name in rest), row["layers"]))):
        epochs = read_columns(Path(row["folder"], "epochs.csv"))
        if len(epochs.get("epoch", ())) > 1:
            groups = found.setdefault(label(rest, [row[name] for name in rest]), {})
            name = " ".join(filter(None, (f"seed {row['seed']}", _fold(row["fold"]), _unless_ok(row["status"]))))
            groups.setdefault(row["layers"], []).append((name, epochs))
    return tuple(
        (family, tuple(Training(f"{depth} layers", tuple(curves), percent) for depth, curves in groups.items()))
        for family, groups in found.items()
    )


def read_columns(path: Path) -> Columns:
    """A CSV file of numbers by column, empty cells NaN; nothing where it is missing or torn."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        return {name: np.array([float(row[j] or "nan") for row in rows]) for j, name in enumerate(header) if rows}
    except (OSError, ValueError, IndexError, csv.Error):
        return {}


def last_of(folder: str, column: str) -> float:
    """The last layer's number in a column of a run's `layers.csv`; NaN where there is none."""
    values = read_columns(Path(folder, "layers.csv")).get(column) if folder else None
    return math.nan if values is None else float(values[-1])


def families(by: Sequence[str]) -> list[str]:
    """The columns that separate groups, depth aside."""
    return [name for name in by if name != "layers"]


def order(key: tuple[object, ...]) -> list[tuple[int, int, str]]:
    """A key that sorts groups: numbers as numbers."""
    return [(0, value, "") if isinstance(value, int) else (1, 0, str(value)) for value in key]


def _fold(split: str) -> str:
    return split if split[-1:].isdigit() else ""


def _unless_ok(status: str) -> str:
    return "" if status == "ok" else f"({status})"


def _panel(runs: pd.DataFrame, grouped: list[str], column: str, title: str) -> Panel:
    """The curves of one column."""
    percent = is_percent(runs, column)
    scale = 100.0 if percent else 1.0
    found: dict[tuple[object, ...], list[tuple[object, float, float]]] = {}
    for key, group in runs.groupby(grouped, sort=False):
        summary = spread(group, column)
        if summary.n:
            found.setdefault(key[:-1], []).append((key[-1], scale * summary.mean, scale * summary.std))
    curves = tuple(
        Curve(label(grouped[:-1], key), *(tuple(values) for values in zip(*sorted(found[key]), strict=True)))
        for key in sorted(found, key=order)
    )
    values = np.array([value for curve in curves for value in curve.mean])
    limits = (0.0, 100.0) if percent else (-math.inf, math.inf)
    return Panel(title, curves, not percent and _spans_orders(values), limits)


def _spans_orders(values: np.ndarray) -> bool:
    """Whether positive values differ by more than a factor of 20: only a logarithm shows them; zeros at its foot."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    return bool(positive.size and finite.min() >= 0 and positive.max() > 20 * positive.min())


def _mean_column(tables: list[Columns], column: str) -> np.ndarray:
    """The mean over runs of one diagnostic, [L + 1]; runs that do not have it are left out."""
    found = [table[column] for table in tables if column in table]
    length = max(map(len, found), default=0)
    found = [values for values in found if len(values) == length]
    return np.mean(found, axis=0) if found else np.empty(0)


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of different lengths as one matrix, NaN at their ends."""
    width = max(map(len, rows), default=0)
    values = np.full((len(rows), width), math.nan)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
    return values
