"""Graph convolutions: adapters that give every operator one call, `conv(x, adjacency, x0)`.

A builder is `(channels, layer, *, …options)` -> module. `layer` counts from 1. A builder that can change the width
also takes `in_channels`; one whose operator mixes the initial representation itself (between aggregation and
weight) takes `alpha` and reads `x0`; all others ignore `x0`, and the wiring mixes outside. One that reads edge
features takes `edge_dim`, their width; the model encodes them, and hands them over in `adjacency.edge_attr`.

Here are the operators whose aggregation is linear: a product with a sparse matrix. `attention.py` and `gen.py` hold
the others.

N nodes, C channels, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch_geometric.nn import MLP, AntiSymmetricConv, GCNConv, GINConv, GraphConv, SAGEConv, TAGConv
from torch_geometric.nn.inits import glorot, zeros

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.aggregation.operators import twin
from deepgnn_cli.nn.aggregation.products import floating
from deepgnn_cli.nn.chain import Chain, ChainedConv
from deepgnn_cli.nn.gcn2 import GCN2
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures
from deepgnn_cli.rules.types import Count, NonNegative, Positive, Share


class Conv(nn.Module):
    """A PyG operator behind the one signature; `forward(x, adjacency, x0)` feeds it what it reads.

    Args:
        operator: the PyG module.
        normalisation: the adjacency a linear aggregation multiplies by (`Adjacency.operator`), handed to the
            operator in place of its edge index; None: it is computed by `aggregation/` where that covers it, and
            otherwise gathers and scatters over `adjacency.edge_index`, with `adjacency.edge_attr` as its third
            argument where there is one.
        self_loops: aggregate over the node itself as well.
    """

    takes_x0 = False
    accepts_sparse = False  # whether it reads `SparseFeatures` as well
    reads_edge_weight = False  # whether the weights of the edges count

    def __init__(self, operator: nn.Module, normalisation: str | None = None, *, self_loops: bool = False) -> None:
        super().__init__()
        self.operator, self.normalisation, self.self_loops = operator, normalisation, self_loops
        self.reads_edge_weight = normalisation is not None

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x: [N, C_in]; result: [N, C]."""
        out: Tensor
        adjacency = adjacency.looped() if self.self_loops else adjacency
        if self.normalisation is not None:
            out = self.operator(x, adjacency.operator(self.normalisation, floating(x.dtype)))
        elif not adjacency.gathers and (computed := twin(self.operator, adjacency.edge_attr)) is not None:
            out = computed(self.operator, x, adjacency)
        elif adjacency.edge_attr is not None:
            out = self.operator(x, adjacency.edge_index, adjacency.edge_attr)
        else:
            out = self.operator(x, adjacency.edge_index)
        return out


def _multiply(self: nn.Module, edge_index: Operator, x: Tensor | tuple[Tensor, Tensor], **_: object) -> Tensor:
    """Stands in for `MessagePassing.propagate`: one sparse product instead of gather and scatter."""
    return edge_index(x[0] if isinstance(x, tuple) else x)


class _GCNConv(GCNConv):
    propagate = _multiply


class _SAGEConv(SAGEConv):
    propagate = _multiply


class _GINConv(GINConv):
    propagate = _multiply


class _GraphConv(GraphConv):
    propagate = _multiply


class _TAGConv(TAGConv):
    propagate = _multiply


