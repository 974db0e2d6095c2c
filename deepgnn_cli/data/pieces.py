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
        graphs: the number of each of its graphs in the whole one, where graphs are labelled; None: it is the whole.
    """

    graph: Graph
    nodes: Tensor | None = None
    seeds: Tensor | None = None
    lasting: bool = False
    graphs: Tensor | None = None


class GraphCutter:
    """Cuts graphs out of a disjoint union whose nodes and edges stand graph by graph: costs what is cut, not the union.

    Args:
        graph: the union.
    """

    def __init__(self, graph: Graph) -> None:
        assert graph.part_of is not None
        self._graph = graph
        self.nodes = torch.bincount(graph.part_of, minlength=graph.num_graphs)  # [G]
        self._edges = torch.bincount(graph.part_of[graph.edge_index[0]], minlength=graph.num_graphs)
        self._first_node = self.nodes.cumsum(0) - self.nodes
        self._first_edge = self._edges.cumsum(0) - self._edges

    def cut(self, numbers: Tensor, *, lasting: bool = False) -> Batch:
        """The union of the graphs of these numbers, [B] int64, in their order; its graphs are numbered from 0."""
        graph, counts = self._graph, self.nodes[numbers]
        nodes = _spans(self._first_node[numbers], counts)
        edges = _spans(self._first_edge[numbers], self._edges[numbers])
        moved = counts.cumsum(0) - counts - self._first_node[numbers]  # by how much each graph's nodes
        ends = graph.edge_index.index_select(1, edges) + moved.repeat_interleave(self._edges[numbers])
        made = restricted(graph, nodes, ends, edges, numbers)
        order = torch.arange(numbers.numel(), device=numbers.device)
        made = replace(made, part_of=order.repeat_interleave(counts))
        return Batch(made, nodes, lasting=lasting, graphs=numbers)


def _spans(firsts: Tensor, counts: Tensor) -> Tensor:
    """The whole numbers `firsts[i]`, `firsts[i] + 1`, …, so many as `counts[i]` says, span after span."""
    before = counts.cumsum(0) - counts
    shift = (firsts - before).repeat_interleave(counts)
    return shift + torch.arange(shift.numel(), device=shift.device)


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


def restricted(graph: Graph, nodes: Tensor, edge_index: Tensor, edges: Tensor, items: Tensor | None = None) -> Graph:
    """The graph of `nodes`, [M], and of the edges numbered `edges`, renumbered in `edge_index`.

    `items`: whose labels it has; None: those of the nodes.
    """
    items = nodes if items is None else items
    return replace(
        graph,
        x=graph.x[nodes],
        edge_index=edge_index,
        y=graph.y[items],
        train=graph.train[items],
        val=graph.val[items],
        test=graph.test[items],
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
