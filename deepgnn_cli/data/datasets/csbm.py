"""Graphs drawn with a chosen homophily, degree and feature noise; no download.

N nodes, M undirected edges, F input features, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Unpack

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, distinct, sorted_edges
from deepgnn_cli.data.relations import between_pairs, csbm_edges, within_pairs
from deepgnn_cli.data.splits import SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.rules.types import Count, NonNegative, Positive, Seed, Share


@related(check_split, csbm_edges)
def csbm(
    *,
    num_nodes: Count,
    num_classes: Annotated[int, Ge(2)],
    average_degree: Positive,
    homophily: Share,
    num_features: Count,
    feature_noise: NonNegative,
    graph_seed: Seed | None,
    split: Literal["random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Contextual stochastic block model (arXiv:1807.09596), with K balanced classes.

    M = round(N * average_degree / 2) distinct undirected edges without self-loops; round(homophily * M) of
    them are drawn uniformly among the pairs of nodes of one class, the rest among the pairs of two classes.
    So both the mean degree and the edge homophily (share of edges within a class) of the graph are what was
    asked for, to rounding. Features are x_i = m_{y_i} + feature_noise * z_i, with class means m_k drawn on
    the unit sphere of R^F and z_i ~ N(0, I).

    Args:
        num_nodes: N.
        num_classes: K.
        average_degree: neighbours of a node, on average.
        homophily: 0 (edges only between classes) to 1 (only within); 1/K carries no information.
        num_features: F.
        feature_noise: deviation of a feature around its class mean.
        graph_seed: draws labels, edges and features; None: the run's seed does.
        split: which kind of split.
        root: not used: nothing is stored.
        seed: the run's seed, for the split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: a knob is out of its range, or so many edges do not exist.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    edges = csbm_edges(
        num_nodes=num_nodes,
        num_classes=num_classes,
        average_degree=average_degree,
        homophily=homophily,
        num_features=num_features,
    )
    draw = np.random.default_rng(seed if graph_seed is None else graph_seed)
    labels = draw.permutation(np.arange(num_nodes) % num_classes)
    by_class, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    within = round(homophily * edges)
    pairs = [_within(_draw(draw, within_pairs(sizes), within), sizes)]
    pairs.append(_between(_draw(draw, between_pairs(sizes), edges - within), sizes))
    ends = by_class[np.concatenate(pairs, axis=1)]
    means = draw.standard_normal((num_classes, num_features), dtype=np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    x = means[labels] + np.float32(feature_noise) * draw.standard_normal((num_nodes, num_features), np.float32)
    edge_index = sorted_edges(np.concatenate([ends, ends[::-1]], axis=1), num_nodes)
    return assemble("csbm", wanted, torch.from_numpy(x), edge_index, torch.from_numpy(labels))


def _draw(draw: np.random.Generator, below: int, count: int) -> NDArray[np.int64]:
    """`count` distinct numbers out of 0..below-1, every such set equally likely."""
    if 2 * count >= below:
        return draw.permutation(below)[:count]
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        more = draw.integers(below, size=16 + (count - len(found)) * 3 // 2)
        found = distinct(np.concatenate([found, more]))
    return draw.permutation(found)[:count]


def _within(numbers: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs i > j of one class that `numbers` count, class by class and row by row: [2, M]."""
    start = np.concatenate([[0], np.cumsum(sizes * (sizes - 1) // 2)])
    k = np.searchsorted(start, numbers, side="right") - 1
    t = numbers - start[k]
    i = ((1 + np.sqrt(1 + 8 * t.astype(np.float64))) / 2).astype(np.int64)
    i -= i * (i - 1) // 2 > t  # just below a whole number, the root of a large t is rounded up to it
    first = (np.cumsum(sizes) - sizes)[k]
    return np.stack([first + i, first + t - i * (i - 1) // 2])


def _between(numbers: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs of two classes a < b that `numbers` count, block (a, b) by block and row by row: [2, M]."""
    a, b = np.triu_indices(len(sizes), k=1)
    start = np.concatenate([[0], np.cumsum(sizes[a] * sizes[b])])
    block = np.searchsorted(start, numbers, side="right") - 1
    row, column = np.divmod(numbers - start[block], sizes[b][block])
    first = np.cumsum(sizes) - sizes
    return np.stack([first[a][block] + row, first[b][block] + column])
