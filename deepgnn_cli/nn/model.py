"""The whole network: encoder → layers → decoder, whatever conv, norm and wiring the layers are made of.

N nodes, E edges, F input features, D edge features, C hidden channels, K classes, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from deepgnn_cli.nn.adapters import adapt
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.dropout import drop_edges, drop_messages, dropout
from deepgnn_cli.nn.layer import ACTIVATIONS, Activation, Branches, act_dropout, normalised, takes
from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures, drop_features
from deepgnn_cli.nn.stack import Stack, States, build_stack
from deepgnn_cli.rules.types import Positive


@dataclass(frozen=True)
class Shape:
    """What a model must know of its data: F, K, and D (None: no edge features).

    Told no K, a model gives its last representation of each node, of a width that it says in `out_channels`.
    """

    features: int
    classes: int | None
    edge_features: int | None = None

    def outputs(self, hidden: int) -> int:
        """K, or C where it is not told."""
        return hidden if self.classes is None else self.classes


@dataclass(frozen=True)
class Drop:
    """Rates: `dropout` before each conv, `input` on X; on the graph `edge` (DropEdge), `node` (DropNode), `message`."""

    dropout: float
    input: float
    edge: float = 0.0
    node: float = 0.0
    message: float = 0.0

    def of_graph(self, adjacency: Adjacency) -> Adjacency:
        """What DropEdge, DropNode and DropMessage leave of the graph for a training step."""
        if self.edge or self.node:
            adjacency = drop_edges(adjacency, self.edge, self.node)
        return drop_messages(adjacency, self.message) if self.message else adjacency


class DeepGNN(nn.Module):
    """`logits = model(x, graph)`: encoder, a stack of layers, decoder. See `deep_gnn`."""

    def __init__(
        self,
        encoder: nn.Module,
        stack: Stack,
        decoder: nn.Module | None,
        *,
        edge_encoder: nn.Module | None,
        norm: nn.Module | None,
        drop: Drop,
        encoder_act: str,
        act: str,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.encoder, self.stack, self.decoder = encoder, stack, decoder
        self.edge_encoder, self.norm = edge_encoder, norm
        self.drop, self.encoder_act, self.act = drop, encoder_act, act

    def thin(self, adjacency: Adjacency) -> Adjacency:
        """What is left of the graph for this step."""
        return self.drop.of_graph(adjacency) if self.training else adjacency

    def encode(self, x: Tensor | SparseFeatures, adjacency: Adjacency) -> tuple[Tensor, Adjacency]:
        """The stack's input [N, C], and the graph with its edge features encoded [E, C]."""
        if adjacency.edge_attr is not None:
            encoder = self.edge_encoder
            adjacency = adjacency.with_edge_attr(None if encoder is None else encoder(adjacency.edge_attr))
        x = drop_features(x, self.drop.input, self.training)
        h = _apply(self.encoder, x, adjacency)
        return ACTIVATIONS[self.encoder_act](h), adjacency

    def decode(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        """Logits [N, K] from the stack's result; without a decoder that result is the logits (one-conv models)."""
        if self.decoder is None:
            return h
        if self.stack.tail == "norm-act-drop":
            h = h if self.norm is None else normalised(self.norm, h, adjacency)
            h = act_dropout(h, self.act, self.drop.dropout, self.training)
        elif self.stack.tail == "drop":
            h = dropout(h, self.drop.dropout, self.training)
        return _apply(self.decoder, h, adjacency)

    def activated(self, state: Tensor) -> Tensor:
        """One of `states` as the next layer reads it, but for norm and dropout."""
        return ACTIVATIONS[self.act](state) if self.stack.tail == "norm-act-drop" else state

    def states(self, x: Tensor | SparseFeatures, adjacency: Adjacency) -> States:
        """Yields the encoder's output and each layer's, which diagnostics look at; returns the logits."""
        h, adjacency = self.encode(x, self.thin(adjacency))
        yield h
        out = yield from self.stack.states(h, adjacency, h)
        return self.decode(out, adjacency)

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """The parameters that make each of `states`."""
        own = getattr(self.stack, "layer_parameters", None)  # of a stack whose layers are several modules each
        layers = own() if own else [list(layer.parameters()) for layer in self.stack.layers]  # type: ignore[union-attr]
        return [list(self.encoder.parameters()), *layers]

    def forward(self, x: Tensor | SparseFeatures, adjacency: Adjacency) -> Tensor:
        """x: [N, F]; logits: [N, K]."""
        h, adjacency = self.encode(x, self.thin(adjacency))
        return self.decode(self.stack(h, adjacency, h), adjacency)


def _apply(module: nn.Module, x: Tensor | SparseFeatures, adjacency: Adjacency) -> Tensor:
    """A linear layer or a conv, on features it can read."""
    out: Tensor
    if isinstance(module, Linear | nn.Identity):
        out = module(x)
    else:
        if isinstance(x, SparseFeatures) and not getattr(module, "accepts_sparse", False):
            x = x.dense()
        out = module(x, adjacency, None)
    return out


def deep_gnn(
    shape: Shape,
    *,
    layers: int,
    hidden: int,
    norm: Callable[..., nn.Module | None] | None,
    residual: Callable[..., nn.Module],
    drop: Drop,
    conv: Callable[..., nn.Module],
    encoder: Literal["linear", "conv"],
    decoder: Literal["linear", "conv"],
    encoder_act: Activation,
    act: Activation,
    identity_mapping: Positive | None,
    checkpoint_every: int = 0,
) -> nn.Module:
    """Build a `DeepGNN` of `layers` graph convolutions.

    Args:
        shape: F, K, D; without K there is no decoder, and what `decoder` says plays no part.
        layers: L, the number of convolutions; an encoder or decoder that is a conv counts.
        hidden: C.
        norm: builder of `norms.py`; None: no normalisation.
        residual: builder of `residuals.py`.
        drop: rates.
        conv: builder of `convs.py`, a class of PyG's with its keywords, or a function `channels -> module`.
        encoder: `linear` (F→C) or `conv` (the conv itself changes the width, as in GCN).
        decoder: `linear` (C→K) or `conv`.
        encoder_act: activation after the encoder.
        act: activation in the layers.
        identity_mapping: θ of `(1-β) I + β W` on the convs' weights, β = log(θ/l + 1); None: off.
        checkpoint_every: k, gradient checkpointing of segments of k layers; 0: off.
    """
    conv = adapt(conv)
    reads_edges = shape.edge_features is not None and takes(conv, "edge_dim")
    edge_dim = hidden if reads_edges else None
    branch = Branches(conv, norm, hidden, act, drop.dropout, identity_mapping, edge_dim)
    decodes = shape.classes is not None
    by_conv = decoder == "conv" and decodes
    single = layers == 1 and encoder == "conv" and by_conv
    ends = 1 if single else (encoder == "conv") + by_conv
    stack = build_stack(residual, branch, hidden, layers - ends, 1 + (encoder == "conv"), checkpoint_every)
    width = stack.out_channels
    first: nn.Module
    if encoder == "conv" and not single and takes(residual, "in_channels"):
        first = residual(branch, hidden, 1, in_channels=shape.features)
        encoder_act = "none"
    elif encoder == "conv":
        first = branch.operator(shape.features, shape.outputs(hidden) if single else hidden, 1)
        # After post-activation layers the stream is activated everywhere; before them it must be, too.
        encoder_act = act if stack.tail == "drop" and not single else encoder_act
    else:
        first = Linear(shape.features, hidden)
    last: nn.Module | None = None
    if not single:
        classes = shape.outputs(width)
        last = branch.operator(width, classes, layers) if by_conv else Linear(width, classes)
    if not decodes:
        last = nn.Identity()
    return DeepGNN(
        first,
        stack,
        last,
        edge_encoder=_edge_encoder(shape, hidden if reads_edges else None, [first, stack, last]),
        norm=norm(width) if norm is not None and last and stack.tail == "norm-act-drop" else None,
        drop=drop,
        encoder_act=encoder_act,
        act=act,
        out_channels=shape.outputs(width),
    )


def _edge_encoder(shape: Shape, width: int | None, parts: list[nn.Module | None]) -> nn.Module | None:
    """D -> width, for convs that say how wide they want edge features; others that read them get them as they are."""
    if width is not None:
        return nn.Linear(shape.edge_features or 0, width)
    modules = (module for part in parts if part is not None for module in part.modules())
    reads = any(getattr(module, "reads_edge_attr", False) for module in modules)
    return nn.Identity() if reads and shape.edge_features is not None else None
