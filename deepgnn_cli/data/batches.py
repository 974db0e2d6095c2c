"""Which part of the graph a training step sees: all of it, random parts, or whole graphs.

A strategy is built from a `Graph` and gives `Batch`es: to train, those of an epoch; to evaluate, always the
same. What is random is a function of the run's seed and the epoch alone, so that a resumed run draws the same
parts. With several processes, process `rank` of `world` takes the batches rank, rank + world and so on, as
many as any other; together their evaluation batches hold every node equally often. Sampling is in `sampling.py`.

N nodes, P parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.pieces import (
    EVALUATE,
    TRAIN,
    Batch,
    GraphCutter,
    generator,
    shuffled,
    split_graph,
    training_nodes,
    whole,
)
from deepgnn_cli.data.relations import one_process, shared_parts
from deepgnn_cli.rules.signatures import related
from deepgnn_cli.rules.types import Count

Place = Literal["device", "cpu"]

__all__ = ["Batch", "Batches", "full", "graphs", "parts"]


class Batches(Protocol):
    """What every strategy offers.

    Attributes:
        evaluate_on: `device`, or `cpu` where the evaluation's batches do not fit the device.
    """

    evaluate_on: str

    def train(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; every one holds training nodes."""

    def evaluate(self) -> Iterator[Batch]:
        """Batches that hold every node of the graph, each equally often: predictions are averaged."""


@related(one_process)
def full(graph: Graph, *, seed: int, evaluate_on: Place, rank: int = 0, world: int = 1) -> Batches:
    """Train on the whole graph at once; of inductive data, on the union of the training graphs.

    The very same `Batch` comes back every epoch, so that what is computed from its graph can be kept.

    Raises:
        ValueError: several processes would all do the same.
    """
    one_process(world=world)
    return _Full(graph, evaluate_on)


