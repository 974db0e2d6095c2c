"""Lengths of time in words, and how much of a sweep's is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@dataclass(frozen=True)
class Job:
    """A job of a sweep: its words but for depth and seed, and its depth."""

    kind: tuple[str, ...]
    depth: int

    @staticmethod
    def of(overrides: Sequence[str]) -> Job:
        """From the words of a job; the depth is 1 where they do not say."""
        words = [word.lstrip("+").partition("=") for word in overrides]
        layers = {key: value for key, _, value in words}.get("layers", "")
        kind = tuple("=".join((key, value)) for key, _, value in words if key not in ("layers", "seed"))
        return Job(kind, int(layers) if layers.isdigit() else 1)


def seconds_left(
    done: Sequence[tuple[Job, float]],
    running: Sequence[Job],
    waiting: Sequence[Job],
    busy_seconds: float,
    since_first: float,
) -> float | None:
    """How long a sweep takes from the moment its last job ended; None before the first has.

    Training takes a line of the depth, times what the job's kind has taken so far against that line. One after the
    other, each job takes besides what those after the first took on average (the first loads the data). Side by side,
    the others take as much of the wall clock for their training as those so far; of the jobs that run, one has just
    begun, the others are half done.

    Args:
        done: each job that ended, the first one first, and its training seconds.
        running: those that run.
        waiting: those that do not yet.
        busy_seconds: the time from the sweep's beginning to the end of its last job.
        since_first: the time from the end of its first job to that.
    """
    if not done or busy_seconds <= 0:
        return None
    expected = _expected(done)
    half = sum(map(expected, running[1:])) / 2
    left = sum(map(expected, [*running[:1], *waiting])) + half
    trained = [seconds for _, seconds in done]
    if sum(trained) > busy_seconds:
        spent = sum(expected(job) for job, _ in done) + half
        return busy_seconds * left / spent
    beside = max(0.0, since_first - sum(trained[1:])) / (len(done) - 1) if len(done) > 1 else 0.0
    return left + beside * (len(running) + len(waiting))


def _expected(done: Sequence[tuple[Job, float]]) -> Callable[[Job], float]:
    line = _line([(job.depth, seconds) for job, seconds in done])
    took: dict[tuple[str, ...], float] = {}
    should: dict[tuple[str, ...], float] = {}
    for job, seconds in done:
        took[job.kind] = took.get(job.kind, 0.0) + seconds
        should[job.kind] = should.get(job.kind, 0.0) + line(job.depth)
    ratio = {kind: took[kind] / should[kind] for kind in took if should[kind] > 0}
    return lambda job: line(job.depth) * ratio.get(job.kind, 1.0)


def _line(done: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Seconds by depth: the least-squares line, neither falling nor steeper than through the origin.

    One depth says nothing of the slope: then it is half as steep as that.
    """
    mean_depth, mean = fmean(depth for depth, _ in done), fmean(seconds for _, seconds in done)
    spread = sum((depth - mean_depth) ** 2 for depth, _ in done)
    together = sum((depth - mean_depth) * (seconds - mean) for depth, seconds in done)
    steepest = mean / mean_depth
    slope = min(max(0.0, together / spread), steepest) if spread else steepest / 2
    return lambda depth: mean + slope * (depth - mean_depth)
