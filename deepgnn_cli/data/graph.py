"""The Graph bundle: what every data set hands over, whatever its task.

N nodes, G graphs, M = N or G labelled items, E edges, F input features, D edge features, K classes (or binary tasks, or
numbers).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from deepgnn_cli.rules.tasks import Level, Loss, Task


@dataclass(frozen=True)
class Graph:
    """One graph, or the disjoint union of several, with its task.

    Args:
        name: data set name, as in the config.
        split: which split the masks are, e.g. `public`, `geom-3`, `random-0`.
        x: node features, [N, F] float32, dense; or categories, see `categories`.
        edge_index: directed edges source -> target, [2, E] int64; an undirected graph lists each edge both
            ways.
        y: labels: [M] int64 (one of K classes; -1 where unlabelled, outside of every mask) or [M, K] float32
            (K binary tasks or K numbers, NaN where unlabelled).
        num_classes: K.
        train, val, test: boolean masks, [M].
        metric: one of `rules.tasks.METRICS`: the benchmark's own score.
        edge_attr: edge features, [E, D] float32, in the order of `edge_index`; or None.
        part_of: [N] int64, the number of the graph a node belongs to (inductive data: a disjoint
            union of graphs, no edge crosses). None: one graph, seen whole (transductive). Where graphs are labelled,
            the nodes of each stand together, graph after graph, and so do its edges.
        sample_of: [N] int64, the number of the small graph a node belongs to, where many of them are one data set seen
            whole; rewiring keeps to them. None: `part_of` says.
        edge_weight: [E] float32, 0 or more, for the convs that aggregate linearly; None: all 1.
        node_names: N, what one's own data calls its nodes; None: their numbers, as in any part of a graph.
        class_names: K, what it calls its classes; None: their numbers.
        loss: what the benchmark trains by; None: what goes with the metric.
        level: what is labelled: `node` (M = N) or `graph` (M = G).
        categories: x holds the category of each node by each of S properties, [N, S] whole numbers, and a model reads
            them as Σ categories columns of 0 and 1; None: x is what a model reads.
        edge_categories: the same of `edge_attr`, [E, S].

    What a builder returns may take other forms too: `graph_check.checked` brings it into this one, or refuses it.
    """

    name: str
    split: str
    x: Tensor
    edge_index: Tensor
    y: Tensor
    num_classes: int
    train: Tensor
    val: Tensor
    test: Tensor
    metric: str = "accuracy"
    edge_attr: Tensor | None = None
    part_of: Tensor | None = None
    edge_weight: Tensor | None = None
    sample_of: Tensor | None = None
    node_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    loss: Loss | None = None
    level: Level = "node"
    categories: tuple[int, ...] | None = None
    edge_categories: tuple[int, ...] | None = None

    @property
    def task(self) -> Task:
        """What is asked of a model."""
        return Task(self.level, self.metric, self.loss)

    @property
    def num_items(self) -> int:
        """M, how many nodes or graphs there are labels for."""
        return self.num_graphs if self.level == "graph" else self.num_nodes

    @cached_property
    def num_graphs(self) -> int:
        """G."""
        return 1 if self.part_of is None else int(self.part_of.max()) + 1

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.size(0)

    @property
    def num_edges(self) -> int:
        """E, directed."""
        return self.edge_index.size(1)

    @property
    def num_features(self) -> int:
        """F, as a model reads them."""
        return self.x.size(1) if self.categories is None else sum(self.categories)

    @property
    def num_edge_features(self) -> int | None:
        """D, as a model reads them; None: there are none."""
        if self.edge_attr is None:
            return None
        return self.edge_attr.size(1) if self.edge_categories is None else sum(self.edge_categories)

    @property
    def multi_label(self) -> bool:
        """Whether a node, or graph, carries K binary labels rather than one of K classes."""
        return self.task.kind == "binary"

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits that are equal for two graphs exactly if all their tensors are."""
        total = sha256()
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), Tensor):
                total.update(f"{field.name} {value.dtype} {list(value.shape)}".encode())
                total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return total.hexdigest()[:12]

    def to(self, device: torch.device) -> Graph:
        """The same graph with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def subgraph(self, nodes: Tensor) -> Graph:
        """The graph induced by `nodes` (int64, unique), renumbered in their order; labels must be those of nodes."""
        assert self.level == "node", "whole graphs are cut out by `pieces.GraphCutter`"
        position = torch.full((self.num_nodes,), -1, dtype=torch.int64, device=nodes.device)
        position[nodes] = torch.arange(nodes.numel(), device=nodes.device)
        ends = position[self.edge_index]
        keep = (ends >= 0).all(dim=0)
        return replace(
            self,
            x=self.x[nodes],
            edge_index=ends[:, keep],
            y=self.y[nodes],
            train=self.train[nodes],
            val=self.val[nodes],
            test=self.test[nodes],
            edge_attr=None if self.edge_attr is None else self.edge_attr[keep],
            part_of=None if self.part_of is None else self.part_of[nodes],
            sample_of=None if self.sample_of is None else self.sample_of[nodes],
            edge_weight=None if self.edge_weight is None else self.edge_weight[keep],
            node_names=None,
        )
