"""Rewiring by PyG's transforms: virtual node, half-hop, two-hop edges, graph diffusion.

N nodes, E directed edges.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Lt
from torch_geometric.transforms import GDC, HalfHop, TwoHop

from deepgnn_cli.data.rewiring.piece import Piece
from deepgnn_cli.rules.types import Count, Seed, Share

_DENSE_NODES = 12_000  # an N x N matrix of more takes gigabytes, and its inverse minutes


def none(piece: Piece) -> Piece:
    """The graph as it is."""
    return piece


def virtual_node(piece: Piece) -> Piece:
    """A node that every node of the graph hears and that hears every node (Gilmer et al. 2017, arXiv:1704.01212).

    Its features are zeros, as PyG's `VirtualNode` has them. All nodes are two hops apart.
    """
    n = piece.num_nodes
    all_nodes, virtual = torch.arange(n), torch.full((n,), n)
    spokes = torch.stack([torch.cat([all_nodes, virtual]), torch.cat([virtual, all_nodes])])
    grown = replace(piece, x=torch.cat([piece.x, piece.x.new_zeros(1, piece.x.size(1))]))
    return grown.with_added(spokes)


def half_hop(piece: Piece, *, alpha: Share, probability: Share, seed: Seed | None) -> Piece:
    """A slow node in the middle of edges (Azabou et al. 2023, arXiv:2308.09198): PyG's `HalfHop`.

    Messages along u -> v take two steps, through a node with the features α x_u + (1-α) x_v, which hears v as well.

    Args:
        piece: without edge features or weights.
        alpha: α.
        probability: the share of the nodes whose incoming edges are halved.
        seed: draws those nodes; None: the run's seed does.

    Raises:
        ValueError: the graph has edge features or weights.
    """
    if piece.edge_attr is not None or piece.edge_weight is not None:
        raise ValueError("rewire=half_hop knows no edge features or weights, and this graph has them; choose another")
    assert seed is not None
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        halved = HalfHop(alpha=alpha, p=probability)(piece.data())
    return replace(piece, x=halved.x, edge_index=halved.edge_index)


def two_hop(piece: Piece) -> Piece:
    """Edges between all nodes two hops apart (PyG's `TwoHop`); their number grows with the squares of the degrees."""
    joined = TwoHop()(piece.data()).edge_index
    n = piece.num_nodes
    new = ~torch.isin(joined[0] * n + joined[1], piece.edge_index[0] * n + piece.edge_index[1])
    return piece.with_added(joined[:, new])


def gdc(
    piece: Piece,
    *,
    alpha: Annotated[float, Gt(0), Lt(1)],
    average_degree: Count,
    normalization: Literal["sym", "col", "row"] | None,
) -> Piece:
    """Graph diffusion (Gasteiger et al. 2019, arXiv:1911.05485): PyG's `GDC` by personalised PageRank.

        S = α (I - (1-α) D^-1/2 (A + I) D^-1/2)^-1

    of which the largest entries become edges with weights, `average_degree` a node. The weights are read by the convs
    that aggregate linearly (GCN, GCNII, SAGE, …).

    Args:
        piece: without edge features or weights.
        alpha: α, the share that stays.
        average_degree: how many entries are kept, over the nodes.
        normalization: of the new weights; null: left to the conv.

    Raises:
        ValueError: the graph is too large for an N x N matrix, or has edge features or weights.
    """
    if piece.edge_attr is not None or piece.edge_weight is not None:
        raise ValueError("rewire=gdc makes weights of its own, and this graph has edge features or weights already")
    if piece.num_nodes > _DENSE_NODES:
        raise ValueError(
            f"rewire=gdc inverts a matrix of {piece.num_nodes} x {piece.num_nodes}; at most {_DENSE_NODES} nodes, or "
            "choose rewire=fosr, sdrf or expander"
        )
    diffused = GDC(
        self_loop_weight=1,
        normalization_in="sym",
        normalization_out=normalization,
        diffusion_kwargs={"method": "ppr", "alpha": alpha},
        sparsification_kwargs={"method": "threshold", "avg_degree": average_degree},
        exact=True,
    )(piece.data())
    return Piece(piece.x, diffused.edge_index, edge_weight=diffused.edge_attr)
