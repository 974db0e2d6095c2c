"""Graph convolutions that weigh each edge; `aggregation/` computes them without a tensor of E × C.

Heads are concatenated where their number divides the channels, each then C / heads wide; where it does not, as in
front of most sets of classes, each is C wide and they are averaged, as GAT's last layer does.

N nodes, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le
from torch import nn
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

from deepgnn_cli.nn.convs import Conv
from deepgnn_cli.rules.types import NonNegative, Rate

Heads = Annotated[int, Ge(1), Le(1024)]


def _heads(
    operator: Callable[..., nn.Module],
    channels: int,
    in_channels: int | None,
    heads: int,
    attention_dropout: float,
    **knobs: object,
) -> Conv:
    concat = channels % heads == 0
    width = channels // heads if concat else channels
    made = operator(in_channels or channels, width, heads=heads, concat=concat, dropout=attention_dropout, **knobs)
    return Conv(made)


def gat(
    channels: int,
    layer: int,
    *,
    heads: Heads,
    attention_dropout: Rate,
    negative_slope: NonNegative,
    bias: bool,
    in_channels: int | None = None,
    edge_dim: int | None = None,
) -> nn.Module:
    """GAT (Veličković et al., arXiv:1710.10903): `Σ_j α_ij W x_j + b` over the neighbours and the node itself.

    α_ij is the softmax over j of LeakyReLU(a_s·W x_j + a_t·W x_i [+ a_e·W_e e_ij]), a head each. Self-loops get the
    mean of the features of a node's incoming edges.
    """
    knobs: dict[str, object] = {"negative_slope": negative_slope, "bias": bias, "edge_dim": edge_dim}
    return _heads(GATConv, channels, in_channels, heads, attention_dropout, **knobs)


def gatv2(
    channels: int,
    layer: int,
    *,
    heads: Heads,
    attention_dropout: Rate,
    negative_slope: NonNegative,
    share_weights: bool,
    bias: bool,
    in_channels: int | None = None,
    edge_dim: int | None = None,
) -> nn.Module:
    """GATv2 (Brody et al., arXiv:2105.14491): as `gat`, with α from a·LeakyReLU(W_s x_j + W_t x_i [+ W_e e_ij]).

    `share_weights`: W_s is W_t.
    """
    knobs: dict[str, object] = {
        "negative_slope": negative_slope,
        "share_weights": share_weights,
        "bias": bias,
        "edge_dim": edge_dim,
    }
    return _heads(GATv2Conv, channels, in_channels, heads, attention_dropout, **knobs)


def transformer(
    channels: int,
    layer: int,
    *,
    heads: Heads,
    attention_dropout: Rate,
    beta: bool,
    bias: bool,
    in_channels: int | None = None,
    edge_dim: int | None = None,
) -> nn.Module:
    """UniMP's graph transformer (Shi et al., arXiv:2009.03509): scaled dot-product attention over the neighbours.

    `W1 x_i + Σ_j α_ij (W2 x_j [+ W_e e_ij])`; with `beta` a learned gate weighs the two terms instead of adding them.
    """
    knobs: dict[str, object] = {"beta": beta, "bias": bias, "edge_dim": edge_dim}
    return _heads(TransformerConv, channels, in_channels, heads, attention_dropout, **knobs)
