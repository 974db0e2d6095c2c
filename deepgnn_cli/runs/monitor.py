"""What became of each job of a sweep, by its word or its folder: one line as each ends, a table at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from deepgnn_cli.rules.duration import Job, duration, seconds_left
from deepgnn_cli.rules.metrics import in_words
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.runfiles.status import read_status, runs_now
from deepgnn_cli.runs.plan import Outcome
from deepgnn_cli.training.callbacks import quiet

_POLL_SECONDS = 1.0
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
NOT_STARTED, RUNNING, KILLED, BEFORE = "not started", "running", "killed", "finished before"
_NO_FAILURES = ("ok", BEFORE)


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep: its number, its words (`key=value`), its folder."""

    number: int
    overrides: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class JobState:
    """How far a job is: a row's status, or one of the four above; and of its row what a sweep asks for."""

    state: str
    metric: str | None = None
    val_score: float | None = None
    test_score: float | None = None
    train_seconds: float | None = None
    error: str = ""
    gpu_lost: bool = False  # no other job can use the GPU from its process

    @staticmethod
    def of(outcome: Outcome) -> JobState:
        """The end of a job that was run; only an ok one has a validation score to search by."""
        val_score = outcome.val_score if outcome.status == "ok" else None
        scores = (outcome.metric, val_score, outcome.test_score)
        return JobState(outcome.status, *scores, outcome.train_seconds, outcome.error or "")

    @property
    def validation(self) -> str:
        """The validation score in words; nothing where there is none."""
        return in_words(self.metric, self.val_score)

    @property
    def test(self) -> str:
        """The test score in words; nothing where there is none."""
        return in_words(self.metric, self.test_score)

    @property
    def seconds(self) -> str:
        """The time of the training in words; nothing where there is none."""
        return "" if self.train_seconds is None else f"{self.train_seconds:.0f} s"


def finished_before(folder: Path) -> JobState:
    """The state of a job whose run was done already, in `folder`."""
    return replace(_row_state(read_csv(folder / "result.csv")[0]), state=BEFORE)


def _row_state(row: Mapping[str, str]) -> JobState:
    names = ("val_score", "test_score", "train_seconds")
    known: dict[str, Any] = {name: float(row[name]) for name in names if row[name]}
    return JobState(row["status"], row["metric"] or None, error=row["error"], **known)


