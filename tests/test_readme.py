"""What the README and the pages of docs/ show runs: Python examples, commands, links, a part of one's own."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import deepgnn_cli
from deepgnn_cli.cli import tune
from deepgnn_cli.cli.main import run_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {ROOT / "README.md": README} | {
    path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))
}
COMMANDS = [
    line.partition(" #")[0].strip()
    for text in PAGES.values()
    for shown in re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    for line in shown.splitlines()
    if line.startswith("deepgnn ")
]


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", "\n".join(PAGES.values()), flags=re.S)
    found = [text for text in blocks if containing in text]
    assert len(found) == 1, containing
    return str(found[0])


def test_any_convolution_becomes_deep_in_one_line() -> None:
    names: dict[str, object] = {}
    exec(block("python", "layers=100"), names)
    h = names["h"]
    assert isinstance(h, torch.Tensor) and h.shape == (10, 64) and h.isfinite().all()


def test_experiment_is_called_as_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = deepgnn_cli.experiment

    def short(**keys: object) -> pd.DataFrame:
        return real({"trainer.max_epochs": 1, "trainer.diagnostics": False, "output_dir": str(tmp_path)}, **keys)

    monkeypatch.setattr(deepgnn_cli, "experiment", short, raising=False)
    names: dict[str, object] = {}
    exec(block("python", "seed=[0, 1]"), names)
    rows = names["rows"]
    assert isinstance(rows, pd.DataFrame)
    assert rows[["layers", "seed"]].to_numpy().tolist() == [[2, 0], [2, 1], [64, 0], [64, 1]]


def test_a_trained_model_is_had_back_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = {"trainer.max_epochs": 2, "trainer.diagnostics": False}
    deepgnn_cli.experiment(short, dataset="cora", model="gcnii", layers=4, hidden=8)
    (folder,) = (tmp_path / "outputs").iterdir()
    folder.rename(tmp_path / "outputs" / "RUN")
    commands = [shlex.split(line)[1:] for line in COMMANDS if "outputs/RUN" in line]
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


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_a_command_is_understood_as_shown(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every word is one that the command takes; what needs no runs is done."""
    monkeypatch.chdir(tmp_path)
    command, *words = shlex.split(line)[1:]
    keys = [word for word in words if "=" in word and command in ("train", "plan", "tune")]
    if command == "ls":
        assert run_command([command, *words]) == 0 and capsys.readouterr().out
    elif command == "tune":
        tune._check(tune._search(keys, []))
    elif keys:
        assert run_command(["train", *keys, *("-m" for word in words if word == "-m"), "--cfg", "job"]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit, match="^0$"):
        sys.exit(run_command([command, "--help"]))
    told = capsys.readouterr().out
    assert all(re.search(rf"{word}\b", told) for word in words if word.startswith("-"))


def test_every_link_leads_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    index = PAGES[ROOT / "docs" / "README.md"]
    assert all(f"({path.name})" in index for path in PAGES if path.name != "README.md")


def test_the_readme_fits_a_screen_and_its_figures_are_those_of_the_results() -> None:
    assert len(README.splitlines()) <= 80
    results = PAGES[ROOT / "docs" / "results.md"]
    told = [float(number) for number in re.findall(r"([\d.]+) %", README)]
    assert told, "the README tells figures"
    for number in told:
        assert any(round(float(cell), 1) == number for cell in re.findall(r"\d+\.\d+", results)), number


def test_the_commands_for_continuous_integration_are_marked() -> None:
    for name in ("main", "tests"):
        text = re.search(rf"<!-- command: {name} -->\n```\n(.*?)\n```", README, flags=re.S)
        assert text and text.group(1).startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt")
