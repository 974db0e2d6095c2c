"""The loggers: every epoch and the end of a run, however it ended, in the place each of them has for it."""

import importlib.util
import signal
from pathlib import Path

import pytest
import torch

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.training import loggers
from deepgnn_cli.training.callbacks import CheckpointCallback
from deepgnn_cli.training.trainer import Trainer

TINY = [
    "dataset=csbm",
    "dataset.num_nodes=60",
    "dataset.num_features=8",
    "hidden=8",
    "device=cpu",
    "trainer.max_epochs=4",
    "trainer.diagnostics=false",
]
NAMES = {"dataset": "csbm", "model": "gcn", "conv": "gcn", "norm": "none", "residual": "none", "layers": 2, "hidden": 8}
"""What a tracker calls the run, besides its seed, which is 0."""


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def trained(folder: Path, *words: str) -> int:
    return run_command(["train", *TINY, f"output_dir={folder}", *words])


def only(folder: Path) -> Path:
    (run,) = [path for path in folder.iterdir() if (path / "status.json").exists()]
    return run


def interrupt_after(monkeypatch, epoch: int) -> None:
    after_epoch = CheckpointCallback.after_epoch

    def interrupting(self, progress):
        if progress.epoch == epoch:
            signal.raise_signal(signal.SIGTERM)
        after_epoch(self, progress)

    monkeypatch.setattr(CheckpointCallback, "after_epoch", interrupting)


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "wandb"])
def test_a_missing_package_is_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package, *rest: None if package == name else find(package, *rest)
    )
    assert trained(tmp_path / "new", f"logger={name}") == 2
    said = capsys.readouterr().err
    assert f"pip install 'deepgnn[{name}]'" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_every_epoch_once_after_a_resume(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    words = ["logger=tensorboard", "trainer.diagnostics=true"]
    interrupt_after(monkeypatch, 2)
    assert trained(tmp_path, *words) == 143
    monkeypatch.undo()
    assert trained(tmp_path, *words, "resume=true") == 0
    run = only(tmp_path)
    events = EventAccumulator(str(run)).Reload()
    rows = read_csv(run / "epochs.csv")
    for name in ("train_loss", "val_loss", "val_score", "lr"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert logged == {int(row["epoch"]): pytest.approx(float(row[name]), rel=1e-6) for row in rows}
    (result,) = read_csv(run / "result.csv")
    assert events.Scalars("result/test_score")[-1].value == pytest.approx(float(result["test_score"]))
    layers = read_csv(run / "layers.csv")
    ranks = {event.step: event.value for event in events.Scalars("layers/effective_rank")}
    assert ranks == {int(row["layer"]): pytest.approx(float(row["effective_rank"])) for row in layers} != {}
    assert [event.step for event in events.Scalars("influence/share")] == list(
        range(len(read_csv(run / "influence.csv")))
    )
    kept = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info.hparams
    known = {name: value.string_value or value.number_value for name, value in kept.items()}
    assert {name: known[name] for name in NAMES} == NAMES and known["optimizer.lr"] == 0.01


@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_a_run_and_how_it_ended(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    interrupt_after(monkeypatch, 2)
    assert trained(tmp_path, "logger=mlflow", "trainer.diagnostics=true") == 143
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    number = client.get_experiment_by_name("deepgnn").experiment_id
    (kept,) = client.search_runs([number])
    assert kept.info.status == "KILLED" and kept.data.params["optimizer.lr"] == "0.01"
    monkeypatch.undo()
    assert trained(tmp_path, "logger=mlflow", "trainer.diagnostics=true", "resume=true") == 0
    (kept,) = client.search_runs([number])
    assert {name: kept.data.params[name] for name in NAMES} == {name: str(value) for name, value in NAMES.items()}
    assert kept.data.tags["model"] == "gcn" and kept.data.metrics["result.parameters"] > 0
    files = {each.path for each in client.list_artifacts(kept.info.run_id)}
    assert {"layers.csv", "influence.csv", "config.yaml"} <= files and (tmp_path / "mlflow_files").is_dir()
    assert kept.info.status == "FINISHED" and kept.info.run_name == only(tmp_path).name
    history = client.get_metric_history(kept.info.run_id, "train_loss")
    rows = read_csv(only(tmp_path) / "epochs.csv")
    assert [(each.step, each.value) for each in history] == [(int(r["epoch"]), float(r["train_loss"])) for r in rows]


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_an_offline_run_and_closes_it(tmp_path, monkeypatch):
    pytest.importorskip("wandb")

    def failing(self, number):
        if number == 3:
            raise RuntimeError("broken")
        return epoch(self, number)

    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", failing)
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert trained(tmp_path, "logger=wandb") == 1
    run = only(tmp_path)
    (kept,) = run.glob("wandb/offline-run-*/*.wandb")
    assert kept.stat().st_size > 0
    assert (run / "wandb_run.txt").read_text().strip() in kept.name
    content = kept.read_bytes()
    assert b"residual" in content and b"layers" in content and b"diagnostics-" in content
    import wandb

    assert wandb.run is None


class Broken:
    def __init__(self, folder, values):
        pass

    def epoch(self, epoch):
        if epoch.epoch == 2:
            raise ConnectionError("nobody listens")

    def finish(self, row):
        raise ConnectionError("still nobody")


def test_a_logger_that_breaks_does_not_break_the_run(tmp_path):
    assert trained(tmp_path, f"logger._target_={__name__}.Broken") == 0
    assert "nobody listens" in (only(tmp_path) / "train.log").read_text()
    assert len(read_csv(only(tmp_path) / "epochs.csv")) == 4


def test_a_configuration_is_flattened_to_plain_values():
    values = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": True}
    assert dict(loggers.flat(values)) == {"a.b": 1, "a.c": "[1, 2]", "d": "None", "e": True}
    named = loggers.parameters({"names": {"a": "x", "sweep": None}, **values})
    assert named == {"a": "x", "a.b": 1, "a.c": "[1, 2]", "d": "None", "e": True}
