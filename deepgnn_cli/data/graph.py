"""The Graph bundle: what every data set hands over, whatever its task.

N nodes, E edges, F input features, D edge features, K classes (or binary tasks).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

METRICS = ("accuracy", "micro_f1", "roc_auc")


@dataclass(frozen=True)
class Graph:
    """One graph, or the disjoint union of several, with its task.

    Args:
        name: data set name, as in the config.
        split: which split the masks are, e.g. `public`, `geom-3`, `random-0`.
        x: node features, [N, F] float32, dense.
        edge_index: directed edges source -> target, [2, E] int64; an undirected graph lists each edge both
            ways.
        y: labels: [N] int64 (one of K classes; -1 where unlabelled, outside of every mask) or [N, K] float32
            (K binary tasks, NaN where unlabelled).
        num_classes: K.
        train, val, test: boolean masks, [N].
        metric: one of `METRICS`: the benchmark's own score.
        edge_attr: edge features, [E, D] float32, in the order of `edge_index`; or None.
        part_of: [N] int64, the number of the graph a node belongs to (inductive data: a disjoint
            union of graphs, no edge crosses). None: one graph, seen whole (transductive).
        sample_of: [N] int64, the number of the small graph a node belongs to, where many of them are one data set seen
            whole; rewiring keeps to them. None: `part_of` says.
        edge_weight: [E] float32, 0 or more, for the convs that aggregate linearly; None: all 1.
        node_names: N, what one's own data calls its nodes; None: their numbers, as in any part of a graph.
        class_names: K, what it calls its classes; None: their numbers.

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
        """F."""
        return self.x.size(1)

    @property
    def multi_label(self) -> bool:
        """Whether a node carries K binary labels rather than one of K classes."""
        return self.y.dim() == 2

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
        """The graph induced by `nodes` ([M] int64, unique), renumbered in their order."""
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
