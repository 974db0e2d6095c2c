"""Cross-validation: which fold an item is of, and the masks of a run that one fold tests.

M items (graphs or nodes), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.splits import Masks, masks_of

FOLDS = 10


def dealt(labels: NDArray[np.int64], seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each item, [M]: within each class they are dealt out in turn, in an order that `seed` draws.

    Folds differ by one item at most in all, and by one in each class.

    Args:
        labels: [M].
        seed: of the order.
        folds: how many.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def fold_masks(fold_of: NDArray[np.int64], fold: int) -> Masks:
    """Fold `fold` tests, the next one validates, the others train.

    Raises:
        ValueError: there are too few items.
    """
    folds = max(FOLDS, int(fold_of.max()) + 1)
    test, val = fold_of == fold, fold_of == (fold + 1) % folds
    if not (test.any() and val.any() and (~test & ~val).any()):
        raise ValueError(f"dataset.fold={fold}: {len(fold_of)} graphs are too few for {folds} folds")
    return Masks(~test & ~val, val, test)


def numbered_masks(count: int, train: Sequence[int], val: Sequence[int], test: Sequence[int]) -> Masks:
    """The masks of published lists of item numbers.

    Raises:
        ValueError: a number is not one of the items, or is in two lists.
    """
    parts = [np.asarray(part, dtype=np.int64) for part in (train, val, test)]
    every = np.concatenate(parts)
    if every.size and not 0 <= every.min() <= every.max() < count:
        raise ValueError(f"it names item {every.max()}, and there are {count}")
    if len(np.unique(every)) != len(every):
        raise ValueError("it names an item in two of its lists")
    return masks_of(count, *parts)
