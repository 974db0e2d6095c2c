"""A trained model again, from its run's folder and by the builders that made it.

N nodes, M nodes or graphs, F input features, C channels, K classes (or binary tasks, or numbers), L layers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn

from deepgnn_cli.config.compose import make
from deepgnn_cli.config.schema import MAY_BE_ABSENT, ROOT, Root
from deepgnn_cli.config.validate import check
from deepgnn_cli.data.download import default_root
from deepgnn_cli.data.encodings import encoded_width
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.new_graph import new_graph
from deepgnn_cli.data.rewiring.apply import rewired
from deepgnn_cli.measure.layer_diagnostics import Layered
from deepgnn_cli.nn.portable import Portable
from deepgnn_cli.runfiles.files import read_csv, read_yaml
from deepgnn_cli.runfiles.record import COLUMNS, Row
from deepgnn_cli.runfiles.status import read_status
from deepgnn_cli.runs.build import build_trainer, load_inputs, pick_device, rewiring
from deepgnn_cli.training.checkpoint import random_state, read_weights, set_random_state
from deepgnn_cli.training.inputs import InputLoader, Inputs
from deepgnn_cli.training.trainer import Trainer


@dataclass(frozen=True)
class Prediction:
    """What the model says of each node, or of each graph where whole graphs are labelled, on the CPU.

    Args:
        logits: [M, K].
        classes: the likeliest, [M] int64; of K binary tasks, which of them hold, [M, K] bool; of numbers, themselves.
        probabilities: [M, K]; a row's sum to one, unless they are of K binary tasks; of numbers, themselves.
    """

    logits: Tensor
    classes: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Scores:
    """As the columns of the row."""

    val_loss: float
    train_score: float
    val_score: float
    test_score: float


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run's scored model, its graph, and what the run left on record. Made by `load`.

    Args:
        folder: the run's own.
        config: every key of `config.yaml`.
        row: the row of `result.csv`, as `experiment` gives it.
        trainer: what trained it, with the scored weights.
    """

    folder: Path
    config: Root
    row: pd.Series[Any]
    trainer: Trainer

    @property
    def model(self) -> nn.Module:
        """The network with the scored weights, in evaluation mode; it is called as `model(x, adjacency)`."""
        return self.trainer.model

    @property
    def graph(self) -> Graph:
        """The graph it was trained on, with its labels and masks."""
        return self.trainer.loader.whole

    def evaluate(self) -> Scores:
        """The scores of the row, computed again."""
        return Scores(*self.trainer.evaluate().cpu().tolist())

    def predict(self, data: object = None) -> Prediction:
        """Logits, classes and probabilities of every node or graph, in the way the run evaluates (whole, in parts, …).

        Args:
            data: another graph: a PyG `Data`, a list of them, a dict of tensors or a `Graph`, with features like
                those of `graph` (which a data set may have normalised); it is rewired as `graph` was, and nodes that
                this adds are left out of the answer. None: `graph`.

        Raises:
            ValueError: the graph is wrong, or has other features than the model reads.
        """
        loader = self._loader(data)
        logits = _of_the_data(self.trainer.predict(loader).cpu(), loader)
        if self.graph.task.kind == "regression":
            return Prediction(logits, logits, logits)
        if self.graph.multi_label:
            return Prediction(logits, logits > 0, logits.sigmoid())
        return Prediction(logits, logits.argmax(dim=-1), logits.softmax(dim=-1))

    def embeddings(self, layer: int = -1, data: object = None) -> Tensor:
        """The representation [N, C] of every node after a layer, on the CPU.

        Args:
            layer: as in `layers.csv`: 0 is the encoder's output; from the end with a minus, -1 the last.
            data: as for `predict`.

        Raises:
            ValueError: there is no such layer; or as for `predict`.
        """
        count = len(cast(Layered, self.model).layer_parameters())
        if not -count <= layer < count:
            raise ValueError(f"layer={layer}: the representations are numbered 0 to {count - 1}, or -{count} to -1")

        def state(model: nn.Module, inputs: Inputs) -> Tensor:
            states = cast(Layered, model).states(inputs.x, inputs.graph)
            found: Tensor = next(h.detach().clone() for number, h in enumerate(states) if number == layer % count)
            return found

        loader = self._loader(data)
        return _of_the_data(self.trainer.of_every_node(state, loader).cpu(), loader)

    def export(self) -> Portable:
        """The model as a plain module of its own, `logits = module(x, edge_index)`: see `Portable`."""
        return Portable(self.model)

    def _loader(self, data: object) -> InputLoader | None:
        if data is None:
            return None
        reads_edges = getattr(self.model, "edge_encoder", None) is not None
        made = str(self.config["dataset"].get("features") or "degree")
        encode = make(self.config["encoding"])
        raw = replace(self.graph, x=self.graph.x[:, : self.graph.num_features - encoded_width(self.config["encoding"])])
        graph = encode(new_graph(data, raw, reads_edges=reads_edges, features=made))
        batch = dict(self.config["batch"])
        if "train_parts" in batch:  # a small graph can be evaluated in the run's way, though not trained on in it
            several = graph.num_nodes >= batch["eval_parts"]
            batch |= {"train_parts": 1} | ({} if several else {"eval_parts": 1, "views": 1})
        strategy = make(batch)
        node = rewiring(self.config)
        root = Path(self.config["data_dir"] or default_root())
        changed = rewired(graph, make(node), json.dumps(node, sort_keys=True), root / "rewired")
        own = strategy(changed.graph, seed=self.config["seed"])
        return InputLoader(changed.graph, own, self.trainer.loader.device, changed=changed)


