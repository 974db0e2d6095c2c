"""Groups of runs -> one row each: scores and their spread, costs, failures, best depth, differences.

L layers. Scores stay fractions in [0, 1], errors the plain numbers; the tables format them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from deepgnn_cli.analysis.baseline import Key, Replicates, against
from deepgnn_cli.analysis.grouping import Grouping
from deepgnn_cli.analysis.ranking import rank
from deepgnn_cli.analysis.statistics import Summary, score_interval, summarise
from deepgnn_cli.rules.metrics import is_fraction, lower_is_better
from deepgnn_cli.runfiles.record import STATUSES

ALL_STATUSES = (*STATUSES, "running")
COSTS = ("step_seconds", "peak_memory_mib", "activation_mib", "epochs", "parameters")

Record = Mapping[Any, Any]
"""A row of a data frame as pandas gives it: columns of many kinds."""
Group = TypeVar("Group", bound=Record)


@dataclass(frozen=True)
class Comparison:
    """The answer of `compare`.

    Args:
        by: the columns that name a group. metric: the column that is summarised. table: one row a group;
        columns `by`, then `measure, direction, n, mean, std, ci95, ci_low, ci_high`, run counts by
            status, `best_depth`, `baseline, difference, difference_ci95, p_value, p_holm, effect_size, pairs`,
            `reported, difference_to_reported`, and means of what the runs cost.
        best: one row for everything but layers, with the depth of the best mean `selection`, the depth that `metric`
            itself would have chosen, and the mean at the greatest depth.
        selection: the column that choices are made by: `val_score` of a score, of a cost the cost itself.
        notes: what the reader must know.
        percent: whether the metric is a fraction in every group, and read in percent.
    """

    by: tuple[str, ...]
    metric: str
    selection: str
    table: pd.DataFrame
    best: pd.DataFrame
    notes: tuple[str, ...]
    percent: bool = False


def compare_groups(grouping: Grouping, *, metric: str, baseline: Mapping[str, str] | None) -> Comparison:
    """Summarise every group, and test it against the baseline.

    Raises:
        ValueError: the metric is no number, or the baseline names no group.
    """
    groups = split_groups(grouping.runs, grouping.by)
    rows = {key: _row(grouping.by, key, runs, metric) for key, runs in groups.items()}
    notes = [*grouping.notes, *_quality(grouping, metric)]
    if baseline:
        samples = {key: replicates(runs, metric) for key, runs in groups.items()}
        notes += against(baseline, grouping.by, rows, samples)
    selection = _selection(list(rows.values()), metric)
    best = _mark_best(grouping.by, list(rows.values()), metric, selection)
    notes += _choices(grouping.by, best, metric, selection)
    notes += _ranked(grouping.by, list(rows.values()), metric, selection)
    table = pd.DataFrame(list(rows.values()))
    percent = is_percent(grouping.runs, metric)
    return Comparison(grouping.by, metric, selection, table, best, tuple(notes), percent)


def split_groups(runs: pd.DataFrame, by: Sequence[str]) -> dict[Key, pd.DataFrame]:
    """The runs of each group, groups in order: text by name, numbers by size, unknown last."""
    found = {key: group for key, group in runs.groupby(list(by), sort=False, dropna=False)}
    return {key: found[key] for key in sorted(found, key=lambda key: [_order(value) for value in key])}


def replicates(runs: pd.DataFrame, column: str) -> Replicates:
    """The finished, finite values of a column, one a replicate; repetitions of one are averaged."""
    values = runs.loc[runs["status"] == "ok", ["unit", column]]
    values = values[np.isfinite(values[column])]
    return {unit: float(value) for unit, value in values.groupby("unit", sort=False)[column].mean().items()}


def spread(runs: pd.DataFrame, column: str) -> Summary:
    """A column of one group, summarised over its replicates."""
    return summarise(np.array(list(replicates(runs, column).values()), dtype=float))


def is_percent(runs: pd.DataFrame, column: str) -> bool:
    """Whether a column holds fractions that people read in percent: scores, unless some runs' are errors."""
    return (column.endswith("_score") or column == "reported") and all(map(is_fraction, metrics_of(runs)))


