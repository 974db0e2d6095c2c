"""Models of whole graphs: any model of nodes as the body, a readout, and a linear layer.

N nodes, E edges, G graphs, F input features, D edge features, C channels, K classes, tasks or numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Shape
from deepgnn_cli.nn.readouts import Readout
from deepgnn_cli.nn.sparse_features import SparseFeatures
from deepgnn_cli.nn.stack import States, result

Input = Tensor | SparseFeatures


class _Layered(Protocol):
    def layer_parameters(self) -> Sequence[Sequence[nn.Parameter]]: ...
    def states(self, x: Input, adjacency: Adjacency) -> States: ...
    def activated(self, state: Tensor) -> Tensor: ...


class GraphModel(nn.Module):
    """`logits = model(x, graph)`, [G, K]: the body's representations of nodes, read out graph by graph.

    Graphs of one batch do not see each other: logits are those of each graph alone, but for a norm over all nodes of a
    step (batch, group) in training.
    """

    def __init__(self, body: nn.Module, readout: Readout, decoder: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.readout, self.decoder = body, readout, decoder
        self.channels = channels  # of what the body gives for a node

    @property
    def stack(self) -> nn.Module | None:
        """The body's stack of convolutions."""
        return cast(nn.Module | None, getattr(self.body, "stack", None))

    @property
    def edge_encoder(self) -> nn.Module | None:
        """What reads edge features, if anything does."""
        return cast(nn.Module | None, getattr(self.body, "edge_encoder", None))

    @property
    def _layered(self) -> _Layered:
        return cast(_Layered, self.body)

    def layer_parameters(self) -> Sequence[Sequence[nn.Parameter]]:
        """The parameters that make each of `states`."""
        return self._layered.layer_parameters()

    def states(self, x: Input, adjacency: Adjacency) -> States:
        """Yields the representations of nodes, the encoder's and each layer's; returns the logits [G, K]."""
        if self.readout.adds_nodes:
            x, adjacency = with_virtual_nodes(x, adjacency)
        states = self._layered.states(x, adjacency)
        seen: list[Tensor] = []
        while True:
            try:
                state = next(states)
            except StopIteration as end:
                return self._decode(self._joined(seen, end.value), adjacency)
            if self.readout.over_layers:
                seen.append(state)
            yield state

    def forward(self, x: Input, adjacency: Adjacency) -> Tensor:
        """x: [N, F]; logits: [G, K]."""
        if self.readout.over_layers:
            return result(self.states(x, adjacency))
        if self.readout.adds_nodes:
            x, adjacency = with_virtual_nodes(x, adjacency)
        return self._decode(self.body(x, adjacency), adjacency)

    def _joined(self, seen: list[Tensor], last: Tensor) -> Tensor:
        """Every layer's representation side by side; of the last layer, what the body gives in the end."""
        return torch.cat([*map(self._layered.activated, seen[:-1]), last], dim=1) if seen else last

    def _decode(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        batch = adjacency.batch
        if batch is None:
            batch = torch.zeros(h.size(0), dtype=torch.int64, device=h.device)
        logits: Tensor = self.decoder(self.readout(h, batch, adjacency.num_graphs))
        return logits


def with_virtual_nodes(x: Input, adjacency: Adjacency) -> tuple[Tensor, Adjacency]:
    """One node more a graph, behind all others, joined with every node of its graph both ways; features are zeros."""
    x = x.dense() if isinstance(x, SparseFeatures) else x
    n, graphs, ends = x.size(0), adjacency.num_graphs, adjacency.edge_index
    every = torch.arange(n, device=ends.device)
    of = torch.zeros_like(every) if adjacency.batch is None else adjacency.batch
    own = torch.arange(graphs, device=ends.device)
    edges = torch.cat([ends, torch.stack([every, n + of]), torch.stack([n + of, every])], dim=1)
    attr, weight = adjacency.edge_attr, adjacency.edge_weight
    if attr is not None:
        attr = torch.cat([attr, attr.new_zeros(2 * n, *attr.shape[1:])])
    if weight is not None:
        weight = torch.cat([weight, weight.new_ones(2 * n)])
    loops = adjacency.has_loops
    owner = torch.cat([of, own])
    wider = Adjacency(edges, n + graphs, attr, owner, weight, fleeting=True, has_loops=loops, num_graphs=graphs)
    return torch.cat([x, x.new_zeros(graphs, x.size(1))]), wider


def graph_model(
    builder: Callable[..., nn.Module],
    shape: Shape,
    *,
    readout: Callable[..., nn.Module | None] | None,
    hidden: int,
    **keywords: object,
) -> nn.Module:
    """A `GraphModel` whose body `builder` makes.

    Args:
        builder: of a model of nodes, `(shape, *, hidden, …)`; told no number of classes it gives representations.
        shape: F, K, D.
        readout: builder of `readouts.py`.
        hidden: C.
        **keywords: the further ones of `builder`.

    Raises:
        ValueError: no readout, or a body whose own loss is of nodes.
    """
    body = builder(replace(shape, classes=None), hidden=hidden, **keywords)
    if hasattr(body, "loss"):
        raise ValueError(
            "model=grand asks views of nodes to agree, and whole graphs are labelled; choose another model"
        )
    width = int(getattr(body, "out_channels", hidden))
    joined = width + hidden * (len(cast(_Layered, body).layer_parameters()) - 1)
    made = None if readout is None else readout(width)
    if isinstance(made, Readout) and made.over_layers:
        assert readout is not None
        made = readout(joined)
    if not isinstance(made, Readout):
        raise ValueError("readout=none, but whole graphs are labelled; choose readout=mean, sum, max, attention, …")
    assert shape.classes is not None
    return GraphModel(body, made, nn.Linear(made.out_channels, shape.classes), width)
