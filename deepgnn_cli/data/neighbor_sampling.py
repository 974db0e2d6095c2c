"""Training on sampled neighbourhoods, with PyG's loader, where pyg-lib is installed.

N nodes, E edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Len
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader

from deepgnn_cli.data.batches import Batches
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.pieces import TRAIN, Batch, generator, restricted, shuffled, stream, whole
from deepgnn_cli.data.relations import some_at_each_hop
from deepgnn_cli.rules.signatures import related, requires
from deepgnn_cli.rules.types import Count


@requires("pyg_lib", "install the build for this torch that PyG's installation page names, or use batch=parts")
@related(some_at_each_hop)
def neighbour(
    graph: Graph,
    *,
    seed: int,
    seeds_per_batch: Count,
    neighbours: Annotated[list[Annotated[int, Ge(-1)]], Len(1)],
    evaluate_on: Literal["device", "cpu"],
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Train on sampled neighbourhoods of some training nodes (GraphSAGE, arXiv:1706.02216).

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
    if graph.level == "graph":
        raise ValueError(
            f"batch=neighbour samples around nodes, and {graph.name} labels whole graphs; use batch=graphs"
        )
    if (trains := int(graph.train.sum())) < world:
        raise ValueError(f"only {trains} nodes train, fewer than the {world} processes")
    return _Neighbour(graph, seed, seeds_per_batch, list(neighbours), evaluate_on, rank, world)


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
        places = shuffled(torch.arange(self._seeds.numel()), generator(self._seed, TRAIN, epoch))
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
        yield from whole(self._graph, slice(self._rank, None, self._world))


def sampled_batch(graph: Graph, data: Data) -> Batch:
    """What PyG's neighbour loader sampled, as a `Batch`: the seeds are its first `batch_size` nodes."""
    nodes, edges = data.n_id.to(graph.x.device), data.e_id.to(graph.x.device)
    part = restricted(graph, nodes, data.edge_index.to(graph.x.device), edges)
    return Batch(part, nodes, torch.arange(nodes.numel(), device=graph.x.device) < data.batch_size)
