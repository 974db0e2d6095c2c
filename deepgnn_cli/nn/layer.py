"""The branch: what one layer computes, whatever the wiring around it.

`pre`:  norm → act → drop → conv     (ResGCN+, arXiv:2006.07739; GCN and GCNII read the same way, seen from the conv)
`post`: drop → conv → norm → act     (GCN as printed, ResGCN, JKNet; the drop of layer l-1 stands at the head of l)
`bare`: conv                         (the first layer of ResGCN+)
`drop`: drop → conv                  (a first layer behind a linear encoder)

N nodes, C channels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch_geometric.nn.dense.linear import Linear as PyGLinear

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.chain import ChainedConv
from deepgnn_cli.nn.dropout import dropout, relu_dropout
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures

Activation = Literal["relu", "elu", "gelu", "leaky_relu", "tanh", "none"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "none": lambda x: x,
}


def act_dropout(x: Tensor, act: str, rate: float, training: bool) -> Tensor:
    """Activation, then dropout; fused for ReLU."""
    if act == "relu":
        return relu_dropout(x, rate, training)
    return dropout(ACTIVATIONS[act](x), rate, training)


class IdentityMapping(nn.Module):
    """`(1 - β) I + β W`: keeps a deep stack of weights close to the identity (GCNII, arXiv:2007.02133)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, weight: Tensor) -> Tensor:
        """weight, result: [C, C]."""
        identity = torch.eye(weight.size(0), dtype=weight.dtype, device=weight.device)
        return torch.lerp(identity, weight, self.beta)


