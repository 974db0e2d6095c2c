"""What became of each job of a sweep, read from the jobs' own folders: one line as each ends, a table at the end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from deepgnn_cli.runfiles.record import read_csv
from deepgnn_cli.runs.resume import read_status, runs_now

_POLL_SECONDS = 1.0
NOT_STARTED, RUNNING, KILLED, BEFORE = "not started", "running", "killed", "finished before"


@dataclass(frozen=True)
class Job:
    """A job of a sweep: its number, its words (`key=value`), its folder."""

    number: int
    overrides: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """A job's state (a row's status, or one of the four above), and what of its row the table shows."""

    state: str
    score: str = ""
    seconds: str = ""
    error: str = ""


class Tally:
    """Knows the jobs of one sweep. Inside `with tally:` it prints a line for each job that ends.

    Args:
        axes: the keys that are swept.
        total: how many jobs there will be; None: that shows as they come.
    """

    def __init__(self, axes: Sequence[str], total: int | None) -> None:
        self.axes, self.total = axes, total
        self.jobs: list[Job] = []
        self._told: set[int] = set()
        self._old: dict[int, int] = {}
        self._lost: dict[int, str] = {}
        self._lock, self._done = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="tally", daemon=True)

    def expect(self, jobs: Sequence[Job]) -> None:
        """Add jobs that are about to run."""
        with self._lock:
            for job in jobs:
                if (when := _written(job.folder)) is not None:
                    self._old[job.number] = when
                self.jobs.append(job)

    def lose(self, job: Job, reason: str) -> None:
        """Note the end of a job that could be written nowhere."""
        self._lost[job.number] = reason

    def outcome(self, job: Job) -> Outcome:
        """What became of a job so far."""
        if job.number in self._lost:
            return Outcome("failed", error=self._lost[job.number])
        status = read_status(job.folder)
        if status.get("status") == "running":
            return Outcome(RUNNING if runs_now(job.folder) else KILLED)
        when = _written(job.folder)
        if when is None:
            return Outcome(NOT_STARTED)
        try:
            row = read_csv(job.folder / "result.csv")[0]
        except (ValueError, OSError, IndexError):
            return Outcome("failed", error="its result.csv cannot be read")
        state = row["status"]
        if when == self._old.get(job.number):
            state = BEFORE if state == "ok" else NOT_STARTED
        elif "finished_in" in status:
            state = BEFORE
        score = f"{100 * float(row['test_score']):.1f} %" if row["test_score"] else ""
        seconds = f"{float(row['train_seconds']):.0f} s" if row["train_seconds"] else ""
        return Outcome(state, score, seconds, row["error"])

    def tell(self) -> None:
        """Print a line for each job that has ended since the last call."""
        with self._lock:
            for job in self.jobs:
                if job.number in self._told:
                    continue
                outcome = self.outcome(job)
                if outcome.state in (NOT_STARTED, RUNNING, KILLED):
                    continue
                self._told.add(job.number)
                count = f"[{len(self._told)}/{self.total or '…'}]"
                print(f"{count} {self._label(job)}: {_line(outcome)}", flush=True)

    def _label(self, job: Job) -> str:
        words = [word for word in job.overrides if word.partition("=")[0] in self.axes]
        return " ".join(words) or f"job {job.number}"

    def table(self) -> str:
        """Every job with what became of it, aligned."""
        header = ["job", *self.axes, "status", "test", "training", ""]
        rows = [header]
        for job in self.jobs:
            values = dict(word.partition("=")[::2] for word in job.overrides)
            outcome = self.outcome(job)
            cells = [str(job.number), *(values.get(axis, "") for axis in self.axes)]
            rows.append([*cells, outcome.state, outcome.score, outcome.seconds, outcome.error])
        widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
            for row in rows
        )

    def _watch(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            try:
                self.tell()
            except (OSError, ValueError, LookupError) as error:  # of the display alone
                print(f"deepgnn: {error}", file=sys.stderr)

    def __enter__(self) -> Tally:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._watcher.join()
        self.tell()


def _written(folder: Path) -> int | None:
    """When the row of a folder was written, or None if it has none."""
    try:
        return (folder / "result.csv").stat().st_mtime_ns
    except OSError:
        return None


def _line(outcome: Outcome) -> str:
    parts = [outcome.score] if outcome.state == "ok" else [outcome.state, outcome.score]
    parts += [f"({outcome.seconds})" if outcome.seconds else "", outcome.error]
    return " ".join(part for part in parts if part)
