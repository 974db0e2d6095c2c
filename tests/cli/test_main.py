"""The command line as a user meets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from deepgnn_cli import __version__
from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.groups import CONF, LISTED


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "ls",
        "ls model",
        "plan --help",
        "diff --help",
        "bundle --help",
        "rerun --help",
        "compare --help",
        "report --help",
        "predict --help",
        "evaluate --help",
    ],
)
def test_light_commands_import_no_torch(words: str) -> None:
    code = (
        "import sys; from deepgnn_cli.cli.main import run_command\n"
        f"try: run_command({words.split()!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = [m for m in ('torch', 'torch_geometric', 'ogb') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"deepgnn {__version__}\n"
    assert run_command([]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("train", "plan", "compare", "report", "predict", "evaluate", "ls", "doctor"))
    assert run_command(["train", "--help"]) == 0
    assert "--multirun" in capsys.readouterr().out


def test_ls_names_every_yaml_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    for group in LISTED:
        assert run_command(["ls", group]) == 0
        listed = capsys.readouterr().out
        assert all(path.stem in listed for path in (CONF / group).glob("*.yaml"))


def test_ls_of_an_experiment_says_what_was_reported_by_whom_and_how_it_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["ls", "experiment", "tuned_gcn_minesweeper"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "reported: 0.9786 (Classic GNNs are strong baselines, arXiv:2406.08993, ± 0.24)" in said
    assert "chooses dataset=minesweeper model=gcn conv=gcn_biased" in said and "residual=linear" in said
    assert "Differs: one logit" in said
    assert run_command(["ls", "experiment", "gcnii_full_chameleon"]) == 0
    assert "reported: nothing" in capsys.readouterr().out


def test_ls_of_an_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ls", "modell"]) == 2
    assert "did you mean 'model'" in capsys.readouterr().err


def test_the_configuration_can_be_looked_at_without_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["train", "experiment=gcnii_cora", "--cfg", "job"]) == 0
    assert "layers: 64" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
