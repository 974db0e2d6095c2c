"""The statistics of a table of runs: mean, spread, interval, paired test.

Student's t comes from `scipy.special`: `scipy.stats` gives the same numbers and takes a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True)
class Summary:
    """A sample: its size, mean, standard deviation (ddof 1), and the 95 % half-width of its mean.

    What a sample of this size does not tell is NaN: everything of none, the spread of one.
    """

    n: int
    mean: float
    std: float
    half_width: float


@dataclass(frozen=True)
class Paired:
    """A paired comparison: number of pairs, mean difference, its 95 % half-width, two-sided p value."""

    pairs: int
    difference: float
    half_width: float
    p_value: float


def summarise(values: np.ndarray) -> Summary:
    """Summarise a sample; the interval of the mean is Student's, t(0.975, n - 1) * std / sqrt(n).

    Args:
        values: [n] floats, all finite.
    """
    n = len(values)
    if n == 0:
        return Summary(0, math.nan, math.nan, math.nan)
    if n == 1:
        return Summary(1, float(values[0]), math.nan, math.nan)
    std = float(np.std(values, ddof=1))
    return Summary(n, float(np.mean(values)), std, float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n))


def paired_test(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Paired:
    """Student's paired t-test, two-sided, of `ours` against `theirs` over the keys that both have.

    t = mean(d) / (std(d) / sqrt(n)) with d the differences and n - 1 degrees of freedom. Fewer than two
    pairs, or pairs that are all equal, give no p value (NaN).
    """
    keys = [key for key in ours if key in theirs]
    differences = np.array([ours[key] - theirs[key] for key in keys], dtype=float)
    found = summarise(differences)
    if found.n < 2 or not differences.any():
        return Paired(found.n, found.mean, found.half_width, math.nan)
    error = found.std / math.sqrt(found.n)
    t = math.copysign(math.inf, found.mean) if error == 0 else found.mean / error
    return Paired(found.n, found.mean, found.half_width, float(2 * stdtr(found.n - 1, -abs(t))))
