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
    areas = [area for k in range(y.size(1)) if (area := _area(logits[:, k], y[:, k])) is not None]
    return torch.stack(areas).mean() if areas else torch.tensor(float("nan"), device=y.device)


def _area(score: Tensor, y: Tensor) -> Tensor | None:
    labelled = ~y.isnan()
    score, positive = score[labelled].double(), y[labelled] > 0.5
    p, n = int(positive.sum()), int((~positive).sum())
    if not p or not n:
        return None
    values, inverse, counts = score.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    rank = (last - (counts - 1) / 2)[inverse]
    area: Tensor = (rank[positive].sum() - p * (p + 1) / 2) / (p * n)
    return area
