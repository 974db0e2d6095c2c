"""What a shell is told that may stand on the line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepgnn_cli.cli.main import run_command

ASK = """import sys
from deepgnn_cli.cli.main import run_command
try: run_command([])
finally: assert 'torch' not in sys.modules
"""


def asked(line: str, tmp_path: Path) -> list[str]:
    out = tmp_path / "answer"
    told = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n"}
    told |= {"COMP_LINE": line, "COMP_POINT": str(len(line.encode())), "_ARGCOMPLETE_COMP_WORDBREAKS": " "}
    done = subprocess.run([sys.executable, "-c", ASK], env=os.environ | told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out.read_text().split("\n")


@pytest.mark.parametrize(
    ("line", "there", "absent"),
    [
        ("deepgnn tr", ["train "], ["ls"]),
        ("deepgnn train mod", ["model="], ["norm="]),
        ("deepgnn train model=gcn", ["model=gcn", "model=gcnii"], ["model=gat"]),
        ("deepgnn train -m model=gcn,dee", ["model=gcn,deepergcn "], []),
        ("deepgnn train trainer.ma", ["trainer.max_epochs="], ["trainer.patience="]),
        ("deepgnn train trainer.autocast=", ["trainer.autocast=none", "trainer.autocast=bf16"], []),
        ("deepgnn plan model=revgcn residual.ex", ["residual.exact="], []),
        ("deepgnn plan model=revgcn residual.exact=", ["residual.exact=true", "residual.exact=false"], []),
        ("deepgnn tune search=", ["search=default", "search=gcnii"], []),
        ("deepgnn compare --base", ["--baseline "], []),
        ("deepgnn plan --vary ", ["layers", "hidden"], []),
    ],
)
def test_completions(line, there, absent, tmp_path):
    found = asked(line, tmp_path)
    assert set(there) <= set(found) and not set(absent) & set(found), found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_file(shell, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    assert run_command(["--install-completion"]) == 0
    path = Path(capsys.readouterr().out.split()[1].rstrip(";"))
    assert path.is_relative_to(tmp_path) and "deepgnn" in path.read_text()


def test_another_shell_is_refused(capsys):
    assert run_command(["--install-completion", "tcsh"]) == 2
    assert "one of bash, zsh, fish" in capsys.readouterr().err


TINY = ["dataset=csbm", "dataset.num_nodes=60", "device=cpu", "hidden=8", "trainer.max_epochs=2"]


def test_quiet_says_nothing_but_errors_and_verbose_what_is_logged(tmp_path, monkeypatch, capsys):
    for name in ("DEEPGNN_QUIET", "DEEPGNN_VERBOSE"):
        monkeypatch.setenv(name, "")
    assert run_command(["train", *TINY, f"output_dir={tmp_path}", "-q"]) == 0
    told = capsys.readouterr()
    assert told.out == told.err == ""
    assert run_command(["train", *TINY, f"output_dir={tmp_path}", "-q", "optimizer.lr=1e30"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and "diverged" in told.err
    assert run_command(["train", *TINY, f"output_dir={tmp_path}", "-v"]) == 0
    assert "ok after 2 epochs" in capsys.readouterr().err
    assert run_command(["train", *TINY, "-q", "-v"]) == 2


def test_the_help_of_train_is_short_and_names_every_group(capsys):
    from deepgnn_cli.config.groups import GROUPS

    assert run_command(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") < 40 and max(map(len, said.splitlines())) <= 110
    assert all(f"{group}=" in said for group in GROUPS)
