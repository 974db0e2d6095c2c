"""Convs of PyG's and of the user's own, as the layers of a deep GNN.

N nodes, E edges, C channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.convs import Conv

Builder = Callable[..., nn.Module]

_EDGES = ("edge_index", "adj_t", "adj", "edges")  # what a PyG conv calls its second argument
_EDGE_VALUES = ("edge_weight", "edge_attr", "edge_feat", "edge_features")  # and its third, where it reads one


class AdaptedConv(Conv):
    """A module `(x, edge_index[, edge_weight or edge_attr])` -> [N, C], held to the width it must give."""

    def __init__(self, operator: nn.Module, channels: int) -> None:
        super().__init__(operator)
        self.channels = channels
        second, third = _arguments(operator)
        name = type(operator).__name__
        if second is not None and second not in _EDGES and isinstance(operator, MessagePassing):
            raise ValueError(
                f"{name} is called with {second} between x and the edges, which other layers do not have; conv=gcn2 "
                "is GCN2Conv, and residual=initial mixes x_0 into any other conv"
            )
        self.reads_edge_values = third in _EDGE_VALUES or third is None
        self.reads_edge_weight = third == "edge_weight"
        self.reads_edge_attr = third in _EDGE_VALUES and third != "edge_weight"

    def forward(self, x: Tensor, adjacency: Adjacency, x0: Tensor | None = None) -> Tensor:
        """x: [N, C_in]; result: [N, C]."""
        name = type(self.operator).__name__
        if adjacency.edge_attr is not None and not self.reads_edge_values:
            raise ValueError(f"{name} reads no edge weights or features (edge_attr); leave them out")
        if self.reads_edge_weight and adjacency.edge_attr is None and adjacency.edge_weight is not None:
            adjacency = adjacency.with_edge_attr(adjacency.edge_weight)
        out = super().forward(x, adjacency, x0)
        if not isinstance(out, Tensor) or out.shape != (x.size(0), self.channels):
            given = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"the conv {name} turns {list(x.shape)} into {given}; every layer must give "
                f"[{x.size(0)}, {self.channels}] (heads that are joined need channels / heads each)"
            )
        return out


def adapt(conv: Builder) -> Builder:
    """A builder `(channels, layer)` of what may be such a builder, a PyG class, or a function `channels -> module`.

    A class whose constructor begins with in_channels and out_channels is given both; with `heads` that are joined
    each head is C / heads wide, or, where they do not divide C, they are averaged.

    Raises:
        ValueError: a module instead of what makes one, or a class that needs more than its keywords say.
    """
    if isinstance(conv, nn.Module):
        name = type(conv).__name__
        raise ValueError(
            f"conv is one {name} and every layer needs its own: give a function, conv=lambda c: {name}(c, c)"
        )
    if not callable(conv):
        raise ValueError(f"conv={conv!r}: conv must be a class or a function, such as conv=lambda c: GCNConv(c, c)")
    made = conv
    while isinstance(made, partial):
        made = made.func
    if _takes_layer(conv):
        return conv if _ours(made) else _functions(conv, with_layer=True)
    if inspect.isclass(made) and issubclass(made, nn.Module):
        return _class(conv, made)
    return _functions(conv, with_layer=False)


def _takes_layer(conv: Builder) -> bool:
    return "layer" in inspect.signature(conv).parameters


def _ours(made: object) -> bool:
    return str(getattr(made, "__module__", "")).startswith("deepgnn_cli.")


def _functions(conv: Builder, *, with_layer: bool) -> Builder:
    """From a function; one that also takes `in_channels` or `edge_dim` keeps them."""

    def build(channels: int, layer: int, **more: object) -> nn.Module:
        return _adapted(conv(channels, layer, **more) if with_layer else conv(channels, **more), channels)

    taken = inspect.signature(conv).parameters
    optional = [taken[name] for name in ("in_channels", "edge_dim", "alpha") if name in taken]
    return _signed(build, [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in optional])


def _adapted(module: object, channels: int) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise ValueError(f"conv must make a torch module, and made a {type(module).__name__}")
    second, third = _arguments(module)
    if not isinstance(module, MessagePassing) and (second in ("graph", "adjacency") or third == "x0"):
        return module  # it speaks the language of our own convs: (x, adjacency, x0)
    return AdaptedConv(module, channels)


def _class(conv: Builder, made: type[nn.Module]) -> Builder:
    """From a class `made` in the manner of PyG's convs, `conv` being it with some of its keywords."""
    parameters = inspect.signature(conv).parameters
    first = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][:2]
    required = [name for name in first if parameters[name].default is inspect.Parameter.empty]
    own = not made.__module__.startswith("torch_geometric.")
    if (own and len(required) == 1) or (first[:1] == ["channels"] and "out_channels" not in parameters):
        return _functions(conv, with_layer=False)  # its one width, whatever it is called
    if first != ["in_channels", "out_channels"]:
        raise ValueError(
            f"conv={made.__name__}: its constructor begins with {', '.join(first) or 'nothing'} and not with "
            f"in_channels, out_channels; give a function, conv=lambda c: {made.__name__}(…)"
        )
    missing = [name for name, p in list(parameters.items())[2:] if p.default is p.empty and p.kind not in _OPEN]
    if missing:
        histogram = " (deg, a histogram of degrees, depends on the data)" if "deg" in missing else ""
        raise ValueError(
            f"conv={made.__name__} needs {', '.join(missing)}, which no default gives{histogram}; set "
            f"model.conv.{missing[0]}=…, or write a function that returns the conv"
        )
    keywords = dict(conv.keywords) if isinstance(conv, partial) else {}
    heads = keywords.get("heads", getattr(parameters.get("heads"), "default", 1))
    joined = "concat" in parameters and keywords.get("concat", parameters["concat"].default) and heads > 1

    def build(channels: int, layer: int, *, in_channels: int | None = None, **more: object) -> nn.Module:
        width = channels
        if joined and channels % heads == 0:
            width = channels // heads
        elif joined:
            more["concat"] = False
        return AdaptedConv(conv(in_channels or channels, width, **more), channels)

    keyword = inspect.Parameter.KEYWORD_ONLY
    optional = [inspect.Parameter("in_channels", keyword, default=None)]
    if "edge_dim" in parameters and "edge_dim" not in keywords:
        optional.append(inspect.Parameter("edge_dim", keyword, default=None))
    return _signed(build, optional)


_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _signed(build: Builder, optional: list[inspect.Parameter]) -> Builder:
    """`build`, whose signature says which optional parameters it takes."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [inspect.Parameter("channels", kind), inspect.Parameter("layer", kind)]
    build.__signature__ = inspect.Signature([*first, *optional])  # type: ignore[attr-defined]
    return build


def _arguments(module: nn.Module) -> tuple[str | None, str | None]:
    """The names of the second and third argument of a module's `forward`; None: it takes any."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None, None
    return (named[1] if len(named) > 1 else ""), (named[2] if len(named) > 2 else "")