class GCN(ChainedConv):
    """GCN's layer: see `gcn`. Of its own and not PyG's operator, whose objects outweigh the weights in deep stacks."""

    takes_x0 = False
    accepts_sparse = True
    reads_edge_weight = True

    def __init__(self, linear: Linear, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.linear, self.bias = linear, bias

    def reset_parameters(self) -> None:
        """Glorot's weights, and a bias of zeros."""
        glorot(self.linear.weight)
        zeros(self.bias)

    def forward(self, x: Tensor | SparseFeatures, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x: [N, C_in]; result: [N, C]."""
        out = adjacency.operator("sym", floating(x.dtype))(self.linear(x))
        return out if self.bias is None else out + self.bias

    @staticmethod
    def chain(convs: Sequence[GCN], x: Tensor, adjacency: Adjacency, x0: Tensor | None, rate: float) -> Tensor | None:
        """`x = conv(drop(relu(x)))` for each conv, as one step; None where that does not serve."""
        biases = [conv.bias for conv in convs if conv.bias is not None]
        if len(biases) not in (0, len(convs)):
            return None
        chain = Chain(adjacency.operator("sym", floating(x.dtype)), transposed=True)
        return chain(x, None, [conv.linear.weight for conv in convs], biases, rate=rate)


def gcn(channels: int, layer: int, *, bias: bool, in_channels: int | None = None) -> nn.Module:
    """GCN (Kipf & Welling, arXiv:1609.02907): `Â x W + b`."""
    width = in_channels or channels
    drawn = GCNConv(width, channels, bias=bias)  # PyG's start: Glorot's weights
    linear = Linear(width, channels, bias=False)
    linear.weight = drawn.lin.weight
    return GCN(linear, drawn.bias)


_MULTIPLIED = ("mean", "sum")  # the aggregations that are a product with a matrix


def multiplied_sage(width: int, channels: int, **knobs: object) -> nn.Module:
    """`x W1 + M x W2 + b` with any matrix M of `Adjacency.operator`, as the operator of a `Conv`."""
    return _SAGEConv(width, channels, **knobs)


Aggregation = Literal["mean", "sum", "max"]
MLPNorm = Literal["batch", "layer"] | None


def sage(
    channels: int,
    layer: int,
    *,
    aggregation: Aggregation,
    self_loops: bool,
    normalize: bool,
    bias: bool,
    in_channels: int | None = None,
) -> nn.Module:
    """GraphSAGE (Hamilton et al., arXiv:1706.02216): `W1 x_i + W2 AGG_j x_j + b`, AGG one of mean, sum, max.

    `normalize` projects each node's result onto the unit sphere, as the paper does between layers. With `self_loops`
    AGG goes over the node itself as well.
    """
    multiplied = aggregation in _MULTIPLIED
    made = _SAGEConv if multiplied else SAGEConv
    operator = made(in_channels or channels, channels, aggr=aggregation, normalize=normalize, bias=bias)
    return Conv(operator, aggregation if multiplied else None, self_loops=self_loops)


def graph(
    channels: int, layer: int, *, aggregation: Aggregation, bias: bool, in_channels: int | None = None
) -> nn.Module:
    """GraphConv (Morris et al., arXiv:1810.02244): `W1 x_i + W2 AGG_j x_j + b`, AGG one of sum, mean, max."""
    width = in_channels or channels
    if aggregation in _MULTIPLIED:
        return Conv(_GraphConv(width, channels, bias=bias), aggregation)
    return Conv(GraphConv(width, channels, aggr=aggregation, bias=bias))


def gin(
    channels: int,
    layer: int,
    *,
    eps: float,
    train_eps: bool,
    mlp_layers: Count,
    mlp_norm: MLPNorm,
    in_channels: int | None = None,
) -> nn.Module:
    """GIN (Xu et al., arXiv:1810.00826): `MLP((1 + ε) x_i + Σ_j x_j)`, an MLP of `mlp_layers` linear layers.

    `mlp_norm` (batch, layer or null) stands between those. ε starts at `eps`, and learns if `train_eps` says so.
    """
    widths = [in_channels or channels] + [channels] * mlp_layers
    mode = {"norm_kwargs": {"mode": "node"}} if mlp_norm == "layer" else {}
    mlp = MLP(widths, norm=f"{mlp_norm}_norm" if mlp_norm else None, **mode)
    return Conv(_GINConv(mlp, eps=eps, train_eps=train_eps), "sum")


def tag(channels: int, layer: int, *, hops: Count, bias: bool, in_channels: int | None = None) -> nn.Module:
    """TAGCN (Du et al., arXiv:1710.10370): `Σ_{k≤hops} (D^-1/2 A D^-1/2)^k x W_k + b`, without self-loops."""
    return Conv(_TAGConv(in_channels or channels, channels, K=hops, bias=bias, normalize=False), "sym_loopless")


class Mean(nn.Module):
    """The mean over the neighbours: see `mean`."""

    takes_x0 = False
    reads_edge_weight = True

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x, result: [N, C]."""
        return adjacency.operator("mean", floating(x.dtype))(x)


def mean(channels: int, layer: int) -> nn.Module:
    """The mean over the neighbours, without weights: `D^-1 A x`; C -> C. What Ordered GNN gates (arXiv:2302.01524)."""
    return Mean()


def antisymmetric(
    channels: int,
    layer: int,
    *,
    iterations: Count,
    epsilon: Positive,
    gamma: NonNegative,
    act: Literal["tanh", "relu", "elu", "gelu", "leaky_relu"],
    bias: bool,
) -> nn.Module:
    """A-DGN (Gravina et al., arXiv:2210.09789): one Euler step of a stable and non-dissipative system, C -> C.

    x + ε act((W - Wᵀ - γ I) x + Â x V + b), `iterations` times with the same weights. The step is a residual
    connection of its own; `act` (tanh in the paper) is inside it.
    """
    operator = AntiSymmetricConv(
        channels,
        phi=_GCNConv(channels, channels, normalize=False, bias=False),
        num_iters=iterations,
        epsilon=epsilon,
        gamma=gamma,
        act=act,
        bias=bias,
    )
    return Conv(operator, "sym")


def gcn2(
    channels: int,
    layer: int,
    *,
    theta: Positive | None,
    variant: Literal["shared", "official", "paper"],
    alpha: Share = 0.0,
) -> nn.Module:
    """GCNII (Chen et al., arXiv:2007.02133): initial residual and identity mapping, no bias.

    `shared` (GCNII):      `S ((1-β) I + β W)`, `S = (1-α) Â x + α x0`
    `official` (GCNII*):   `(1-α) Â x (1-β) + α x0 (1-β) + β (Â x W + x0 W0)`, as the authors' code computes it
    `paper` (GCNII*):      `(1-α) Â x ((1-β) I + β W) + α x0 ((1-β) I + β W0)`, as the paper prints it

    with `β = log(θ / layer + 1)`; `theta=None` leaves the identity mapping out (β = 1). `alpha` comes from the
    residual: an ablation `residual=none` leaves the initial residual out. W ~ U(±1/sqrt(C)).
    """
    beta = None if theta is None else math.log(theta / layer + 1)
    return GCN2(channels, alpha=alpha, beta=beta, variant=variant)
