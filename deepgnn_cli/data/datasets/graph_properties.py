"""Distances in small graphs, to be predicted: shortest paths, eccentricities, diameters, as in arXiv:2004.05718.

What is asked of a node or a graph lies up to a diameter away: a network of fewer layers cannot know it.

N nodes, G graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.relations import rising_sizes
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.rules.tasks import Level
from deepgnn_cli.rules.types import Count, Seed

Pairs = list[tuple[int, int]]


@related(rising_sizes)
def graph_property(
    *,
    target: Literal["sssp", "eccentricity", "diameter"],
    train_graphs: Count,
    val_graphs: Count,
    test_graphs: Count,
    min_nodes: Annotated[int, Ge(4), Le(1000)],
    max_nodes: Annotated[int, Ge(4), Le(1000)],
    graph_seed: Seed,
    metric: Literal["log10_mse", "mse", "mae", "r2"],
    root: str | Path,
    seed: int,
) -> Graph:
    """Random connected graphs of ten families, each with a source.

    The families are those of PNA's benchmark: Erdős–Rényi, Barabási–Albert, grid, caveman, tree, ladder, path, star,
    caterpillar, lobster; unlike there no edge is moved at random. A node's features are whether it is the source, and a
    uniform random number. Targets are divided by their maximum over the training graphs.

    Args:
        target: `sssp`, the distance to the source; `eccentricity`, that to the farthest node; or `diameter`
            of the graph.
        train_graphs: how many train; all graphs are drawn alike.
        val_graphs: how many validate.
        test_graphs: how many test.
        min_nodes: of a graph.
        max_nodes: of a graph.
        graph_seed: draws graphs, sources and features.
        metric: the score; the loss is the mean squared error, or MAE for it.
        root: not used: nothing is stored.
        seed: not used: the graphs are the same for every seed of a run.
    """
    rising_sizes(min_nodes=min_nodes, max_nodes=max_nodes)
    counts = (train_graphs, val_graphs, test_graphs)
    drawn = _drawn(sum(counts), min_nodes, max_nodes, graph_seed)
    part = np.repeat(np.arange(3), counts)
    level: Level = "graph" if target == "diameter" else "node"
    y = drawn[target]
    of = part if level == "graph" else part[drawn["part_of"]]
    y = y / y[of == 0].max()
    train, val, test = (torch.from_numpy(of == number) for number in range(3))
    return Graph(
        target,
        f"random-{graph_seed}",
        torch.from_numpy(drawn["x"]),
        torch.from_numpy(drawn["edge_index"]),
        torch.from_numpy(y.astype(np.float32))[:, None],
        1,
        train,
        val,
        test,
        metric=metric,
        part_of=torch.from_numpy(drawn["part_of"]),
        level=level,
    )


@lru_cache(maxsize=1)  # three targets, and many runs of one process, are of the same graphs
def _drawn(count: int, low: int, high: int, seed: int) -> dict[str, NDArray[Any]]:
    draw = np.random.default_rng(seed)
    columns: dict[str, list[NDArray[Any]]] = {}
    start = 0
    for number in range(count):
        n = int(draw.integers(low, high + 1))
        family = FAMILIES[int(draw.integers(len(FAMILIES)))]
        ends = _shuffled(_connected(family, n, draw), draw)
        size, source = int(ends.max()) + 1, int(draw.integers(ends.max() + 1))
        distance = shortest_path(csr_matrix((np.ones(ends.shape[1]), ends), shape=(size, size)), unweighted=True)
        x = np.stack([np.arange(size) == source, draw.random(size)], axis=1).astype(np.float32)
        farthest = distance.max(axis=1)
        found = {"x": x, "edge_index": ends + start, "part_of": np.full(size, number), "sssp": distance[source]}
        found |= {"eccentricity": farthest, "diameter": farthest.max(keepdims=True)}
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
        start += size
    return {name: np.concatenate(parts, axis=1 if name == "edge_index" else 0) for name, parts in columns.items()}


def _connected(family: Callable[..., Pairs], n: int, draw: np.random.Generator) -> Pairs:
    """The edges of a connected graph of a family, each once; drawn again where they do not join all nodes."""
    while True:
        pairs = family(n, draw)
        ends = np.array(pairs).T
        size = int(ends.max()) + 1
        reached = shortest_path(
            csr_matrix((np.ones(len(pairs)), ends), shape=(size, size)), directed=False, unweighted=True
        )[0]
        if np.isfinite(reached).all():
            return pairs


def _shuffled(pairs: Pairs, draw: np.random.Generator) -> NDArray[np.int64]:
    """The edges both ways, [2, E], sorted, nodes numbered at random: a number tells nothing."""
    once = np.array(pairs).T
    order = draw.permutation(int(once.max()) + 1)
    both = order[np.concatenate([once, once[::-1]], axis=1)]
    return np.unique(both, axis=1).astype(np.int64)


def erdos_renyi(n: int, draw: np.random.Generator) -> Pairs:
    """Each pair of nodes with the same probability, which is drawn, too."""
    share = draw.uniform(0.1, 1.0)
    return [(a, b) for a in range(n) for b in range(a) if draw.random() < share] or [(0, n - 1)]


def barabasi_albert(n: int, draw: np.random.Generator) -> Pairs:
    """Each new node joins m earlier ones, the likelier the more neighbours they have."""
    m = int(draw.integers(1, max(2, n // 4)))
    pairs = [(m, a) for a in range(m)]
    for new in range(m + 1, n):
        ends = np.array(pairs).ravel()
        chosen: set[int] = set()
        while len(chosen) < m:
            chosen.add(int(draw.choice(ends)))
        pairs += [(new, old) for old in chosen]
    return pairs


def grid(n: int, draw: np.random.Generator) -> Pairs:
    """The rectangle of n nodes that is nearest to a square."""
    across = _factor(n)
    right = [(i, i + 1) for i in range(n) if (i + 1) % across]
    return right + [(i, i + across) for i in range(n - across)]


def caveman(n: int, draw: np.random.Generator) -> Pairs:
    """Cliques in a ring, neighbours joined by an edge."""
    size = _factor(n)
    cliques = [(c * size + a, c * size + b) for c in range(n // size) for a in range(size) for b in range(a)]
    return cliques + [(c * size, (c * size + size + size - 1) % n) for c in range(n // size)]


def tree(n: int, draw: np.random.Generator) -> Pairs:
    """Each node joins a random earlier one."""
    return [(new, int(draw.integers(new))) for new in range(1, n)]


def ladder(n: int, draw: np.random.Generator) -> Pairs:
    """Two paths side by side with rungs between them; of an odd number of nodes one is left out."""
    half = n // 2
    rails = [(i, i + 1) for i in range(half - 1)] + [(half + i, half + i + 1) for i in range(half - 1)]
    return rails + [(i, half + i) for i in range(half)]


def path(n: int, draw: np.random.Generator) -> Pairs:
    """A line."""
    return [(i, i + 1) for i in range(n - 1)]


def star(n: int, draw: np.random.Generator) -> Pairs:
    """All joined with one."""
    return [(0, i) for i in range(1, n)]


def caterpillar(n: int, draw: np.random.Generator) -> Pairs:
    """A path of which each node carries some leaves."""
    spine = int(draw.integers(1, n))
    return path(spine, draw) + [(leaf, int(draw.integers(spine))) for leaf in range(spine, n)]


def lobster(n: int, draw: np.random.Generator) -> Pairs:
    """A caterpillar whose leaves carry leaves."""
    spine = int(draw.integers(1, n - 1))
    inner = int(draw.integers(spine + 1, n))
    first = [(leaf, int(draw.integers(spine))) for leaf in range(spine, inner)]
    return path(spine, draw) + first + [(leaf, int(draw.integers(spine, inner))) for leaf in range(inner, n)]


def _factor(n: int) -> int:
    """The largest divisor of n up to its root."""
    return max(k for k in range(1, int(n**0.5) + 1) if n % k == 0)


FAMILIES = (erdos_renyi, barabasi_albert, grid, caveman, tree, ladder, path, star, caterpillar, lobster)
