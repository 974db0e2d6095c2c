"""Which way a metric is better, and how its values are shown: scores are fractions, errors plain numbers."""

from __future__ import annotations

_ERRORS = ("mae", "mse", "rmse")


def lower_is_better(metric: str | None) -> bool:
    """Whether the metric is an error; scores (also unknown ones) are better when higher."""
    return metric in _ERRORS


def is_better(metric: str | None, value: float, than: float) -> bool:
    """Whether `value` is better than `than`."""
    return value < than if lower_is_better(metric) else value > than


def in_words(metric: str | None, value: float | None) -> str:
    """A score in per cent, an error as a number, nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.4g}" if lower_is_better(metric) else f"{100 * value:.1f} %"
