"""Rewiring for a larger spectral gap: FoSR, and a layer of an expander graph.

N nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepgnn_cli.data.rewiring.piece import Piece
from deepgnn_cli.data.structure import topology
from deepgnn_cli.rules.types import Count, Natural, Seed

Vector = NDArray[np.float64]


def fosr(piece: Piece, *, iterations: Natural, power_iterations: Count, seed: Seed | None) -> Piece:
    """First-order spectral rewiring (Karhadkar et al. 2023, arXiv:2210.11790).

    In turn, the edge (u, v) is added that raises λ_2 of the normalised Laplacian most to first order: that with the
    least x_u x_v / sqrt((1 + d_u)(1 + d_v)), x the second eigenvector, followed by power iteration. In the largest
    component; other nodes keep their edges. The paper also marks new edges with a relation of their own, which this
    does not.

    Args:
        piece: the graph.
        iterations: undirected edges to add.
        power_iterations: steps towards x before the first edge; one follows each.
        seed: draws where the iteration starts; None: the run's seed does.
    """
    assert seed is not None
    whole = piece.adjacency()
    nodes = np.flatnonzero(topology.pieces(whole) == 0)
    adjacency = whole[nodes][:, nodes].tolil()
    degree = np.array(adjacency.sum(axis=1), dtype=np.float64).ravel()
    x = 2 * np.random.default_rng(seed).random(len(nodes)) - 1
    added = []
    if len(nodes) > 2:
        matrix = adjacency.tocsr()
        for _ in range(power_iterations):
            x = _power_step(matrix, degree, x)
        joined = [set(row) for row in adjacency.rows]
        for _ in range(iterations):
            pair = next(_best_pairs(x / np.sqrt(1 + degree), joined), None)
            if pair is None:
                break
            u, v = pair
            added.append((u, v))
            joined[u].add(v)
            joined[v].add(u)
            degree[[u, v]] += 1
            x = _power_step(matrix, degree, x, added)
    return piece.with_pairs(nodes[np.array(added, dtype=np.int64).reshape(-1, 2).T])


def _power_step(
    matrix: topology.Matrix, degree: Vector, x: Vector, added: list[tuple[int, int]] | None = None
) -> Vector:
    """A step of power iteration with I + D^-1/2 A D^-1/2, off its first eigenvector sqrt(d); `added` join A."""
    root = np.sqrt(degree)
    x = x - x @ root * root / degree.sum()
    y = x / root
    product = matrix @ y
    if added:
        u, v = np.array(added).T
        np.add.at(product, u, y[v])
        np.add.at(product, v, y[u])
    x = x + product / root
    step: Vector = x / np.linalg.norm(x)
    return step


def _best_pairs(y: Vector, joined: list[set[int]]) -> Iterator[tuple[int, int]]:
    """Pairs that are not joined, by y_u y_v, the least first, as far as one is negative and the other positive.

    The order in which the sorted lists of both are walked through visits few pairs beyond those it gives.
    """
    order = np.argsort(y, kind="stable")
    low, high = order[y[order] < 0], order[y[order] > 0][::-1]
    if not len(low) or not len(high):
        return
    heap, seen = [(y[low[0]] * y[high[0]], 0, 0)], {(0, 0)}
    while heap:
        _, i, j = heapq.heappop(heap)
        u, v = int(low[i]), int(high[j])
        if v not in joined[u]:
            yield u, v
        for place in ((i + 1, j), (i, j + 1)):
            if place[0] < len(low) and place[1] < len(high) and place not in seen:
                seen.add(place)
                heapq.heappush(heap, (y[low[place[0]]] * y[high[place[1]]], *place))


def expander(piece: Piece) -> Piece:
    """The edges of an expander as well (expander graph propagation: Deac et al. 2022, arXiv:2210.02997).

    The Cayley graph of SL(2, Z_n) with the generators (1 1; 0 1) and (1 0; 1 1), of degree 4 and logarithmic diameter,
    for the least n that gives N nodes; of a larger one the first N in breadth-first order, as published. The paper
    propagates over the graph and the expander in turn, this over both in every layer.
    """
    return piece.with_pairs(cayley(piece.num_nodes))


def cayley(num_nodes: int) -> NDArray[np.int64]:
    """The edges, [2, M], of the Cayley graph's first `num_nodes` nodes in breadth-first order from the identity."""
    if num_nodes < 2:
        return np.empty((2, 0), dtype=np.int64)
    n = next(n for n in range(2, num_nodes + 2) if group_order(n) >= num_nodes)
    number = {(1, 0, 0, 1): 0}
    order = [(1, 0, 0, 1)]
    pairs = []
    for a, b, c, d in order:  # grows while it is walked through
        own = number[a, b, c, d]
        for element in (
            (a, (a + b) % n, c, (c + d) % n),  # times (1 1; 0 1)
            (a, (b - a) % n, c, (d - c) % n),  # and its inverse
            ((a + b) % n, b, (c + d) % n, d),  # times (1 0; 1 1)
            ((a - b) % n, b, (c - d) % n, d),
        ):
            if element not in number and len(order) < num_nodes:
                number[element] = len(order)
                order.append(element)
            if element in number and own < number[element]:
                pairs.append((own, number[element]))
    return np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2).T


def group_order(n: int) -> int:
    """The number of elements of SL(2, Z_n): n³ Π_(p | n) (1 - 1/p²)."""
    order, rest, p = n**3, n, 2
    while rest > 1:
        if rest % p == 0:
            order -= order // p**2
            while rest % p == 0:
                rest //= p
        p += 1
    return order