def metrics_of(runs: pd.DataFrame) -> set[str]:
    """The metrics of runs that say it."""
    return set(runs["metric"]) - {""} if "metric" in runs else set()


def smaller_is_better(runs: pd.DataFrame, metric: str) -> bool:
    """Whether a column is a cost or a loss, or the score of runs whose metric is an error."""
    if metric.endswith("_score"):
        told = set(runs["direction"]) - {""} if "direction" in runs else set()
        return told == {"lower"} if told else any(map(lower_is_better, metrics_of(runs)))
    return metric.endswith(("_seconds", "_mib", "loss")) or metric in ("epochs", "parameters", "best_epoch")


def _order(value: object) -> tuple[int, float, str]:
    if isinstance(value, int):
        return (0, float(value), "")
    return (2 if value == "" else 1, 0.0, str(value))


def _row(by: Sequence[str], key: Key, runs: pd.DataFrame, metric: str) -> dict[str, object]:
    """One group without its comparisons."""
    found = spread(runs, metric)
    row: dict[str, Any] = dict(zip(by, key, strict=True))
    row |= {"measure": metric, "direction": "lower" if smaller_is_better(runs, metric) else "higher"}
    row |= {"n": found.n, "mean": found.mean, "std": found.std, "ci95": found.half_width}
    low, high = found.mean - found.half_width, found.mean + found.half_width
    if is_percent(runs, metric):
        low, high = score_interval(found)
    row |= {"ci_low": low, "ci_high": high, "runs": len(runs)}
    counts = runs["status"].value_counts()
    row |= {status: int(counts.get(status, 0)) for status in ALL_STATUSES}
    row["other"] = len(runs) - sum(row[status] for status in ALL_STATUSES)
    row |= {"best_depth": False, "baseline": "", "difference": math.nan, "difference_ci95": math.nan}
    row |= {"p_value": math.nan, "p_holm": math.nan, "effect_size": math.nan, "pairs": None}
    row["reported"] = _published(runs) if metric == "test_score" else math.nan
    row["difference_to_reported"] = found.mean - row["reported"]
    row["val_score_mean"] = spread(runs, "val_score").mean
    row |= {f"{name}_mean": spread(runs, name).mean for name in COSTS}
    return row


def _published(runs: pd.DataFrame) -> float:
    """The published number that all finished runs of a group repeat, NaN where they do not."""
    told = set(runs.loc[runs["status"] == "ok", "reported"])
    return float(told.pop()) if len(told) == 1 else math.nan


def _quality(grouping: Grouping, metric: str) -> list[str]:
    """Notes on finished runs without the number, on mixed devices, and on several published numbers."""
    notes = []
    done = grouping.runs[grouping.runs["status"] == "ok"]
    missing = int((~np.isfinite(done[metric])).sum())
    if missing:
        notes.append(f"{missing} of {len(done)} finished runs have no finite {metric}: not counted in n")
    scored = done[done["metric"] != ""].groupby(list(grouping.by), sort=False)["metric"].nunique()
    if metric.endswith("_score") and (scored > 1).any():
        notes.append(f"groups mix metrics ({', '.join(sorted(metrics_of(done)))}): their means say nothing")
    for name, what in (("memory_kind", "peak memory"), ("device", "step time")):
        kinds = done[done[name] != ""].copy()
        kinds["kind"] = [str(value).partition(":")[0] for value in kinds[name]]
        if not kinds.empty and (kinds.groupby(list(grouping.by), sort=False)["kind"].nunique() > 1).any():
            notes.append(f"groups mix {name} ({', '.join(sorted(set(kinds['kind'])))}): {what} is a mean over them")
    published = grouping.runs.dropna(subset=["reported"])
    if metric == "test_score" and not published.empty:
        several = published.groupby(list(grouping.by), sort=False)["reported"].nunique() > 1
        if several.any():
            notes.append("groups with several reported numbers show no difference to them")
    return notes


