"""Whole runs on Cora, shortened: the files they leave, and the laws their numbers obey."""

import csv
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from deepgnn_cli import experiment
from deepgnn_cli.api import _word
from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.validate import checked
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.runfiles.record import COLUMNS
from deepgnn_cli.runs import run as run_module
from deepgnn_cli.runs.build import build_model, build_trainer, load_inputs, pick_device
from deepgnn_cli.runs.plan import plan_for
from deepgnn_cli.training.checkpoint import sealed
from deepgnn_cli.training.cuda_graph import StepGraph
from deepgnn_cli.training.optimizers import groups
from deepgnn_cli.training.trainer import Trainer
from tests.training.small import problem

FILES = {
    "result.csv",
    "epochs.csv",
    "layers.csv",
    "embeddings.csv",
    "influence.csv",
    "graph.json",
    "memory.csv",
    "config.yaml",
    "status.json",
    "checkpoint.pt",
    "best.pt",
    "train.log",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def train(root: Path, *words: str) -> Path:
    assert run_command(["train", "dataset=cora", f"output_dir={root}", *words]) == 0
    (folder,) = set(root.iterdir())
    return folder


def test_a_run_leaves_every_file_and_a_row_that_agrees_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(tmp_path / "runs", "model=gcnii", "layers=4", "trainer.max_epochs=6", "seed=3")
    assert {path.name for path in folder.iterdir()} == FILES
    (row,) = rows(folder / "result.csv")
    assert tuple(row) == COLUMNS
    expected = {"status": "ok", "dataset": "cora", "split": "public", "model": "gcnii", "conv": "gcn2", "norm": "none"}
    expected |= {
        "residual": "initial",
        "layers": "4",
        "hidden": "64",
        "seed": "3",
        "metric": "accuracy",
        "reported": "",
    }
    assert {key: row[key] for key in expected} == expected
    epochs = rows(folder / "epochs.csv")
    best = min(epochs, key=lambda epoch: float(epoch["val_loss"]))
    assert row["best_epoch"] == best["epoch"] and len(epochs) == int(row["epochs"]) == 6
    for key in ("train_score", "val_score", "test_score", "val_loss"):
        assert row[key] == best[key]
        assert 0 <= float(row["test_score"]) <= 1
    assert [layer["layer"] for layer in rows(folder / "layers.csv")] == ["0", "1", "2", "3", "4"]
    shown = rows(folder / "embeddings.csv")
    assert len(shown) == 5 * 300 and sorted({int(point["layer"]) for point in shown}) == [0, 1, 2, 3, 4]
    labels = load_inputs(checked(["dataset=cora"]).values, torch.device("cpu")).whole.y
    assert all(int(point["label"]) == labels[int(point["node"])] for point in shown)
    heard = rows(folder / "influence.csv")
    assert [hop["hop"] for hop in heard] == [str(hop) for hop in range(len(heard))] and 1 < len(heard) <= 5
    for name in ("share_untrained", "share"):
        assert sum(float(hop[name] or 0) for hop in heard) == pytest.approx(1)
    mean = sum(int(hop["hop"]) * float(hop["share"] or 0) for hop in heard)
    assert float(row["range_hops"]) == pytest.approx(mean) and float(row["range_hops_untrained"]) > 0
    assert float(row["influence_beyond"]) == pytest.approx(sum(float(hop["share"] or 0) for hop in heard[3:]))
    assert float(row["peak_memory_mib"]) > float(row["activation_mib"]) > 0 and row["memory_kind"] == "rss"
    assert float(row["step_seconds"]) > 0
    assert json.loads((folder / "status.json").read_text())["status"] == "ok"
    assert yaml.safe_load((folder / "config.yaml").read_text())["layers"] == 4
    said = capsys.readouterr().out
    assert str(folder) in said and f"{100 * float(row['test_score']):.2f}" in said


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(tmp_path: Path) -> None:
    table = experiment(
        {"trainer.max_epochs": 5, "trainer.diagnostics": False},
        dataset="cora", model="gcnii", layers=2, seed=[0, 0, 1], output_dir=str(tmp_path),
    )  # fmt: skip
    columns = ["train_score", "val_score", "test_score", "val_loss"]
    first, again, other = table[columns].to_numpy().tolist()
    assert first == again != other


def test_experiment_gives_a_row_a_combination_with_the_columns_of_result_csv(tmp_path: Path) -> None:
    table = experiment(
        {"trainer.max_epochs": 2}, dataset="cora", model="gcn", layers=[1, 3], seed=range(2), output_dir=str(tmp_path)
    )
    assert tuple(table.columns) == COLUMNS
    assert table[["layers", "seed"]].to_numpy().tolist() == [[1, 0], [1, 1], [3, 0], [3, 1]]
    assert set(table["status"]) == {"ok"}
    with pytest.raises(ValueError, match="layers=0"):
        experiment(model="gcn", layers=[2, 0], output_dir=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


NAMES = ["it's", 'say "x"', "a,b", "a[1]", "a=b", "a#b", "a:b", "{a}", "$a", "josé", "日本é", "~x", "a(b)", "a b", "1"]
NAMES += [" a ", "null", "\\", "\\'", "a\\", "${seed}", "\\${seed}", "[a]", "é\tb"]


@pytest.mark.parametrize("name", NAMES)
def test_from_python_a_string_is_that_string(name: str) -> None:
    values = checked([f"output_dir={_word(name)}", f"data_dir={_word(Path(name))}"]).values
    assert values["output_dir"] == name and values["data_dir"] == str(Path(name))


def test_an_experiment_writes_below_any_path(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] run (copy), 日本é = ${seed}"
    experiment(
        {"dataset.num_nodes": 60, "trainer.max_epochs": 1, "trainer.diagnostics": False},
        dataset="csbm", hidden=8, layers=2, device="cpu", output_dir=folder,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == [folder] and list(folder.glob("*/result.csv"))


def test_the_scored_weights_are_kept_and_give_the_scores_again(tmp_path: Path) -> None:
    words = ["model=gcn", "optimizer.lr=0.3", "trainer.max_epochs=12"]
    folder = train(tmp_path / "runs", *words)
    (row,) = rows(folder / "result.csv")
    assert int(row["best_epoch"]) < 12
    values = checked(["dataset=cora", *words]).values
    trainer = build_trainer(values, load_inputs(values, *pick_device("cpu")))
    trainer.model.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    found = [float(score) for score in trainer.evaluate()]
    assert found == [float(row[name]) for name in ("val_loss", "train_score", "val_score", "test_score")]
    assert sealed(folder / "best.pt")


@pytest.mark.parametrize("error", [RuntimeError("cuDNN RNN backward"), torch.OutOfMemoryError("out of memory")])
def test_diagnostics_that_fail_cost_their_file_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(trainer: Any, seed: int) -> None:
        raise error

    monkeypatch.setattr("deepgnn_cli.training.diagnostics.diagnose", failing)
    folder = train(tmp_path / "runs", "model=gcn", "trainer.max_epochs=3")
    assert {path.name for path in folder.iterdir()} == FILES - {"layers.csv", "embeddings.csv"}
    (row,) = rows(folder / "result.csv")
    assert row["status"] == "ok" and row["error"] == "" and float(row["test_score"]) > 0
    assert f"no layers.csv: {type(error).__name__}: {error}" in (folder / "train.log").read_text()


def test_diagnostics_have_the_memory_of_a_captured_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's private pool is as large as a step's activations, and given back with its `StepGraph` alone."""
    made, alive, begin = list[Any](), list[Any](), StepGraph.__init__

    def noted(self: StepGraph, *arguments: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *arguments)

    monkeypatch.setattr(StepGraph, "__init__", noted)

    def looked(*_: Any) -> tuple[list[Any], list[Any]]:
        alive.extend(graph() for graph in made)
        return [], []

    monkeypatch.setattr("deepgnn_cli.training.diagnostics.diagnose", looked)
    train(tmp_path / "runs", "model=gcn", "trainer.max_epochs=2", "trainer.cuda_graph=true")
    assert alive == [None]


def test_measuring_the_influence_changes_no_number_of_the_run_and_can_be_left_out(tmp_path: Path) -> None:
    words = ["model=gcnii", "norm=batch", "residual=reversible", "trainer.max_epochs=3"]
    (row,) = rows(train(tmp_path / "heard", *words) / "result.csv")
    folder = train(tmp_path / "off", *words, "trainer.influence=0")
    (plain,) = rows(folder / "result.csv")
    for name in ("val_loss", "train_score", "val_score", "test_score", "activation_mib"):
        assert row[name] == plain[name], name
    epochs = [rows(path) for path in sorted(tmp_path.rglob("epochs.csv"))]
    assert [e["train_loss"] for e in epochs[0]] == [e["train_loss"] for e in epochs[1]]
    assert row["range_hops"] and not plain["range_hops"] and not (folder / "influence.csv").exists()


def test_influence_that_cannot_be_measured_costs_its_file_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepgnn_cli.training.diagnostics.influence", lambda *_, **__: 1 / 0)
    folder = train(tmp_path / "runs", "model=gcn", "trainer.max_epochs=2")
    assert {path.name for path in folder.iterdir()} == FILES - {"influence.csv"}
    (row,) = rows(folder / "result.csv")
    assert row["status"] == "ok" and row["range_hops"] == ""
    assert "no influence.csv: ZeroDivisionError" in (folder / "train.log").read_text()


def test_a_rewired_run_says_edges_and_gap_before_and_after_and_repeats(tmp_path: Path) -> None:
    words = {"dataset.num_nodes": 80, "trainer.max_epochs": 2, "rewire.iterations": 10, "dataset.graph_seed": 0}
    given = {"dataset": "csbm", "data_dir": str(tmp_path / "data"), "output_dir": str(tmp_path)}
    first, again, other = (experiment(words, rewire="fosr", seed=seed, **given).iloc[0] for seed in (0, 0, 1))
    assert first["edges"] == first["edges_before"] + 20 and first["spectral_gap"] > first["spectral_gap_before"] > 0
    assert first["rewire"] == "fosr" and first["test_score"] == again["test_score"]
    assert other["edges"] == first["edges"] and len(list((tmp_path / "data" / "rewired").glob("*.pt"))) == 1
    plain = experiment({k: v for k, v in words.items() if k != "rewire.iterations"}, seed=0, **given).iloc[0]
    assert plain["rewire"] == "none" and plain["edges"] == plain["edges_before"] == first["edges_before"]
    assert plain["spectral_gap"] == plain["spectral_gap_before"] == pytest.approx(first["spectral_gap_before"])
    words |= {"rewire.seed": None}
    experiment(words, rewire="fosr", seed=[1, 2], **given)
    assert len(list((tmp_path / "data" / "rewired").glob("*.pt"))) == 3, "null: the run's seed draws"


@pytest.mark.parametrize("batch", ["full", "parts"])
def test_a_rewired_run_hears_in_hops_of_the_datas_own_graph(tmp_path: Path, batch: str) -> None:
    words = {"dataset.num_samples": 10, "dataset.distance": 6, "trainer.max_epochs": 2, "data_dir": tmp_path / "data"}
    words |= {"batch.train_parts": 1, "batch.eval_parts": 1} if batch == "parts" else {}
    given = {"dataset": "ring_transfer", "model": "gcn", "layers": 2, "batch": batch}
    heard = {}
    for rewire in ("none", "virtual_node"):
        experiment(words, rewire=rewire, output_dir=str(tmp_path / rewire), **given)
        (file,) = (tmp_path / rewire).rglob("influence.csv")
        heard[rewire] = rows(file)
    assert [float(hop["nodes"]) for hop in heard["none"]] == [1, 2, 2]
    assert [float(hop["nodes"]) for hop in heard["virtual_node"]] == [1, 2, 2, 2, 2, 2, 1]
    assert float(heard["virtual_node"][6]["share_untrained"]) > 0


def test_a_run_that_fails_has_an_outcome_with_what_was_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Trainer, number: int) -> Any:
        if number == 3:
            raise RuntimeError("broken")
        return epoch(self, number)

    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", failing)
    words = ["dataset=cora", "model=gcn", "trainer.max_epochs=5", f"output_dir={tmp_path}"]
    plan = plan_for(checked(words), skip=False)
    outcome = run_module.run(plan)
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: broken")
    assert (outcome.epochs, outcome.split, outcome.metric) == (2, "public", "accuracy")
    assert outcome.parameters and outcome.val_score and outcome.activation_mib is None
    (row,) = rows(plan.folder / "result.csv")
    assert float(row["val_score"]) == outcome.val_score and len(rows(plan.folder / "epochs.csv")) == 2
    assert 'raise RuntimeError("broken")' in (plan.folder / "train.log").read_text()
    assert (plan.folder / "best.pt").exists()


def test_a_run_of_one_epoch_times_no_step(tmp_path: Path) -> None:
    folder = train(tmp_path / "runs", "model=gcn", "trainer.max_epochs=1")
    assert rows(folder / "result.csv")[0]["step_seconds"] == rows(folder / "epochs.csv")[0]["step_seconds"] == ""


def seeded(*, root: Path, seed: int, split: str) -> Graph:
    """A data set of the user's own, which says the seed it got."""
    SEEDS.append(seed)
    return problem()


SEEDS: list[int] = []


def test_a_data_set_of_ones_own_gets_the_runs_seed_and_is_read_again_by_each_run() -> None:
    for seed in (3, 4, 4):
        values = checked([f"seed={seed}", "dataset=cora"]).values
        values["dataset"] = {"_target_": f"{__name__}.seeded", "split": "public"}
        load_inputs(values, *pick_device("cpu"))
    assert SEEDS == [3, 4, 4]


def test_divergence_is_a_status_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=gcn", "layers=8", "optimizer.lr=1e30", "trainer.max_epochs=20", f"output_dir={tmp_path}"]
    assert run_command(["train", *words]) == 1
    (folder,) = tmp_path.iterdir()
    (row,) = rows(folder / "result.csv")
    assert row["status"] == "diverged" and "smaller optimizer.lr" in row["error"]
    assert json.loads((folder / "status.json").read_text())["status"] == "diverged"
    assert "Traceback" not in capsys.readouterr().err


def test_early_stopping_waits_exactly_patience_epochs(tmp_path: Path) -> None:
    folder = train(tmp_path / "runs", "model=gcn", "optimizer.lr=0.2", "trainer.patience=4", "trainer.max_epochs=300")
    (row,) = rows(folder / "result.csv")
    assert int(row["epochs"]) == int(row["best_epoch"]) + 4 < 300


def model_of(*words: str) -> tuple[Any, dict[str, Any]]:
    values = checked(["dataset=cora", *words]).values
    return build_model(values, load_inputs(values, *pick_device("cpu"))), values


def test_gcnii_decays_its_convolutions_and_its_dense_layers_differently() -> None:
    model, values = model_of("model=gcnii", "layers=5")
    decays = values["optimizer"]["weight_decay"], values["optimizer"]["conv_weight_decay"]
    split = groups(model, *decays)
    assert [group["weight_decay"] for group in split] == [0.01, 5e-4]
    convs, dense = ([tuple(p.shape) for p in group["params"]] for group in split)
    assert convs == [(64, 64)] * 5
    assert sorted(dense) == [(7,), (7, 64), (64,), (64, 1433)]


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_the_number_of_convolutions_is_layers_whether_or_not_the_ends_are_convolutions(layers: int) -> None:
    for model in ("gcn", "gcnii", "resgcn", "densegcn", "jknet", "revgcn"):
        built, _ = model_of(f"model={model}", f"layers={layers}")
        convs = [module for module in built.modules() if type(module).__name__ in ("GCN2", "GCN")]
        assert len(convs) == layers * (2 if model == "revgcn" else 1), model  # one for each of two groups


@pytest.mark.parametrize(("name", "current"), [("cuda:1", [torch.device("cuda:1")]), ("cpu", []), ("cuda", [])])
def test_a_gpu_that_is_named_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch, name: str, current: list[torch.device]
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    device, ranks = pick_device(name)
    assert device == torch.device(name) and ranks.world == 1 and chosen == current
