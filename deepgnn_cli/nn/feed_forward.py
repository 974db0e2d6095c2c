"""A transformer's layer as a wiring: a convolution and an MLP of each node, as in `residuals.py`.

N nodes, C channels. x: [N, C].
"""

from __future__ import annotations

from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.dropout import dropout
from deepgnn_cli.nn.layer import Branches, act_dropout, normalised
from deepgnn_cli.rules.types import Count


class _FeedForward(nn.Module):
    """Two residual steps, of a conv and of an MLP a node, each with a norm in front or behind."""

    def __init__(
        self,
        conv: nn.Module,
        norms: list[nn.Module | None],
        channels: int,
        expansion: int,
        act: str,
        rate: float,
        pre: bool,
    ) -> None:
        super().__init__()
        self.conv, self.act, self.rate, self.pre = conv, act, rate, pre
        self.first, self.second = norms
        self.widen, self.narrow = nn.Linear(channels, expansion * channels), nn.Linear(expansion * channels, channels)
        self.tail = "norm-act-drop" if pre else "drop"

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        for norm, step in ((self.first, self._convolve), (self.second, self._feed)):
            inside = normalised(norm, x, adjacency) if self.pre and norm is not None else x
            x = x + dropout(step(inside, adjacency), self.rate, self.training)
            x = x if self.pre or norm is None else normalised(norm, x, adjacency)
        return x

    def _convolve(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        out: Tensor = self.conv(x, adjacency, None)
        return out

    def _feed(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        out: Tensor = self.narrow(act_dropout(self.widen(x), self.act, self.rate, self.training))
        return out


def pre_norm(branch: Branches, channels: int, layer: int, *, expansion: Count) -> nn.Module:
    """A transformer's layer with the norm in front (arXiv:2002.04745), a graph convolution in place of attention.

    h = x + drop(conv(norm(x)));  x' = h + drop(W2 drop(act(W1 norm(h)))),  W1 widens C to `expansion` C.
    """
    return _feed_forward(branch, channels, layer, expansion, pre=True)


def post_norm(branch: Branches, channels: int, layer: int, *, expansion: Count) -> nn.Module:
    """A transformer's layer with the norm behind (arXiv:1706.03762), a graph convolution in place of attention.

    h = norm(x + drop(conv(x)));  x' = norm(h + drop(W2 drop(act(W1 h)))),  W1 widens C to `expansion` C.

    Behind, a deep stack over-smooths; in front, deep layers add little (arXiv:2512.08475).
    Without a norm there is none.
    """
    return _feed_forward(branch, channels, layer, expansion, pre=False)


def _feed_forward(branch: Branches, channels: int, layer: int, expansion: int, *, pre: bool) -> nn.Module:
    conv = branch.operator(channels, channels, layer, theta=branch.theta)
    norms = [None if branch.norm is None else branch.norm(channels) for _ in range(2)]
    return _FeedForward(conv, norms, channels, expansion, branch.act, branch.rate, pre)