def _selection(rows: list[dict[str, Any]], metric: str) -> str:
    """What choices are made by: validation for a score, where every group that has the score has been validated."""
    if not metric.endswith("_score"):
        return metric
    scored = [row for row in rows if row["n"]]
    return "val_score" if scored and not any(math.isnan(row["val_score_mean"]) for row in scored) else metric


def best_row(rows: Sequence[Group], metric: str, selection: str) -> Group:
    """Of groups with a score, the one with the best mean of `selection`."""
    column = "mean" if selection == metric else f"{selection}_mean"
    sign = -1.0 if rows[0]["direction"] == "lower" else 1.0  # a score's direction is that of the validation score, too
    return max(rows, key=lambda row: sign * row[column])


def _choices(by: Sequence[str], best: pd.DataFrame, metric: str, selection: str) -> list[str]:
    """Say where the reported score would have chosen another depth, and where there was nothing else to choose by."""
    if best.empty:
        return []
    if selection == "test_score":
        return ["no val_score: the best depth is chosen by test_score, so its score is no blind estimate"]
    column = f"layers_by_{metric}"
    other = best[best[column] != best["layers"]] if selection != metric else best.iloc[:0]
    rest = [name for name in by if name != "layers"]
    told = [
        f"{' '.join(str(row[name]) for name in rest) or 'all runs'} {row[column]} instead of {row['layers']} layers"
        for row in other.to_dict("records")
    ]
    return [f"by {metric} another depth would have been chosen: {'; '.join(told)}"] if told else []


def _ranked(by: Sequence[str], rows: list[dict[str, Any]], metric: str, selection: str) -> list[str]:
    """Say how the methods rank over three or more data sets, each at its best depth there."""
    if "dataset" not in by:
        return []
    rest = [name for name in by if name not in ("dataset", "split", "layers")]
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["n"]:
            method = " ".join(str(row[name]) for name in rest)
            found.setdefault(method, {}).setdefault(str(row["dataset"]), []).append(row)
    scores = {
        method: {
            dataset: (-1 if several[0]["direction"] == "lower" else 1)
            * float(best_row(several, metric, selection)["mean"])
            for dataset, several in places.items()
        }
        for method, places in found.items()
    }
    ranking = rank(scores, smaller_is_better=False)
    if ranking is None:
        return []
    told = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(ranking.methods, ranking.mean_ranks, strict=True))
    p = "" if math.isnan(ranking.p_value) else f"; Friedman p = {ranking.p_value:.2g}"
    return [
        f"mean rank over {ranking.datasets} data sets (1 is best): {told}{p}; ranks nearer than"
        f" {ranking.critical_difference:.2f} are not told apart (Nemenyi, 5 %)"
    ]


def _mark_best(by: Sequence[str], rows: list[dict[str, Any]], metric: str, selection: str) -> pd.DataFrame:
    """Mark the best depth of everything but layers, and tabulate it; empty without several depths."""
    rest = [name for name in by if name != "layers"]
    best = []
    for family in _families(rows, rest) if "layers" in by else []:
        scored = [row for row in family if row["n"] and row["layers"] != ""]
        if len(scored) < 2:
            continue
        top = best_row(scored, metric, selection)
        top["best_depth"] = True
        shown = ("direction", "layers", "n", "mean", "std")
        deepest = max(scored, key=lambda row: row["layers"])
        found = {name: top[name] for name in (*rest, *shown)}
        found[f"layers_by_{metric}"] = best_row(scored, metric, metric)["layers"]
        best.append(found | {"deepest": deepest["layers"], "deepest_mean": deepest["mean"]})
    return pd.DataFrame(best)


def _families(rows: list[Group], rest: Sequence[str]) -> list[list[Group]]:
    """The rows that agree in `rest`."""
    families: dict[Key, list[Group]] = {}
    for row in rows:
        families.setdefault(tuple(row[name] for name in rest), []).append(row)
    return list(families.values())
