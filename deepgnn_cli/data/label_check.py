"""Labels and masks of a graph: what they must be, by what is labelled.

N nodes, G graphs, M = N or G labelled items, K classes, binary tasks or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepgnn_cli.data.tensors import integers, rule, tensor
from deepgnn_cli.rules.tasks import METRICS


def numbers(value: object, n: int, targets: int, level: str) -> Tensor:
    """The targets of a regression, [M, K]."""
    y = tensor(value, "y").float()
    y = y[:, None] if y.dim() == 1 else y
    rule(y.shape == (n, targets), f"y has shape {list(y.shape)}, it must be {[n, targets]}: numbers a {level}")
    rule(not bool(y.isinf().any()), "y holds an infinite number; NaN stands for what is unknown")
    return y


_COUNTED = {"node": "N", "graph": "G"}


def _count(n: int, level: str) -> str:
    return f"x has N={n} rows" if level == "node" else f"there are G={n} graphs"


def labels(value: object, n: int, classes: int, metric: str, level: str) -> Tensor:
    """The labels of classes, [M] int64, or of binary tasks, [M, K] float32."""
    y, one_class = tensor(value, "y"), METRICS[metric].kind == "classes"
    if y.dim() == 2 and y.size(1) == 1 and one_class:
        y = y[:, 0]
    if y.dim() == 1 and classes == 1 and not one_class:
        y = y[:, None]
    rule(
        y.dim() in (1, 2) and y.size(0) == n, f"y has shape {list(y.shape)}, but {_count(n, level)}: a label a {level}"
    )
    if y.dim() == 2:
        known = ~y.isnan() if y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
        rule(
            bool(((y == 0) | (y == 1))[known].all()),
            f"y of shape [{_COUNTED[level]}, K] must hold 0, 1, or NaN where unknown",
        )
        rule(y.size(1) == classes, f"y has {y.size(1)} columns, but num_classes={classes}; set num_classes={y.size(1)}")
        if not one_class:
            return y.float()
        hot = (y.nan_to_num(0) if y.is_floating_point() else y).long()
        rule(bool((hot.sum(1) <= 1).all()), f"y gives a {level} several classes; set metric to 'micro_f1' or 'roc_auc'")
        return torch.where(hot.sum(1) == 1, hot.argmax(1), -1)
    rule(
        one_class,
        f"metric={metric} needs y of shape [{_COUNTED[level]}, K] with 0/1; for one class a {level} use 'accuracy'",
    )
    if y.is_floating_point():
        y = y.nan_to_num(-1, posinf=0.5, neginf=0.5)
    found = integers(y, "y")
    top = int(found.max())
    hint = "; are they counted from 1? subtract 1" if top == classes and int(found.min()) == 1 else ""
    rule(
        top < classes,
        f"y holds label {top}, but num_classes={classes}: labels run from 0 to {classes - 1}, -1 where unknown{hint}",
    )
    return found.clamp(min=-1)


def boolean_mask(value: object, name: str, n: int, level: str = "node") -> Tensor:
    """A mask [M], or [M, S] of S splits, as booleans; of zeros and ones, or of numbers of nodes or graphs.

    Raises:
        ValueError: it is nothing of these.
    """
    mask, counted = tensor(value, name), _COUNTED[level]
    mask = mask.reshape(1) if mask.dim() == 0 else mask
    if mask.dim() == 2:
        turned = "; try its transpose" if mask.size(1) == n else ""
        rule(mask.size(0) == n, f"{name} has shape {list(mask.shape)}, it must be [{counted}, splits]={[n]}{turned}")
        rule(bool(((mask == 0) | (mask == 1)).all()), f"{name} of shape {list(mask.shape)} must hold 0 and 1")
        return mask.bool()
    rule(
        mask.dim() == 1,
        f"{name} has shape {list(mask.shape)}, it must be [{counted}]={[n]} booleans, or {level} numbers",
    )
    if mask.dtype == torch.bool or (mask.numel() == n and bool(((mask == 0) | (mask == 1)).all()) and n > 2):
        rule(mask.numel() == n, f"{name} has {mask.numel()} entries, but {_count(n, level)}")
        return mask.bool()
    rule(mask.dtype != torch.uint8, f"{name} is of uint8 and must be [{counted}]={[n]} of 0 and 1")
    nodes = integers(mask, name)
    rule(
        not nodes.numel() or 0 <= int(nodes.min()) <= int(nodes.max()) < n,
        f"{name} holds {level} numbers outside 0..{n - 1}: give a boolean mask [{counted}], or numbers of {level}s",
    )
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[nodes] = True
    return chosen


def mask_of(value: object, name: str, n: int, split_index: int, level: str) -> Tensor:
    """A mask, [M] bool, of what `boolean_mask` takes."""
    mask = boolean_mask(value, name, n, level)
    if mask.dim() == 2:
        rule(
            0 <= split_index < mask.size(1) or mask.size(1) == 1,
            f"{name} holds {mask.size(1)} splits; dataset.split_index={split_index} is not in 0..{mask.size(1) - 1}",
        )
        mask = mask[:, 0 if mask.size(1) == 1 else split_index]
    return mask


def check_score(masks: Mapping[str, Tensor], y: Tensor, metric: str, level: str) -> None:
    """Refuse validation and test sets of which the metric says nothing, whatever is predicted."""
    for name in ("val", "test"):
        part = y[masks[name]]
        if metric in ("roc_auc", "average_precision"):
            both = (part == 0).any(dim=0) & (part == 1).any(dim=0)
            why = f"compares {level}s with label 1 to those with 0, and in {name} no task has both"
            rule(bool(both.any()), f"metric={metric} {why}; draw another split, or choose another metric")
        if metric == "r2":
            spread = part.nan_to_num(-torch.inf).amax(0) > part.nan_to_num(torch.inf).amin(0)
            why = f"is a share of the labels' variance, and in {name} they are all alike"
            rule(bool(spread.any()), f"metric={metric} {why}; draw another split, or choose another metric")


def check_masks(masks: Mapping[str, Tensor], y: Tensor, level: str) -> None:
    """Refuse masks that are empty, overlap, or hold what has no label."""
    unlabelled = y < 0 if y.dim() == 1 else y.isnan().all(dim=1)
    for name, mask in masks.items():
        rule(bool(mask.any()), f"{name} is empty: training, validation and test set need a {level} each; draw a split")
        bad = (mask & unlabelled).nonzero()[:, 0]
        rule(
            not bad.numel(),
            f"y has no label for {bad.numel()} {level}s of {name}, e.g. {bad[:1].tolist()}; take them out of {name}",
        )
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        both = int((masks[a] & masks[b]).sum())
        rule(not both, f"{a} and {b} share {both} {level}s: the sets must not overlap; take them out of one")
