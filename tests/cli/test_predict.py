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
