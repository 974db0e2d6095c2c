"""Convs that can tell a node from its neighbours, push them apart, or weigh them with a sign or a gate.

N nodes, E edges, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import glorot

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.aggregation.edge_blocks import Part, by_block
from deepgnn_cli.nn.aggregation.products import full_precision
from deepgnn_cli.nn.convs import Conv, multiplied_sage
from deepgnn_cli.rules.types import Positive, Share


def gcn_separate(channels: int, layer: int, *, bias: bool, in_channels: int | None = None) -> nn.Module:
    """GCN that keeps a node and its neighbours apart (H2GCN's first design, arXiv:2006.11468; `-sep` in 2302.11640).

    x W1 + D^-1/2 A D^-1/2 x W2 + b, without self-loops.
    """
    return Conv(multiplied_sage(in_channels or channels, channels, bias=bias), "sym_loopless")


class FAGCN(nn.Module):
    """FAGCN's layer: see `fa`."""

    takes_x0 = True

    def __init__(self, channels: int, alpha: float, *, self_loops: bool) -> None:
        super().__init__()
        self.alpha, self.self_loops = alpha, self_loops
        self.at_target, self.at_source = nn.Parameter(torch.empty(channels, 1)), nn.Parameter(torch.empty(channels, 1))
        for weight in self.parameters():
            glorot(weight)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x, x0, result: [N, C]."""
        x, loops = full_precision(x), self.self_loops
        root = _degree(adjacency, x, loops=loops).clamp(min=1).rsqrt()
        source, target = (full_precision(x @ weight) for weight in (self.at_source, self.at_target))
        out = root * _summed(_signed, adjacency, at_source=(x * root, source), at_target=(target,), loops=loops)
        return out if x0 is None else out + self.alpha * x0


def _degree(adjacency: Adjacency, x: Tensor, *, loops: bool) -> Tensor:
    """The neighbours of each node, with `loops` itself among them, [N, 1] in the type of x."""
    if not adjacency.gathers:
        return adjacency.edges(loops=loops).degree.to(x.dtype)
    source, target = adjacency.edge_index
    counted = (source != target) if loops else torch.ones_like(source, dtype=torch.bool)
    own = x.new_full((x.size(0), 1), float(loops))
    return own.index_add(0, target, counted.to(x.dtype)[:, None])


def _signed(x_j: Tensor, source: Tensor, target: Tensor) -> Tensor:
    return x_j * torch.tanh(source + target)


def fa(channels: int, layer: int, *, self_loops: bool, alpha: Share = 0.0) -> nn.Module:
    """FAGCN (Bo et al., arXiv:2101.00797): signed weights, which sharpen where they are negative; C -> C.

    α x0 + Σ_j tanh(a · [x_i ‖ x_j]) / sqrt(d_i d_j) x_j, over the neighbours; with `self_loops` over the node as well

    α, the paper's ε, comes from `residual=initial`. There is no weight matrix and no activation (`model.act=none`).
    """
    return FAGCN(channels, alpha, self_loops=self_loops)


class GRAFF(nn.Module):
    """The gradient flow's step: see `graff`."""

    takes_x0 = True
    reads_edge_weight = True

    def __init__(self, channels: int, step: float, alpha: float) -> None:
        super().__init__()
        self.step, self.weight = step, nn.Parameter(torch.empty(channels, channels))
        self.own = nn.Parameter(torch.zeros(channels))
        self.source = nn.Parameter(torch.tensor(alpha)) if alpha else None
        glorot(self.weight)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x, x0, result: [N, C]."""
        x = full_precision(x)
        pull = adjacency.operator("sym", x.dtype)(x) @ ((self.weight + self.weight.t()) / 2) - self.own * x
        if x0 is not None and self.source is not None:
            pull = pull + self.source * x0
        return x + self.step * pull


def graff(channels: int, layer: int, *, step: Positive, alpha: Share = 0.0) -> nn.Module:
    """GRAFF (Di Giovanni et al., arXiv:2206.10991): a step down a learned energy; C -> C.

    x + τ (Â x W - ω ⊙ x + β x0),  W = (V + Vᵀ) / 2,  ω one a channel, at first 0

    = x - τ ∇E on an undirected graph, E = Σ_i (ω·x_i² / 2 - β x_i·x0_i) - Σ_ij Â_ij x_iᵀ W x_j / 2: W's positive
    eigenvalues draw neighbours together, its negative ones push them apart. β learns from `residual=initial`'s α on;
    without that there is none. The paper shares W, ω and β between the layers; here each has its own. Its linear form
    is `model.act=none`.
    """
    return GRAFF(channels, step, alpha)


class GatedGCN(nn.Module):
    """The gated graph convolution: see `gated`."""

    takes_x0 = False

    def __init__(self, width: int, channels: int, edge_dim: int | None, *, bias: bool) -> None:
        super().__init__()
        self.own, self.value = nn.Linear(width, channels, bias=bias), nn.Linear(width, channels, bias=False)
        self.gate_target, self.gate_source = nn.Linear(width, channels), nn.Linear(width, channels, bias=False)
        self.gate_edge = None if edge_dim is None else nn.Linear(edge_dim, channels, bias=False)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x: [N, C_in]; result: [N, C]."""
        value, source, target = (full_precision(f(x)) for f in (self.value, self.gate_source, self.gate_target))
        own: Tensor = self.own(x)
        features: tuple[Tensor, ...] = ()
        if self.gate_edge is not None and adjacency.edge_attr is not None:
            features = (full_precision(self.gate_edge(adjacency.edge_attr)),)
        return own + _summed(_gated, adjacency, at_source=(value, source), at_target=(target,), per_edge=features)


def _gated(value: Tensor, *gates: Tensor) -> Tensor:
    return value * sum(gates[1:], gates[0]).sigmoid()


def gated(
    channels: int, layer: int, *, bias: bool, in_channels: int | None = None, edge_dim: int | None = None
) -> nn.Module:
    """GatedGCN (Bresson & Laurent, arXiv:1711.07553): `W1 x_i + b + Σ_j σ(A x_i + B x_j) ⊙ W2 x_j`.

    With edge features the gate is σ(A x_i + B x_j + C e_ij), as in arXiv:2003.00982.
    """
    return GatedGCN(in_channels or channels, channels, edge_dim, bias=bias)


def _summed(
    message: Callable[..., Tensor],
    adjacency: Adjacency,
    *,
    at_source: tuple[Tensor, ...],
    at_target: tuple[Tensor, ...],
    per_edge: tuple[Tensor, ...] = (),
    loops: bool = False,
) -> Tensor:
    """The sum of each node's messages, [N, C], as wide as the first tensor; `loops`: with one to itself."""
    if adjacency.gathers:
        source, target = adjacency.edge_index
        messages = message(*(t[source] for t in at_source), *(t[target] for t in at_target), *per_edge)
        if not loops:
            return torch.zeros_like(at_source[0]).index_add(0, target, messages)
        return message(*at_source, *at_target).index_add(0, target, messages * (source != target)[:, None])

    def of_block(part: Part, tensors: tuple[Tensor, ...]) -> Tensor:
        return part.segments.sum(message(*tensors))

    edges = adjacency.edges(loops=loops)
    arranged = tuple(edges.arrange(values) for values in per_edge)
    return by_block(of_block, edges, at_source[0].size(1), at_source=at_source, at_target=at_target, per_edge=arranged)
