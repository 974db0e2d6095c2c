"""Balanced Forman curvature of edges: where a graph has its bottlenecks.

N nodes, E undirected edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.structure.topology import Matrix, degrees


def balanced_forman(adjacency: Matrix, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Balanced Forman curvature (Topping et al. 2022, arXiv:2111.14522, definition 1) of edges, [2, M] -> [M].

        Ric(i, j) = 2/d_i + 2/d_j - 2 + 2 |#Δ| / max(d_i, d_j) + |#Δ| / min(d_i, d_j)
                    + (|#□_i| + |#□_j|) / (γ_max max(d_i, d_j))

    and 0 where min(d_i, d_j) = 1. #Δ are the common neighbours; #□_i the neighbours of i alone that are joined to a
    neighbour of j alone (a 4-cycle without diagonals); γ_max the most such cycles through one of them. Negative edges
    are the narrow doors: many more paths lead to them than around them.
    """
    return np.array([_ricci(adjacency, int(i), int(j)) for i, j in edges.T])


def _ricci(adjacency: Matrix, i: int, j: int) -> float:
    of_i, of_j = neighbours(adjacency, i), neighbours(adjacency, j)
    few, many = sorted((len(of_i), len(of_j)))
    if few <= 1:
        return 0.0
    common = np.intersect1d(of_i, of_j, assume_unique=True)
    only_i, only_j = (_without(ours, common, other) for ours, other in ((of_i, j), (of_j, i)))
    triangles = len(common)
    at_i, at_j = _cycles(adjacency, only_i, only_j), _cycles(adjacency, only_j, only_i)
    curvature = 2 / len(of_i) + 2 / len(of_j) - 2 + 2 * triangles / many + triangles / few
    if at_i.any():
        curvature += (np.count_nonzero(at_i) + np.count_nonzero(at_j)) / (many * max(at_i.max(), at_j.max()))
    return float(curvature)


def neighbours(adjacency: Matrix, node: int) -> NDArray[np.int64]:
    """The neighbours of a node, ascending."""
    found: NDArray[np.int64] = adjacency.indices[adjacency.indptr[node] : adjacency.indptr[node + 1]]
    return found


def _without(nodes: NDArray[np.int64], common: NDArray[np.int64], other: int) -> NDArray[np.int64]:
    alone: NDArray[np.int64] = np.setdiff1d(nodes, np.append(common, other), assume_unique=True)
    return alone


def _cycles(adjacency: Matrix, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of `theirs` each of `ours` is joined to."""
    if not len(ours) or not len(theirs):
        return np.zeros(max(1, len(ours)), dtype=np.int64)
    starts, ends = adjacency.indptr[ours], adjacency.indptr[ours + 1]
    counts = ends - starts
    # The neighbours of all of `ours`, one list after the other.
    places = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    found = np.isin(adjacency.indices[places], theirs)
    return np.bincount(np.repeat(np.arange(len(ours)), counts)[found], minlength=len(ours))


def sampled_edges(adjacency: Matrix, most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Undirected edges, [2, M], without repetition; all where there are no more than `most`."""
    rows = np.repeat(np.arange(adjacency.shape[0]), degrees(adjacency))
    once = np.flatnonzero(rows < adjacency.indices)
    if len(once) > most:
        once = np.sort(draw.choice(once, most, replace=False))
    return np.stack([rows[once], adjacency.indices[once].astype(np.int64)])
