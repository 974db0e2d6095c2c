"""A trained model as a plain module on `(x, edge_index)`, which `torch.export` can write for programs without us.

N nodes, E edges, F input features, D edge features, C channels, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.reversible.stack import ReversibleStack


class Portable(nn.Module):
    """`logits = module(x, edge_index)`: a copy of a model, with dense features and edges in place of our sparse forms.

    Equal to the model up to rounding. It is in evaluation mode and its weights are frozen. `torch.export.export` takes
    it, with any number of nodes and edges, unless a conv decides by its numbers; see the README.

    Args:
        model: what `deep_gnn` or another builder of models gives.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        for module in self.model.modules():
            if isinstance(module, ReversibleStack):  # the same numbers by plain operations
                module.store_activations = True

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """The logits, [N, K].

        Args:
            x: [N, F].
            edge_index: source -> target, [2, E] int64; an undirected graph lists each edge both ways.
            edge_weight: [E], for the convs that aggregate linearly; None: all 1.
            edge_attr: [E, D]; None: none.
            batch: [N] int64, which graph a node belongs to; None: one graph.
        """
        logits: Tensor = self.model(x, PlainAdjacency(edge_index, x.size(0), edge_attr, batch, edge_weight))
        return logits


class PlainAdjacency(Adjacency):
    """An adjacency whose products are gathers and scatters: no shape depends on which edges there are."""

    gathers = True

    def operator(self, normalisation: str, dtype: torch.dtype = torch.float32) -> GatheringOperator:  # type: ignore[override]
        """The aggregation that `Adjacency.operator` documents, from the edges as they are."""
        source, target = self.edge_index
        n, given = self.num_nodes, self.edge_weight
        entry = torch.ones_like(target, dtype=dtype) if given is None else given.to(dtype)
        loop = entry.new_zeros(n)
        if normalisation == "sym":
            # A self-loop is its node's own entry, which is 1 without one; the last place collects all other edges.
            own = source == target
            loop = entry.new_ones(n + 1).index_put((torch.where(own, target, n),), entry)[:n]
            entry = entry * ~own
        degree = loop.index_add(0, target, entry)
        if normalisation in ("sym", "sym_loopless"):
            root = degree.rsqrt().masked_fill(degree == 0, 0)
            entry, loop = root[target] * root[source] * entry, root * root * loop
        elif normalisation == "mean":
            entry = entry * degree.reciprocal().masked_fill(degree == 0, 0)[target]
        elif normalisation != "sum":
            raise ValueError(f"normalisation={normalisation!r} is not one of sym, sym_loopless, mean, sum")
        return GatheringOperator(source, target, entry, loop)


@dataclass(frozen=True)
class GatheringOperator:
    """What `Operator` computes, by gathering over E edges and scattering into N nodes."""

    source: Tensor
    target: Tensor
    entry: Tensor  # [E]
    loop: Tensor  # [N], the entries on the diagonal that are no edges

    def __call__(self, x: Tensor, base: Tensor | None = None, scale: float = 1.0, base_scale: float = 1.0) -> Tensor:
        """`scale * M x + base_scale * base`; x, base, result: [N, C]."""
        x = x.to(self.entry.dtype)
        own = self.loop.unsqueeze(1) * x
        product = own.index_add(0, self.target, self.entry.unsqueeze(1) * x[self.source])
        product = product if scale == 1 else scale * product
        return product if base is None else product + base_scale * base.to(product.dtype)
