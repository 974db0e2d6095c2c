"""The wirings: how the branches of a deep GNN are joined.

A residual is a builder of one of two forms, told apart by its third parameter:

- layer by layer, `(branch, channels, layer, *, …)` -> a module called `layer(x, adjacency, x0)`;
  one that also takes `in_channels` makes the first layer from the input's width, where a conv is the encoder;
- the whole stack, `(branch, channels, layers, *, …)` -> a module with `layers`, one module each, `forward(x, adjacency,
  x0)` and `states(x, adjacency, x0)`, which yields the representation after each layer and returns what `forward` does.

`branch(width, layer, order=, alpha=)` makes one branch. A wiring says through `tail` what must still happen before
the decoder (`norm-act-drop` after pre-activation, `drop` after post-activation, `none`), and through `out_channels`
how wide its result is.

N nodes, C channels, L layers. x, x0: [N, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch_geometric.nn import JumpingKnowledge

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.checkpointing import run_layers
from deepgnn_cli.nn.dropout import dropout
from deepgnn_cli.nn.layer import Branches, takes
from deepgnn_cli.nn.reversible.stack import ReversibleStack, check_groups
from deepgnn_cli.nn.stack import Stack, States, result
from deepgnn_cli.rules.types import NonNegative, Share


def none(branch: Branches, channels: int, layer: int) -> nn.Module:
    """No skip: `h = f(x)`."""
    return branch(channels, layer)


def initial(branch: Branches, channels: int, layer: int, *, alpha: Share | None) -> nn.Module:
    """Mix every layer with the encoder's output (APPNP, arXiv:1810.05997; GCNII, arXiv:2007.02133).

    h = (1 - α) f(x) + α x0

    A conv that takes `x0` itself mixes it between aggregation and weight. `alpha=None` is the paper's 0.1 there, and
    0.5 around any other conv: without the identity mapping, deep stacks of weights train only with more of x0.
    """
    if alpha is None:
        alpha = 0.1 if takes(branch.conv, "alpha") else 0.5
    return branch(channels, layer, alpha=alpha)


class _Skip(nn.Module):
    """`x + f(x)`, with dropout of the branch's result, or of the stream that it and the skip read."""

    def __init__(self, branch: nn.Module, tail: str, *, rate: float = 0.0, stream_rate: float = 0.0) -> None:
        super().__init__()
        self.branch, self.tail = branch, tail
        self.rate, self.stream_rate = rate, stream_rate

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        x = dropout(x, self.stream_rate, self.training)
        out: Tensor = x + dropout(self.branch(x, adjacency, x0), self.rate, self.training)
        return out


def res(branch: Branches, channels: int, layer: int, *, drop: Literal["branch", "stream"], alpha: Share) -> nn.Module:
    """ResGCN (DeepGCNs, arXiv:1904.03751): `x + act(norm(conv(x)))`.

    The paper drops nothing in its layers. With `branch`, dropout falls on what a layer adds, as in the Transformer
    (arXiv:1706.03762, 5.4): `x + drop(act(norm(conv(x))))`. With `stream` it falls on the sum, as the code of DeeperGCN
    (arXiv:2006.07739) has it for its block `res`: of a channel of the first layer (1 - rate)^L is left after L layers.

    Args:
        branch: makes the branches.
        channels: C.
        layer: which one, from 1.
        drop: where dropout falls.
        alpha: above 0, the branch is mixed with `x0` first.
    """
    wired = branch(channels, layer, order="post", alpha=alpha)
    wired.rate = 0.0
    where = {"branch": "rate", "stream": "stream_rate"}[drop]
    return _Skip(wired, "drop", **{where: branch.rate})


def res_plus(branch: Branches, channels: int, layer: int, *, alpha: Share) -> nn.Module:
    """ResGCN+ (DeeperGCN, arXiv:2006.07739): `x + conv(drop(act(norm(x))))`; the first layer is a bare conv."""
    if layer == 1:
        return branch(channels, layer, order="bare", alpha=alpha)
    return _Skip(branch(channels, layer, alpha=alpha), "norm-act-drop")


