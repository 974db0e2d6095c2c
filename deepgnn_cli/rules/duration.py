"""Lengths of time in words, and how much of a sweep's is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def seconds_left(
    done: Sequence[tuple[int, float]], running: Sequence[int], waiting: Sequence[int], busy_seconds: float
) -> float | None:
    """How long a sweep takes from the moment its last job ended; None before the first has.

    A job's time is a line of its depth. What the jobs so far took of the wall clock, loading included and side by side
    or not, the others will take, too. Of the jobs that run, one has just begun, the others are half done.

    Args:
        done: depth and training seconds of each job that ended.
        running: the depths of those that run.
        waiting: the depths of those that do not yet.
        busy_seconds: the time from the sweep's beginning to the end of its last job.
    """
    if not done or busy_seconds <= 0:
        return None
    expected = _line(done)
    half = sum(map(expected, running[1:])) / 2
    spent = sum(expected(depth) for depth, _ in done) + half
    left = sum(map(expected, [*running[:1], *waiting])) + half
    return busy_seconds * left / spent if spent > 0 else None


def depth_of(overrides: Sequence[str]) -> int:
    """The layers that the words of a job ask for; 1 where they do not say."""
    values = dict(word.lstrip("+").partition("=")[::2] for word in overrides)
    return int(values["layers"]) if values.get("layers", "").isdigit() else 1


def _line(done: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Seconds by depth: the least-squares line, neither falling nor steeper than through the origin."""
    mean_depth, mean = fmean(depth for depth, _ in done), fmean(seconds for _, seconds in done)
    spread = sum((depth - mean_depth) ** 2 for depth, _ in done)
    together = sum((depth - mean_depth) * (seconds - mean) for depth, seconds in done)
    steepest = mean / mean_depth
    slope = min(max(0.0, together / spread), steepest) if spread else steepest
    return lambda depth: mean + slope * (depth - mean_depth)