class SweepMonitor:
    """Knows the jobs of one sweep. Inside `with monitor:` it prints a line for each job that ends.

    A job that has returned says itself what became of it (`note`); of one that runs elsewhere its folder tells.

    Args:
        axes: the keys that are swept.
        total: how many jobs there will be.
    """

    def __init__(self, axes: Sequence[str], total: int) -> None:
        self.axes, self.total = axes, total
        self.jobs: list[SweepJob] = []
        self._shown: set[int] = set()
        self._written_before: dict[int, int] = {}
        self._ended: dict[int, JobState] = {}
        self._lock, self._done = threading.Lock(), threading.Event()
        self._began = self._last_end = time.monotonic()
        self._first_end: float | None = None
        self._bar = tqdm(disable=True)
        self._watcher = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def expect(self, jobs: Sequence[SweepJob]) -> None:
        """Add jobs that are about to run."""
        with self._lock:
            for job in jobs:
                if (when := _written(job.folder)) is not None:
                    self._written_before[job.number] = when
                self.jobs.append(job)

    def note(self, number: int, state: JobState) -> None:
        """Say what became of a job."""
        self._ended[number] = state
        self.tell()

    def state(self, job: SweepJob) -> JobState:
        """How far a job is."""
        return self._ended.get(job.number) or self.read(job)

    def read(self, job: SweepJob) -> JobState:
        """How far a job is, by the files in its folder."""
        status = read_status(job.folder)
        if status.get("status") == "running":
            return JobState(RUNNING if runs_now(job.folder) else KILLED)
        when = _written(job.folder)
        if when is None:
            return JobState(NOT_STARTED)
        try:
            state = _row_state(read_csv(job.folder / "result.csv")[0])
        except (ValueError, OSError, LookupError):
            return JobState("failed", error="its result.csv cannot be read")
        if when == self._written_before.get(job.number):
            return replace(state, state=BEFORE if state.state == "ok" else NOT_STARTED)
        return replace(state, state=BEFORE) if "finished_in" in status else state

    def tell(self) -> None:
        """Print a line for each job that has ended since the last call."""
        with self._lock:
            for job in self.jobs:
                if job.number in self._shown:
                    continue
                outcome = self.state(job)
                if outcome.state in (NOT_STARTED, RUNNING) or (
                    outcome.state == KILLED and job.number not in self._ended
                ):
                    continue
                self._shown.add(job.number)
                self._last_end = time.monotonic()
                if self._first_end is None and outcome.state != BEFORE:
                    self._first_end = self._last_end
                count = f"[{len(self._shown)}/{self.total}]"
                with tqdm.external_write_mode():
                    print(f"{count} {self._label(job)}: {_line(outcome)}", flush=True)
            self._move_bar()

    def _move_bar(self) -> None:
        if self._bar.disable:
            return
        states = [self.state(job) for job in self.jobs]
        failures = sum(state.state not in (*_NO_FAILURES, NOT_STARTED, RUNNING) for state in states)
        left = self.seconds_left()
        told = [f"{failures} failed"] * bool(failures)
        if left is not None:
            told.append(f"about {duration(left)} left")
        self._bar.n = len(self._shown)
        self._bar.set_postfix_str(", ".join(told))

    def seconds_left(self) -> float | None:
        """How long the jobs that are not done will take; None before the first has ended."""
        done, running, waiting = [], [], []
        for job in self.jobs:
            state, known = self.state(job), Job.of(job.overrides)
            if job.number in self._shown:
                if state.state != BEFORE and state.train_seconds is not None:
                    done.append((known, state.train_seconds))
            elif state.state == NOT_STARTED:
                waiting.append(known)
            else:
                running.append(known)
        since_first = self._last_end - (self._first_end or self._last_end)
        left = seconds_left(done, running, waiting, self._last_end - self._began, since_first)
        return None if left is None else max(0.0, left - (time.monotonic() - self._last_end))

    def _label(self, job: SweepJob) -> str:
        words = [word for word in job.overrides if word.partition("=")[0] in self.axes]
        return " ".join(words) or f"job {job.number}"

    def table(self) -> str:
        """Every job with what became of it, aligned."""
        header = ["job", *self.axes, "status", "validation", "test", "training", ""]
        rows = [header]
        for job in self.jobs:
            values = dict(word.partition("=")[::2] for word in job.overrides)
            outcome = self.state(job)
            cells = [str(job.number), *(values.get(axis, "") for axis in self.axes)]
            rows.append([*cells, outcome.state, outcome.validation, outcome.test, outcome.seconds, outcome.error])
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

    def __enter__(self) -> SweepMonitor:
        self._began = self._last_end = time.monotonic()
        self._bar = tqdm(
            total=self.total, desc="sweep", unit="job", leave=False, disable=quiet(), ncols=100, bar_format=_BAR
        )
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._watcher.join()
        self.tell()
        self._bar.close()


def _written(folder: Path) -> int | None:
    """When the row of a folder was written, or None if it has none."""
    try:
        return (folder / "result.csv").stat().st_mtime_ns
    except OSError:
        return None


def _line(outcome: JobState) -> str:
    named = {"validation": outcome.validation, "test": outcome.test}
    scores = [f"{name} {score}" for name, score in named.items() if score]
    parts = scores if outcome.state == "ok" else [outcome.state, *scores]
    parts += [f"({outcome.seconds})" if outcome.seconds else "", outcome.error]
    return " ".join(part for part in parts if part)
