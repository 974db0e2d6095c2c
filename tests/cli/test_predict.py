"""`predict` and `evaluate`: a trained run's own numbers again, from its folder alone."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from deepgnn_cli import load
from deepgnn_cli.cli.main import run_command
from tests.data.conftest import Raw

SHORT = ["trainer.max_epochs=3", "trainer.diagnostics=false", "hidden=8", "layers=3", "device=cpu", "optimizer.lr=0.05"]


def trained(root: Path, *words: str) -> tuple[Path, dict[str, str]]:
    """A short run below `root`: its folder, and its row."""
    assert run_command(["train", *SHORT, f"output_dir={root / 'runs'}", *words]) == 0
    (folder,) = (root / "runs").iterdir()
    with (folder / "result.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return folder, row


@pytest.fixture(scope="module")
def cora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A run that no test writes to."""
    return trained(tmp_path_factory.mktemp("cora"), "dataset=cora", "model=gcnii")


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def refused(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    capsys.readouterr()
    assert run_command(words) == status
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("deepgnn: ") and told.err.count("\n") == 1
    return told.err


def test_the_accuracy_of_the_table_by_pandas_alone_is_the_rows(cora: Any, tmp_path: Path) -> None:
    folder, row = cora
    out = tmp_path / "predictions.csv"
    assert run_command(["predict", str(folder), "--split", "test", "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert list(table)[:4] == ["node", "class", "label", "split"] and set(table["split"]) == {"test"}
    assert np.float32((table["class"] == table["label"]).mean()) == np.float32(row["test_score"])
    shares = table.filter(like="probability_")
    assert list(shares) == [f"probability_{k}" for k in range(7)]
    assert np.allclose(shares.sum(axis=1), 1) and (shares.to_numpy().argmax(1) == table["class"]).all()


def test_all_nodes_are_told_in_order_with_their_split(cora: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, row = cora
    capsys.readouterr()
    assert run_command(["predict", str(folder)]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["node"].tolist() == list(range(2708))
    assert table["split"].value_counts().to_dict() == {"test": 1000, "val": 500, "train": 140}
    for name in ("train", "val"):
        part = table[table["split"] == name]
        assert np.float32((part["class"] == part["label"]).mean()) == np.float32(row[f"{name}_score"])
    assert run_command(["predict", str(folder), "--split", "val"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 501


def test_several_labels_a_node_are_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Raw(tmp_path).ppi()
    folder, row = trained(tmp_path, "dataset=ppi", "model=gcnii", f"data_dir={tmp_path}")
    capsys.readouterr()
    assert run_command(["predict", str(folder), "--split", "test"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    said, true = ([set(text.split()) for text in table[name]] for name in ("class", "label"))
    both = sum(len(a & b) for a, b in zip(said, true, strict=True))
    score = 2 * both / (sum(map(len, said)) + sum(map(len, true)))
    assert np.float32(score) == np.float32(row["test_score"])
    likely = table.filter(like="probability_").to_numpy() > 0.5
    assert said == [{str(k) for k in np.flatnonzero(each)} for each in likely]


def rings_and_paths(label: Any, count: int = 40) -> list[dict[str, torch.Tensor]]:
    """Graphs of 3 to 8 nodes, even ones closed to a ring, and `label(number, nodes)` of each."""
    found = []
    for i in range(count):
        n = 3 + i % 6
        ends = torch.stack([torch.arange(n), torch.arange(n).roll(-1)])[:, : n if i % 2 == 0 else n - 1]
        both = torch.cat([ends, ends.flip(0)], dim=1)
        found.append({"x": torch.rand(n, 3), "edge_index": both, "y": torch.tensor(label(i, n))})
    return found


NAN = float("nan")
GRAPH_LABELS: dict[str, tuple[Any, list[str]]] = {
    "classes": (lambda i, n: [3 + 4 * (i % 2)], []),
    "a task": (lambda i, n: [[NAN if i == 5 else float(i % 2)]], ["dataset.metric=roc_auc"]),
    "tasks": (
        lambda i, n: [[float(i % 2), NAN if i % 3 else float(n > 5), NAN if i == 4 else 0.0]],
        ["dataset.metric=average_precision"],
    ),
    "numbers": (lambda i, n: [[n / 7, 0.5 + (i % 2)]], ["dataset.metric=mse"]),
}


@pytest.fixture(scope="module", params=list(GRAPH_LABELS))
def graphs(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, str], Any]:
    """A run on labels of whole graphs: of which kind, its folder, its row, and what it trained on."""
    label, words = GRAPH_LABELS[request.param]
    root = tmp_path_factory.mktemp("graphs")
    made = rings_and_paths(label)
    torch.save(made, root / "mine.pt")
    file = f"dataset.path={root / 'mine.pt'}"
    if request.param == "a task":  # the graph without a label is in no set
        for i, each in enumerate(made):
            part = None if i == 5 else i // 2 % 4  # of either label in each
            sets = (part in (0, 1), part == 2, part == 3)
            names = ("train_mask", "val_mask", "test_mask")
            each |= {name: torch.tensor([inside]) for name, inside in zip(names, sets, strict=True)}
        torch.save(made, root / "mine.pt")
    batch = ["readout=sum", "batch=small_graphs", "batch.graphs_per_batch=7"]
    folder, row = trained(root, "dataset=pyg", file, "model=gin", *batch, *words)
    return request.param, folder, row, made


def test_whole_graphs_are_told_a_row_each(graphs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kind, folder, row, made = graphs
    capsys.readouterr()
    assert run_command(["predict", str(folder)]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False, na_values={"label": [""]})
    assert table["graph"].tolist() == list(range(len(made))) and "node" not in table
    y = torch.cat([each["y"] for each in made]).numpy()
    if kind == "classes":
        assert list(table)[:4] == ["graph", "class", "label", "split"]
        assert table["label"].tolist() == y.tolist() and {"probability_3", "probability_7"} < set(table)
    elif kind == "a task":
        assert list(table) == ["graph", "class", "label", "split", "probability_1"]
        assert np.array_equal(table["label"].to_numpy(), y[:, 0], equal_nan=True) and table["split"][5] == ""
        assert (table["class"] == (table["probability_1"] > 0.5)).all()
    elif kind == "tasks":
        assert list(table)[:5] == ["graph", "class", "label", "unknown", "split"]
        texts = [" ".join(map(str, np.flatnonzero(each == 1))) for each in y]
        assert table["label"].fillna("").tolist() == texts
        assert table["unknown"].tolist() == [" ".join(map(str, np.flatnonzero(np.isnan(each)))) for each in y]
    else:
        assert list(table) == ["graph", "prediction_0", "prediction_1", "target_0", "target_1", "split"]
        assert np.allclose(table[["target_0", "target_1"]], y)
        tested = table[table["split"] == "test"]
        wrong = tested[["prediction_0", "prediction_1"]].to_numpy() - tested[["target_0", "target_1"]].to_numpy()
        assert np.square(wrong).mean() == pytest.approx(float(row["test_score"]), rel=1e-5)
    if kind == "classes":
        tested = table[table["split"] == "test"]
        assert np.float32((tested["class"] == tested["label"]).mean()) == np.float32(row["test_score"])
    assert run_command(["evaluate", str(folder)]) == 0


def test_new_graphs_one_or_several_are_told_as_the_runs_own(graphs: Any, tmp_path: Path) -> None:
    kind, folder, _, made = graphs
    out = tmp_path / "own.csv"
    assert run_command(["predict", str(folder), "--out", str(out)]) == 0
    own = pd.read_csv(out)
    for given, count in ((made[:6], 6), (made[0], 1)):
        torch.save(given, tmp_path / "new.pt")
        words = ["predict", str(folder), "--data", str(tmp_path / "new.pt"), "--out", str(tmp_path / "new.csv")]
        assert run_command(words) == 0
        new = pd.read_csv(tmp_path / "new.csv")
        numbers = [name for name in new if name.startswith(("probability", "prediction"))]
        assert len(new) == count and numbers == [name for name in own if name in numbers]
        assert np.allclose(new[numbers], own[numbers][:count], atol=1e-6)
        assert new["split"].isna().all() and ("label" not in new or new["label"].isna().all())


def test_an_unlabelled_node_has_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = torch.arange(30)
    masks = {f"{name}_mask": (ends % 3 == i) & (ends > 0) for i, name in enumerate(("train", "val", "test"))}
    y = torch.where(ends == 0, -1, ends % 2)
    data = {"x": torch.rand(30, 4), "edge_index": torch.stack([ends, ends.roll(1)]), "y": y, **masks}
    torch.save(data, tmp_path / "mine.pt")
    folder, _ = trained(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / 'mine.pt'}", "model=gcn")
    capsys.readouterr()
    assert run_command(["predict", str(folder)]) == 0
    first, second, *_ = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["label"], first["split"]) == ("", "") and (second["label"], second["split"]) == ("1", "val")


def test_another_graph_is_predicted_from_its_file(
    cora: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = cora
    run = load(folder)
    torch.save({"x": run.graph.x[:50], "edge_index": torch.tensor([[0, 1], [1, 0]])}, tmp_path / "new.pt")
    capsys.readouterr()
    assert run_command(["predict", str(folder), "--data", str(tmp_path / "new.pt")]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    wanted = run.predict({"x": run.graph.x[:50], "edge_index": torch.tensor([[0, 1], [1, 0]])})
    assert table["class"].tolist() == wanted.classes.tolist() and table["label"].isna().all()
    words = ["predict", str(folder), "--data"]
    assert "no such file" in refused([*words, "nowhere.pt"], capsys)
    assert "is a split of the run's own graph" in refused([*words, str(tmp_path / "new.pt"), "--split", "test"], capsys)
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "would run code" in refused([*words, str(tmp_path / "code.pt")], capsys)
    torch.save({"x": torch.rand(3, 2), "edge_index": torch.empty(2, 0)}, tmp_path / "narrow.pt")
    assert "2 columns of x" in refused([*words, str(tmp_path / "narrow.pt")], capsys)


def test_evaluate_finds_the_scores_of_the_row_or_says_which_is_another(
    cora: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, row = cora
    capsys.readouterr()
    assert run_command(["evaluate", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"test {float(row['test_score']):.6g}" in said and "as in result.csv" in said
    other = copied(folder, tmp_path / "other")
    text = (folder / "result.csv").read_text()
    (other / "result.csv").write_text(text.replace(row["test_score"], str(np.nextafter(float(row["test_score"]), 1))))
    line = refused(["evaluate", str(other)], capsys, status=1)
    assert f"test_score is {row['test_score']}, and result.csv says" in line


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_is_no_whole_run_is_one_line(
    cora: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    folder, _ = cora
    assert "is no finished run's folder" in refused([command, str(tmp_path / "nowhere")], capsys)
    assert f"such as {folder}" in refused([command, str(folder.parent)], capsys)
    none = copied(folder, tmp_path / "none")
    (none / "best.pt").unlink()
    assert "the run left no weights" in refused([command, str(none)], capsys)
    torn = copied(folder, tmp_path / "torn")
    os.truncate(torn / "best.pt", 1000)
    assert "no whole file of weights" in refused([command, str(torn)], capsys)
    changed = copied(folder, tmp_path / "changed")
    hashed = load(folder).row["data_hash"]
    (changed / "result.csv").write_text((folder / "result.csv").read_text().replace(hashed, "0" * 12))
    assert "its data has changed" in refused([command, str(changed)], capsys)
    assert "device=tpu" in refused([command, str(folder), "--device", "tpu"], capsys)


def test_a_table_has_somewhere_to_go_before_anything_is_loaded(
    cora: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tmp_path / "nowhere"), "--out"]
    assert "is a folder; name a file" in refused([*words, str(tmp_path)], capsys)
    assert "no such folder" in refused([*words, str(tmp_path / "none" / "out.csv")], capsys)
