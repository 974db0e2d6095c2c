"""Which nodes train, validate and test: how a split is asked for, checked and drawn.

Nothing here imports torch, so that a wrong split is refused before anything heavy starts.

N nodes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

GEOM_SPLITS = 10  # the 60/20/20 splits that Geom-GCN (arXiv:2002.05287) publishes for each of its graphs


class SplitKnobs(TypedDict):
    """The keys of a data set's yaml that choose its split.

    Attributes:
        split: `public` (the benchmark's own), `geom` (Geom-GCN's ten) or `random`.
        split_index: which of Geom-GCN's splits, 0..9; 0 for the others.
        split_seed: seed of a random split; None takes the run's seed.
        train_fraction: share of the nodes that trains, in a random split.
        val_fraction: share of the nodes that validates; the rest tests.
        train_per_class: None, or so many training nodes a class, in place of the fractions.
        val_per_class: validation nodes a class, where `train_per_class` is given; the rest tests.
    """

    split: str
    split_index: int
    split_seed: int | None
    train_fraction: float
    val_fraction: float
    train_per_class: int | None
    val_per_class: int


@dataclass(frozen=True)
class Split:
    """A checked choice of split.

    Args:
        kind: `public`, `geom` or `random`.
        number: 0..9 of a geom split, the seed of a random one, 0 of a public one.
        train, val: fractions of all nodes, or nodes a class where `per_class`.
        per_class: what `train` and `val` count.
    """

    kind: str
    number: int
    train: float
    val: float
    per_class: bool

    @property
    def label(self) -> str:
        """The split as a result row says it: `public`, `geom-3`, `random-0`."""
        return self.kind if self.kind == "public" else f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class Masks:
    """Three disjoint boolean masks, [N] each."""

    train: NDArray[np.bool_]
    val: NDArray[np.bool_]
    test: NDArray[np.bool_]


def check_split(
    offered: Sequence[str],
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
    """The split that the knobs ask for, out of the kinds that the data set offers.

    Raises:
        ValueError: a knob is out of its range, or has no meaning for this kind of split.
    """
    if split not in offered:
        raise ValueError(f"dataset.split={split} is not offered here; choose among: {', '.join(offered)}")
    _check_index(split, split_index, "geom" in offered)
    if split_seed is not None and split_seed < 0:
        raise ValueError(f"dataset.split_seed={split_seed} is negative; seeds start at 0, null takes the run's")
    number = split_index
    if split == "random":
        number = seed if split_seed is None else split_seed
    if train_per_class is not None:
        if train_per_class < 1 or val_per_class < 1:
            raise ValueError(
                f"dataset.train_per_class={train_per_class} and val_per_class={val_per_class} must be at "
                "least 1; train_per_class=null splits by fractions"
            )
        return Split(split, number, train_per_class, val_per_class, per_class=True)
    if not (train_fraction > 0 and val_fraction > 0 and train_fraction + val_fraction < 1):
        raise ValueError(
            f"dataset.train_fraction={train_fraction} and val_fraction={val_fraction} must be positive and "
            "sum to less than 1: the rest is the test set; try 0.6 and 0.2"
        )
    return Split(split, number, train_fraction, val_fraction, per_class=False)


def _check_index(split: str, index: int, geom: bool) -> None:
    if not 0 <= index < GEOM_SPLITS:
        raise ValueError(f"dataset.split_index={index} is not in 0..{GEOM_SPLITS - 1}: there are ten geom splits")
    if index and split != "geom":
        remedy = "dataset.split=geom" if geom else "dataset.split_index=0"
        if split == "random":
            remedy = f"dataset.split_seed={index}"
        raise ValueError(f"dataset.split_index={index} numbers geom splits, but split={split}; try {remedy}")


def random_masks(split: Split, labels: NDArray[np.int64]) -> Masks:
    """Draw a random split of N nodes; the same `split` and labels always give the same masks.

    By fractions, the sizes are round(fraction N) and the rest tests. Per class (Shchur et al.,
    arXiv:1811.05868), each class gives `train` and `val` nodes, and all others test. Nodes with a negative
    label have none, and stay out of every mask.

    Args:
        split: the checked choice.
        labels: [N], or [N, K] for multi-label data (fractions only).

    Raises:
        ValueError: the graph or a class is too small for what is asked.
    """
    draw = np.random.default_rng(split.number)
    labelled = np.arange(len(labels)) if labels.ndim > 1 else np.flatnonzero(labels >= 0)
    order = draw.permutation(labelled)
    if split.per_class:
        parts = _per_class(order, labels, int(split.train), int(split.val))
    else:
        train = round(split.train * len(order))
        val = round(split.val * len(order))
        parts = [order[:train], order[train : train + val], order[train + val :]]
    if not all(part.size for part in parts):
        sizes = "/".join(str(part.size) for part in parts)
        raise ValueError(
            f"dataset.split=random leaves {sizes} of {len(order)} labelled nodes to train/validate/test; "
            "each must have some: change train_fraction, val_fraction or train_per_class"
        )
    return masks_of(len(labels), *parts)


def _per_class(order: NDArray[np.int64], labels: NDArray[np.int64], train: int, val: int) -> list[NDArray[np.int64]]:
    if labels.ndim > 1:
        raise ValueError("dataset.train_per_class needs one class a node, but this data is multi-label; use null")
    kept: list[list[NDArray[np.int64]]] = [[], [], []]
    for k in np.unique(labels[labels >= 0]):
        members = order[labels[order] == k]
        if members.size < train + val:
            raise ValueError(
                f"class {k} has {members.size} nodes, fewer than dataset.train_per_class={train} + "
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


def check_public(split: str) -> None:
    """Refuse any split but the benchmark's own.

    Raises:
        ValueError: `split` is not `public`.
    """
    if split != "public":
        raise ValueError(f"dataset.split={split} is not offered here: this benchmark has only its own, public")
