"""What is measured of a network beside its scores: layer by layer, and by the distance of what it hears.

N nodes, L layers, F input features, K classes, S sampled nodes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from deepgnn_cli.config.schema import Root
from deepgnn_cli.data.download import default_root
from deepgnn_cli.data.pieces import generator
from deepgnn_cli.data.rewiring.apply import Rewired
from deepgnn_cli.data.structure.description import described
from deepgnn_cli.measure.influence import Influence, hops_to, influence
from deepgnn_cli.measure.layer_diagnostics import Layered, LayerRow, layer_diagnostics
from deepgnn_cli.measure.projection import projection
from deepgnn_cli.nn.graph_level import GraphModel
from deepgnn_cli.nn.sparse_features import Listening
from deepgnn_cli.runfiles.files import write_json
from deepgnn_cli.runfiles.record import RunFolder
from deepgnn_cli.training.checkpoint import TrainState
from deepgnn_cli.training.errors import line_of
from deepgnn_cli.training.inputs import InputLoader, Inputs
from deepgnn_cli.training.trainer import Trainer

LAYER_COLUMNS = ("layer", *(name for name in LayerRow.__dataclass_fields__ if name != "layer"))
EMBEDDING_COLUMNS = ("layer", "share", "node", "label", "pc1", "pc2")
INFLUENCE_COLUMNS = ("hop", "nodes", "influence_untrained", "share_untrained", "influence", "share")
_STREAM, _SHOWN_STREAM = 7, 8  # of random numbers: apart from those of batches
_SHOWN_NODES, _SHOWN_LAYERS = 300, 6


class Diagnostics:
    """Measures a network before it is trained, and again with the scored weights.

    What goes wrong here costs a file, and not the run: the log says why.

    Args:
        trainer: the network, not yet trained, and its data.
        values: the configuration.
    """

    def __init__(self, trainer: Trainer, values: Root) -> None:
        self._trainer, self._values = trainer, values
        self._untrained = self._listen()

    def describe_graph(self, folder: RunFolder) -> dict[str, Any]:
        """Write `graph.json`; the columns that the row gains: edges and spectral gap, before and after rewiring."""
        loader = self._trainer.loader
        changed = loader.changed or Rewired(loader.whole, loader.whole.edge_index, None, None, untouched=True)
        columns = {
            "edges_before": changed.edges_before.size(1),
            "edges": loader.whole.num_edges,
            "spectral_gap_before": changed.spectral_gap_before,
            "spectral_gap": changed.spectral_gap,
        }
        if not self._values["trainer"]["diagnostics"]:
            return columns
        root = Path(self._values["data_dir"] or default_root())
        try:
            found = described(loader.whole, root / "structure")
        except Exception as error:
            folder.log(f"no graph.json: {line_of(error)}")
            traceback.clear_frames(error.__traceback__)
            return columns
        write_json(folder.path / "graph.json", found)
        if changed.untouched:
            columns |= dict.fromkeys(("spectral_gap_before", "spectral_gap"), found["spectral_gap"])
        return columns

    def write(self, state: TrainState, folder: RunFolder) -> dict[str, Any]:
        """Write `layers.csv`, `embeddings.csv` and `influence.csv` of the best epoch; the columns the row gains."""
        recipe, trainer = self._values["trainer"], self._trainer
        if not recipe["diagnostics"]:
            return {}
        layers: list[dict[str, object]] = []
        points: list[dict[str, object]] = []
        try:
            trainer.step = trainer.train_step  # a captured step's memory is free now
            trainer.model.load_state_dict(state.best_weights.read(trainer.loader.device))
            layers, points = diagnose(trainer, self._values["seed"])
        except Exception as error:
            folder.log(f"no layers.csv: {line_of(error)}")
            traceback.clear_frames(error.__traceback__)
        if layers:
            folder.table("layers", LAYER_COLUMNS, layers)
            folder.table("embeddings", EMBEDDING_COLUMNS, points)
        untrained, trained = self._untrained, self._listen()
        if isinstance(untrained, Influence) and isinstance(trained, Influence):
            folder.table("influence", INFLUENCE_COLUMNS, influence_rows(untrained, trained))
            return influence_columns(untrained, trained, self._values["layers"])
        if untrained is not None:
            folder.log(f"no influence.csv: {untrained if isinstance(untrained, str) else trained}")
        return {}

    def _listen(self) -> Influence | str | None:
        """The influence, or why there is none; None: not asked for."""
        recipe = self._values["trainer"]
        if not recipe["diagnostics"] or not recipe["influence"]:
            return None
        try:
            return listen(self._trainer, recipe["influence"], self._values["seed"])
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            return line_of(error)


def diagnose(trainer: Trainer, seed: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The rows of `layers.csv` and of `embeddings.csv` for the model as it stands."""
    inputs = next(iter(trainer.loader.train(0)))
    model = cast(Layered, trainer.model)
    of = inputs.graph.batch if trainer.loader.whole.level == "graph" else None
    shown = _Embeddings(inputs, len(model.layer_parameters()), seed, of)
    labels = inputs.y[inputs.train]
    rows = layer_diagnostics(
        model, inputs.x, inputs.graph, labels, inputs.train, trainer.objective.loss, look=shown.look
    )
    return [asdict(row) for row in rows], shown.rows


