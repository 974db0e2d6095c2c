"""How much neighbours share their class.

N nodes, E edges, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def homophily(edge_index: NDArray[np.int64], y: NDArray[np.int64]) -> dict[str, float] | None:
    """Edge, node and adjusted homophily, over edges [2, E] between different labelled nodes; None without any.

    - `edge`: the share of edges between nodes of one class (arXiv:2006.11468).
    - `node`: the mean over nodes of the share of their neighbours that have their class (arXiv:2002.05287).
    - `adjusted`: (edge - Σ_k p_k²) / (1 - Σ_k p_k²), p_k the share of edge ends in class k: 0 where edges know nothing
      of the classes, however many and uneven those are (arXiv:2209.06177). NaN where all ends are of one class.

    Args:
        edge_index: directed edges; an undirected graph lists each both ways.
        y: labels, [N]; negative: unlabelled.
    """
    source, target = edge_index
    inside = (y[source] >= 0) & (y[target] >= 0) & (source != target)
    source, target = source[inside], target[inside]
    if not len(source):
        return None
    same = y[source] == y[target]
    reached = np.bincount(target, minlength=len(y))
    alike = np.bincount(target, weights=same, minlength=len(y))[reached > 0] / reached[reached > 0]
    ends = np.bincount(np.concatenate([y[source], y[target]])) / (2 * len(source))
    chance = float(np.square(ends).sum())
    adjusted = (same.mean() - chance) / (1 - chance) if chance < 1 else np.nan
    return {"edge": float(same.mean()), "node": float(alike.mean()), "adjusted": float(adjusted)}
