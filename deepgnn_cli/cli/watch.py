"""`deepgnn watch`: what runs now, in the terminal. Imports neither torch nor pandas."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deepgnn_cli.analysis.watching import RunView, Survey, SweepView, Watcher
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.rules.duration import duration
from deepgnn_cli.rules.metrics import in_words

_ABOUT = """\
What runs now below PATH: sweeps with a bar, the time left and failures so far; each run with its curves as they grow;
the runs that ended last, with validation and test score. It reads the runs' own files, so the launcher does not matter.
Leave it with Ctrl-C. Where the output is no terminal, it prints once.
"""
_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {"ok": "green", "running": "cyan", "not started": "dim", "interrupted": "yellow"}


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn watch` and return its exit status."""
    parser = Parser(
        prog="deepgnn watch",
        description=_ABOUT,
        epilog="examples\n  deepgnn watch\n  deepgnn watch outputs/2026-01-31_12-00-00_sweep_0a1b2c --every 10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("outputs"), metavar="PATH", help="default: outputs")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="how often to look (default: 2)")
    parser.add_argument("--once", action="store_true", help="print once and end")
    words = parser.parse_args(argv)
    if not words.path.is_dir():
        raise ValueError(f"{words.path}: there is no such folder")
    if not words.every > 0:
        raise ValueError(f"--every {words.every}: must be more than 0 seconds")
    console = Console(file=sys.stdout, highlight=False)
    watcher = Watcher(words.path)
    if words.once or not console.is_terminal:
        console.print(view(watcher.survey(), words.path))
        return 0
    try:
        with Live(view(watcher.survey(), words.path), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(words.every)
                live.update(view(watcher.survey(), words.path), refresh=True)
    except KeyboardInterrupt:
        return 0


def view(survey: Survey, path: Path) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [_sweep(sweep) for sweep in survey.sweeps]
    if survey.running:
        parts.append(_running(survey.running))
    elif not any(sweep.live for sweep in survey.sweeps):
        parts.append(Text(f"nothing runs below {path} ({survey.runs} runs there)", "dim"))
    if survey.ended:
        parts.append(_ended(survey.ended))
    return Group(*_spaced(parts))


def _spaced(parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for index, part in enumerate(parts):
        if index:
            yield Text()
        yield part


def _sweep(sweep: SweepView) -> RenderableType:
    told = [f"{sweep.ended} of {sweep.total} jobs done"]
    if running := sweep.states.get("running"):
        told.append(f"{running} running")
    if sweep.failed:
        told.append(f"[red]{sweep.failed} failed[/]")
    if sweep.left is not None:
        told.append(f"about {duration(sweep.left)} left")
    title = Text.assemble(("sweep ", "bold"), sweep.folder.name, "  ", "" if sweep.live else ("over", "dim"))
    line = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, sweep.total), completed=sweep.ended, width=40)
    line.add_row(bar, Text.from_markup(", ".join(told)))
    return Group(title, line)


def _running(runs: Sequence[RunView]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="runs now", title_justify="left")
    for name in ("run", "epoch", "training loss", "validation", "best", "at most left"):
        table.add_column(name, overflow="fold")
    for run in runs:
        losses, scores = run.curves["train_loss"], run.curves["val_score"]
        epoch = f"{run.epoch}/{run.max_epochs or '…'}" if run.epoch else "begins"
        table.add_row(
            Text(run.label),
            epoch,
            _curve(losses, f"{losses[-1]:.3f}" if losses else ""),
            _curve(scores, in_words(run.metric, scores[-1]) if scores else ""),
            in_words(run.metric, run.best_val),
            "" if run.seconds_left is None else duration(run.seconds_left),
        )
    return table


def _curve(values: Sequence[float], last: str) -> Text:
    return Text.assemble((sparkline(values), "cyan"), " ", last)


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """The values as a row of bars, means of equal stretches where there are more than `width`."""
    known = [value for value in values if value == value and abs(value) != float("inf")]
    if not known:
        return ""
    count = min(width, len(known))
    edges = [len(known) * i // count for i in range(count + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _ended(runs: Sequence[RunView]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="ended last", title_justify="left")
    for name in ("run", "status", "validation", "test", "training", ""):
        table.add_column(name, overflow="fold")
    for run in runs:
        row = run.row
        scores = [
            in_words(run.metric, float(row[name]) if row.get(name) else None) for name in ("val_score", "test_score")
        ]
        seconds = duration(float(row["train_seconds"])) if row.get("train_seconds") else ""
        style = _STYLES.get(run.status, "red")
        table.add_row(Text(run.label), Text(run.status, style), *scores, seconds, Text(run.error, "dim"))
    return table
