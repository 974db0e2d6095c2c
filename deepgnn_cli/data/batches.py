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
    shared_parts(train_parts=train_parts, eval_parts=eval_parts, views=views, world=world)
    if (trains := int(graph.train.sum())) < train_parts:
        raise ValueError(f"batch.train_parts={train_parts}, but only {trains} nodes train; choose fewer parts")
    return _Parts(graph, seed, train_parts, eval_parts, views, evaluate_on, slice(rank, None, world))


def graphs(
    graph: Graph, *, seed: int, graphs_per_batch: Count, evaluate_on: Place, rank: int = 0, world: int = 1
) -> Batches:
    """Train on whole graphs of inductive data, so many a step, in an order drawn anew each epoch.

    Raises:
        ValueError: the data is one graph, a knob is out of its range, or the processes cannot share equally.
    """
    if graph.part_of is None:
        raise ValueError(f"batch=graphs needs data of several graphs, but {graph.name} is one; use batch=full")
    count = -(-torch.unique(graph.part_of[graph.train]).numel() // graphs_per_batch)
    if count % world:
        raise ValueError(
            f"batch.graphs_per_batch={graphs_per_batch} gives {count} batches an epoch, which {world} "
            "processes cannot share equally; choose another number"
        )
    return _Graphs(graph, seed, graphs_per_batch, evaluate_on, slice(rank, None, world))


class _Full:
    def __init__(self, graph: Graph, evaluate_on: str) -> None:
        self.evaluate_on = evaluate_on
        self._whole = self._train = Batch(graph, lasting=True)
        if graph.part_of is not None:
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
    def __init__(self, graph: Graph, seed: int, graphs_per_batch: int, evaluate_on: str, share: slice) -> None:
        assert graph.part_of is not None
        self.evaluate_on = evaluate_on
        self._graph, self._seed, self._size, self._share = graph, seed, graphs_per_batch, share
        self._part_of = graph.part_of

    def train(self, epoch: int) -> Iterator[Batch]:
        numbers = torch.unique(self._part_of[self._graph.train])
        order = shuffled(numbers, generator(self._seed, TRAIN, epoch))
        yield from split_graph(self._graph, self._members(order)[self._share])

    def evaluate(self) -> Iterator[Batch]:
        yield from split_graph(self._graph, self._members(torch.unique(self._part_of))[self._share])

    def _members(self, numbers: Tensor) -> list[Tensor]:
        return [torch.isin(self._part_of, some).nonzero()[:, 0] for some in numbers.split(self._size)]


def _dealt(order: Tensor, count: int) -> list[Tensor]:
    return [order[number::count] for number in range(count)]
