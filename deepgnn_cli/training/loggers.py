"""Where else a run's numbers go: the builders that `logger=` names.

A builder `(folder, values, *, …knobs)` gives an object with `epoch(Epoch)` and `finish(Row)`. `values` is the
configuration, and under `names` what its parts are called: dataset, split, model, conv, norm, residual, layers,
hidden, seed, and the sweep. The CSV files are written whatever the logger; these are for those who watch runs in
TensorBoard, MLflow or Weights & Biases. Nothing leaves the machine unless a knob says so.

A builder imports what it needs: the memory that takes is set aside from the run's peak.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from deepgnn_cli.rules.signatures import requires
from deepgnn_cli.rules.types import Count
from deepgnn_cli.runfiles.files import read_csv, write_text
from deepgnn_cli.runfiles.record import IDENTITY, Row
from deepgnn_cli.training.callbacks import Logger
from deepgnn_cli.training.checkpoint import Epoch

_RESULTS = tuple(
    column.name
    for column in fields(Row)
    if column.name not in IDENTITY and str(column.type).startswith(("float", "int"))
)
_FILES = ("layers.csv", "embeddings.csv", "influence.csv", "memory.csv", "graph.json", "config.yaml")


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """The leaves of a configuration by their dotted names; lists and null as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str | int | float | bool) else str(value)


