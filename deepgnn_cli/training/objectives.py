"""The loss and the score of a task, as its benchmark defines them.

M nodes or graphs, K classes, binary tasks or numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepgnn_cli.rules.tasks import Loss, Task


@dataclass(frozen=True)
class Objective:
    """`loss(logits, y)` to be minimised and `score(logits, y)`, both scalars on the device.

    logits: [M, K]; y: [M] int64 (one of K classes) or [M, K] float (K binary tasks or numbers; NaN: unlabelled).
    `lower_is_better`: the score is an error.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    name: str
    lower_is_better: bool = False


def objective(metric: str, label_smoothing: float = 0.0, loss: Loss | None = None) -> Objective:
    """The objective of a data set: its metric, one of `METRICS`, and the loss, None: the metric's own."""
    task = Task(metric=metric, loss=loss)
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cross_entropy": lambda logits, y: functional.cross_entropy(logits, y, label_smoothing=label_smoothing),
        "binary_cross_entropy": binary_cross_entropy,
        "mae": mae,
        "mse": mse,
    }
    return Objective(losses[task.minimised], _SCORES[metric], metric, task.direction == "lower")


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over every labelled (item, task) pair."""
    labelled = ~y.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits, y.nan_to_num(), reduction="none")
    return (losses * labelled).sum() / labelled.sum()


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The fraction of nodes, or graphs, whose largest logit is the right one."""
    return (logits.argmax(dim=-1) == y).float().mean()


def macro_f1(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over classes of `2 TP / (2 TP + FP + FN)`; classes that nothing has, or is given, are left out."""
    said, true = (functional.one_hot(each, logits.size(1)) for each in (logits.argmax(dim=-1), y))  # [M, K]
    both, either = (said * true).sum(0), said.sum(0) + true.sum(0)
    return (2.0 * both / either).nanmean()


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


def average_precision(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over tasks of Σ_n (R_n - R_{n-1}) P_n, as OGB's evaluator and scikit-learn define it.

    Per task, over its labelled nodes or graphs, with precision P and recall R at each value of the logits as the
    threshold; tasks without both kinds are left out; NaN if no task has both.
    """
    labelled = ~y.isnan()
    positive = labelled & (y > 0.5)
    count, p = labelled.sum(0, keepdim=True).t(), positive.sum(0, keepdim=True).t()  # [K, 1]
    score, order = _ranked(logits, labelled)
    first = torch.searchsorted(score, score)  # so many labelled ones lie below each threshold
    hit = positive.t().gather(1, order)
    below = (hit.cumsum(1) - hit.long()).gather(1, first.clamp(max=first.size(1) - 1))  # so many of them positive
    precision = (p - below).double() / (count - first).clamp(min=1)
    area = ((precision * hit).sum(1) / p[:, 0]).masked_fill((p == 0)[:, 0] | (p == count)[:, 0], torch.nan)
    return area.nanmean()


def mae(predicted: Tensor, y: Tensor) -> Tensor:
    """The mean of `|predicted - y|` over every labelled (item, target) pair."""
    missed, count = _missed(predicted, y)
    return missed.abs().sum() / count


def mse(predicted: Tensor, y: Tensor) -> Tensor:
    """The mean of `(predicted - y)²` over every labelled (item, target) pair."""
    missed, count = _missed(predicted, y)
    return missed.square().sum() / count


def rmse(predicted: Tensor, y: Tensor) -> Tensor:
    """The root of `mse`."""
    return mse(predicted, y).sqrt()


def log10_mse(predicted: Tensor, y: Tensor) -> Tensor:
    """The logarithm of `mse`."""
    return mse(predicted, y).log10()


def r2(predicted: Tensor, y: Tensor) -> Tensor:
    """The mean over targets of `1 - Σ (predicted - y)² / Σ (y - mean)²`; targets without spread are left out."""
    spread = (y - y.nanmean(0)).square().nansum(0)
    missed = _missed(predicted, y)[0].square().sum(0)
    return (1 - missed / spread).masked_fill(spread == 0, torch.nan).nanmean()


def _missed(predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """By how much, 0 where there is no label (whose NaN would spoil the gradient), and how many there are."""
    labelled = ~y.isnan()
    return (predicted - y.nan_to_num()) * labelled, labelled.sum()


_SCORES = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "mae": mae,
    "mse": mse,
    "rmse": rmse,
    "log10_mse": log10_mse,
    "r2": r2,
}
_ELEMENTS = 1 << 22  # of a tensor of ranks: so many tasks are looked at in one go as take 32 MiB


def _areas(score: Tensor, y: Tensor) -> Tensor:
    """The area of each task, NaN where it has not both kinds; score, y: [M, K], result: [K]. Waits for no device."""
    labelled = ~y.isnan()
    positive = labelled & (y > 0.5)
    p, n = positive.sum(0).double(), (labelled & ~positive).sum(0).double()
    score, order = _ranked(score, labelled)
    first, last = (torch.searchsorted(score, score, right=right) for right in (False, True))
    twice = (first + last + 1) * positive.t().gather(1, order)  # ties share the mean of their ranks, from 1
    area: Tensor = (twice.sum(1) / 2.0 - p * (p + 1) / 2) / (p * n)
    return area.masked_fill((p == 0) | (n == 0), torch.nan)


def _ranked(score: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of each task in rising order, [K, M], and where each was; the unlabelled ones behind all others."""
    largest = torch.finfo(score.dtype).max
    found, order = score.nan_to_num(nan=largest).masked_fill(~labelled, torch.inf).t().contiguous().sort(dim=1)
    return found, order
