"""Which nodes train, validate and test: how a split is asked for, checked and drawn.

Nothing here imports torch, so that a wrong split is refused before anything heavy starts.

N nodes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from deepgnn_cli.rules.types import Count, Natural, Seed

# How many splits are published with the graphs: Geom-GCN's of 60/20/20 (arXiv:2002.05287) for each of its own, or those
# that come with a data set's files, at most (WikiCS has so many, the heterophilous graphs ten).
NUMBERED = {"geom": 10, "fixed": 20}

Part = Annotated[float, Gt(0), Lt(1)]


class SplitKnobs(TypedDict):
    """The keys that choose a split, beside `split`: the kinds a data set offers are in its own signature.

    Attributes:
        split_index: which of the published splits, from 0; 0 where there is one, or a random one.
        split_seed: seed of a random split; None takes the run's seed.
        train_fraction: share of the nodes that trains, in a random split.
        val_fraction: share of the nodes that validates; the rest tests.
        train_per_class: None, or so many training nodes a class, in place of the fractions.
        val_per_class: validation nodes a class, where `train_per_class` is given; the rest tests.
    """

    split_index: Natural
    split_seed: Seed | None
    train_fraction: Part
    val_fraction: Part
    train_per_class: Count | None
    val_per_class: Count


@dataclass(frozen=True)
class Split:
    """A checked choice of split.

    Args:
        kind: `public`, `geom`, `fixed` or `random`.
        number: which geom or fixed split, from 0; the seed of a random one, 0 of a public one.
        train, val: fractions of all nodes, or nodes a class where `per_class`.
        per_class: what `train` and `val` count.
    """

    kind: str
    number: int
    train: float
    val: float
    per_class: bool

    def __post_init__(self) -> None:
        assert self.kind in ("public", "random", *NUMBERED), self.kind

    @property
    def label(self) -> str:
        """The split as a result row says it: `public`, `geom-3`, `fixed-3`, `random-0`."""
        return self.kind if self.kind == "public" else f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class Masks:
    """Three disjoint boolean masks, [N] each."""

    train: NDArray[np.bool_]
    val: NDArray[np.bool_]
    test: NDArray[np.bool_]


def check_split(
    *,
    seed: int,
    split: str,
    split_index: int,
    split_seed: int | None,
    train_fraction: float,
    val_fraction: float,
    train_per_class: int | None,
    val_per_class: int,
) -> Split:
    """The split that the keys ask for.

    Raises:
        ValueError: a key has no meaning for this kind of split, or the fractions leave no test set.
    """
    _check_index(split, split_index)
    number = split_index
    if split == "random":
        number = seed if split_seed is None else split_seed
    if train_per_class is not None:
        return Split(split, number, train_per_class, val_per_class, per_class=True)
    if train_fraction + val_fraction >= 1:
        raise ValueError(
            f"dataset.train_fraction={train_fraction} and val_fraction={val_fraction} must "
            "sum to less than 1: the rest is the test set; try 0.6 and 0.2"
        )
    return Split(split, number, train_fraction, val_fraction, per_class=False)


def _check_index(split: str, index: int) -> None:
    there = NUMBERED.get(split, 1)
    if index and there == 1:
        remedy = f"dataset.split_seed={index}" if split == "random" else "dataset.split=geom where there are such"
        raise ValueError(f"dataset.split_index={index} numbers published splits, but split={split}; try {remedy}")
    if index >= there:
        raise ValueError(f"dataset.split_index={index} is not in 0..{there - 1}: there are {there} {split} splits")


def random_masks(split: Split, labels: NDArray[np.int64], items: str = "nodes") -> Masks:
    """Draw a random split of N nodes; the same `split` and labels always give the same masks.

    By fractions, the sizes are round(fraction N) and the rest tests. Per class (Shchur et al.,
    arXiv:1811.05868), each class gives `train` and `val` nodes, and all others test. Nodes with a negative
    label have none, and stay out of every mask.

    Args:
        split: the checked choice.
        labels: [N], or [N, K] for multi-label data (fractions only).
        items: what is labelled, to be named where something is wrong.

    Raises:
        ValueError: the graph or a class is too small for what is asked.
    """
    draw = np.random.default_rng(split.number)
    labelled = np.arange(len(labels)) if labels.ndim > 1 else np.flatnonzero(labels >= 0)
    order = draw.permutation(labelled)
    if split.per_class:
        parts = _per_class(order, labels, int(split.train), int(split.val), items)
    else:
        train = round(split.train * len(order))
        val = round(split.val * len(order))
        parts = [order[:train], order[train : train + val], order[train + val :]]
    if not all(part.size for part in parts):
        sizes = "/".join(str(part.size) for part in parts)
        raise ValueError(
            f"dataset.split=random leaves {sizes} of {len(order)} labelled {items} to train/validate/test; "
            "each must have some: change train_fraction, val_fraction or train_per_class"
        )
    return masks_of(len(labels), *parts)


def _per_class(
    order: NDArray[np.int64], labels: NDArray[np.int64], train: int, val: int, items: str
) -> list[NDArray[np.int64]]:
    if labels.ndim > 1:
        raise ValueError(f"dataset.train_per_class counts {items} of a class, but this data is multi-label; use null")
    kept: list[list[NDArray[np.int64]]] = [[], [], []]
    for k in np.unique(labels[labels >= 0]):
        members = order[labels[order] == k]
        if members.size < train + val:
            raise ValueError(
                f"class {k} has {members.size} {items}, fewer than dataset.train_per_class={train} + "
                f"val_per_class={val}; lower them, or train_per_class=null for fractions"
            )
        for part, nodes in zip(kept, np.split(members, [train, train + val]), strict=True):
            part.append(nodes)
    return [np.concatenate(part) for part in kept]


def masks_of(n: int, *parts: NDArray[np.int64]) -> Masks:
    """Three lists of node numbers as masks of N nodes."""
    masks = np.zeros((3, n), dtype=bool)
    for mask, nodes in zip(masks, parts, strict=True):
        mask[nodes] = True
    return Masks(*masks)