@related(shared_parts)
def parts(
    graph: Graph,
    *,
    seed: int,
    train_parts: Count,
    eval_parts: Count,
    views: Count,
    evaluate_on: Place,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Train on the graphs that random parts of the nodes induce (DeeperGCN, arXiv:2006.07739).

    The nodes are dealt into P = `train_parts` parts anew each epoch, of sizes that differ by one at most, and
    with them the training nodes; edges between parts are not seen in that epoch. Evaluation parts are drawn
    once. With several `views` (RevGNN, arXiv:2106.07476) evaluation goes over as many different partitions,
    and each node is predicted once in each. Of inductive data, only the training graphs are dealt out to
    train.

    Args:
        graph: the whole graph.
        seed: the run's seed.
        train_parts: P; each must get a training node.
        eval_parts: parts to evaluate on; 1 is the whole graph.
        views: partitions to evaluate on.
        evaluate_on: `device` or `cpu`.
        rank: which process this is.
        world: how many there are.

    Raises:
        ValueError: a knob is out of its range, or the processes cannot share the parts equally.
    """
    if graph.level == "graph":
        raise ValueError(f"batch=parts cuts graphs apart, and {graph.name} labels whole ones; use batch=graphs or full")
    shared_parts(train_parts=train_parts, eval_parts=eval_parts, views=views, world=world)
    if (trains := int(graph.train.sum())) < train_parts:
        raise ValueError(f"batch.train_parts={train_parts}, but only {trains} nodes train; choose fewer parts")
    return _Parts(graph, seed, train_parts, eval_parts, views, evaluate_on, slice(rank, None, world))


def graphs(
    graph: Graph,
    *,
    seed: int,
    graphs_per_batch: Count,
    nodes_per_batch: Count | None,
    evaluate_on: Place,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Train on whole graphs, so many a step, in an order drawn anew each epoch.

    Args:
        graph: several graphs, in which nodes or graphs are labelled.
        seed: the run's seed.
        graphs_per_batch: graphs a step.
        nodes_per_batch: in place of it, at most so many nodes a step (a graph of more makes a step of its own).
        evaluate_on: `device` or `cpu`.
        rank: which process this is.
        world: how many there are.

    Raises:
        ValueError: the data is one graph, a knob is out of its range, or the processes cannot share equally.
    """
    if graph.part_of is None:
        raise ValueError(f"batch=graphs needs data of several graphs, but {graph.name} is one; use batch=full")
    if nodes_per_batch is not None and world > 1:
        raise ValueError("batch.nodes_per_batch gives no equal share to several processes; use graphs_per_batch")
    trains = graph.train if graph.level == "graph" else graph.part_of[graph.train]
    count = -(-(int(trains.sum()) if graph.level == "graph" else torch.unique(trains).numel()) // graphs_per_batch)
    if count % world:
        raise ValueError(
            f"batch.graphs_per_batch={graphs_per_batch} gives {count} batches an epoch, which {world} "
            "processes cannot share equally; choose another number"
        )
    size = graphs_per_batch if nodes_per_batch is None else None
    return _Graphs(graph, seed, size, nodes_per_batch or 0, evaluate_on, slice(rank, None, world))


class _Full:
    def __init__(self, graph: Graph, evaluate_on: str) -> None:
        self.evaluate_on = evaluate_on
        self._whole = self._train = Batch(graph, lasting=True)
        if graph.level == "graph":
            self._train = GraphCutter(graph).cut(graph.train.nonzero()[:, 0], lasting=True)
        elif graph.part_of is not None:
            nodes = training_nodes(graph)
            self._train = Batch(graph.subgraph(nodes), nodes, lasting=True)

    def train(self, epoch: int) -> Iterator[Batch]:
        yield self._train

    def evaluate(self) -> Iterator[Batch]:
        yield self._whole


class _Parts:
    def __init__(
        self,
        graph: Graph,
        seed: int,
        train_parts: int,
        eval_parts: int,
        views: int,
        evaluate_on: str,
        share: slice,
    ) -> None:
        self.evaluate_on = evaluate_on
        self._graph, self._seed, self._share = graph, seed, share
        self._train_parts, self._eval_parts, self._views = train_parts, eval_parts, views
        self._nodes = training_nodes(graph)

    def train(self, epoch: int) -> Iterator[Batch]:
        order = shuffled(self._nodes, generator(self._seed, TRAIN, epoch))
        # Training nodes first, then dealt out like cards: no part is left without them.
        trains = self._graph.train[order]
        order = torch.cat([order[trains], order[~trains]])
        yield from split_graph(self._graph, _dealt(order, self._train_parts)[self._share])

    def evaluate(self) -> Iterator[Batch]:
        if self._eval_parts == 1:
            yield from whole(self._graph, self._share)
            return
        for view in range(self._views):
            everyone = torch.arange(self._graph.num_nodes, device=self._graph.x.device)
            order = shuffled(everyone, generator(self._seed, EVALUATE, view))
            yield from split_graph(self._graph, _dealt(order, self._eval_parts)[self._share])


class _Graphs:
    def __init__(
        self, graph: Graph, seed: int, size: int | None, most_nodes: int, evaluate_on: str, share: slice
    ) -> None:
        assert graph.part_of is not None
        self.evaluate_on = evaluate_on
        self._graph, self._seed, self._size, self._most_nodes, self._share = graph, seed, size, most_nodes, share
        self._part_of = graph.part_of
        self._cutter = GraphCutter(graph) if graph.level == "graph" else None
        self._nodes = torch.bincount(graph.part_of)

    def train(self, epoch: int) -> Iterator[Batch]:
        trains = self._graph.train
        numbers = torch.unique(self._part_of[trains]) if self._cutter is None else trains.nonzero()[:, 0]
        yield from self._batches(shuffled(numbers, generator(self._seed, TRAIN, epoch)))

    def evaluate(self) -> Iterator[Batch]:
        yield from self._batches(torch.unique(self._part_of))

    def _batches(self, numbers: Tensor) -> Iterator[Batch]:
        groups = self._groups(numbers)[self._share]
        if self._cutter is not None:
            yield from (self._cutter.cut(some) for some in groups)
        else:
            yield from split_graph(self._graph, [torch.isin(self._part_of, some).nonzero()[:, 0] for some in groups])

    def _groups(self, numbers: Tensor) -> list[Tensor]:
        """The graphs of each step."""
        if self._size is not None:
            return list(numbers.split(self._size))
        ends, filled = [0], 0
        for place, nodes in enumerate(self._nodes[numbers].tolist()):
            if filled and filled + nodes > self._most_nodes:
                ends.append(place)
                filled = 0
            filled += nodes
        return [numbers[start:end] for start, end in zip(ends, [*ends[1:], numbers.numel()], strict=True)]


def _dealt(order: Tensor, count: int) -> list[Tensor]:
    return [order[number::count] for number in range(count)]
