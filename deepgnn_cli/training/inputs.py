"""From batches of a graph to what a model reads: features in their cheaper form, the adjacency, the labels.

N nodes, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deepgnn_cli.data.batches import Batch, Batches
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.sparse_features import SparseFeatures, features, one_hot

if TYPE_CHECKING:  # rewiring needs scipy, and scripts/check_gpu.py has torch and PyG alone
    from deepgnn_cli.data.rewiring.apply import Rewired


@dataclass(frozen=True)
class Inputs:
    """One batch on the device.

    Args:
        x: [N, F]. graph: the edges. y: the labels of nodes, or of graphs.
        train: which of these train; indices.
        nodes: where the nodes belong in the whole graph; None: it is that.
        items: the same of what is labelled.
    """

    x: Tensor | SparseFeatures
    graph: Adjacency
    y: Tensor
    train: Tensor
    nodes: Tensor | None
    items: Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """The labels of the training, validation and test nodes, or graphs, and their indices; on the device."""

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

    What asks for numbers is asked where the graph lies, before it goes to a GPU, and goes there by way of memory that
    a GPU reads by itself: no step waits for its batch's upload, and while a GPU is busy with one step the next batch
    is being cut.

    Args:
        graph: the whole graph.
        batches: the strategy.
        device: where training runs; evaluation too, unless the strategy says `cpu`.
        evaluation: the strategy to evaluate by, if `batches` are only this process's share; None: the same.
        changed: what rewiring has made of the graph; None: nothing.
    """

    def __init__(
        self,
        graph: Graph,
        batches: Batches,
        device: torch.device,
        evaluation: Batches | None = None,
        changed: Rewired | None = None,
    ) -> None:
        self.whole, self.batches, self.device, self.changed = graph, batches, device, changed
        self.evaluation = batches if evaluation is None else evaluation
        self.evaluates_on = torch.device("cpu") if batches.evaluate_on == "cpu" else device
        self.targets = Targets.of(graph, self.evaluates_on)
        self._prepared: WeakKeyDictionary[Batch, Inputs] = WeakKeyDictionary()
        self._evaluated: list[Inputs] | None = None

    def train(self, epoch: int) -> Iterator[Inputs]:
        """The training batches of an epoch."""
        for batch in self.batches.train(epoch):
            yield self._lasting(batch, self.device) if batch.lasting else prepared(batch, self.device, fleeting=True)

    def evaluate(self) -> Iterator[Inputs]:
        """The evaluation batches: together they cover every node at least once.

        They are the same every time, and stay prepared where that takes no more than `KEPT_BYTES`, as far as the first
        of them tells.
        """
        if self._evaluated is not None:
            yield from self._evaluated
            return
        kept, size, keeps = [], 0, None
        for batch in self.evaluation.evaluate():
            size += 0 if batch.lasting else _held_bytes(batch)
            keeps = self.keeps(batch) if keeps is None else keeps and size <= KEPT_BYTES
            inputs = self._lasting(batch, self.evaluates_on) if keeps else prepared(batch, self.evaluates_on)
            if keeps:
                kept.append(inputs)
            else:
                kept.clear()
            yield inputs
        self._evaluated = kept if keeps else None

    def keeps(self, first: Batch) -> bool:
        """Whether evaluation batches stay prepared: they are as large as the first of them, a node."""
        foreseen = 0 if first.lasting else _held_bytes(first) * self.whole.num_nodes / first.graph.num_nodes
        return foreseen <= KEPT_BYTES

    def _lasting(self, batch: Batch, device: torch.device) -> Inputs:
        if batch not in self._prepared:
            self._prepared[batch] = prepared(batch, device)
        return self._prepared[batch]


KEPT_BYTES = 1 << 30


def _held_bytes(batch: Batch) -> int:
    """About what a prepared batch takes: its tensors, and matrices as large as they; in bytes."""
    held = (value for value in vars(batch.graph).values() if isinstance(value, Tensor))
    return 2 * sum(tensor.numel() * tensor.element_size() for tensor in held)


def prepared(batch: Batch, device: torch.device, fleeting: bool = False) -> Inputs:
    """A batch as a model reads it, on the device; `fleeting`: for one step alone."""
    graph = batch.graph
    train = graph.train if batch.seeds is None else graph.train & batch.seeds.to(graph.train.device)
    x = features(graph.x) if graph.categories is None else one_hot(graph.x, graph.categories)
    attr = graph.edge_attr
    if attr is not None and graph.edge_categories is not None:
        found = one_hot(attr, graph.edge_categories, dense=True)
        assert isinstance(found, Tensor)
        attr = found
    moved = partial(_upload, device=device, pinned=fleeting)
    edges = Adjacency(
        moved(graph.edge_index),
        graph.num_nodes,
        None if attr is None else moved(attr),
        None if graph.part_of is None else moved(graph.part_of),
        None if graph.edge_weight is None else moved(graph.edge_weight),
        fleeting=fleeting,
        has_loops=bool((graph.edge_index[0] == graph.edge_index[1]).any()),
        num_graphs=None if graph.part_of is None else int(graph.part_of.max()) + 1,
    )
    nodes = None if batch.nodes is None else moved(batch.nodes)
    return Inputs(
        moved(x).contiguous() if isinstance(x, Tensor) else x.moved(moved),
        edges,
        moved(graph.y),
        moved(train.nonzero().flatten()),
        nodes,
        nodes if batch.graphs is None else moved(batch.graphs),
    )


def _upload(tensor: Tensor, device: torch.device, pinned: bool) -> Tensor:
    """To the device without waiting. Pinned memory is never given back: only what passes through goes there."""
    if device.type == "cuda" and tensor.device.type == "cpu" and pinned:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
