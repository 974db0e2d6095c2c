"""Positional encodings: further columns of x that say where in the graph a node is, by PyG's transforms.

An encoding is `(graph, *, …)` -> graph. Each graph of a union has its own.

N nodes, F input features, P columns of an encoding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import AddLaplacianEigenvectorPE, AddRandomWalkPE, BaseTransform
from torch_geometric.utils import to_undirected

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.pieces import GraphCutter
from deepgnn_cli.data.prepare import spelled_out
from deepgnn_cli.rules.types import Count


def none(graph: Graph) -> Graph:
    """No encoding."""
    return graph


def random_walk(graph: Graph, *, steps: Count) -> Graph:
    """How likely a random walk of 1 to P steps ends where it began (arXiv:2110.07875): the diagonals of (D^-1 A)^p.

    Args:
        graph: the graph; the features stay in front.
        steps: P. The powers are computed as sparse matrices, which fill up.

    Returns:
        The graph with x [N, F + P].
    """
    return _encoded(graph, steps, lambda part: _columns(part.edge_index, part.num_nodes, AddRandomWalkPE(steps, "pe")))


def laplacian(graph: Graph, *, vectors: Count) -> Graph:
    """Eigenvectors of I - D^-1/2 A D^-1/2 for its P smallest eigenvalues but one (arXiv:2003.00982), A made undirected.

    An eigenvector's sign means nothing: here its largest entry is positive.

    Args:
        graph: the graph; the features stay in front.
        vectors: P.

    Returns:
        The graph with x [N, F + P].

    Raises:
        ValueError: a graph has too few nodes.
    """

    def columns(part: Graph) -> Tensor:
        n = part.num_nodes
        if vectors + 1 >= n:
            raise ValueError(f"encoding.vectors={vectors} needs {vectors + 2} nodes, and a graph has {n}; use fewer")
        # ARPACK starts from a random vector: always the same one, for equal numbers in every run.
        start = np.random.default_rng(0).random(n)
        transform = AddLaplacianEigenvectorPE(vectors, "pe", is_undirected=True, **({"v0": start} if n >= 100 else {}))
        found = _columns(to_undirected(part.edge_index, num_nodes=n), n, transform)
        largest = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
        return found * largest.sign()

    return _encoded(graph, vectors, columns)


def encoded_width(config: Mapping[str, Any]) -> int:
    """P, the columns that the encoding of a configuration adds."""
    return int(config.get("steps", config.get("vectors", 0)))


def _encoded(graph: Graph, width: int, columns: Callable[[Graph], Tensor]) -> Graph:
    graph = spelled_out(graph)
    if graph.part_of is None:
        code = columns(graph)
    elif graph.level == "graph":
        cutter = GraphCutter(graph)
        code = torch.cat([columns(cutter.cut(number[None]).graph) for number in torch.arange(graph.num_graphs)])
    else:
        code = graph.x.new_zeros(graph.num_nodes, width)
        for number in torch.unique(graph.part_of):
            nodes = (graph.part_of == number).nonzero()[:, 0]
            code[nodes] = columns(graph.subgraph(nodes)).to(code.dtype)
    return replace(graph, x=torch.cat([graph.x, code.to(graph.x.dtype)], dim=1))


def _columns(edge_index: Tensor, n: int, transform: BaseTransform) -> Tensor:
    """What a transform of PyG's writes to `pe`, [N, P]."""
    with warnings.catch_warnings():  # torch calls its CSR support beta, once a process
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)
        pe: Tensor = transform(Data(edge_index=edge_index, num_nodes=n)).pe
    return pe
