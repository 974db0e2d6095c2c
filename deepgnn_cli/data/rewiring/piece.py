"""What a rewiring method is given and gives back.

N nodes, E directed edges, F input features, D edge features, P pairs of nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from deepgnn_cli.data.structure import topology
from deepgnn_cli.data.structure.topology import Matrix


@dataclass(frozen=True)
class Piece:
    """One graph, whole, or one of several in a union; nothing of its labels.

    A method may append nodes behind the N that are there, with features of their own, and never renumbers any.

    Args:
        x: [N, F].
        edge_index: [2, E], directed.
        edge_attr: [E, D] or None.
        edge_weight: [E] or None.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None = None
    edge_weight: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.size(0)

    def adjacency(self) -> Matrix:
        """The simple undirected graph."""
        return topology.simple(self.edge_index.numpy(), self.num_nodes)

    def data(self) -> Data:
        """For PyG's transforms."""
        return Data(x=self.x, edge_index=self.edge_index, num_nodes=self.num_nodes)

    def with_added(self, ends: Tensor) -> Piece:
        """With further directed edges [2, M]: weight 1, edge features 0."""
        new, attr, weight = ends.size(1), self.edge_attr, self.edge_weight
        return replace(
            self,
            edge_index=torch.cat([self.edge_index, ends], dim=1),
            edge_attr=None if attr is None else torch.cat([attr, attr.new_zeros(new, *attr.shape[1:])]),
            edge_weight=None if weight is None else torch.cat([weight, weight.new_ones(new)]),
        )

    def with_pairs(self, pairs: NDArray[np.int64]) -> Piece:
        """With undirected edges [2, P], each both ways, where there is none yet between the two."""
        n = self.num_nodes
        low, high = np.sort(pairs, axis=0)
        there = np.sort(self.edge_index.numpy(), axis=0)
        keys = np.setdiff1d(low[low < high] * n + high[low < high], there[0] * n + there[1])
        new = np.stack([keys // n, keys % n])
        return self.with_added(torch.from_numpy(np.concatenate([new, new[::-1]], axis=1)))

    def without_pairs(self, pairs: NDArray[np.int64]) -> Piece:
        """Without the edges between the nodes of each pair [2, P], in either direction."""
        n = self.num_nodes
        gone = torch.from_numpy(np.concatenate([pairs[0] * n + pairs[1], pairs[1] * n + pairs[0]]))
        keep = ~torch.isin(self.edge_index[0] * n + self.edge_index[1], gone)
        return replace(
            self,
            edge_index=self.edge_index[:, keep],
            edge_attr=None if self.edge_attr is None else self.edge_attr[keep],
            edge_weight=None if self.edge_weight is None else self.edge_weight[keep],
        )
