"""Which part of the graph a training step sees: all of it, random parts, whole graphs, or sampled
neighbourhoods.

A strategy is built from a `Graph` and gives `Batch`es: to train, those of an epoch; to evaluate, always the
same. What is random is a function of the run's seed and the epoch alone, so that a resumed run draws the same
parts. With several processes, process `rank` of `world` takes the batches rank, rank + world, …, as many as
any other.

N nodes, E edges, P parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader

from deepgnn_cli.data.graph import Graph

PLACES = ("device", "cpu")
TRAIN, EVALUATE = 0, 1  # streams of random numbers that must not meet


@dataclass(frozen=True, eq=False)  # compared by identity: what is computed from a batch is kept by batch
class Batch:
    """A graph to run the model on.

    Args:
        graph: the (sub)graph, with its own masks and labels.
        nodes: the number of each of its nodes in the whole graph; None: it is the whole graph.
        seeds: boolean, which of its nodes count for the loss; the others are only there to be seen. None:
            all.
    """

    graph: Graph
    nodes: Tensor | None = None
    seeds: Tensor | None = None


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


def full(graph: Graph, *, seed: int, evaluate_on: str, rank: int = 0, world: int = 1) -> Batches:
    """Train on the whole graph at once; of inductive data, on the union of the training graphs.

    The very same `Batch` comes back every epoch, so that what is computed from its graph can be kept.

    Raises:
        ValueError: several processes would all do the same.
    """
    _check_place(evaluate_on)
    if world > 1:
        raise ValueError(f"batch=full gives each of {world} processes the same graph; use batch=parts")
    return _Full(graph, evaluate_on)


def parts(
    graph: Graph,
    *,
    seed: int,
    train_parts: int,
    eval_parts: int,
    views: int,
    evaluate_on: str,
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
    _check_place(evaluate_on)
    for key, value in (("train_parts", train_parts), ("eval_parts", eval_parts), ("views", views)):
        if value < 1:
            raise ValueError(f"batch.{key}={value} must be at least 1")
    if eval_parts == 1 and views > 1:
        raise ValueError(f"batch.views={views} needs parts to differ; choose batch.eval_parts=2 or more")
    if (trains := int(graph.train.sum())) < train_parts:
        raise ValueError(f"batch.train_parts={train_parts}, but only {trains} nodes train; choose fewer parts")
    _check_share("train_parts", train_parts, world)
    return _Parts(graph, seed, train_parts, eval_parts, views, evaluate_on, slice(rank, None, world))


def graphs(
    graph: Graph, *, seed: int, graphs_per_batch: int, evaluate_on: str, rank: int = 0, world: int = 1
) -> Batches:
    """Train on whole graphs of inductive data, so many a step, in an order drawn anew each epoch.

    Raises:
        ValueError: the data is one graph, a knob is out of its range, or the processes cannot share equally.
    """
    _check_place(evaluate_on)
    if graph.part_of is None:
        raise ValueError(f"batch=graphs needs data of several graphs, but {graph.name} is one; use batch=full")
    if graphs_per_batch < 1:
        raise ValueError(f"batch.graphs_per_batch={graphs_per_batch} must be at least 1")
    count = -(-torch.unique(graph.part_of[graph.train]).numel() // graphs_per_batch)
    _check_share("graphs_per_batch", count, world)
    return _Graphs(graph, seed, graphs_per_batch, evaluate_on, slice(rank, None, world))


def neighbour(
    graph: Graph,
    *,
    seed: int,
    seeds_per_batch: int,
    neighbours: Sequence[int],
    evaluate_on: str,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Train on sampled neighbourhoods of some training nodes (GraphSAGE, arXiv:1706.02216), with PyG's
    loader.

    Args:
        graph: the whole graph.
        seed: the run's seed.
        seeds_per_batch: training nodes a step; the loss is theirs.
        neighbours: how many incoming edges to follow from each node at each hop; -1: all of them.
        evaluate_on: `device` or `cpu`: evaluation is on the whole graph.
        rank: which process this is.
        world: how many there are.

    Raises:
        ValueError: pyg-lib is not installed, or a knob is out of its range.
    """
    _check_place(evaluate_on)
    if not torch_geometric.typing.WITH_PYG_LIB:
        raise ValueError(
            "batch=neighbour needs pyg-lib, which is not installed; install the build for this torch that PyG's "
            "installation page names, or use batch=parts"
        )
    if seeds_per_batch < 1 or not neighbours or any(count < 1 and count != -1 for count in neighbours):
        raise ValueError(
            f"batch.seeds_per_batch={seeds_per_batch} and batch.neighbours={list(neighbours)} must be at least 1 "
            "(neighbours: or -1 for all), one number a hop"
        )
    if (trains := int(graph.train.sum())) < world:
        raise ValueError(f"only {trains} nodes train, fewer than the {world} processes")
    return _Neighbour(graph, seed, seeds_per_batch, list(neighbours), evaluate_on, rank, world)


