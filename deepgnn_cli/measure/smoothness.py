"""How alike node representations are: the measures by which over-smoothing is told.

Each takes x [N, C] of any floating type, computes in double precision without gradients, and returns a float; NaN
or infinity in x gives NaN. Self-loops in `edge_index` [2, E] are left aside.

N nodes, E directed edges, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 1 << 24  # how much of an [E, C] matrix is made at once


@dataclass(frozen=True)
class Smoothness:
    """Every measure of one representation.

    The energy and the norm grow with x; the others do not change when x is multiplied by a number, so that no growing
    norm hides a collapse.
    """

    dirichlet_energy: float
    rayleigh_quotient: float
    mad_neighbours: float
    mad_all: float
    numerical_rank: float
    effective_rank: float
    feature_norm: float


def measured(x: Tensor, edge_index: Tensor) -> Smoothness:
    """All of them; what two share is computed once."""
    energy, squares = dirichlet_energy(x, edge_index), _spectrum(x)
    return Smoothness(
        energy,
        _quotient(energy, x),
        mad_neighbours(x, edge_index),
        mad_all(x),
        _numerical_rank(squares),
        _effective_rank(squares),
        feature_norm(x),
    )


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


def rayleigh_quotient(x: Tensor, edge_index: Tensor) -> float:
    """The Dirichlet energy for its size (Di Giovanni et al. 2023, arXiv:2206.10991), in [0, 2).

        R(x) = E(x) / |x|²_F

    A mean of the Laplacian's eigenvalues, weighted by how much x has of each eigenvector:
    0 where the low frequencies are all that is left, however long the features have become. 0 for x = 0.
    """
    return _quotient(dirichlet_energy(x, edge_index), x)


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


def numerical_rank(x: Tensor) -> float:
    """Numerical (stable) rank (arXiv:2502.04591): |x|²_F / |x|²_2 = Σ_k σ_k² / max_k σ_k², in [1, min(N, C)].

    1 where all nodes point along one direction. Not moved by small singular values. 0 for x = 0.
    """
    return _numerical_rank(_spectrum(x))


def effective_rank(x: Tensor) -> float:
    """Effective rank (Roy & Vetterli 2007, EUSIPCO): how many dimensions x really uses, in [1, min(N, C)].

        exp(-Σ_k p_k log p_k),  p_k = σ_k / Σ_l σ_l,  σ the singular values of x

    A measure of over-smoothing that a growing norm cannot fool (arXiv:2502.04591): 1 where all nodes point along one
    direction. Singular values below 1e-8 of the largest count as zero. 0 for x = 0.
    """
    return _effective_rank(_spectrum(x))


@torch.no_grad()
def feature_norm(x: Tensor) -> float:
    """The mean over the nodes of |x_i|."""
    return float(torch.linalg.vector_norm(x.double(), dim=-1).mean())


@torch.no_grad()
def _quotient(energy: float, x: Tensor) -> float:
    square = x.double().square().sum().item()
    return energy / square if square else 0.0


@torch.no_grad()
def _spectrum(x: Tensor) -> Tensor | None:
    """The squares of the singular values over that of the largest, ascending; empty for x = 0, None for NaN in x.

    From the smaller one of xᵀx and xxᵀ: those below 1e-8 of the largest are rounding errors, and left out.
    """
    x = x.double()
    largest = x.abs().max().item() if x.numel() else 0.0
    if not math.isfinite(largest):
        return None
    if largest == 0:
        return x.new_empty(0)
    x = x / largest
    gram = x.t() @ x if x.size(1) <= x.size(0) else x @ x.t()
    squares = torch.linalg.eigvalsh(gram)
    kept: Tensor = squares[squares > 1e-16 * squares[-1]] / squares[-1]
    return kept


def _numerical_rank(squares: Tensor | None) -> float:
    return math.nan if squares is None else squares.sum().item()


def _effective_rank(squares: Tensor | None) -> float:
    if squares is None or not squares.numel():
        return math.nan if squares is None else 0.0
    singular = squares.sqrt()
    share = singular / singular.sum()
    return math.exp(-torch.special.xlogy(share, share).sum().item())


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