def parameters(values: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """What a run is, flat: first what its parts are called, then every key."""
    config = {key: value for key, value in values.items() if key != "names"}
    return {key: value for key, value in values["names"].items() if value is not None} | dict(flat(config))


def files(folder: Path) -> list[Path]:
    """What a run's end has left that is worth keeping beside its numbers."""
    return [folder / name for name in _FILES if (folder / name).exists()]


def curves(folder: Path) -> Iterator[tuple[str, int, float]]:
    """The diagnostics as curves: over the layers, and of influence over the hops."""
    for name, step, wanted in (("layers", "layer", None), ("influence", "hop", ("share_untrained", "share"))):
        path = folder / f"{name}.csv"
        for row in read_csv(path) if path.exists() else []:
            for column, text in row.items():
                if column != step and text and (wanted is None or column in wanted):
                    yield f"{name}/{column}", int(row[step]), float(text)


def numbers(epoch: Epoch) -> dict[str, float]:
    """What of an epoch is known, by name."""
    return {key: value for key, value in vars(epoch).items() if key != "epoch" and value is not None and value == value}


def results(row: Row) -> dict[str, float]:
    """What of a run's end is known, by name."""
    return {key: float(value) for key in _RESULTS if (value := getattr(row, key)) is not None}


class _Nothing:
    def epoch(self, epoch: Epoch) -> None:
        pass

    def finish(self, row: Row) -> None:
        pass


def csv(folder: Path, values: dict[str, object]) -> Logger:
    """The files every run leaves, and nothing else."""
    return _Nothing()


@requires("tensorboard", "pip install 'deepgnn[tensorboard]'")
def tensorboard(folder: Path, values: dict[str, object], *, flush_seconds: Count) -> Logger:
    """Event files in the run's folder: `tensorboard --logdir outputs`."""
    return _TensorBoard(folder, values, flush_seconds)


class _TensorBoard:
    def __init__(self, folder: Path, values: dict[str, object], flush_seconds: Count) -> None:
        self._folder, self._parameters, self._flush_seconds = folder, parameters(values), flush_seconds
        self._module = importlib.import_module("torch.utils.tensorboard")
        self._writer: Any = None

    def _open(self, first: int) -> Any:
        if self._writer is None:
            # What a killed run logged beyond its last checkpoint is drawn again.
            purge = first if first > 1 else None
            self._writer = self._module.SummaryWriter(
                str(self._folder), purge_step=purge, flush_secs=self._flush_seconds
            )
        return self._writer

    def epoch(self, epoch: Epoch) -> None:
        writer = self._open(epoch.epoch)
        for name, value in numbers(epoch).items():
            writer.add_scalar(name, value, epoch.epoch)

    def finish(self, row: Row) -> None:
        if self._writer is None:
            return
        ends = {f"result/{name}": value for name, value in results(row).items()}
        # `add_hparams` would open a second event file in the folder.
        for part in importlib.import_module("torch.utils.tensorboard.summary").hparams(self._parameters, ends):
            self._writer.file_writer.add_summary(part)
        for name, value in ends.items():
            self._writer.add_scalar(name, value, row.epochs)
        for name, step, value in curves(self._folder):
            self._writer.add_scalar(name, value, step)
        self._writer.close()


@requires("mlflow", "pip install 'deepgnn[mlflow]'")
def mlflow(folder: Path, values: dict[str, Any], *, experiment: str, tracking_uri: str | None) -> Logger:
    """A run in MLflow's store: `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db`.

    Args:
        folder: the run's folder; its name is the run's.
        values: the configuration and the names, logged as parameters; the names as tags, too.
        experiment: MLflow's name for what belongs together; made where it is missing.
        tracking_uri: null: an SQLite file below `output_dir`.
    """
    uri = tracking_uri or f"sqlite:///{(Path(values['output_dir']) / 'mlflow.db').resolve()}"
    return _MlFlow(folder, values, experiment, uri)


class _MlFlow:
    """Numbers are sent in batches: a database transaction for every epoch would cost more than the epoch."""

    _SECONDS = 5.0

    def __init__(self, folder: Path, values: dict[str, Any], experiment: str, uri: str) -> None:
        self._module = importlib.import_module("mlflow.entities")
        self._lock = FileLock(Path(values["output_dir"]) / ".mlflow.lock")
        self._folder, self._waiting = folder, list[object]()
        self._sent = time.monotonic()
        with self._lock, _quiet():
            self._client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
            self._run = self._find(folder / "mlflow_run.txt", experiment, values)

    def _find(self, known: Path, experiment: str, values: dict[str, Any]) -> str:
        if known.exists():  # the run is resumed
            run: str = known.read_text(encoding="utf-8").strip()
            self._client.set_tag(run, "resumed", "true")
            self._client.update_run(run, status="RUNNING")
            return run
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._create(experiment, values)
        names = {name: str(value) for name, value in values["names"].items() if value is not None}
        run = self._client.create_run(number, run_name=self._folder.name, tags=names).info.run_id
        told = [self._module.Param(key, str(value)) for key, value in parameters(values).items()]
        self._client.log_batch(run, params=told)
        write_text(known, run + "\n")
        return run

    def _create(self, experiment: str, values: dict[str, Any]) -> str:
        # In MLflow's own place, the current folder, files would lie apart from the database.
        own = values["logger"].get("tracking_uri") is None
        place = (Path(values["output_dir"]).resolve() / "mlflow_files").as_uri() if own else None
        number: str = self._client.create_experiment(experiment, artifact_location=place)
        return number

    def _send(self) -> None:
        with self._lock:
            for start in range(0, len(self._waiting), 1000):  # MLflow takes no more at once
                self._client.log_batch(self._run, metrics=self._waiting[start : start + 1000])
        self._waiting, self._sent = [], time.monotonic()

    def _add(self, found: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._waiting += [self._module.Metric(name, value, now, step) for name, value in found.items()]

    def epoch(self, epoch: Epoch) -> None:
        self._add(numbers(epoch), epoch.epoch)
        if time.monotonic() - self._sent >= self._SECONDS:
            self._send()

    def finish(self, row: Row) -> None:
        self._add({f"result.{name}": value for name, value in results(row).items()}, row.epochs or 0)
        self._send()
        ends = {"ok": "FINISHED", "interrupted": "KILLED"}
        with self._lock:
            for path in files(self._folder):
                self._client.log_artifact(self._run, str(path))
            self._client.set_tag(self._run, "status", row.status)
            self._client.set_terminated(self._run, ends.get(row.status, "FAILED"))


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow tells of every step of making its database."""
    import logging

    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@requires("wandb", "pip install 'deepgnn[wandb]'")
def wandb(folder: Path, values: dict[str, object], *, project: str, mode: Literal["offline", "online"]) -> Logger:
    """A run of Weights & Biases, kept in the run's folder: `wandb sync outputs/*/wandb/offline-run-*` uploads it.

    Args:
        folder: the run's folder; its name is the run's.
        values: the configuration and the names, flat; dataset and model are tags, a sweep is a group.
        project: what W&B files the run under.
        mode: `offline`, or `online` where an account is set up.
    """
    return _Wandb(folder, values, project, mode)


class _Wandb:
    def __init__(self, folder: Path, values: dict[str, Any], project: str, mode: str) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        self._folder, self._module, names = folder, importlib.import_module("wandb"), values["names"]
        known = folder / "wandb_run.txt"
        number = known.read_text(encoding="utf-8").strip() if known.exists() else None
        self._run: Any = self._module.init(
            project=project,
            name=folder.name,
            id=number,  # the parts of a resumed run are one run for W&B
            dir=str(folder),
            config=parameters(values),
            tags=[names["dataset"][:64], names["model"][:64]],
            group=names["sweep"],
            mode=mode,
            reinit="create_new",
        )
        write_text(known, self._run.id + "\n")

    def epoch(self, epoch: Epoch) -> None:
        self._run.log(numbers(epoch), step=epoch.epoch)

    def finish(self, row: Row) -> None:
        self._run.summary.update(results(row) | {"status": row.status})
        if found := files(self._folder):
            kept = self._module.Artifact(f"diagnostics-{self._run.id}", type="diagnostics")
            for path in found:
                kept.add_file(str(path))
            self._run.log_artifact(kept)
        self._run.finish(exit_code=0 if row.status == "ok" else 1)
