"""DeeperGCN's generalised aggregation as a convolution.

N nodes, E edges, C channels.
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch_geometric.nn import GENConv
from torch_geometric.nn.dense.linear import Linear

from deepgnn_cli.nn.convs import Conv, MLPNorm
from deepgnn_cli.rules.types import Count

_AGGREGATIONS = {"softmax": "softmax", "power": "powermean", "max": "max", "mean": "mean", "add": "add"}


def gen(
    channels: int,
    layer: int,
    *,
    aggregation: Literal["softmax", "power", "max", "mean", "add"],
    t: float,
    learn_t: bool,
    stop_gradient: bool,
    p: float,
    learn_p: bool,
    message_norm: bool,
    learn_message_scale: bool,
    mlp_layers: Count,
    mlp_norm: MLPNorm,
    expansion: Count,
    bias: bool,
    in_channels: int | None = None,
    edge_dim: int | None = None,
) -> nn.Module:
    """GENConv (Li et al., DeeperGCN, arXiv:2006.07739): `MLP(x_i + AGG_j(ReLU(x_j [+ W e_ij]) + 1e-7))`.

    Args:
        channels: C.
        layer: not read.
        aggregation: `softmax`, Σ_j softmax_j(t m_j) m_j; `power`, (mean_j m_j^p)^(1/p); max; mean; add.
        t: inverse temperature of the softmax.
        learn_t: t is a parameter.
        stop_gradient: no gradient flows through the softmax weights, as in the authors' code when t is fixed.
        p: the power. Messages, and then the mean of their powers, are clamped to [1e-7, 10] as in the authors' code;
            PyG on its own would take [1e-4, 100].
        learn_p: p is a parameter.
        message_norm: the aggregate m becomes `s |x| m / |m|`.
        learn_message_scale: s is a parameter; otherwise 1.
        mlp_layers: linear layers of the MLP; between them `mlp_norm` (batch, layer or null) and ReLU.
        mlp_norm: see `mlp_layers`.
        expansion: the MLP's inner width is this times C.
        bias: whether its linear layers have a bias.
        in_channels: C_in, if not C.
        edge_dim: the width of `adjacency.edge_attr` [E, edge_dim]; each layer has its own W: edge_dim -> C.
    """
    if learn_t and stop_gradient:
        raise ValueError("model.conv.learn_t=true needs the gradient that stop_gradient=true stops; choose one")
    chosen = "softmax_sg" if aggregation == "softmax" and stop_gradient else _AGGREGATIONS[aggregation]
    clamped: dict[str, object] = {"clamp_min": 1e-7, "clamp_max": 10.0}
    own_range = {"aggr_kwargs": {"p": p, "learn": learn_p, **clamped}} if aggregation == "power" else {}
    operator = GENConv(
        in_channels or channels,
        channels,
        aggr=chosen,
        t=t,
        learn_t=learn_t,
        p=p,
        learn_p=learn_p,
        msg_norm=message_norm,
        learn_msg_scale=learn_message_scale,
        norm=mlp_norm,
        num_layers=mlp_layers,
        expansion=expansion,
        bias=bias,
        edge_dim=edge_dim,
        **own_range,
    )
    if edge_dim == channels:
        # GENConv leaves its linear layer out where the widths agree already; the authors' code never does.
        operator.lin_edge = Linear(edge_dim, channels, bias=bias)
    return Conv(operator)
