"""A study as one HTML page that needs nothing else: style, pictures and numbers are inside."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deepgnn_cli.analysis import tables
from deepgnn_cli.analysis.curves import depth_curves, heat_maps, training
from deepgnn_cli.analysis.embeddings import embeddings
from deepgnn_cli.analysis.formats import Table
from deepgnn_cli.analysis.grouping import override_tokens
from deepgnn_cli.analysis.influence import influence_curves
from deepgnn_cli.analysis.interactive import chart
from deepgnn_cli.analysis.meanings import meant
from deepgnn_cli.analysis.plots import draw_depth, draw_embedding, draw_heat_map, draw_influence, draw_training
from deepgnn_cli.analysis.study import Study
from deepgnn_cli.analysis.summary import best_row, split_groups
from deepgnn_cli.analysis.tables import label, number, plus_minus
from deepgnn_cli.runfiles.files import read_csv

MOST_TRAINING_FIGURES = 12
MOST_EMBEDDINGS = 6
SECTIONS = {
    "comparison": "Comparison",
    "depth": "Depth curves",
    "layers": "Layer by layer",
    "embeddings": "Where the nodes lie",
    "influence": "Who hears whom",
    "training": "Training curves",
    "memory": "Memory",
    "runs": "Runs",
    "commands": "Commands and versions",
}
MEMORY_PHASES = (
    "forward",
    "backward",
    "optimiser",
    "parameters",
    "gradients",
    "optimiser_state",
    "activations",
)
VERSIONS = ("version_deepgnn", "git_sha", "version_torch", "version_pyg", "device")


def page(found: Study, *, title: str) -> str:
    """The report as one HTML document; all text of the results is escaped."""
    runs, comparison = found.runs, found.comparison
    heard = influence_curves(runs, comparison.by)
    curves, seen = training(runs, comparison.by), embeddings(runs, comparison.by)
    pictures: dict[str, Any] = {
        "depth": _depth(found),
        "heat_maps": [(chart(draw_heat_map(shown)), shown.meaning) for shown in heat_maps(runs, comparison.by)],
        "embeddings": [(each.label, chart(draw_embedding(each))) for each in seen[:MOST_EMBEDDINGS]],
        "influence": chart(draw_influence(heard)) if heard else None,
        "training": [(name, chart(draw_training(groups))) for name, groups in curves[:MOST_TRAINING_FIGURES]],
    }
    made = (tables.depth_table(comparison), tables.best_table(comparison), tables.detail_table(comparison))
    memory = memory_table(found)
    there = {**pictures, "memory": memory, "comparison": True, "runs": True, "commands": True}
    sections = [(key, text) for key, text in SECTIONS.items() if there["heat_maps" if key == "layers" else key]]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        head=tables.headline(runs, comparison),
        sections=sections,
        cards=list(_cards(found)),
        comparison=[table for table in made if table],
        notes=comparison.notes,
        embeddings_left=len(seen) - len(pictures["embeddings"]),
        training_left=len(curves) - len(pictures["training"]),
        meant=meant,
        script=Markup(Path(__file__).with_name("report.js").read_text(encoding="utf-8")),
        memory=memory,
        runs=run_table(found),
        skipped=(*found.collected.skipped, *found.collected.warnings),
        commands=commands(runs),
        versions=version_table(runs),
        **pictures,
    )


def commands(runs: pd.DataFrame) -> list[str]:
    """The command of each run as a shell takes it; a run that kept none is named in a comment."""
    lines = []
    for row in runs.to_dict("records"):
        if row["started_with"]:
            lines.append(shlex.join(["deepgnn", "train", *override_tokens(row["started_with"])]))
        elif row["config_hash"]:
            lines.append("deepgnn train")
        else:
            lines.append(f"# unknown: {' '.join(str(row['run_id'] or label(('model',), (row['model'],))).split())}")
    return list(dict.fromkeys(lines))


def run_table(found: Study) -> Table:
    """Every run with its end."""
    by = found.comparison.by
    metric = found.comparison.metric
    measured = {metric: metric, "best_epoch": "best epoch", "epochs": "epochs", "train_seconds": "train s"}
    forms = {name: name for name in measured} | {metric: tables.form(found.comparison)}
    header = ("status", *by, "seed", "split", "run", *measured.values(), "error")
    rows = []
    for group in split_groups(found.runs, by).values():
        for row in group.to_dict("records"):
            names = (row["status"], *(row[name] for name in (*by, "seed", "fold", "run_id")))
            numbers = (number(row[name], forms[name]) for name in measured)
            rows.append((*map(str, names), *numbers, " ".join(row["error"].split())))
    keep = [j for j in range(len(header)) if j < 1 + len(by) or any(row[j] for row in rows)]
    shown = tuple(tuple(row[j] for j in keep) for row in rows)
    return Table(f"{len(rows)} runs", tuple(header[j] for j in keep), shown, names=len(keep))


def memory_table(found: Study) -> Table | None:
    """Peak memory of each group, and of its phases where they were measured (means in MiB)."""
    rows = []
    for key, runs in split_groups(found.runs, found.comparison.by).items():
        done = runs[runs["status"] == "ok"]
        phases = [_phases(folder) for folder in done["folder"] if folder]
        cells = [_mean([phase.get(name, math.nan) for phase in phases]) for name in MEMORY_PHASES]
        kinds = sorted(set(done["memory_kind"]) - {""})
        peak, kept = _mean(list(done["peak_memory_mib"])), _mean(list(done["activation_mib"]))
        if any((peak, kept, *cells)):
            rows.append((label(found.comparison.by, key), peak, ", ".join(kinds), kept, *cells))
    if not rows:
        return None
    header = (
        "group",
        "peak MiB",
        "kind",
        "kept for backward",
        *(name.replace("_", " ") for name in MEMORY_PHASES),
    )
    keep = [j for j in range(len(header)) if j == 0 or any(row[j] for row in rows)]
    shown = tuple(tuple(row[j] for j in keep) for row in rows)
    return Table("Memory in MiB (means over replicates)", tuple(header[j] for j in keep), shown)


def version_table(runs: pd.DataFrame) -> Table:
    """What the runs ran on, and how many of them."""
    counts = runs.groupby(list(VERSIONS), sort=False).size()
    rows = tuple((*map(str, key), str(n)) for key, n in counts.items() if isinstance(key, tuple) and any(key))
    header = tuple(name.removeprefix("version_") for name in VERSIONS)
    return Table("Versions", (*header, "runs"), rows, names=len(header))


def _cards(found: Study) -> Iterator[tuple[str, str, str]]:
    """The headline: what finished, what is best, what holds with depth."""
    runs, comparison = found.runs, found.comparison
    metric, table = comparison.metric, comparison.table
    done = int((runs["status"] == "ok").sum())
    counts = runs.loc[runs["status"] != "ok", "status"].value_counts()
    yield (
        "Runs finished",
        f"{done} of {len(runs)}",
        ", ".join(f"{n} {status}" for status, n in counts.items()),
    )
    scored = table[table["n"] > 0]
    if scored.empty:
        return
    if "dataset" not in scored or scored["dataset"].nunique() == 1:
        top = best_row(scored.to_dict("records"), metric, comparison.selection)
        name = label(comparison.by, [top[column] for column in comparison.by])
        shown = tables.form(comparison)
        percent = " %" if tables.is_score(shown) else ""
        yield (
            f"Best by {comparison.selection}: {metric}" if comparison.selection != metric else f"Best {metric}",
            plus_minus(top["mean"], top["std"], shown) + percent,
            f"{name}, n = {top['n']}",
        )
    if not comparison.best.empty:
        yield from _depth_cards(found)


def _depth_cards(found: Study) -> Iterator[tuple[str, str, str]]:
    """Which family keeps most of its best score at its greatest depth, and which loses most."""
    comparison = found.comparison
    rest = [name for name in comparison.by if name != "layers"]
    change = comparison.best["deepest_mean"] - comparison.best["mean"]
    sign = comparison.best["direction"].map({"lower": -1, "higher": 1})
    ranked = (sign * change).sort_values(kind="stable").index
    for title, at in (("Holds best with depth", ranked[-1]), ("Loses most with depth", ranked[0]))[: len(ranked)]:
        row: Any = comparison.best.loc[at]
        shown = label(rest, [row[name] for name in rest])
        lost = tables.signed(change[at], tables.form(comparison))
        remark = f"{lost} at {row['deepest']} layers against {row['layers']}"
        yield title, shown, remark


def _depth(found: Study) -> Markup | None:
    """The depth curves, where anything finished at two depths: one point is no curve."""
    if (found.runs["layers"] == "").all() or not found.comparison.table["n"].any():
        return None
    panels = depth_curves(found.runs, found.comparison.by, found.comparison.metric)
    return chart(draw_depth(panels)) if any(len(c.layers) > 1 for panel in panels for c in panel.curves) else None


def _phases(folder: str) -> dict[str, float]:
    """The peaks that a run's `memory.csv` tells by phase; none where it is missing or torn."""
    try:
        rows = read_csv(Path(folder, "memory.csv"))
        return {row["phase"]: float(row["peak_mib"] or "nan") for row in rows}
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return {}


def _mean(values: Sequence[float]) -> str:
    """The mean of what is known, as text; empty where nothing is."""
    known = [value for value in values if np.isfinite(value)]
    return number(float(np.mean(known)), "mib") if known else ""