def load(folder: str | PathLike[str], *, device: str | None = None) -> TrainedRun:
    """The trained model in a run's folder, with its graph, configuration and row.

        run = load("outputs/…")
        run.predict().classes[run.graph.test]

    The data set is loaded as the run did, and must be what it was.

    Args:
        folder: the run's own, which holds `config.yaml`, `result.csv` and `best.pt`.
        device: auto, cpu, cuda or cuda:N; None: the run's, or the CPU where there is no CUDA.

    Raises:
        ValueError: no run's folder, a run that left no weights, a damaged file, data that has changed.
    """
    path = Path(folder)
    config, row = _read(path)
    weights = read_weights(_weights(path))
    try:
        trainer = _trainer(config, row, device)
        trainer.model.load_state_dict(weights)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}/config.yaml is not of this version ({type(error).__name__}: {error})") from error
    except RuntimeError as error:
        line = str(error).splitlines()[min(1, str(error).count("\n"))].strip()
        raise ValueError(f"{path}/best.pt does not fit the model of its config.yaml ({line})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    trainer.model.eval()
    return TrainedRun(path, config, row, trainer)


def _read(path: Path) -> tuple[Root, pd.Series[Any]]:
    """The configuration and the row."""
    for name in ("config.yaml", "result.csv"):
        if not (path / name).is_file():
            below = next(path.rglob("best.pt"), None) if path.is_dir() else None
            hint = f"; name a run below it, such as {below.parent}" if below else ""
            raise ValueError(f"{path} is no finished run's folder: it has no {name}{hint}")
    config = read_yaml(path / "config.yaml")
    if missing := [key for key in ROOT if key not in config and key not in MAY_BE_ABSENT]:
        raise ValueError(f"{path}/config.yaml is not of this version: it has no {missing[0]}")
    rows = read_csv(path / "result.csv")
    if len(rows) != 1 or "test_score" not in rows[0]:
        raise ValueError(f"{path}/result.csv is not the row of one run; name the folder of one")
    try:
        return cast(Root, config), pd.Series({name: _value(name, text) for name, text in rows[0].items()}, dtype=object)
    except ValueError as error:
        raise ValueError(f"{path}/result.csv is no row of a run ({error})") from None


def _value(column: str, text: str) -> str | int | float | None:
    """A cell as the row had it; pandas would round some numbers."""
    kind = str(Row.__dataclass_fields__[column].type) if column in COLUMNS else "str"
    if text == "":
        return None
    return int(text) if kind.startswith("int") else float(text) if kind.startswith("float") else text


def _of_the_data(rows: Tensor, loader: InputLoader | None) -> Tensor:
    """The rows of new data's own nodes, without those that rewiring has added."""
    changed = None if loader is None else loader.changed
    return rows if changed is None else rows[: rows.size(0) - changed.added_nodes]


def _weights(path: Path) -> Path:
    """Where the weights lie: a sweep that did not repeat a finished run has only its numbers."""
    found = [folder / "best.pt" for folder in (path, Path(str(read_status(path).get("finished_in") or path)))]
    for file in found:
        if file.is_file():
            return file
    raise ValueError(
        f"{found[-1]} is not there: the run left no weights (it ended before its first evaluation, or an earlier "
        "version made it); train it again"
    )


def _trainer(config: Root, row: pd.Series[Any], device: str | None) -> Trainer:
    """What trained the run, on its data; the program's random numbers go on as if nothing had been drawn."""
    device = device or (str(config["device"]) if torch.cuda.is_available() else "cpu")
    # Where a run writes, and how many trained it, say nothing of its model.
    values = cast(Root, {**config, "device": device, "output_dir": gettempdir(), "skip_finished": None, "resume": None})
    values["trainer"] = {**config["trainer"], "processes": 1, "cuda_graph": False}
    names = ("dataset", "model", "conv", "norm", "residual")
    check(values, {name: str(row[name]) for name in names})
    chosen = pick_device(device)[0]
    before = random_state(chosen)
    try:
        loader = load_inputs(values, chosen)
        known = row.get("data_hash")
        if isinstance(known, str) and known != loader.whole.digest:
            raise ValueError(
                f"its data has changed since it was trained (data_hash {known}, now {loader.whole.digest}); "
                "put it back as it was, or train anew"
            )
        return build_trainer(values, loader)
    finally:
        set_random_state(before, chosen)
