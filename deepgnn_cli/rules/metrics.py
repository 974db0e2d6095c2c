"""Which way a metric is better, and how its values are shown: scores are fractions, errors plain numbers."""

from __future__ import annotations

from deepgnn_cli.rules.tasks import METRICS


def lower_is_better(metric: str | None) -> bool:
    """Whether the metric is an error; scores (also unknown ones) are better when higher."""
    return metric in METRICS and METRICS[metric].lower_is_better


def is_fraction(metric: str | None) -> bool:
    """Whether the metric lies in [0, 1], as one that is not ours is thought to."""
    return metric not in METRICS or METRICS[metric].fraction


def is_better(metric: str | None, value: float, than: float) -> bool:
    """Whether `value` is better than `than`."""
    return value < than if lower_is_better(metric) else value > than


def in_words(metric: str | None, value: float | None, digits: int = 1) -> str:
    """A fraction in per cent, another number as it is, nothing where there is none."""
    if value is None:
        return ""
    return f"{100 * value:.{digits}f} %" if is_fraction(metric) else f"{value:.4g}"