class _Embeddings:
    """Some nodes of some layers in the plane of their principal components, as the rows of `embeddings.csv`.

    Args:
        inputs: the batch that is looked at.
        states: L + 1 representations; those shown lie apart as powers do: small layer numbers change more.
        seed: of the choice of nodes.
        of: the graph of each node, whose label it has, where whole graphs are labelled; None: nodes are.
    """

    def __init__(self, inputs: Inputs, states: int, seed: int, of: Tensor | None) -> None:
        powers = np.geomspace(1, max(states - 1, 1), _SHOWN_LAYERS - 1).round().astype(int)
        self._layers = {0, *powers.tolist()}
        n = inputs.graph.num_nodes
        chosen = torch.randperm(n, generator=generator(seed, _SHOWN_STREAM))[:_SHOWN_NODES].sort().values
        self._nodes = chosen.to(inputs.y.device)
        numbers = self._nodes if inputs.nodes is None else inputs.nodes[self._nodes.to(inputs.nodes.device)]
        self._numbers = numbers.tolist()
        classes = inputs.y.ndim == 1 and not inputs.y.is_floating_point()
        item = self._nodes if of is None else of[self._nodes]
        found = inputs.y[item].tolist() if classes else []
        self._labels = [label if label >= 0 else None for label in found] or [None] * len(self._numbers)
        self.rows: list[dict[str, object]] = []

    def look(self, layer: int, state: Tensor) -> None:
        """Take note of a layer's representation."""
        if layer not in self._layers:
            return
        found = projection(state, self._nodes)
        for node, label, (first, second) in zip(self._numbers, self._labels, found.points.tolist(), strict=True):
            values = (layer, found.share, node, label, first, second)
            self.rows.append(dict(zip(EMBEDDING_COLUMNS, values, strict=True)))


def listen(trainer: Trainer, sampled: int, seed: int) -> Influence:
    """The influence on some labelled nodes of the first batch, for the model as it stands.

    One output of each node is looked at, drawn at random; the same nodes and outputs at every call. Hops are those of
    the data's own graph even if it was rewired: how far away the task has them. Where whole graphs are
    labelled an output is a channel of what is read out of a node. Changes nothing that the training reads.

    Args:
        trainer: whose model and data.
        sampled: S, a backward pass each.
        seed: the run's.
    """
    inputs = next(iter(trainer.loader.train(0)))
    draw = generator(seed, _STREAM)
    model: nn.Module = trainer.model
    width: int = trainer.loader.whole.num_classes
    among = inputs.train if inputs.nodes is not None else torch.cat(trainer.loader.targets.index)
    if isinstance(model, GraphModel):
        width, model, among = int(model.channels), model.body, torch.arange(inputs.graph.num_nodes)
    among = among.cpu().unique()
    nodes = among[torch.randperm(among.numel(), generator=draw)[:sampled]]
    outputs = torch.randint(width, (nodes.numel(), 1), generator=draw)
    # Of its own: what the training builds of its graph, in its time and memory, is still to be built.
    graph = inputs.graph.with_edges(torch.ones_like(inputs.graph.edge_index[0], dtype=torch.bool))
    return influence(model, Listening(inputs.x), graph, nodes, outputs, hops=_own_hops(trainer.loader, inputs))


def _own_hops(loader: InputLoader, inputs: Inputs) -> Callable[[int], Tensor] | None:
    """The hops to a node of the batch from each other one, before rewiring; None: the batch's own edges tell."""
    changed, batch = loader.changed, inputs.nodes
    if changed is None or changed.untouched:
        return None

    def hops(node: int) -> Tensor:
        whole = node if batch is None else int(batch[node])
        found = hops_to(whole, changed.edges_before, loader.whole.num_nodes).to(inputs.graph.edge_index.device)
        return found if batch is None else found[batch]

    return hops


def influence_rows(untrained: Influence, trained: Influence) -> list[dict[str, object]]:
    """The rows of `influence.csv`: a row a hop, before training and at the best epoch."""
    nodes = max(untrained.nodes, trained.nodes, key=len)
    parts: Sequence[Sequence[float]] = (untrained.totals, untrained.shares, trained.totals, trained.shares)
    return [
        dict(zip(INFLUENCE_COLUMNS, (hop, *numbers), strict=True))
        for hop, numbers in enumerate(zip_longest(nodes, *parts))
    ]


def influence_columns(untrained: Influence, trained: Influence, layers: int) -> dict[str, object]:
    """The columns of the row: R, and the share of the influence from beyond half the layers."""
    half = layers / 2
    return {
        "range_hops_untrained": untrained.range_hops,
        "range_hops": trained.range_hops,
        "influence_beyond_untrained": untrained.beyond(half),
        "influence_beyond": trained.beyond(half),
    }
