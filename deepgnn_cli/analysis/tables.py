"""A comparison as tables for people: scores in percent, costs short, failures in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import pandas as pd

from deepgnn_cli.analysis.collect import IDENTITY, SCORES
from deepgnn_cli.analysis.formats import Table, one_line
from deepgnn_cli.analysis.summary import ALL_STATUSES, Comparison, Record

MOST_FAILURES = 12


def is_score(column: str) -> bool:
    """Whether a column holds fractions that people read in percent."""
    return column in SCORES or column.endswith("_score")


def form(comparison: Comparison) -> str:
    """The column by which values of the comparison are formatted: the metric's own, or of an error any plain number."""
    return comparison.metric if comparison.percent or not is_score(comparison.metric) else "error"


def number(value: Any, column: str) -> str:
    """A value as its column is read: a score in percent, anything else with four digits; unknown is empty."""
    if value is None or value != value:
        return ""
    if is_score(column):
        return f"{100 * value:.2f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def plus_minus(mean: float, std: float, column: str) -> str:
    """`85.16 ± 0.53`; without the spread where there is none."""
    return number(mean, column) + (f" ± {number(std, column)}" if std == std else "")


def signed(value: float, column: str) -> str:
    """A difference with its sign."""
    text = number(value, column)
    return text if not text or text.startswith("-") else f"+{text}"


def p_text(value: float) -> str:
    """A p value with two digits, `<0.001` below that."""
    if value != value:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def label(names: Sequence[str], values: Sequence[object]) -> str:
    """A short name of a group: its values, without those that are `none` unless all are; numbers with their column."""
    parts = [
        f"{name} {value}" if isinstance(value, Integral) else str(value)
        for name, value in zip(names, values, strict=True)
        if value not in ("", "none")
    ]
    plain = [f"{name} {value}" for name, value in zip(names, values, strict=True) if value != ""]
    return " · ".join(parts) or " · ".join(plain) or "all runs"


def detail_table(comparison: Comparison) -> Table:
    """One row a group: everything that is known and fits."""
    table, metric, shown = comparison.table, comparison.metric, form(comparison)
    unit = " %" if is_score(shown) else ""
    columns: dict[str, list[str]] = {name: [str(value) for value in table[name]] for name in comparison.by}
    columns["n"] = [str(n) for n in table["n"]]
    columns[f"{metric}{unit}"] = _each(table, lambda row: plus_minus(row["mean"], row["std"], shown))
    columns["95 % CI"] = _each(table, lambda row: _interval(row["ci_low"], row["ci_high"], shown))
    columns["not ok"] = _each(table, _failures)
    columns["Δ baseline"] = _each(table, lambda row: _difference(row, shown))
    columns["p Holm (pairs)"] = _each(table, _p_and_pairs)
    columns["d"] = [f"{value:.2g}" if value == value else "" for value in table["effect_size"]]
    columns["reported (Δ)"] = _each(table, lambda row: _published(row, shown))
    columns["step s"] = [f"{value:.3g}" if value == value else "" for value in table["step_seconds_mean"]]
    columns["peak MiB"] = [_mib(value) for value in table["peak_memory_mib_mean"]]
    columns["act MiB"] = [_mib(value) for value in table["activation_mib_mean"]]
    columns["epochs"] = [f"{value:.0f}" if value == value else "" for value in table["epochs_mean"]]
    names = len(comparison.by)
    kept = [name for i, (name, cells) in enumerate(columns.items()) if i < names + 2 or any(cells)]
    bold = {(i, kept.index(f"{metric}{unit}")) for i, best in enumerate(table["best_depth"]) if best}
    rows = tuple(zip(*(columns[name] for name in kept), strict=True))
    return Table(f"{metric} by group (mean ± sample std)", tuple(kept), rows, frozenset(bold), names)


def depth_table(comparison: Comparison) -> Table | None:
    """Rows for everything but layers, a column a depth; None where nothing was run at two depths."""
    if "layers" not in comparison.by or comparison.table["layers"].nunique() < 2:
        return None
    rest = [name for name in comparison.by if name != "layers"]
    depths = sorted({value for value in comparison.table["layers"] if value != ""})
    cells: dict[tuple[object, ...], dict[int, str]] = {}
    bold = set()
    for row in comparison.table.to_dict("records"):
        line = cells.setdefault(tuple(row[name] for name in rest), {})
        if row["layers"] == "":
            continue
        line[row["layers"]] = plus_minus(row["mean"], row["std"], form(comparison)) or _failures(row)
        if row["best_depth"]:
            bold.add((len(cells) - 1, 1 + depths.index(row["layers"])))
    rows = tuple((label(rest, key), *(line.get(depth, "") for depth in depths)) for key, line in cells.items())
    unit = " in %" if is_score(form(comparison)) else ""
    title = f"{comparison.metric}{unit} by layers (mean ± sample std)"
    return Table(title, ("layers", *map(str, depths)), rows, frozenset(bold))