class _Full:
    def __init__(self, graph: Graph, evaluate_on: str) -> None:
        self.evaluate_on = evaluate_on
        self._whole = self._train = Batch(graph)
        if graph.part_of is not None:
            nodes = training_nodes(graph)
            self._train = Batch(graph.subgraph(nodes), nodes)

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
        order = _shuffled(self._nodes, generator(self._seed, TRAIN, epoch))
        # Training nodes first, then dealt out like cards: no part is left without them.
        trains = self._graph.train[order]
        order = torch.cat([order[trains], order[~trains]])
        yield from split_graph(self._graph, _dealt(order, self._train_parts)[self._share])

    def evaluate(self) -> Iterator[Batch]:
        if self._eval_parts == 1:
            yield from _whole(self._graph, self._share)
            return
        for view in range(self._views):
            everyone = torch.arange(self._graph.num_nodes, device=self._graph.x.device)
            order = _shuffled(everyone, generator(self._seed, EVALUATE, view))
            yield from split_graph(self._graph, _dealt(order, self._eval_parts)[self._share])


class _Graphs:
    def __init__(self, graph: Graph, seed: int, graphs_per_batch: int, evaluate_on: str, share: slice) -> None:
        assert graph.part_of is not None
        self.evaluate_on = evaluate_on
        self._graph, self._seed, self._size, self._share = graph, seed, graphs_per_batch, share
        self._part_of = graph.part_of

    def train(self, epoch: int) -> Iterator[Batch]:
        numbers = torch.unique(self._part_of[self._graph.train])
        order = _shuffled(numbers, generator(self._seed, TRAIN, epoch))
        yield from split_graph(self._graph, self._members(order)[self._share])

    def evaluate(self) -> Iterator[Batch]:
        yield from split_graph(self._graph, self._members(torch.unique(self._part_of))[self._share])

    def _members(self, numbers: Tensor) -> list[Tensor]:
        return [torch.isin(self._part_of, some).nonzero()[:, 0] for some in numbers.split(self._size)]


class _Neighbour:
    def __init__(
        self,
        graph: Graph,
        seed: int,
        seeds_per_batch: int,
        neighbours: list[int],
        evaluate_on: str,
        rank: int,
        world: int,
    ) -> None:
        self.evaluate_on = evaluate_on
        self._graph, self._seed, self._rank, self._world = graph, seed, rank, world
        self._seeds = graph.train.nonzero()[:, 0].cpu()
        self._order: list[int] = []  # the loader reads it at the start of each epoch
        bare = Data(edge_index=graph.edge_index.cpu(), num_nodes=graph.num_nodes)
        self._loader = NeighborLoader(bare, neighbours, self._seeds, batch_size=seeds_per_batch, sampler=self._order)

    def train(self, epoch: int) -> Iterator[Batch]:
        places = _shuffled(torch.arange(self._seeds.numel()), generator(self._seed, TRAIN, epoch))
        share = places.numel() // self._world
        self._order[:] = places[self._rank : share * self._world : self._world].tolist()
        sampled = iter(self._loader)
        for step in range(len(self._loader)):
            # pyg-lib draws from torch's global stream: it is set for this step, and put back for the model's.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream(self._seed, TRAIN, epoch, self._rank, step))
                data = next(sampled)
            yield sampled_batch(self._graph, data)

    def evaluate(self) -> Iterator[Batch]:
        yield from _whole(self._graph, slice(self._rank, None, self._world))


def training_nodes(graph: Graph) -> Tensor:
    """The nodes a model may see while it trains: all, or those of the graphs that hold training nodes."""
    if graph.part_of is None:
        return torch.arange(graph.num_nodes, device=graph.x.device)
    return torch.isin(graph.part_of, torch.unique(graph.part_of[graph.train])).nonzero()[:, 0]


def split_graph(graph: Graph, groups: Sequence[Tensor]) -> Iterator[Batch]:
    """The graph that each of some disjoint groups of nodes induces; one pass over the edges serves them all."""
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
        yield Batch(_restricted(graph, nodes, ends, edges), nodes)


def sampled_batch(graph: Graph, data: Data) -> Batch:
    """What PyG's neighbour loader sampled, as a `Batch`: the seeds are its first `batch_size` nodes."""
    nodes, edges = data.n_id.to(graph.x.device), data.e_id.to(graph.x.device)
    part = _restricted(graph, nodes, data.edge_index.to(graph.x.device), edges)
    return Batch(part, nodes, torch.arange(nodes.numel(), device=graph.x.device) < data.batch_size)


def stream(*key: int) -> int:
    """A seed for torch's generators, another one for every key of non-negative numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def generator(*key: int) -> torch.Generator:
    """A generator whose numbers depend on `key` alone."""
    return torch.Generator().manual_seed(stream(*key))


def _restricted(graph: Graph, nodes: Tensor, edge_index: Tensor, edges: Tensor) -> Graph:
    """The graph of `nodes` and of the edges numbered `edges`, whose ends are renumbered in `edge_index`."""
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
    )


def _whole(graph: Graph, share: slice) -> Iterator[Batch]:
    """The whole graph, for the first process."""
    if share.start == 0:
        yield Batch(graph)


def _shuffled(values: Tensor, draw: torch.Generator) -> Tensor:
    return values[torch.randperm(values.numel(), generator=draw).to(values.device)]


def _dealt(order: Tensor, count: int) -> list[Tensor]:
    return [order[number::count] for number in range(count)]


def _check_place(evaluate_on: str) -> None:
    if evaluate_on not in PLACES:
        raise ValueError(f"batch.evaluate_on={evaluate_on} is not one of {', '.join(PLACES)}")


def _check_share(key: str, count: int, world: int) -> None:
    if count % world:
        raise ValueError(
            f"batch.{key} gives {count} batches an epoch, which {world} processes cannot share equally; "
            f"choose it so that their number is a multiple of {world}"
        )
