"""Tasks that need depth: the answer lies a chosen number of hops from the node that must give it.

A data set is many small graphs side by side, one target node each; only targets are in the masks, and only
they have labels. A network of fewer layers than the distance cannot see the answer: what it gives at the
target is independent of the label, so that it cannot beat chance, 1/K.

S samples, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Unpack

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble
from deepgnn_cli.data.relations import classes_of_rings
from deepgnn_cli.data.splits import Split, SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.rules.types import Seed


@related(check_split, classes_of_rings)
def transfer(
    *,
    shape: Literal["ring", "crossed_ring", "line"],
    num_samples: Annotated[int, Ge(3)],
    distance: Annotated[int, Ge(2)],
    num_classes: Annotated[int, Ge(2)],
    graph_seed: Seed | None,
    split: Literal["random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Carry a class over a chosen distance (Bodnar et al., arXiv:2106.12575).

    The form is that of Di Giovanni et al. (arXiv:2302.02941): node 0 is the target, with features 0; the source is
    `distance` hops away, with the class as a one-hot vector; all others carry ones. The target must tell the class.
    Classes are balanced. A-DGN (arXiv:2210.09789) and SWAN (arXiv:2405.01009) are tested on the same shapes, up to
    distance 50:

    - `ring`: 2 * distance nodes, the source opposite the target; two paths.
    - `crossed_ring`: a ring whose two sides are joined crosswise between one hop and the next: as many shortest paths
      as 2 to the power of distance - 1, none shorter.
    - `line`: a path of distance + 1 nodes.

    Args:
        shape: of a sample's graph.
        num_samples: S, graphs.
        distance: hops from source to target.
        num_classes: K.
        graph_seed: draws the classes; None: the run's seed does.
        split: which kind of split.
        root: not used: nothing is stored.
        seed: the run's seed, for the split of the samples.
        **knobs: see `SplitKnobs`; fractions and counts are of samples.

    Raises:
        ValueError: a knob is out of its range.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    draw = np.random.default_rng(seed if graph_seed is None else graph_seed)
    answers = draw.permutation(np.arange(num_samples) % num_classes)
    size = distance + 1 if shape == "line" else 2 * distance
    here = np.arange(size if shape != "line" else distance)
    edges = np.stack([here, (here + 1) % size])
    if shape == "crossed_ring":
        hop = np.arange(1, distance - 1)  # from here to the next, over to the other side
        edges = np.concatenate([edges, [hop, size - hop - 1], [hop + 1, size - hop]], axis=1)
    x = _carried(num_samples, size, distance, num_classes, answers)
    return _union(f"{shape}_transfer", wanted, x, edges, answers, num_classes)


@related(check_split, classes_of_rings)
def barbell_transfer(
    *,
    num_samples: Annotated[int, Ge(3)],
    distance: Annotated[int, Ge(3)],
    clique_size: Annotated[int, Ge(3)],
    num_classes: Annotated[int, Ge(2)],
    graph_seed: Seed | None,
    split: Literal["random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Carry a class from one clique into another, over a path of `distance` - 2 edges: the narrowest door.

    Target and source are the first and the last node, inside the cliques; features as in `transfer`. A message is
    diluted by the clique's degree on both sides (Topping et al., arXiv:2111.14522).

    Args:
        num_samples: S, graphs.
        distance: hops from source to target.
        clique_size: nodes of each of the two cliques.
        num_classes: K.
        graph_seed: draws the classes; None: the run's seed does.
        split: which kind of split.
        root: not used: nothing is stored.
        seed: the run's seed, for the split of the samples.
        **knobs: see `SplitKnobs`; fractions and counts are of samples.

    Raises:
        ValueError: a knob is out of its range.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    draw = np.random.default_rng(seed if graph_seed is None else graph_seed)
    answers = draw.permutation(np.arange(num_samples) % num_classes)
    size = 2 * clique_size + distance - 3
    clique = np.stack(np.triu_indices(clique_size, 1))
    path = np.arange(clique_size - 1, clique_size + distance - 3)
    edges = np.concatenate([clique, [path, path + 1], clique + size - clique_size], axis=1)
    x = _carried(num_samples, size, size - 1, num_classes, answers)
    return _union("barbell_transfer", wanted, x, edges, answers, num_classes)


def _carried(samples: int, size: int, source: int, classes: int, answers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features [S, size, K]: zeros at node 0, the class at the source, ones elsewhere."""
    x = np.ones((samples, size, classes), dtype=np.float32)
    x[:, 0] = 0
    x[:, source] = np.eye(classes, dtype=np.float32)[answers]
    return x


@related(check_split)
def neighbors_match(
    *,
    num_samples: Annotated[int, Ge(3)],
    tree_depth: Annotated[int, Ge(1), Le(10)],
    graph_seed: Seed | None,
    split: Literal["random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Tree neighbours-match (Alon & Yahav, arXiv:2006.05205): find the leaf whose key is the root's.

    A full binary tree of depth d has 2^d leaves with keys 1..2^d, each once, and values that are a random
    permutation of 0..2^d-1. The root carries one of the keys and must tell the value of the leaf with that
    key: all leaves must reach it through d layers of narrowing width. Features are the one-hot key beside the
    one-hot value, both zero where a node has none. Edges run both ways (the paper's run to the root only); K
    = 2^d.

    Args:
        num_samples: S, trees.
        tree_depth: d, hops from root to leaf.
        graph_seed: draws keys and values; None: the run's seed does.
        split: which kind of split.
        root: not used: nothing is stored.
        seed: the run's seed, for the split of the samples.
        **knobs: see `SplitKnobs`; fractions and counts are of samples.

    Raises:
        ValueError: a knob is out of its range.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    draw = np.random.default_rng(seed if graph_seed is None else graph_seed)
    leaves, sample = 2**tree_depth, np.arange(num_samples)
    first_leaf = leaves - 1  # node i has the children 2i + 1 and 2i + 2
    keys, values = (draw.permuted(np.tile(np.arange(leaves), (num_samples, 1)), axis=1) for _ in range(2))
    asked = draw.integers(leaves, size=num_samples)  # the place of the leaf that the root asks for
    one_hot = np.eye(leaves, dtype=np.float32)
    x = np.zeros((num_samples, 2 * leaves - 1, 2 * leaves), dtype=np.float32)
    x[:, first_leaf:, :leaves], x[:, first_leaf:, leaves:] = one_hot[keys], one_hot[values]
    x[:, 0, :leaves] = one_hot[keys[sample, asked]]
    child = np.arange(1, 2 * leaves - 1)
    edges = np.stack([child, (child - 1) // 2])
    return _union("neighbors_match", wanted, x, edges, values[sample, asked], leaves)


def _union(
    name: str,
    split: Split,
    x: NDArray[np.float32],
    edges: NDArray[np.int64],
    answers: NDArray[np.int64],
    num_classes: int,
) -> Graph:
    """S copies of one small graph of T nodes, side by side.

    x is [S, T, F]; `edges`, [2, M], are those of one copy, each one way, and end up both ways.
    """
    samples, size, features = x.shape
    both = np.concatenate([edges, edges[::-1]], axis=1)
    ends = both[:, None, :] + size * np.arange(samples)[:, None]  # [2, S, 2M]
    labels = np.full((samples, size), -1)
    labels[:, 0] = answers
    return assemble(
        name,
        split,
        torch.from_numpy(x.reshape(-1, features)),
        torch.from_numpy(ends.reshape(2, -1)),
        torch.from_numpy(labels.reshape(-1)),
        num_classes=num_classes,
        sample_of=torch.arange(samples).repeat_interleave(size),
    )
