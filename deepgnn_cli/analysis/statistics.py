"""The statistics of a table of runs: mean, spread, interval, paired test.

Student's t comes from `scipy.special`: `scipy.stats` gives the same numbers and takes a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, stdtr, stdtrit

FEWEST = 3
"""Below so many replicates no interval is given: of two, it is wider than all that is known."""


@dataclass(frozen=True)
class Summary:
    """A sample: its size, mean, standard deviation (ddof 1), and the 95 % half-width of its mean.

    What a sample of this size does not tell is NaN: everything of none, the spread of one, the interval of two.
    """

    n: int
    mean: float
    std: float
    half_width: float


@dataclass(frozen=True)
class Paired:
    """A paired comparison: number of pairs, mean difference, its 95 % half-width, two-sided p value, effect size.

    The effect size is Cohen's d of the pairs: the mean difference over the standard deviation of the differences.
    """

    pairs: int
    difference: float
    half_width: float
    p_value: float
    effect_size: float


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
    half_width = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if n >= FEWEST else math.nan
    return Summary(n, float(np.mean(values)), std, half_width)


def score_interval(found: Summary) -> tuple[float, float]:
    """The 95 % interval of a mean score, inside [0, 1]: Student's interval of logit(mean), carried back.

    logit(m) = log(m / (1 - m)); its standard error is that of m over m (1 - m).
    """
    m = found.mean
    if not 0 < m < 1 or math.isnan(found.half_width):
        return m - found.half_width, m + found.half_width
    logit, half_width = math.log(m / (1 - m)), found.half_width / (m * (1 - m))
    return float(expit(logit - half_width)), float(expit(logit + half_width))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for as many tests as there are (Holm 1979); NaN is no test, and stays.

    The i-th smallest of m, i from 0, is multiplied by m - i; none is smaller than one before it, or above 1.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[i] = largest
    return corrected


def paired_test(ours: Mapping[object, float], theirs: Mapping[object, float]) -> Paired:
    """Student's paired t-test, two-sided, of `ours` against `theirs` over the keys that both have.

    t = mean(d) / (std(d) / sqrt(n)) with d the differences and n - 1 degrees of freedom. Fewer than two
    pairs, or pairs that are all equal, give no p value (NaN).
    """
    keys = [key for key in ours if key in theirs]
    differences = np.array([ours[key] - theirs[key] for key in keys], dtype=float)
    found = summarise(differences)
    if found.n < 2 or not differences.any():
        return Paired(found.n, found.mean, found.half_width, math.nan, math.nan)
    error = found.std / math.sqrt(found.n)
    t = math.copysign(math.inf, found.mean) if error == 0 else found.mean / error
    effect = found.mean / found.std if error else math.nan
    return Paired(found.n, found.mean, found.half_width, float(2 * stdtr(found.n - 1, -abs(t))), effect)
