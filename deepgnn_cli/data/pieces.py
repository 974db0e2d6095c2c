"""Cutting a graph into batches: what the strategies of `batches.py` and `sampling.py` share.

N nodes, E edges, M nodes of a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepgnn_cli.data.graph import Graph

TRAIN, EVALUATE = 0, 1  # streams of random numbers that must not meet


@dataclass(frozen=True)
class Batch:
    """A graph to run the model on.

    Args:
        graph: the (sub)graph, with its own masks and labels.
        nodes: the number of each of its nodes in the whole graph; None: it is the whole graph.
        seeds: boolean, which of its nodes count for the loss; the others are only seen. None: all.
        lasting: the very same batch comes in every epoch.
    """

    graph: Graph
    nodes: Tensor | None = None
    seeds: Tensor | None = None
    lasting: bool = False


def training_nodes(graph: Graph) -> Tensor:
    """The nodes a model may see while it trains: all, or those of graphs that hold training nodes."""
    if graph.part_of is None:
        return torch.arange(graph.num_nodes, device=graph.x.device)
    return torch.isin(graph.part_of, torch.unique(graph.part_of[graph.train])).nonzero()[:, 0]


def split_graph(graph: Graph, groups: Sequence[Tensor]) -> Iterator[Batch]:
    """The graph that each of some disjoint groups of nodes induces, in one pass over the edges."""
    device = graph.x.device
    owner = torch.full((graph.num_nodes,), -1, device=device)
    place = torch.zeros(graph.num_nodes, dtype=torch.int64, device=device)
    for number, nodes in enumerate(groups):
        owner[nodes] = number
        place[nodes] = torch.arange(nodes.numel(), device=device)
    source, target = owner[graph.edge_index]
    inside = ((source == target) & (source >= 0)).nonzero()[:, 0]
    inside = inside[torch.argsort(source[inside], stable=True)]
    counts = torch.bincount(owner[graph.edge_index[0, inside]], minlength=len(groups)).tolist()
    for nodes, edges in zip(groups, inside.split(counts), strict=True):
        ends = place[graph.edge_index[:, edges]]
        yield Batch(restricted(graph, nodes, ends, edges), nodes)


def restricted(graph: Graph, nodes: Tensor, edge_index: Tensor, edges: Tensor) -> Graph:
    """The graph of `nodes`, [M], and of the edges numbered `edges`, renumbered in `edge_index`."""
    return replace(
        graph,
        x=graph.x[nodes],
        edge_index=edge_index,
        y=graph.y[nodes],
        train=graph.train[nodes],
        val=graph.val[nodes],
        test=graph.test[nodes],
        edge_attr=None if graph.edge_attr is None else graph.edge_attr[edges],
        part_of=None if graph.part_of is None else graph.part_of[nodes],
        sample_of=None if graph.sample_of is None else graph.sample_of[nodes],
        edge_weight=None if graph.edge_weight is None else graph.edge_weight[edges],
        node_names=None,
    )


def whole(graph: Graph, share: slice) -> Iterator[Batch]:
    """The whole graph, as the share of the first process."""
    if share.start == 0:
        yield Batch(graph)


def shuffled(values: Tensor, draw: torch.Generator) -> Tensor:
    """The values in an order drawn on the CPU, so that it is the same on every device."""
    return values[torch.randperm(values.numel(), generator=draw).to(values.device)]


def stream(*key: int) -> int:
    """A seed for torch's generators, another one for every key of non-negative numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def generator(*key: int) -> torch.Generator:
    """A generator whose numbers depend on `key` alone."""
    return torch.Generator().manual_seed(stream(*key))
