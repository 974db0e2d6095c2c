"""Any PyG conv, as a deep GNN, in one line.

N nodes, E edges, C channels, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isfunction, signature
from types import ModuleType

from torch import Tensor, nn

from deepgnn_cli.nn import feed_forward, norms, ordered, residuals, skips
from deepgnn_cli.nn.adapters import adapt
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.layer import Branches, act_dropout, takes
from deepgnn_cli.nn.stack import build_stack
from deepgnn_cli.rules.check import check_arguments
from deepgnn_cli.rules.types import Count, Natural, Positive, Rate

# The library has no yaml: the options' defaults stand here, and a test holds them against conf/.
DEFAULTS: dict[str, dict[str, object]] = {
    "initial": {"alpha": None},
    "res": {"drop": "branch", "alpha": 0.0},
    "linear": {"place": "before"},
    "layer_scale": {"start": 0.1},
    "state_space": {"memory": 1.0, "entry": 0.1},
    "ordered": {"chunk": 4},
    "scaled": {"depth_scaling": 0.5},
    "highway": {"start": -3.0},
    "gradient_gating": {"p": 2.0, "own_conv": True},
    "pre_norm": {"expansion": 2},
    "post_norm": {"expansion": 2},
    "res_plus": {"alpha": 0.0},
    "jumping": {"mode": "cat", "alpha": 0.0},
    "reversible": {
        "groups": 2,
        "exact": False,
        "store_activations": False,
        "shared_mask": True,
        "alpha": 0.0,
        "depth_scaling": 1.0,
    },
    "instance": {"affine": True},
    "pair": {"scale": 1.0, "individually": True},
    "group": {"groups": 10, "lamda": 0.01},
    "node": {"power": 2.0},
    "contra": {"scale": 0.1, "temperature": 1.0},
}


class Deep(nn.Module):
    """The body `deepen` makes: `h = body(h, edge_index)`."""

    def __init__(self, stack: nn.Module, norm: nn.Module | None, act: str, rate: float) -> None:
        super().__init__()
        self.stack, self.norm, self.act, self.rate = stack, norm, act, rate
        self.out_channels = stack.out_channels
        self._last: tuple[Tensor, int, Adjacency] | None = None

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """x: [N, C]; edge_index: [2, E]; edge_attr: the conv's third argument; batch: [N]. Gives [N, out_channels]."""
        adjacency = self._adjacency(edge_index, x.size(0)).with_edge_attr(edge_attr)
        adjacency.batch = batch
        h: Tensor = self.stack(x, adjacency, x)
        if self.stack.tail == "norm-act-drop":
            h = h if self.norm is None else self.norm(h, batch)
            h = act_dropout(h, self.act, self.rate, self.training)
        return h

    def _adjacency(self, edge_index: Tensor, num_nodes: int) -> Adjacency:
        """That of the last call, sorted and normalised already, if the same edges come again."""
        if self._last is not None:
            seen, version, adjacency = self._last
            if seen is edge_index and version == edge_index._version and adjacency.num_nodes == num_nodes:
                return adjacency
        adjacency = Adjacency(edge_index, num_nodes)
        self._last = (edge_index, edge_index._version, adjacency)
        return adjacency


def deepen(
    conv: Callable[..., nn.Module],
    channels: Count,
    layers: Count,
    *,
    residual: str = "none",
    norm: str = "none",
    dropout: Rate = 0.0,
    act: str = "relu",
    identity_mapping: Positive | None = None,
    checkpoint_every: Natural = 0,
    **options: object,
) -> Deep:
    """Make a GNN of `layers` layers out of any PyG conv, with the wiring and the normalisation named.

    Args:
        conv: makes one layer's operator, called as `module(x, edge_index[, edge_weight or edge_attr])`: a function
            `C -> module`, or a class of PyG's (`partial(GATConv, heads=4)`), which `adapters.adapt` gives its widths.
        channels: C, kept by every layer.
        layers: L.
        residual: a name that `deepgnn ls residual` lists.
        norm: a name of `norms.py`, or none.
        dropout: rate in front of each conv.
        act: activation.
        identity_mapping: θ of the identity mapping on the conv's square weights; None: off.
        checkpoint_every: k, gradient checkpointing: only the input of every k-th layer is kept; 0: off.
        **options: what the residual or the norm takes (`alpha`, `mode`, `groups`, `exact`, `store_activations`,
            `scale`, …), under the names and with the defaults of the config; a name that both take goes to the
            residual.

    Returns:
        A module called `body(h, edge_index)`; `body.out_channels` is the width of its result, [N, out_channels].

    Raises:
        ValueError: an unknown name or option, or a value of a wrong type or out of its range.
    """
    check_arguments(
        deepen,
        {
            "channels": channels,
            "layers": layers,
            "residual": residual,
            "norm": norm,
            "dropout": dropout,
            "act": act,
            "identity_mapping": identity_mapping,
            "checkpoint_every": checkpoint_every,
        },
    )
    wiring = _named("residual", residual, options, residuals, skips, feed_forward, ordered)
    normal = None if norm == "none" else _named("norm", norm, options, norms)
    if options:
        raise ValueError(f"{', '.join(options)}: neither residual={residual} nor norm={norm} takes this")
    branch = Branches(adapt(conv), normal, channels, act, dropout, identity_mapping)
    stack = build_stack(wiring, branch, channels, layers, checkpoint_every=checkpoint_every)
    tail = normal(stack.out_channels) if normal and stack.tail == "norm-act-drop" else None
    return Deep(stack, tail, act, dropout)


def _named(kind: str, name: str, options: dict[str, object], *modules: ModuleType) -> Callable[..., nn.Module]:
    first = {"residual": "branch", "norm": "channels"}[kind]  # what tells a builder from the other functions there
    found = [getattr(module, name) for module in modules if isfunction(getattr(module, name, None))]
    own = {module.__name__ for module in modules}
    builders = [each for each in found if each.__module__ in own and next(iter(signature(each).parameters)) == first]
    if not builders:
        raise ValueError(f"{kind}={name} is unknown; see `deepgnn ls {kind}`")
    builder = builders[0]
    taken = dict(DEFAULTS.get(name, {}))
    for option in [k for k in options if takes(builder, k)]:
        taken[option] = options.pop(option)
    check_arguments(builder, taken)
    return partial(builder, **taken)
