"""The loss and the score of a task, as its benchmark defines them.

N nodes, K classes or binary tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Objective:
    """`loss(logits, y)` to be minimised and `score(logits, y)` in [0, 1], both scalars on the device.

    logits: [M, K]; y: [M] int64 (one of K classes) or [M, K] float (K binary tasks; NaN: unlabelled).
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    name: str


def objective(metric: str, label_smoothing: float = 0.0) -> Objective:
    """The objective of a data set whose metric is `accuracy`, `micro_f1` or `roc_auc`."""
    if metric == "accuracy":
        return Objective(
            lambda logits, y: functional.cross_entropy(logits, y, label_smoothing=label_smoothing), accuracy, metric
        )
    return Objective(binary_cross_entropy, {"micro_f1": micro_f1, "roc_auc": roc_auc}[metric], metric)


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over every labelled (node, task) pair."""
    labelled = ~y.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits, y.nan_to_num(), reduction="none")
    return (losses * labelled).sum() / labelled.sum()


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The fraction of nodes whose largest logit is the right one."""
    return (logits.argmax(dim=-1) == y).float().mean()


def micro_f1(logits: Tensor, y: Tensor) -> Tensor:
    """`2 TP / (2 TP + FP + FN)` over all labelled (node, task) pairs; 0 where nothing is, or is said, positive."""
    labelled = ~y.isnan()
    said, true = (logits > 0) & labelled, (y > 0.5) & labelled
    both = (said & true).sum()
    return 2 * both / (said.sum() + true.sum()).clamp(min=1)


def roc_auc(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over tasks of the area under the ROC curve, as OGB's evaluator defines it.

    Per task, over its labelled nodes, the probability that a positive ranks above a negative, ties counting half
    (the Mann-Whitney statistic); tasks without both kinds are left out; NaN if no task has both.
    """
    tasks = max(1, _ELEMENTS // max(1, y.size(0)))
    areas = torch.cat([_areas(*part) for part in zip(logits.split(tasks, 1), y.split(tasks, 1), strict=True)])
    return areas.nanmean()


_ELEMENTS = 1 << 22  # of a tensor of ranks: so many tasks are looked at in one go as take 32 MiB


def _areas(score: Tensor, y: Tensor) -> Tensor:
    """The area of each task, NaN where it has not both kinds; score, y: [M, K], result: [K]. Waits for no device."""
    labelled = ~y.isnan()
    positive = labelled & (y > 0.5)
    p, n = positive.sum(0).double(), (labelled & ~positive).sum(0).double()
    # Behind everything else, so that they leave the ranks of the labelled alone.
    largest = torch.finfo(score.dtype).max
    score = score.nan_to_num(nan=largest).masked_fill(~labelled, torch.inf).t().contiguous()  # [K, M]
    score, order = score.sort(dim=1)
    first, last = (torch.searchsorted(score, score, right=right) for right in (False, True))
    twice = (first + last + 1) * positive.t().gather(1, order)  # ties share the mean of their ranks, from 1
    area: Tensor = (twice.sum(1) / 2.0 - p * (p + 1) / 2) / (p * n)
    return area.masked_fill((p == 0) | (n == 0), torch.nan)