def map_identity(conv: nn.Module, beta: float) -> None:
    """Apply the identity mapping to every square weight matrix of a conv, whichever operator it is."""
    _replace_linears(conv, {})
    for module in list(conv.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dim() == 2 and weight.size(0) == weight.size(1) > 1:
                parametrize.register_parametrization(module, name, IdentityMapping(beta))


def _replace_linears(module: nn.Module, done: dict[nn.Module, nn.Module]) -> None:
    # PyG's Linear writes its weight into a checkpoint by hand: parametrised, it could not be loaded again.
    for name, child in list(module._modules.items()):
        if isinstance(child, PyGLinear):
            if child not in done:
                done[child] = nn.Linear(child.in_channels, child.out_channels, bias=child.bias is not None)
                done[child].weight, done[child].bias = child.weight, child.bias
            module._modules[name] = done[child]
        elif child is not None:
            _replace_linears(child, done)


class _Bottleneck(nn.Module):
    """A linear layer in front of a conv that keeps its width, as in DenseNet-B."""

    accepts_sparse = True

    def __init__(self, width: int, channels: int, conv: nn.Module) -> None:
        super().__init__()
        self.linear, self.conv = Linear(width, channels), conv
        self.takes_x0 = getattr(conv, "takes_x0", False)

    def forward(self, x: Tensor | SparseFeatures, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(self.linear(x), adjacency, x0)
        return out


class Branch(nn.Module):
    """One layer's computation `f(x, adjacency, x0)`; everything that varies comes in as an argument.

    With `alpha` it is `(1-α) f(x) + α x0`, mixed inside the conv where the conv takes `x0`.
    """

    def __init__(
        self, conv: nn.Module, norm: nn.Module | None, *, act: str, rate: float, order: str, alpha: float
    ) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv
        self.act, self.rate, self.order = act, rate, order
        self.mixes_x0 = getattr(conv, "takes_x0", False)
        self.alpha = alpha

    @property
    def accepts_sparse(self) -> bool:
        """Whether it reads `SparseFeatures` as well."""
        return self.order == "bare" and getattr(self.conv, "accepts_sparse", False)

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x: [N, C_in]; x0, result: [N, C]; mask: a dropout mask [N, C_in] already scaled, instead of a new one."""
        if self.order == "pre":
            x = self._normalise(x, adjacency)
            if self.training and mask is None and self._hands_over:
                whole: Tensor = self.conv(x, adjacency, x0 if self.alpha else None, rate=self.rate)
                return whole
            if mask is not None:
                x = ACTIVATIONS[self.act](x) * mask
            else:
                x = act_dropout(x, self.act, self.rate, self.training)
        elif self.order in ("post", "drop"):
            x = dropout(x, self.rate, self.training) if mask is None else x * mask
        out: Tensor = self.conv(x, adjacency, x0 if self.alpha else None)
        if self.alpha and not self.mixes_x0:
            assert x0 is not None
            out = torch.lerp(out, x0.to(out.dtype), self.alpha)
        if self.order == "post":
            out = ACTIVATIONS[self.act](self._normalise(out, adjacency))
        return out

    @property
    def _hands_over(self) -> bool:
        """Whether ReLU and dropout are the conv's, which does them at less cost; another may stand in its place."""
        return self.rate > 0 and self.act == "relu" and getattr(self.conv, "takes_rate", False)

    @property
    def chains(self) -> bool:
        """Whether it is no more than ReLU, dropout and a conv that chains, and nobody looks on between them."""
        served = self.rate > 0 if self.training else not torch.is_grad_enabled()
        bare = self.order == "pre" and self.norm is None and (self.mixes_x0 or not self.alpha)
        plain = served and bare and self.act == "relu" and ChainedConv in type(self.conv).__bases__
        return plain and type(self) is Branch and not any(map(_observed, self.modules()))

    def _normalise(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        return x if self.norm is None else normalised(self.norm, x, adjacency)


def run_chain(layers: Sequence[nn.Module], x: Tensor, adjacency: Adjacency, x0: Tensor | None) -> Tensor | None:
    """All layers as one step, where they are bare convs of one class that can do that; otherwise None."""
    branches = [layer for layer in layers if isinstance(layer, Branch) and layer.chains]
    if not branches or len(branches) < len(layers):
        return None
    convs = [branch.conv for branch in branches if isinstance(branch.conv, ChainedConv)]
    kinds = {(type(branch.conv), branch.rate if branch.training else 0.0, branch.alpha > 0) for branch in branches}
    ((_, rate, initial), *others) = kinds
    if others:
        return None
    return convs[0].chain(convs, x, adjacency, x0 if initial else None, rate)


def _observed(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def normalised(norm: nn.Module, x: Tensor, adjacency: Adjacency) -> Tensor:
    """`norm(x, batch)`; one that would count the graphs at each call, as PyG's do, is told their number."""
    out: Tensor
    if adjacency.batch is not None and len(inspect.signature(norm.forward).parameters) > 2:
        out = norm(x, adjacency.batch, adjacency.num_graphs)
    else:
        out = norm(x, adjacency.batch)
    return out


@dataclass(frozen=True)
class Branches:
    """Makes the branches of a stack: `branches(width, layer)`.

    Args:
        conv: builder `(channels, layer, *, [in_channels], [alpha], [edge_dim])`.
        norm: builder `(channels)`, called anew for each layer; None, or one that gives None: no normalisation.
        channels: C, the width each branch returns.
        act: one of `ACTIVATIONS`.
        rate: dropout in front of each conv.
        theta: identity mapping on the conv's square weights with β = log(θ/layer + 1); None: off.
        edge_dim: the width of the encoded edge features, for a conv that takes it; None: there are none.
    """

    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module | None] | None
    channels: int
    act: str
    rate: float
    theta: float | None = None
    edge_dim: int | None = None

    def __post_init__(self) -> None:
        if self.act not in ACTIVATIONS:
            raise ValueError(f"act={self.act} is not one of {', '.join(ACTIVATIONS)}")
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout={self.rate} is not a rate; it must be at least 0 and below 1")

    def __call__(
        self, width: int, layer: int, *, order: str = "pre", alpha: float = 0.0, channels: int | None = None
    ) -> Branch:
        """A branch from `width` to `channels` (the stack's width unless told)."""
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} is not a share; it must be between 0 and 1")
        channels = channels or self.channels
        conv = self.operator(width, channels, layer, alpha=alpha, theta=self.theta)
        normed = {"pre": width, "post": channels}.get(order)
        norm = self.norm(normed) if self.norm is not None and normed else None
        return Branch(conv, norm, act=self.act, rate=self.rate, order=order, alpha=alpha)

    def operator(
        self, width: int, channels: int, layer: int, *, alpha: float = 0.0, theta: float | None = None
    ) -> nn.Module:
        """The bare conv, width -> channels; one that cannot change its width gets a linear layer in front."""
        possible = {"in_channels": width if width != channels else None, "edge_dim": self.edge_dim}
        options: dict[str, object] = {k: v for k, v in possible.items() if v is not None and takes(self.conv, k)}
        if alpha and takes(self.conv, "alpha"):
            options["alpha"] = alpha
        conv = self.conv(channels, layer, **options)
        if theta is not None:
            map_identity(conv, beta_of(theta, layer))
        if width != channels and "in_channels" not in options:
            conv = _Bottleneck(width, channels, conv)
        return conv


def beta_of(theta: float, layer: int) -> float:
    """GCNII's `β = log(θ / layer + 1)`: the deeper, the closer to the identity."""
    return math.log(theta / layer + 1)


def takes(builder: Callable[..., object], name: str) -> bool:
    """Whether `builder` has a parameter called `name`."""
    return name in inspect.signature(builder).parameters
