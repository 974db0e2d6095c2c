"""Who hears whom: how much the inputs k hops away say in a node's output. The rows of `influence.csv`.

N nodes, E edges, F input features, K outputs, S sampled nodes, M outputs a node, H hops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deepgnn_cli.measure.layer_diagnostics import undisturbed


@dataclass(frozen=True)
class Influence:
    """What the inputs at each distance say in the outputs of the sampled nodes; hop 0 is the node itself.

        I_k(v) = Σ_{u: d(u,v)=k} Σ_c Σ_f |∂ out_vc / ∂ x_uf|

    d counts the edges of the shortest directed path from u to v. Inputs that no path leads from are left out: they
    reach v through a norm over the whole graph, or stand at nodes that rewiring has added.

    Args:
        totals: the mean of I_k(v) over the sampled nodes, [H + 1].
        shares: the mean of I_k(v) / Σ_j I_j(v) over the nodes that hear anything, [H + 1]; empty if none does.
        nodes: how many nodes are k hops away, the mean over the sampled nodes, [H + 1].
    """

    totals: tuple[float, ...]
    shares: tuple[float, ...]
    nodes: tuple[float, ...]

    @property
    def range_hops(self) -> float | None:
        """R = Σ_k k I_k / Σ_k I_k, the mean over nodes (arXiv:2503.09008, arXiv:2506.05971); None if none hears."""
        return sum(hop * share for hop, share in enumerate(self.shares)) if self.shares else None

    def beyond(self, hops: float) -> float | None:
        """The share of the influence that comes from farther than `hops`; None if no node hears anything."""
        return sum(share for hop, share in enumerate(self.shares) if hop > hops) if self.shares else None


class Listening(Protocol):
    """Features that are asked what each node says in an output."""

    def norms(self, output: Tensor) -> Tensor:
        """Σ_f |∂ output / ∂ x_uf|, [N] float64, for a number that the model made of these features."""

    def size(self, dim: int) -> int:
        """N or F."""


class _Dense:
    """Features as a plain tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.detach().clone().requires_grad_()

    def size(self, dim: int) -> int:
        return self.x.size(dim)

    def norms(self, output: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(output, self.x, retain_graph=True)
        norms: Tensor = torch.linalg.vector_norm(gradient, 1, dim=1, dtype=torch.float64)
        return norms


def influence(
    model: nn.Module,
    x: Tensor | Listening,
    adjacency: Any,
    nodes: Tensor,
    outputs: Tensor | None = None,
    *,
    hops: Callable[[int], Tensor] | None = None,
    after_node: Callable[[int], None] = lambda number: None,
) -> Influence:
    """The mean absolute Jacobian by hop (arXiv:1806.03536), a backward pass for each output that is looked at.

    With every output it is what PyG's `total_influence` computes one subgraph at a time. With some of them drawn at
    random, each sum over the K outputs is estimated without bias, as K times the mean over those drawn. Any model
    `model(x, adjacency)` will do, and keeps what it keeps in a training step: of a reversible one, one layer's
    activations. In evaluation mode; leaves no trace.

    Args:
        model: gives outputs [N, K].
        x: [N, F], a tensor, or what the model takes for one and is asked for norms.
        adjacency: its edges, `edge_index` [2, E]; given to the model as it is.
        nodes: the nodes v, [S] int64.
        outputs: which outputs c of each, [S, M] int64; None: all.
        hops: d(u, v) of all u, [N] int64, for a node v, -1 where no path leads; None: in `adjacency`.
        after_node: called with each node's number once it is done, to show progress.

    Raises:
        ValueError: the model gives no row of outputs for each node.
    """
    rows, counts = [], []
    num_nodes = x.size(0)
    with undisturbed(model, adjacency.edge_index.device), _frozen(model), torch.enable_grad():
        listening = _Dense(x) if isinstance(x, Tensor) else x
        out: Tensor = model(listening.x if isinstance(listening, _Dense) else listening, adjacency)
        if out.dim() != 2 or out.size(0) != num_nodes:
            raise ValueError(f"the model gives {list(out.shape)} for {num_nodes} nodes: it has no output of each node")
        for number, node in enumerate(nodes.tolist()):
            wanted = range(out.size(1)) if outputs is None else outputs[number].tolist()
            norms = torch.stack([listening.norms(out[node, column]) for column in wanted])
            heard = out.size(1) * norms.mean(0)  # the sum over all outputs, or its estimate
            away = hops_to(node, adjacency.edge_index, num_nodes) if hops is None else hops(node)
            reached = away >= 0
            rows.append(torch.bincount(away[reached], heard[reached]).cpu())
            counts.append(torch.bincount(away[reached]).cpu())
            after_node(number)
    return _mean(rows, counts)


def hops_to(node: int, edge_index: Tensor, num_nodes: int) -> Tensor:
    """The edges on the shortest directed path from each node to `node`, [N] int64; -1 where there is none."""
    source, target = edge_index
    hops = torch.full((num_nodes,), -1, dtype=torch.int64, device=edge_index.device)
    hops[node] = 0
    frontier = torch.zeros(num_nodes, dtype=torch.bool, device=edge_index.device)
    frontier[node] = True
    for hop in range(1, num_nodes):
        found = source[frontier[target]]
        found = found[hops[found] < 0]
        if not found.numel():
            break
        hops[found] = hop
        frontier.zero_()
        frontier[found] = True
    return hops


def _mean(rows: Sequence[Tensor], counts: Sequence[Tensor]) -> Influence:
    """The means over nodes; hops beyond the last that anyone hears are left out."""
    table = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)  # [S, H + 1]
    there = nn.utils.rnn.pad_sequence([count.double() for count in counts], batch_first=True)
    if not bool(table.isfinite().all()):
        return Influence((math.nan,), (), (1.0,))
    last = max(1, 1 + int((table > 0).any(0).nonzero().amax())) if bool((table > 0).any()) else 1
    sums = table.sum(1, keepdim=True)
    shares = (table / sums)[sums[:, 0] > 0]
    return Influence(
        tuple(table.mean(0)[:last].tolist()),
        tuple(shares.mean(0)[:last].tolist()) if shares.numel() else (),
        tuple(there.mean(0)[:last].tolist()),
    )


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Parameters that want no gradient, so that backward passes compute those of x alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
