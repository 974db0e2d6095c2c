"""Balanced Forman curvature of edges: where a graph has its bottlenecks.

N nodes, E undirected edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.structure.topology import Matrix, degrees


class Neighbours(dict[int, set[int]]):
    """The neighbours of each node, read from the adjacency when first asked for; edges may come and go."""

    def __init__(self, adjacency: Matrix) -> None:
        super().__init__()
        self._adjacency = adjacency

    @staticmethod
    def of_all(adjacency: Matrix) -> Neighbours:
        """Those of every node."""
        of = Neighbours(adjacency)
        for node in range(adjacency.shape[0]):
            of[node]
        return of

    def __missing__(self, node: int) -> set[int]:
        starts = self._adjacency.indptr
        found = set(self._adjacency.indices[starts[node] : starts[node + 1]].tolist())
        self[node] = found
        return found

    def join(self, u: int, v: int) -> None:
        """Add the edge u ~ v."""
        self[u].add(v)
        self[v].add(u)

    def part(self, u: int, v: int) -> None:
        """Remove it."""
        self[u].remove(v)
        self[v].remove(u)


def balanced_forman(adjacency: Matrix, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Balanced Forman curvature (Topping et al. 2022, arXiv:2111.14522, definition 1) of edges, [2, M] -> [M].

        Ric(i, j) = 2/d_i + 2/d_j - 2 + 2 |#Δ| / max(d_i, d_j) + |#Δ| / min(d_i, d_j)
                    + (|#□_i| + |#□_j|) / (γ_max max(d_i, d_j))

    and 0 where min(d_i, d_j) = 1. #Δ are the common neighbours; #□_i the neighbours of i alone that are joined to a
    neighbour of j alone (a 4-cycle without diagonals); γ_max the most such cycles through one of them. Negative edges
    are the narrow doors: many more paths lead to them than around them.
    """
    of = Neighbours(adjacency)
    return np.array([balanced_forman_of(of, int(i), int(j)) for i, j in edges.T])


def balanced_forman_of(of: Neighbours, i: int, j: int) -> float:
    """The curvature of one edge."""
    few, many = sorted((len(of[i]), len(of[j])))
    if few <= 1:
        return 0.0
    common = of[i] & of[j]
    only_i, only_j = of[i] - common - {j}, of[j] - common - {i}
    triangles = len(common)
    cycles = [count for k in only_i if (count := len(of[k] & only_j))]
    curvature = 2 / few + 2 / many - 2 + 2 * triangles / many + triangles / few
    if cycles:
        back = [count for k in only_j if (count := len(of[k] & only_i))]
        curvature += (len(cycles) + len(back)) / (many * max(*cycles, *back))
    return curvature


def sampled_edges(adjacency: Matrix, most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Undirected edges, [2, M], without repetition; all where there are no more than `most`."""
    rows = np.repeat(np.arange(adjacency.shape[0]), degrees(adjacency))
    once = np.flatnonzero(rows < adjacency.indices)
    if len(once) > most:
        once = np.sort(draw.choice(once, most, replace=False))
    return np.stack([rows[once], adjacency.indices[once].astype(np.int64)])
