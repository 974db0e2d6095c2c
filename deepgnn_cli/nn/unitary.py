"""A conv that turns features without stretching them: what is far away arrives undiminished.

N nodes, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.rules.types import Count


class Unitary(nn.Module):
    """The orthogonal graph convolution: see `unitary`."""

    takes_x0 = False
    reads_edge_weight = True

    def __init__(self, channels: int, terms: int, *, bias: bool) -> None:
        super().__init__()
        self.terms = terms
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        bound = math.sqrt(1.5 / channels)  # the largest singular value of W - Wᵀ starts near 2
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x, result: [N, C]."""
        skew = self.weight - self.weight.t()
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        operator = adjacency.operator("sym_loopless", dtype)
        out = term = x.to(dtype)
        for k in range(1, self.terms + 1):
            term = operator(term @ skew, scale=1 / k)
            out = out + term
        return out if self.bias is None else out + self.bias


def unitary(channels: int, layer: int, *, terms: Count, bias: bool) -> nn.Module:
    """Unitary graph convolution (Kiani et al., arXiv:2410.05499), the real one on the Lie algebra; C -> C.

        exp(g)(x) + b,  g(x) = D^-1/2 A D^-1/2 x (W - Wᵀ)

    On an undirected graph g is antisymmetric, so that its exponential is orthogonal: it keeps |x|, and gradients
    neither vanish nor explode, however deep the stack. The exponential is the first `terms` terms of its series: a
    layer hears as many hops. An activation loses part of the norm; `model.act=none` loses nothing.
    """
    return Unitary(channels, terms, bias=bias)
