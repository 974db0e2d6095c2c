"""Rewiring by curvature: SDRF and BORF widen the narrow doors and may close doors that are too wide.

N nodes, E undirected edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from deepgnn_cli.data.rewiring.piece import Piece
from deepgnn_cli.data.structure.curvature import Neighbours, balanced_forman_of
from deepgnn_cli.rules.types import Natural, Seed

Edge = tuple[int, int]


def sdrf(
    piece: Piece,
    *,
    iterations: Natural,
    tau: Annotated[float, Gt(0)],
    remove_above: float | None,
    seed: Seed | None,
) -> Piece:
    """Stochastic discrete Ricci flow (Topping et al. 2022, arXiv:2111.14522, algorithm 1).

    In turn, for the edge i ~ j of the most negative balanced Forman curvature: an edge is added between a node of i's
    neighbourhood and one of j's, drawn by softmax(τ · how much it raises the curvature of i ~ j); then the edge of
    the highest curvature is removed, if that is above C⁺.

    Args:
        piece: the graph.
        iterations: how often.
        tau: τ; large: always the best.
        remove_above: C⁺; None: nothing is removed.
        seed: draws the edges; None: the run's seed does.
    """
    assert seed is not None
    draw = np.random.default_rng(seed)
    of = Neighbours.of_all(piece.adjacency())
    curvature = {edge: balanced_forman_of(of, *edge) for edge in _edges(of)}
    before = set(curvature)
    for _ in range(iterations if curvature else 0):
        new = _supporting_edge(of, *_extreme(curvature, min), tau, draw)
        if new is not None:
            of.join(*new)
            _update(curvature, of, _touched(of, *new))
        widest = _extreme(curvature, max)
        removed = remove_above is not None and curvature[widest] > remove_above
        if removed:
            touched = list(_touched(of, *widest))  # while it is there
            of.part(*widest)
            _update(curvature, of, touched)
        if new is None and not removed:
            break
    return _changed(piece, before, set(curvature))


def _extreme(curvature: dict[Edge, float], which: object) -> Edge:
    """The edge of the least (min) or greatest (max) curvature, the first in order among equals."""
    sign = 1 if which is min else -1
    return min(curvature, key=lambda edge: (sign * curvature[edge], edge))


def _supporting_edge(of: Neighbours, i: int, j: int, tau: float, draw: np.random.Generator) -> Edge | None:
    """The edge to add for i ~ j; None if all of their neighbourhoods are joined already."""
    now = balanced_forman_of(of, i, j)
    balls = sorted({i, *of[i]}), sorted({j, *of[j]})
    candidates = sorted({_ordered(k, m) for k in balls[0] for m in balls[1] if k != m and m not in of[k]})
    gains = []
    for edge in candidates:
        of.join(*edge)
        gains.append(balanced_forman_of(of, i, j) - now)
        of.part(*edge)
    if not candidates:
        return None
    weight = np.exp(tau * (np.array(gains) - max(gains)))
    return candidates[int(draw.choice(len(candidates), p=weight / weight.sum()))]


def _touched(of: Neighbours, i: int, j: int) -> Iterator[Edge]:
    """The edges whose curvature knows of i ~ j: those at either end, and those that close a 4-cycle with it."""
    for u, v in ((i, j), (j, i)):
        yield from (_ordered(u, w) for w in of[u])
        for k in of[u]:
            yield from (_ordered(k, w) for w in of[k] & of[v])


def _update(curvature: dict[Edge, float], of: Neighbours, edges: Iterable[Edge]) -> None:
    for u, v in set(edges):
        if v in of[u]:
            curvature[u, v] = balanced_forman_of(of, u, v)
        else:
            curvature.pop((u, v), None)


def borf(piece: Piece, *, batches: Natural, add: Natural, remove: Natural) -> Piece:
    """Batch Ollivier-Ricci flow (Nguyen et al. 2023, arXiv:2211.15779).

    In each batch, for the `add` edges u ~ v of the least Ollivier-Ricci curvature

        κ(u, v) = 1 - W_1(μ_u, μ_v),  μ_u uniform on the neighbours of u

    the edge p ~ q is added along which the optimal transport from μ_u to μ_v costs most, and the `remove` edges of the
    greatest curvature are removed.

    Args:
        piece: the graph.
        batches: how often.
        add: edges to support in a batch.
        remove: edges to remove in a batch.
    """
    of = Neighbours.of_all(piece.adjacency())
    before = set(_edges(of))
    for _ in range(batches):
        plans = {edge: transport(of, *edge) for edge in _edges(of)}
        ranked = sorted(plans, key=lambda edge: (1 - plans[edge][0], edge))
        for edge in ranked[:add]:
            p, q = plans[edge][1]
            if p != q and q not in of[p]:
                of.join(p, q)
        for edge in ranked[len(ranked) - min(remove, len(ranked)) :]:
            of.part(*edge)
    return _changed(piece, before, set(_edges(of)))


def transport(of: Neighbours, u: int, v: int) -> tuple[float, Edge]:
    """W_1 between the uniform measures on the neighbours of u and of v, and the pair along which most of it is paid."""
    import ot  # takes a second to import

    sources, targets = sorted(of[u]), sorted(of[v])
    hops = np.array([[_hops(of, p, q) for q in targets] for p in sources], dtype=np.float64)
    plan = ot.emd(np.full(len(sources), 1 / len(sources)), np.full(len(targets), 1 / len(targets)), hops)
    paid = plan * hops
    p, q = np.unravel_index(paid.argmax(), paid.shape)
    return float(paid.sum()), (sources[p], targets[q])


def _hops(of: Neighbours, p: int, q: int) -> int:
    """The distance between neighbours of the two ends of an edge: at most 3."""
    if p == q:
        return 0
    if q in of[p]:
        return 1
    return 3 if of[p].isdisjoint(of[q]) else 2


def _ordered(u: int, v: int) -> Edge:
    return (u, v) if u < v else (v, u)


def _edges(of: Neighbours) -> Iterator[Edge]:
    return ((u, v) for u in sorted(of) for v in sorted(of[u]) if u < v)


def _changed(piece: Piece, before: set[Edge], after: set[Edge]) -> Piece:
    """The piece without the edges that are gone, and with the new ones."""

    def columns(edges: set[Edge]) -> NDArray[np.int64]:
        return np.array(sorted(edges), dtype=np.int64).reshape(-1, 2).T

    return piece.without_pairs(columns(before - after)).with_pairs(columns(after - before))
