"""From batches of a graph to what a model reads: features in their cheaper form, the adjacency, the labels.

N nodes, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deepgnn_cli.data.batches import Batch, Batches
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.sparse_features import SparseFeatures, features


@dataclass(frozen=True)
class Inputs:
    """One batch on the device. `train` and `nodes` are indices: which nodes train, and where all of them belong."""

    x: Tensor | SparseFeatures
    graph: Adjacency
    y: Tensor
    train: Tensor
    nodes: Tensor | None


@dataclass(frozen=True)
class Targets:
    """The labels of the training, validation and test nodes, and their indices; on the device."""

    index: tuple[Tensor, Tensor, Tensor]
    y: tuple[Tensor, Tensor, Tensor]

    @staticmethod
    def of(graph: Graph, device: torch.device) -> Targets:
        """From the masks of a graph."""
        index = tuple(mask.nonzero().flatten() for mask in (graph.train, graph.val, graph.test))
        labels = tuple(graph.y[i].to(device) for i in index)
        moved = tuple(i.to(device) for i in index)
        return Targets((moved[0], moved[1], moved[2]), (labels[0], labels[1], labels[2]))


class InputLoader:
    """Prepares batches for a device; a batch that comes again (the whole graph, a fixed part) is prepared once.

    Args:
        graph: the whole graph.
        batches: the strategy.
        device: where training runs; evaluation too, unless the strategy says `cpu`.
        evaluation: the strategy to evaluate by, if `batches` are only this process's share; None: the same.
    """

    def __init__(self, graph: Graph, batches: Batches, device: torch.device, evaluation: Batches | None = None) -> None:
        self.whole, self.batches, self.device = graph, batches, device
        self.evaluation = batches if evaluation is None else evaluation
        self.evaluates_on = torch.device("cpu") if batches.evaluate_on == "cpu" else device
        self.targets = Targets.of(graph, self.evaluates_on)
        self._prepared: WeakKeyDictionary[Batch, Inputs] = WeakKeyDictionary()

    def train(self, epoch: int) -> Iterator[Inputs]:
        """The training batches of an epoch."""
        return (self._prepare(batch, self.device) for batch in self.batches.train(epoch))

    def evaluate(self) -> Iterator[Inputs]:
        """The evaluation batches: together they cover every node at least once."""
        return (self._prepare(batch, self.evaluates_on) for batch in self.evaluation.evaluate())

    def _prepare(self, batch: Batch, device: torch.device) -> Inputs:
        if batch not in self._prepared:
            graph = batch.graph.to(device)
            train = graph.train if batch.seeds is None else graph.train & batch.seeds.to(device)
            x = features(graph.x)
            if isinstance(x, Tensor):
                x = x.contiguous()
            self._prepared[batch] = Inputs(
                x,
                Adjacency(graph.edge_index, graph.num_nodes, graph.edge_attr, graph.part_of, graph.edge_weight),
                graph.y,
                train.nonzero().flatten(),
                None if batch.nodes is None else batch.nodes.to(device),
            )
        return self._prepared[batch]
