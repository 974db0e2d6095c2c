"""Methods ranked over data sets (Demšar, JMLR 2006): Friedman's test, and Nemenyi's critical difference of mean ranks.

k methods, N data sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FEWEST = 3
"""The fewest methods, and data sets, that are ranked."""


@dataclass(frozen=True)
class Ranking:
    """The mean rank of each method (1 is best), Friedman's p value, and the critical difference at 5 %.

    Two methods whose mean ranks differ by less than the critical difference are not told apart by so few data sets.
    """

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    datasets: int
    p_value: float
    critical_difference: float


def rank(scores: Mapping[str, Mapping[str, float]], *, smaller_is_better: bool) -> Ranking | None:
    """Rank methods by their scores, over the data sets that all of them have; None where there are too few.

    CD = q(0.05; k, ∞) / √2 · √(k (k + 1) / (6 N)) with q the studentized range; equal scores share a rank.

    Args:
        scores: of each method, the score of each data set.
        smaller_is_better: whether the least score has rank 1.
    """
    datasets = sorted(set.intersection(*(set(found) for found in scores.values()))) if scores else []
    k, n = len(scores), len(datasets)
    if k < FEWEST or n < FEWEST:
        return None
    from scipy import stats  # takes a second, and few comparisons need it

    sign = 1.0 if smaller_is_better else -1.0
    values = sign * np.array([[scores[method][dataset] for method in scores] for dataset in datasets])  # [N, k]
    means = np.mean(stats.rankdata(values, axis=1), axis=0)  # [k]
    equal = bool((values == values[:, :1]).all())
    p_value = math.nan if equal else float(stats.friedmanchisquare(*values.T).pvalue)
    q = float(stats.studentized_range.ppf(0.95, k, np.inf))
    order = np.argsort(means, kind="stable")
    methods = list(scores)
    return Ranking(
        tuple(methods[i] for i in order),
        tuple(float(means[i]) for i in order),
        n,
        p_value,
        q / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n)),
    )
