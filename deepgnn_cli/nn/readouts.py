"""Readouts: from the nodes' representations to one of each graph.

A builder is `(channels, *, …options)` -> a module called `readout(h, batch, num_graphs)`, whose `out_channels` says how
wide its result is. One with `over_layers` reads the representations of all layers, side by side; one with `adds_nodes`
reads a node that is added to each graph, and comes last.

N nodes, G graphs, C channels. h: [N, C]; batch: [N] int64, which graph each node belongs to; result: [G, C_out].
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch_geometric.nn import aggr

from deepgnn_cli.rules.types import Count

Aggregation = Literal["mean", "sum", "max"]


class Readout(nn.Module):
    """One of PyG's aggregations over the nodes of each graph."""

    def __init__(
        self, aggregation: Any, out_channels: int, *, over_layers: bool = False, adds_nodes: bool = False
    ) -> None:
        super().__init__()
        self.aggregation, self.out_channels = aggregation, out_channels
        self.over_layers, self.adds_nodes = over_layers, adds_nodes

    def forward(self, h: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """h: [N, C]; result: [G, C_out]."""
        out: Tensor
        out = h[h.size(0) - num_graphs :] if self.adds_nodes else self.aggregation(h, batch, dim_size=num_graphs)
        return out


def none(channels: int) -> None:
    """No readout: the labels are those of nodes."""


def mean(channels: int) -> nn.Module:
    """The mean over the nodes of a graph: `1/N_g Σ_i h_i`, which no size moves."""
    return Readout(aggr.MeanAggregation(), channels)


def sum(channels: int) -> nn.Module:
    """The sum over the nodes of a graph, `Σ_i h_i` (GIN, arXiv:1810.00826): it tells sizes apart."""
    return Readout(aggr.SumAggregation(), channels)


def max(channels: int) -> nn.Module:
    """The maximum over the nodes of a graph, a channel each."""
    return Readout(aggr.MaxAggregation(), channels)


def attention(channels: int) -> nn.Module:
    """Global attention (arXiv:1511.05493): `Σ_i softmax_i(h_i w + b) h_i`, the softmax over the nodes of a graph."""
    return Readout(aggr.AttentionalAggregation(nn.Linear(channels, 1)), channels)


def set2set(channels: int, *, processing_steps: Count) -> nn.Module:
    """Set2Set (arXiv:1511.06391): an LSTM looks at the nodes with attention, so many times; 2 C wide."""
    return Readout(aggr.Set2Set(channels, processing_steps), 2 * channels)


def jumping(channels: int, *, aggregation: Aggregation) -> nn.Module:
    """The readouts of all layers side by side, the encoder's output among them (GIN, arXiv:1810.00826, section 4.2).

    Behind it a linear layer is the sum of one a layer, as GIN's code has it.

    Args:
        channels: the widths of all of them together.
        aggregation: over the nodes: mean, sum or max.
    """
    pools = {"mean": aggr.MeanAggregation, "sum": aggr.SumAggregation, "max": aggr.MaxAggregation}
    return Readout(pools[aggregation](), channels, over_layers=True)


def virtual_node(channels: int) -> nn.Module:
    """The representation of a node added to each graph, joined with all of its nodes both ways (arXiv:1704.01212).

    Its features are zeros, and those of its edges. It hears all nodes, and any two of them hear each other through it.
    """
    return Readout(None, channels, adds_nodes=True)
