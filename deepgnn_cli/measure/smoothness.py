"""How alike node representations are: the measures by which over-smoothing is told.

Each takes x [N, C] of any floating type, computes in double precision without gradients, and returns a float; NaN
or infinity in x gives NaN. Self-loops in `edge_index` [2, E] are left aside.

N nodes, E directed edges, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 1 << 24  # how much of an [E, C] matrix is made at once


@torch.no_grad()
def dirichlet_energy(x: Tensor, edge_index: Tensor) -> float:
    """Dirichlet energy of the GCN's normalised Laplacian (Cai & Wang 2020, arXiv:2006.13318).

        E(x) = tr(xᵀ (I - D^-1/2 (A + I) D^-1/2) x) = 1/2 Σ_(j→i) |x_i / sqrt(1 + d_i) - x_j / sqrt(1 + d_j)|²

    with d the degrees, D = diag(1 + d); the sum runs over the directed edges, an undirected one counting in both
    directions. 0 exactly when x_i / sqrt(1 + d_i) is constant on every connected component, which is where repeated
    propagation leads. Not divided by the number of nodes. In a directed graph A stands for (A + Aᵀ) / 2.
    """
    source, target = _outer(edge_index)
    degree = torch.zeros(x.size(0), dtype=torch.float64, device=x.device)
    for ends in (source, target):
        degree.index_add_(0, ends, torch.full_like(ends, 0.5, dtype=torch.float64))
    scaled = x.double() * (1 + degree).rsqrt().unsqueeze(-1)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for i, j in _blocks(target, source, x.size(1)):
        total += (scaled[i] - scaled[j]).square().sum()
    return 0.5 * total.item()


@torch.no_grad()
def mad_neighbours(x: Tensor, edge_index: Tensor) -> float:
    """Mean average distance to the neighbours (Chen et al. 2020, arXiv:1909.03211), in [0, 2].

        MAD = mean over i of the mean over i's neighbours j of (1 - cos(x_i, x_j))

    over the nodes i that have an edge coming in; 0 if there are none. Two zero vectors are at distance 0, a zero
    vector and another at 1. The paper leaves pairs at distance exactly 0 out of the means, so that rounding would
    decide over what is left of a collapsed representation; here they count.
    """
    source, target = _outer(edge_index)
    unit, zero = _directions(x)
    distance = torch.zeros(x.size(0), dtype=torch.float64, device=x.device)
    for i, j in _blocks(target, source, x.size(1)):
        alike = (unit[i] * unit[j]).sum(dim=-1) + (zero[i] & zero[j])
        distance.index_add_(0, i, 1 - alike)
    count = torch.zeros_like(distance).index_add_(0, target, torch.ones_like(target, dtype=torch.float64))
    reached = count > 0
    return (distance[reached] / count[reached]).mean().item() if bool(reached.any()) else 0.0


@torch.no_grad()
def mad_all(x: Tensor) -> float:
    """Mean average distance over all pairs of nodes (Chen et al. 2020, arXiv:1909.03211), in [0, 2].

        MAD = 1/(N (N-1)) Σ_{i≠j} (1 - cos(x_i, x_j)) = 1 - (|Σ_i u_i|² - Σ_i |u_i|²) / (N (N-1)),  u_i = x_i / |x_i|

    The second form needs no pairs at all: it is exact on a graph of any size. Zero vectors and pairs at distance 0
    are treated as in `mad_neighbours`. 0 for a single node.
    """
    n = x.size(0)
    if n < 2:
        return 0.0
    unit, zero = _directions(x)
    zeros = zero.sum().double()
    alike = unit.sum(dim=0).square().sum() - unit.square().sum() + zeros * (zeros - 1)
    return (1 - alike / (n * (n - 1))).item()


@torch.no_grad()
def effective_rank(x: Tensor) -> float:
    """Effective rank (Roy & Vetterli 2007, EUSIPCO): how many dimensions x really uses, in [1, min(N, C)].

        exp(-Σ_k p_k log p_k),  p_k = σ_k / Σ_l σ_l,  σ the singular values of x

    They come from the smaller one of xᵀx and xxᵀ, so those below 1e-8 of the largest count as zero. 0 for x = 0.
    """
    x = x.double()
    largest = x.abs().max().item() if x.numel() else 0.0
    if not math.isfinite(largest):
        return math.nan
    if largest == 0:
        return 0.0
    x = x / largest
    gram = x.t() @ x if x.size(1) <= x.size(0) else x @ x.t()
    squared = torch.linalg.eigvalsh(gram)  # ascending
    singular = squared[squared > 1e-16 * squared[-1]].sqrt()
    share = singular / singular.sum()
    return math.exp(-torch.special.xlogy(share, share).sum().item())


@torch.no_grad()
def feature_norm(x: Tensor) -> float:
    """The mean over the nodes of |x_i|."""
    return float(torch.linalg.vector_norm(x.double(), dim=-1).mean())


def _outer(edge_index: Tensor) -> tuple[Tensor, Tensor]:
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    return source, target


def _blocks(target: Tensor, source: Tensor, channels: int) -> list[tuple[Tensor, Tensor]]:
    edges = max(1, _BLOCK_ELEMENTS // max(1, channels))
    return list(zip(target.split(edges), source.split(edges), strict=True))


def _directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """x_i / |x_i| [N, C], zero for a zero vector, and which those are [N]."""
    x = x.double()
    length = torch.linalg.vector_norm(x, dim=-1)
    zero = length == 0
    return x / length.masked_fill(zero, 1).unsqueeze(-1), zero
