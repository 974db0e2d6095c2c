"""What the README shows runs: its Python examples, and a part of one's own from outside the package."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import deepgnn_cli
from deepgnn_cli.cli.main import run_command

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, flags=re.S) if containing in text]
    assert len(found) == 1, containing
    return str(found[0])


def test_any_convolution_becomes_deep_in_one_line() -> None:
    names: dict[str, object] = {}
    exec(block("python", "deepen"), names)
    h = names["h"]
    assert isinstance(h, torch.Tensor) and h.shape == (10, 64) and h.isfinite().all()


def test_experiment_is_called_as_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = deepgnn_cli.experiment

    def short(**keys: object) -> pd.DataFrame:
        return real({"trainer.max_epochs": 1, "trainer.diagnostics": False, "output_dir": str(tmp_path)}, **keys)

    monkeypatch.setattr(deepgnn_cli, "experiment", short, raising=False)
    names: dict[str, object] = {}
    exec(block("python", "experiment("), names)
    rows = names["rows"]
    assert isinstance(rows, pd.DataFrame)
    assert rows[["layers", "seed"]].to_numpy().tolist() == [[2, 0], [2, 1], [64, 0], [64, 1]]


def test_a_trained_model_is_had_back_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = {"trainer.max_epochs": 2, "trainer.diagnostics": False}
    deepgnn_cli.experiment(short, dataset="cora", model="gcnii", layers=4, hidden=8)
    (folder,) = (tmp_path / "outputs").iterdir()
    folder.rename(tmp_path / "outputs" / "RUN")
    commands = [line.split()[1:] for line in README.splitlines() if re.match("deepgnn (predict|evaluate) ", line)]
    assert [run_command(words) for words in commands] == [0, 0] and Path("predictions.csv").is_file()
    names: dict[str, Any] = {}
    exec(block("python", "import load"), names)
    assert names["h"].shape == (2708, 8)
    exec(block("python", "torch.export.save"), names)
    graph = names["graph"]
    again = torch.export.load("model.pt2").module()(graph.x[:9], graph.edge_index[:, :0])
    torch.testing.assert_close(again, names["module"](graph.x[:9], graph.edge_index[:, :0]))


def test_a_convolution_from_outside_is_one_function_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "convs.py").write_text(block("python", "def mine("))
    (tmp_path / "myconf" / "conv").mkdir(parents=True)
    (tmp_path / "myconf" / "conv" / "mine.yaml").write_text(block("yaml", "mine.convs.mine"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["train", "--config-dir", "myconf", "conv=mine", "model=resgcn", "layers=3", "dataset=cora"]
    assert run_command([*words, "trainer.max_epochs=2"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert run_command([*words, "model.conv.scael=2"]) == 2
    assert "did you mean 'model.conv.scale'" in capsys.readouterr().err
    assert run_command(["ls", "conv", "--config-dir", "myconf"]) == 0
    assert "My convolution" in capsys.readouterr().out


def test_the_commands_for_continuous_integration_are_marked() -> None:
    for name in ("main", "tests"):
        text = re.search(rf"<!-- command: {name} -->\n```\n(.*?)\n```", README, flags=re.S)
        assert text and text.group(1).startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt")
