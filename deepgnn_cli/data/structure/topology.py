"""How well a graph is connected: spectral gap, effective resistance, diameter, degrees.

Direction, weights, self-loops and repeated edges are left aside. Of a graph in several pieces the largest is measured.

N nodes, E undirected edges, P pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse import csgraph
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, cg, eigsh

_DENSE = 300  # nodes up to which all eigenvalues are computed
_INVERTED = 20_000  # nodes up to which a factorisation is tried where Lanczos' iteration does not converge
_RESISTANCE_WORK = 4_000_000  # entries of all systems that are solved together
_SWEEPS = 4

Matrix = Any
"""A symmetric scipy CSR array [N, N] of 0 and 1, nothing on its diagonal."""


def simple(edge_index: NDArray[np.int64], num_nodes: int) -> Matrix:
    """The adjacency of the simple undirected graph, from directed edges [2, E]."""
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    entries = np.ones(len(source), dtype=np.float64)
    directed = sp.coo_array((entries, (target, source)), shape=(num_nodes, num_nodes)).tocsr()
    adjacency = directed + directed.T
    adjacency.data[:] = 1
    adjacency.sort_indices()
    return adjacency


def pieces(adjacency: Matrix) -> NDArray[np.int64]:
    """Which connected component each node is in, [N]; 0 is the largest."""
    _, label = csgraph.connected_components(adjacency, directed=False)
    sizes = np.bincount(label)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    number: NDArray[np.int64] = rank[label]
    return number


def largest(adjacency: Matrix) -> Matrix:
    """The largest connected component, its nodes in their order."""
    kept = np.flatnonzero(pieces(adjacency) == 0)
    return adjacency[kept][:, kept]


def degrees(adjacency: Matrix) -> NDArray[np.int64]:
    """The degree of each node, [N]."""
    found: NDArray[np.int64] = np.diff(adjacency.indptr)
    return found


def spectral_gap(adjacency: Matrix) -> float | None:
    """λ_2 of the normalised Laplacian I - D^-1/2 A D^-1/2 of a connected graph: near 0 where one cut nearly parts it.

    Cheeger: h² / 2 ≤ λ_2 ≤ 2 h, h the smallest share of edges that leave a half. In (0, 2]. None where it has a single
    node, or no iteration converges.
    """
    n = adjacency.shape[0]
    if n < 2:
        return None
    walk = _normalised(adjacency)
    if n <= _DENSE:
        return float(1 - np.linalg.eigvalsh(walk.toarray())[-2])
    start = np.random.default_rng(0).standard_normal(n)  # the same digits every time
    try:
        values = eigsh(walk, k=2, which="LA", v0=start, tol=1e-6, ncv=32, maxiter=400, return_eigenvectors=False)
    except ArpackNoConvergence:
        if n > _INVERTED:
            return None
        try:  # eigenvalues of long graphs lie close together below 1: those nearest are told apart by the inverse
            values = eigsh(walk.tocsc(), k=2, sigma=1 + 1e-6, v0=start, tol=1e-6, return_eigenvectors=False)
        except (ArpackError, RuntimeError):
            return None
    return float(max(1 - np.min(values), 0.0))


def _normalised(adjacency: Matrix) -> Matrix:
    """D^-1/2 A D^-1/2."""
    root = sp.diags_array(1 / np.sqrt(np.maximum(degrees(adjacency), 1)))
    return (root @ adjacency @ root).tocsr()


def effective_resistance(adjacency: Matrix, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The resistance between the nodes of each pair, [2, P] -> [P], in a connected graph of unit resistors.

        R(u, v) = (e_u - e_v)ᵀ L⁺ (e_u - e_v)

    High where few and long paths join u and v: over-squashing between them (arXiv:2302.06835). By conjugate gradients;
    NaN where they do not converge.
    """
    degree = degrees(adjacency)
    laplacian = (sp.diags_array(degree.astype(np.float64)) - adjacency).tocsr()
    preconditioner = sp.diags_array(1 / np.maximum(degree, 1))
    found = np.full(pairs.shape[1], np.nan)
    for number, (u, v) in enumerate(pairs.T):
        current = np.zeros(len(degree))
        current[u], current[v] = 1, -1
        # The all-ones kernel does no harm: the current sums to zero, and only a difference is read.
        potential, failed = cg(laplacian, current, rtol=1e-6, maxiter=4000, M=preconditioner)
        if not failed:
            found[number] = potential[u] - potential[v]
    return found


def sampled_pairs(adjacency: Matrix, most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Pairs of different nodes, [2, P]: at most `most`, fewer where a graph is large."""
    n = adjacency.shape[0]
    count = int(np.clip(_RESISTANCE_WORK // max(1, adjacency.nnz), 4, most)) if n > 1 else 0
    u = draw.integers(n, size=count)
    return np.stack([u, (u + draw.integers(1, max(2, n), size=count)) % n])


def diameter(adjacency: Matrix) -> int:
    """A lower bound on the diameter of a connected graph, mostly tight: the longest of a few double sweeps.

    Each sweep walks to the node farthest from the one before (Magnien et al. 2009, arXiv:0904.2728).
    """
    node, longest = int(np.argmax(degrees(adjacency))), 0
    for _ in range(_SWEEPS):
        hops = csgraph.dijkstra(adjacency, directed=False, indices=node, unweighted=True)
        node, longest = int(np.argmax(hops)), max(longest, int(hops.max()))
    return longest
