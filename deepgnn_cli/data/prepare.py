"""From raw arrays to a `Graph`: the steps that several families of data sets share.

N nodes, E edges, F input features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.splits import Masks, Split, random_masks


def assemble(
    name: str,
    split: Split,
    x: Tensor,
    edge_index: Tensor,
    y: Tensor,
    *,
    masks: Masks | None = None,
    **more: object,
) -> Graph:
    """The `Graph` of one-label data; without `masks`, those of the random split.

    Args:
        name: the data set.
        split: the checked choice.
        x: [N, F] float32.
        edge_index: [2, E].
        y: [N] int64, negative where a node has no label.
        masks: of a published split.
        **more: further fields of `Graph`, also in place of those derived here.
    """
    masks = random_masks(split, y.numpy()) if masks is None else masks
    derived: dict[str, Any] = {
        "num_classes": int(y.max()) + 1,
        "train": torch.from_numpy(masks.train),
        "val": torch.from_numpy(masks.val),
        "test": torch.from_numpy(masks.test),
    }
    return Graph(name=name, split=split.label, x=x, edge_index=edge_index, y=y, **derived | more)


def spelled_out(graph: Graph) -> Graph:
    """The graph with columns of 0 and 1 in place of categories, for what computes with features."""

    def columns(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
        hot = [one_hot(column.long(), size) for column, size in zip(values.t(), sizes, strict=True)]
        return torch.cat(hot, dim=1).float()

    if graph.categories is not None:
        graph = replace(graph, x=columns(graph.x, graph.categories), categories=None)
    if graph.edge_categories is not None and graph.edge_attr is not None:
        graph = replace(graph, edge_attr=columns(graph.edge_attr, graph.edge_categories), edge_categories=None)
    return graph


def row_normalized(x: Tensor) -> Tensor:
    """Divide each row of x, [N, F], by its sum; rows of zeros stay zero."""
    total = x.sum(dim=1, keepdim=True)
    return torch.where(total == 0, x, x / total)


def standardized(x: Tensor, nodes: Tensor) -> Tensor:
    """Shift and scale the columns of x, [N, F], to mean 0 and deviation 1 over `nodes`, a boolean mask [N].

    A column that is constant over `nodes` is only shifted.
    """
    known = x[nodes]
    deviation = known.std(dim=0, correction=0)
    return (x - known.mean(dim=0)) / torch.where(deviation == 0, 1, deviation)


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different values, sorted; many times faster than numpy's own hash table on millions of values."""
    values = np.sort(values)
    first: NDArray[np.bool_] = np.append(True, values[1:] != values[:-1])[: len(values)]
    found: NDArray[np.int64] = values[first]
    return found


def whole_numbers(values: object, what: str) -> NDArray[np.int64]:
    """Whole numbers as a file may hold them, of whatever type, as int64.

    Raises:
        ValueError: they are no numbers, or not whole.
    """
    found = np.asarray(values)
    if not found.size:
        return found.astype(np.int64)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{what} are no whole numbers, but {found.dtype}")
    if found.dtype.kind == "f" and not (np.isfinite(found).all() and (found == np.rint(found)).all()):
        raise ValueError(f"{what} hold numbers that are not whole, such as {found[found != np.rint(found)][0]:g}")
    return found.astype(np.int64)


def sorted_edges(ends: NDArray[np.int64], n: int) -> Tensor:
    """Directed edges, [2, E], without duplicates, sorted by source and target.

    Raises:
        ValueError: an end is not one of the N nodes.
    """
    if ends.size and (ends.min() < 0 or ends.max() >= n):
        wrong = ends.min() if ends.min() < 0 else ends.max()
        raise ValueError(f"an edge ends at node {wrong}, but there are {n} nodes")
    keys = distinct(ends[0] * n + ends[1])
    return torch.from_numpy(np.stack([keys // n, keys % n]))
