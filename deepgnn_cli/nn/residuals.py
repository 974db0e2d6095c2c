"""The wirings: how the branches of a deep GNN are joined.

A residual is a builder of one of two forms, told apart by its third parameter:

- layer by layer, `(branch, channels, layer, *, …)` -> a module called `layer(x, graph, x0)`;
- the whole stack, `(branch, channels, layers, *, …)` -> a module with `forward(x, graph, x0)` and
  `states(x, graph, x0)`, which yields the representation after each layer.

`branch(width, layer, order=, alpha=)` makes one branch. A wiring says through `tail` what must still happen before
the decoder (`norm-act-drop` after pre-activation, `drop` after post-activation, `none`), and through `out_channels`
how wide its result is.

N nodes, C channels, L layers. x, x0: [N, C].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.nn import JumpingKnowledge

from deepgnn_cli.nn.branch import Branches, takes
from deepgnn_cli.nn.dropout import dropout
from deepgnn_cli.nn.propagate import Adjacency


class Layers(nn.Module):
    """Layers one after the other: the stack of every layer-by-layer wiring."""

    def __init__(self, layers: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out_channels = channels
        self.tail: str = getattr(layers[0], "tail", "norm-act-drop") if layers else "norm-act-drop"

    def states(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Iterator[Tensor]:
        """The representation after each layer, [N, C]."""
        for layer in self.layers:
            x = layer(x, graph, x0)
            yield x

    def forward(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Tensor:
        """x, result: [N, C]."""
        for layer in self.layers:
            x = layer(x, graph, x0)
        return x


def build_stack(
    residual: Callable[..., nn.Module], branch: Branches, channels: int, layers: int, first: int = 1
) -> nn.Module:
    """The stack of `layers` layers, numbered from `first`, that `residual` wires; of none, nothing."""
    if layers and takes(residual, "layers"):
        return residual(branch, channels, layers)
    return Layers([residual(branch, channels, layer) for layer in range(first, first + layers)], channels)


def none(branch: Branches, channels: int, layer: int) -> nn.Module:
    """No skip: `h = f(x)`."""
    return branch(channels, layer)


def initial(branch: Branches, channels: int, layer: int, *, alpha: float) -> nn.Module:
    """Mix every layer with the encoder's output (APPNP, arXiv:1810.05997; GCNII, arXiv:2007.02133).

    h = (1 - α) f(x) + α x0

    A conv that takes `x0` itself mixes it between aggregation and weight.
    """
    return branch(channels, layer, alpha=alpha)


class _Skip(nn.Module):
    """`x + f(x)`; after post-activation the stream itself is dropped, as ResGCN does."""

    def __init__(self, branch: nn.Module, rate: float, tail: str) -> None:
        super().__init__()
        self.branch, self.rate, self.tail = branch, rate, tail

    def forward(self, x: Tensor, graph: Adjacency, x0: Tensor | None = None) -> Tensor:
        x = dropout(x, self.rate, self.training)
        out: Tensor = x + self.branch(x, graph, x0)
        return out


def res(branch: Branches, channels: int, layer: int, *, alpha: float) -> nn.Module:
    """ResGCN (DeepGCNs, arXiv:1904.03751): `x + act(norm(conv(x)))`, then dropout on the sum.

    With α > 0 the branch is mixed with `x0` first.
    """
    wired = branch(channels, layer, order="post", alpha=alpha)
    wired.rate = 0.0
    return _Skip(wired, branch.rate, "drop")


def res_plus(branch: Branches, channels: int, layer: int, *, alpha: float) -> nn.Module:
    """ResGCN+ (DeeperGCN, arXiv:2006.07739): `x + conv(drop(act(norm(x))))`; the first layer is a bare conv."""
    if layer == 1:
        return branch(channels, layer, order="bare", alpha=alpha)
    return _Skip(branch(channels, layer, alpha=alpha), 0.0, "norm-act-drop")


class _Dense(nn.Module):
    def __init__(self, branches: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(branches)
        self.out_channels = channels * (len(branches) + 1)
        self.tail = "norm-act-drop"

    def states(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Iterator[Tensor]:
        for layer in self.layers:
            new = layer(x, graph, x0)
            x = torch.cat([x, new], dim=-1)
            yield new

    def forward(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x, graph, x0)], dim=-1)
        return x


def dense(branch: Branches, channels: int, layers: int) -> nn.Module:
    """DenseGCN (DeepGCNs, arXiv:1904.03751): every layer reads the concatenation of all before it.

    Layer l reads [N, l C] and adds C channels; the result is [N, (L+1) C].
    """
    return _Dense([branch(channels * layer, layer) for layer in range(1, layers + 1)], channels)


class _Jumping(nn.Module):
    def __init__(self, branches: Sequence[nn.Module], channels: int, mode: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(branches)
        self.join = JumpingKnowledge(mode, channels, num_layers=len(branches))
        self.out_channels = channels * len(branches) if mode == "cat" else channels
        self.tail = "drop"

    def states(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Iterator[Tensor]:
        for layer in self.layers:
            x = layer(x, graph, x0)
            yield x

    def forward(self, x: Tensor, graph: Adjacency, x0: Tensor | None) -> Tensor:
        joined: Tensor = self.join(list(self.states(x, graph, x0)))
        return joined


def jumping(branch: Branches, channels: int, layers: int, *, mode: str, alpha: float) -> nn.Module:
    """Jumping knowledge (JKNet, arXiv:1806.03536): the outputs of all layers are joined by `cat`, `max` or `lstm`.

    With α > 0 each layer is mixed with `x0` as well. The result is [N, L C] for `cat`, [N, C] otherwise.
    """
    if mode not in ("cat", "max", "lstm"):
        raise ValueError(f"residual.mode={mode} is not one of cat, max, lstm")
    layered = [branch(channels, layer, order="post", alpha=alpha) for layer in range(1, layers + 1)]
    return _Jumping(layered, channels, mode)
