"""A study: the results below some folders, collected, grouped and compared, and its text in every format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from deepgnn_cli.analysis import formats, paper, tables
from deepgnn_cli.analysis.collect import IDENTITY, MEASURES, Collected, collect
from deepgnn_cli.analysis.grouping import INTERNAL, group_runs, suggest
from deepgnn_cli.analysis.paper import Layout
from deepgnn_cli.analysis.summary import Comparison, compare_groups

FORMATS = ("text", "csv", "markdown", "latex", "json")


@dataclass(frozen=True)
class Study:
    """Collected runs and their comparison. `runs` is grouped: it carries `unit` and `fold`."""

    runs: pd.DataFrame
    comparison: Comparison
    collected: Collected


def study(
    paths: Sequence[Path],
    *,
    by: Sequence[str],
    metric: str,
    baseline: Mapping[str, str] | None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Study:
    """Collect the results below `paths` and compare them; `where`: only runs whose column has one of these values.

    Raises:
        ValueError: a path does not exist or holds no result, or a column or the baseline is unknown.
    """
    collected = collect(paths, metric=metric)
    runs = collected.runs
    if runs.empty:
        left_out = "".join(f"; {line}" for line in collected.skipped)
        raise ValueError(
            f"no results below {', '.join(map(str, paths))}: a run leaves a result.csv in its folder{left_out}"
        )
    runs = _chosen(runs, where or {})
    runs = runs.assign(**{metric: _numbers(runs, metric)})
    runs, superseded = _without_superseded(runs)
    grouping = group_runs(runs, by)
    if superseded:
        subject = "1 run" if superseded == 1 else f"{superseded} runs"
        note = f"{subject} that did not end ok: the same configuration finished later, not counted"
        grouping = replace(grouping, notes=(*grouping.notes, note))
    return Study(grouping.runs, compare_groups(grouping, metric=metric, baseline=baseline), collected)


def _chosen(runs: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The runs that have one of the values in each column.

    Raises:
        ValueError: there is no such column, or no run with the value.
    """
    for name, values in where.items():
        if name not in runs.columns or name in INTERNAL:
            raise ValueError(f"--where {name}=: no such column; {suggest(name, [str(column) for column in runs])}")
        texts = runs[name].astype(str)
        for value in values:
            if not (texts == value).any():
                raise ValueError(f"--where {name}={value}: no run has it; {suggest(value, set(texts) - {''})}")
        runs = runs[texts.isin(values)].reset_index(drop=True)
    return runs


def _without_superseded(runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The runs without the failures whose configuration (seed and split among it) ended ok later, and their number.

    A run's id begins with the time of its start; where one has none, an end that is ok counts as the later one.
    """
    keys = ["config_hash", "seed"]
    done = runs[(runs["status"] == "ok") & (runs["config_hash"] != "")]
    latest: dict[tuple[object, ...], str] = {}
    for *key, run_id in done[[*keys, "run_id"]].itertuples(index=False, name=None):
        latest[tuple(key)] = max(latest.get(tuple(key), ""), _started(run_id))
    gone = [
        status not in ("ok", "running") and tuple(key) in latest and _is_earlier(_started(run_id), latest[tuple(key)])
        for *key, run_id, status in runs[[*keys, "run_id", "status"]].itertuples(index=False, name=None)
    ]
    return runs[~np.array(gone, dtype=bool)].reset_index(drop=True), sum(gone)


def _started(run_id: str) -> str:
    """The time that a run's id begins with; empty where it does not."""
    found = re.match(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run_id)
    return found.group() if found else ""


def _is_earlier(ours: str, theirs: str) -> bool:
    return not ours or not theirs or ours <= theirs


def render(found: Study, form: str, layout: Layout | None = None, *, detail: bool = False) -> str:
    """The comparison in one of `FORMATS`.

    Args:
        found: what was compared.
        form: the format.
        layout: of the table for an article (latex); of csv and json, its columns.
        detail: of latex, everything that is known in wide tables, instead of the one for an article.

    Raises:
        ValueError: the layout names a column that is not there.
    """
    comparison, layout = found.comparison, layout or Layout()
    if form in ("csv", "json"):
        table = comparison.table[_columns(comparison.table, layout.columns)]
        return formats.as_csv(table) if form == "csv" else formats.as_json(table)
    if layout.columns and (form != "latex" or detail):
        raise ValueError("--columns is for csv, json and the table of latex")
    if form == "latex" and not detail:
        told = (*tables.headline(found.runs, comparison), *comparison.notes)
        return "\n".join([*(f"% {formats.one_line(line)}" for line in told), paper.as_latex(comparison, layout)])
    depth, best = tables.depth_table(comparison), tables.best_table(comparison)
    wide, failures = tables.detail_table(comparison), tables.failure_table(found.runs)
    head = tables.headline(found.runs, comparison)
    if form == "text":
        shown = [formats.as_text(table) for table in (depth, best, wide, failures) if table]
        return "\n".join(["\n".join(head) + "\n", *shown, *(f"note: {note}" for note in comparison.notes), ""])
    if form == "markdown":
        shown = [formats.as_markdown(table) for table in (wide, depth, best, failures) if table]
        lines = "\n".join(f"- {line}" for line in (*head, *comparison.notes))
        return "\n".join([*shown, lines, ""])
    shown = [formats.as_latex(table) for table in (wide, depth, best) if table]
    return "\n".join(["\n".join(f"% {line}" for line in (*head, *comparison.notes)), *shown])


def _columns(table: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    names = [str(name) for name in table.columns]
    for name in wanted:
        if name not in names:
            raise ValueError(f"--columns {name}: no such column; {suggest(name, names)}")
    return list(wanted) or names


def _numbers(runs: pd.DataFrame, metric: str) -> pd.Series:
    """The column to summarise, as floats.

    Raises:
        ValueError: it is not there, or no number.
    """
    if metric in MEASURES:
        return runs[metric]
    if metric in (*IDENTITY, "seed"):
        raise ValueError(f"--metric {metric} is a setting, not a measurement; {suggest(metric, MEASURES)}")
    if metric not in runs.columns or metric in INTERNAL:
        raise ValueError(f"--metric {metric}: no such column; {suggest(metric, MEASURES)}")
    try:
        numbers = pd.to_numeric(runs[metric].replace("", np.nan))
    except (ValueError, TypeError):
        raise ValueError(f"--metric {metric}: not a column of numbers; {suggest(metric, MEASURES)}") from None
    return numbers.astype(float)