def best_table(comparison: Comparison) -> Table | None:
    """The best depth of each row of the depth table."""
    if comparison.best.empty:
        return None
    rest = [name for name in comparison.by if name != "layers"]
    differs = (comparison.best[f"layers_by_{comparison.metric}"] != comparison.best["layers"]).any()
    rows = tuple(
        (
            label(rest, [row[name] for name in rest]),
            str(row["layers"]),
            plus_minus(row["mean"], row["std"], form(comparison)),
            str(row["n"]),
            str(row[f"layers_by_{comparison.metric}"]) if differs else "",
            str(row["deepest"]),
            number(row["deepest_mean"], form(comparison)),
            signed(row["deepest_mean"] - row["mean"], form(comparison)),
        )
        for row in comparison.best.to_dict("records")
    )
    header = ("", "layers", comparison.metric, "n", f"layers by {comparison.metric}", "deepest", "there", "Δ")
    keep = [j for j in range(len(header)) if j == 0 or any(row[j] for row in rows)]
    shown = tuple(tuple(row[j] for j in keep) for row in rows)
    return Table(f"Best depth (by the mean {comparison.selection})", tuple(header[j] for j in keep), shown)


def failure_table(runs: pd.DataFrame, most: int | None = MOST_FAILURES) -> Table | None:
    """The runs that are not ok, with what they said."""
    bad = runs[runs["status"] != "ok"]
    if bad.empty:
        return None
    rows = [
        (
            row["status"],
            *(str(row[name]) for name in ("model", "layers", "seed")),
            row["run_id"],
            _first_line(row["error"]),
        )
        for row in bad.head(most or len(bad)).to_dict("records")
    ]
    more = "" if len(rows) == len(bad) else f" (the first {len(rows)} of {len(bad)})"
    return Table(
        f"Runs that are not ok{more}",
        ("status", "model", "layers", "seed", "run", "error"),
        tuple(rows),
        names=6,
    )


def headline(runs: pd.DataFrame, comparison: Comparison) -> list[str]:
    """What was compared: how many runs, what became of them, and what they share."""
    counts = runs["status"].value_counts()
    order = [status for status in ALL_STATUSES if status in counts] + sorted(set(counts.index) - set(ALL_STATUSES))
    told = ", ".join(f"{counts[status]} {status}" for status in order)
    lines = [f"{_count(len(runs), 'run')} in {_count(len(comparison.table), 'group')}: {told}"]
    shared = [
        f"{name}={next(iter(values))}"
        for name in (*IDENTITY, "metric", "device")
        if name not in comparison.by and len(values := set(runs[name]) - {""}) == 1
    ]
    return lines + ([f"all runs: {' '.join(shared)}"] if shared else [])


def _each(table: pd.DataFrame, cell: Callable[[Record], str]) -> list[str]:
    return [cell(row) for row in table.to_dict("records")]


def _interval(low: float, high: float, metric: str) -> str:
    return f"[{number(low, metric)}, {number(high, metric)}]" if low == low else ""


def _difference(row: Record, metric: str) -> str:
    return "baseline" if row["baseline"] == "baseline" else signed(row["difference"], metric)


def _published(row: Record, metric: str) -> str:
    told = number(row["reported"], metric)
    return f"{told} ({signed(row['difference_to_reported'], metric)})" if told and row["n"] else told


def _p_and_pairs(row: Record) -> str:
    pairs = row["pairs"]
    if pairs is None or math.isnan(pairs):
        return ""
    return f"{p_text(row['p_holm']) or ('too few' if pairs < 2 else 'equal')} ({int(pairs)})"


def _mib(value: float) -> str:
    return "" if value != value else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _failures(row: Record) -> str:
    return ", ".join(f"{row[status]} {status}" for status in (*ALL_STATUSES[1:], "other") if row[status])


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _first_line(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= 60 else line[:59] + "…"