class _Append(nn.Module):
    """`[x, f(x)]`."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        return torch.cat([x, self.branch(x, adjacency, x0)], dim=-1)


class _Dense(Stack):
    def __init__(self, branches: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Append(branch) for branch in branches)
        self.out_channels = channels * (len(branches) + 1)
        self.tail = "norm-act-drop"
        self.checkpoint_every = 0

    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        for layer in self.layers:
            assert isinstance(layer, _Append)
            new = layer.branch(x, adjacency, x0)
            x = torch.cat([x, new], dim=-1)
            yield new
        return x

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        return run_layers(list(self.layers), self.checkpoint_every, x, adjacency, x0)


def dense(branch: Branches, channels: int, layers: int) -> nn.Module:
    """DenseGCN (DeepGCNs, arXiv:1904.03751): every layer reads the concatenation of all before it.

    Layer l reads [N, l C] and adds C channels; the result is [N, (L+1) C].
    """
    return _Dense([branch(channels * layer, layer) for layer in range(1, layers + 1)], channels)


class _Jumping(Stack):
    def __init__(self, branches: Sequence[nn.Module], channels: int, mode: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(branches)
        self.join = JumpingKnowledge(mode, channels, num_layers=len(branches))
        self.out_channels = channels * len(branches) if mode == "cat" else channels
        self.tail = "drop"
        self.checkpoint_every = 0

    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        outputs = []
        for layer in self.layers:
            # Every output is kept for the join: there are no longer segments.
            x = run_layers([layer], min(1, self.checkpoint_every), x, adjacency, x0)
            outputs.append(x)
            yield x
        joined: Tensor = self.join(outputs)
        return joined

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        return result(self.states(x, adjacency, x0))


def jumping(
    branch: Branches, channels: int, layers: int, *, mode: Literal["cat", "max", "lstm"], alpha: Share
) -> nn.Module:
    """Jumping knowledge (JKNet, arXiv:1806.03536): the outputs of all layers are joined by `cat`, `max` or `lstm`.

    With α > 0 each layer is mixed with `x0` as well. The result is [N, L C] for `cat`, [N, C] otherwise.
    """
    layered = [branch(channels, layer, order="post", alpha=alpha) for layer in range(1, layers + 1)]
    return _Jumping(layered, channels, mode)


class _Reversible(Stack):
    """The reversible engine, with one dropout mask a pass where the layers are to share it."""

    def __init__(self, engine: ReversibleStack, channels: int, *, rate: float, shared_mask: bool, mixes: bool) -> None:
        super().__init__()
        self.engine, self.out_channels, self.tail = engine, channels, "norm-act-drop"
        self.rate, self.shared_mask, self.mixes = rate, shared_mask, mixes

    @property
    def layers(self) -> list[list[nn.Module]]:
        """The branches, a list of G for each layer."""
        return self.engine.layers

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        return self.engine.layer_parameters()

    def _shared(self, x: Tensor, x0: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        masked = self.shared_mask and self.training and self.rate > 0
        mask = dropout(torch.ones_like(x), self.rate, True) if masked else None
        return x0 if self.mixes else None, mask

    def states(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> States:
        return (yield from self.engine.states(x, adjacency, *self._shared(x, x0)))

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor:
        out: Tensor = self.engine(x, adjacency, *self._shared(x, x0))
        return out


def reversible(
    branch: Branches,
    channels: int,
    layers: int,
    *,
    groups: Annotated[int, Ge(2)],
    exact: bool,
    store_activations: bool,
    shared_mask: bool,
    alpha: Share,
    depth_scaling: NonNegative,
) -> nn.Module:
    """RevGNN (Li et al., arXiv:2106.07476): reversible layers, whose activations are recomputed and not kept.

    The channels are split into G groups, each with a pre-activation branch f_i: [N, C/G] -> [N, C/G] of its own:

        y_i = x_i + L^-β f_i(y_{i-1})        i = 1 … G, with y_0 = x_2 + … + x_G

    With β = 0, as published, the input drowns in the sum of hundreds of branches; with β = 1 the stream stays of one
    size at any depth, and so does what an optimiser's step changes in it ("Scaling ResNets in the large-depth
    regime", arXiv:2206.06929).

    Args:
        branch: makes f_i.
        channels: C, divisible by G.
        layers: L.
        groups: G >= 2.
        exact: compute on a fixed grid, where the inversion has no error (`ReversibleStack`).
        store_activations: the same numbers by plain autograd.
        shared_mask: one dropout mask [N, C] for all layers of a pass, split over the groups, as the paper does.
        alpha: mix each branch with its part of `x0`; 0: do not.
        depth_scaling: β >= 0.

    Raises:
        ValueError: channels that the groups do not divide.
    """
    check_groups(channels, groups)
    width, scale = channels // groups, layers**-depth_scaling
    branches = nn.ModuleList(
        branch(width, layer, alpha=alpha, channels=width) for layer in range(1, layers + 1) for _ in range(groups)
    )
    engine = ReversibleStack(branches, groups, scale=scale, exact=exact, store_activations=store_activations)
    return _Reversible(engine, channels, rate=branch.rate, shared_mask=shared_mask, mixes=alpha > 0)
