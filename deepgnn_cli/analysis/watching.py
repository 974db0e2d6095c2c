"""What goes on below a folder: the sweeps, the runs under way with their curves, those that ended last.

Only the runs' own files are read: it works for any launcher, and from another machine that sees the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deepgnn_cli.rules.duration import Job, seconds_left
from deepgnn_cli.rules.metrics import is_better
from deepgnn_cli.runfiles.files import read_csv, read_yaml
from deepgnn_cli.runfiles.status import live_status, read_status


@dataclass(frozen=True)
class RunView:
    """A run: what it is, how far it is, and its curves. Of one that has ended, `row` is its result."""

    folder: Path
    label: str
    status: str
    epoch: int
    max_epochs: int | None
    curves: Mapping[str, tuple[float, ...]]
    best_val: float | None
    metric: str | None
    updated: float
    seconds: float
    row: Mapping[str, str]
    error: str

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at most, by its pace so far; early stopping may end it before."""
        if not self.epoch or self.max_epochs is None:
            return None
        return self.seconds / self.epoch * (self.max_epochs - self.epoch)


@dataclass(frozen=True)
class SweepView:
    """A sweep: how many of its jobs are done, and what became of them. `left` seconds; None: not known."""

    folder: Path
    total: int
    states: Mapping[str, int]
    left: float | None
    live: bool

    @property
    def ended(self) -> int:
        """Jobs that do not run any more."""
        return sum(count for state, count in self.states.items() if state not in ("running", "not started"))

    @property
    def failed(self) -> int:
        """Jobs that ended otherwise than ok."""
        return self.ended - self.states.get("ok", 0)


@dataclass(frozen=True)
class Survey:
    """All that goes on below a folder; `ended` are the last runs that ended, the newest first."""

    sweeps: tuple[SweepView, ...]
    running: tuple[RunView, ...]
    ended: tuple[RunView, ...]
    runs: int


class Watcher:
    """Looks below `path` again and again; a run that has ended is read once."""

    def __init__(self, path: Path, shown: int = 8) -> None:
        self.path, self.shown = path, shown
        self._ended: dict[Path, tuple[int, RunView]] = {}

    def survey(self) -> Survey:
        """What goes on now."""
        runs = {folder: run for folder in self._folders() if (run := self._view(folder)) is not None}
        running = sorted((run for run in runs.values() if run.status == "running"), key=lambda run: run.label)
        ended = sorted((run for run in runs.values() if run.status != "running"), key=lambda run: -run.updated)
        sweeps = [view for file in self.path.rglob("sweep.json") if (view := _sweep(file, runs)) is not None]
        sweeps.sort(key=lambda view: (not view.live, -_mtime(view.folder / "sweep.json")))
        shown = [view for view in sweeps if view.live] or sweeps[:1]
        return Survey(tuple(shown), tuple(running), tuple(ended[: self.shown]), len(runs))

    def _folders(self) -> Iterator[Path]:
        return (file.parent for file in self.path.rglob("status.json"))

    def _view(self, folder: Path) -> RunView | None:
        when = _mtime(folder / "status.json")
        known = self._ended.get(folder)
        if known is not None and known[0] == when:
            return known[1]
        view = _run(folder)
        if view is not None and view.status != "running":
            self._ended[folder] = (when, view)
        return view


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _run(folder: Path) -> RunView | None:
    status = read_status(folder)
    if not status:
        return None
    now = datetime.now(UTC)
    state = live_status(status, now)
    row = _first(folder / "result.csv") if state != "running" else {}
    epochs = _table(folder / "epochs.csv") if state == "running" else []
    metric = row.get("metric") or None
    curves = {name: _column(epochs, name) for name in ("train_loss", "val_loss", "val_score")}
    scores = curves["val_score"]
    best = None
    for value in scores:
        best = value if best is None or is_better(metric, value, best) else best
    if row.get("val_score"):
        best = float(row["val_score"])
    return RunView(
        folder=folder,
        label=_label(status.get("run"), folder),
        status=state,
        epoch=len(epochs) and int(epochs[-1]["epoch"]),
        max_epochs=_max_epochs(folder) if state == "running" else None,
        curves=curves,
        best_val=best,
        metric=metric,
        updated=_time(status.get("updated")),
        seconds=max(0.0, _time(status.get("updated")) - _time(status.get("started"))),
        row=row,
        error=str(status.get("error") or ""),
    )


def _label(run: object, folder: Path) -> str:
    if not isinstance(run, dict) or "model" not in run:
        return folder.name
    parts = [str(run["model"]), str(run.get("dataset"))]
    for name in ("conv", "norm", "residual"):
        if run.get(name) not in (None, "", "none", run["model"]):
            parts.append(str(run[name]))
    words = (word.removeprefix("dataset.") for word in str(run.get("overrides", "")).split())
    parts.extend(word for word in words if word.startswith(("fold=", "split_index=", "split_seed=")))
    return f"{' · '.join(parts)} · {run.get('layers')} × {run.get('hidden')} · seed {run.get('seed')}"


def _max_epochs(folder: Path) -> int | None:
    try:
        trainer = read_yaml(folder / "config.yaml").get("trainer")
    except (OSError, ValueError):
        return None
    epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    return epochs if isinstance(epochs, int) else None


def _table(path: Path) -> list[dict[str, str]]:
    try:
        return read_csv(path)
    except (OSError, ValueError):
        return []


def _first(path: Path) -> dict[str, str]:
    rows = _table(path)
    return rows[0] if rows else {}


def _column(rows: list[dict[str, str]], name: str) -> tuple[float, ...]:
    try:
        return tuple(float(row[name]) for row in rows if row.get(name))
    except ValueError:
        return ()


def _time(text: object) -> float:
    """An ISO time as seconds; 0 where it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _sweep(file: Path, runs: Mapping[Path, RunView]) -> SweepView | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        jobs = [(file.parent / job["folder"], Job.of(job["overrides"])) for job in content["jobs"]]
        total = int(content["total"] or len(jobs))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    live = live_status(content, datetime.now(UTC)) == "running"
    states: dict[str, int] = {}
    done: list[tuple[float, Job, float]] = []
    open_jobs: dict[str, list[Job]] = {"running": [], "not started": []}
    began, last = _time(content.get("started")), 0.0
    for folder, job in jobs:
        run = runs.get(folder)
        state = "not started" if run is None else run.status
        states[state] = states.get(state, 0) + 1
        if state in open_jobs:
            open_jobs[state].append(job)
        elif run is not None and run.updated >= began - 1:  # done by this sweep, and not before it
            last = max(last, run.updated)
            if run.row.get("train_seconds"):
                done.append((run.updated, job, float(run.row["train_seconds"])))
    done.sort(key=lambda ended: ended[0])
    left = None
    if live and done:
        took = [(job, seconds) for _, job, seconds in done]
        left = seconds_left(took, open_jobs["running"], open_jobs["not started"], last - began, last - done[0][0])
    if left is not None:
        left = max(0.0, left - (datetime.now(UTC).timestamp() - last))
    # A sweep whose every job has ended is over, even while its process still sums up.
    live = live and bool(open_jobs["running"] or open_jobs["not started"] or total > len(jobs))
    return SweepView(file.parent, total, states, left, live)
