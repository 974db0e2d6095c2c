"""The command on strange terminals: other encodings, closed streams, a reader that leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepgnn_cli.runfiles.files import read_csv
from tests.analysis.fake_runs import fake_run

TINY = [
    *("dataset=csbm", "dataset.num_nodes=60", "dataset.num_features=8", "hidden=8", "layers=2", "device=cpu"),
    *("trainer.max_epochs=2", "trainer.diagnostics=false"),
]


def deepgnn(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`deepgnn WORDS` under `bash`, with redirections as the shell writes them."""
    line = f'"$0" -m deepgnn_cli "$@" {shell}'
    command = ["bash", "-o", "pipefail", "-c", line, sys.executable, *words]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, timeout=120, check=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in range(3):
        fake_run(tmp_path / "runs" / str(seed), seed=seed, test_score=0.8 + seed / 100)
    return tmp_path / "runs"


@pytest.mark.parametrize("encoding", ["ascii", "latin1"])
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["ls"], ["ls", "dataset"], ["compare", "RUNS"]])
def test_what_an_encoding_lacks_is_replaced(encoding, words, runs):
    done = deepgnn(*[str(runs) if word == "RUNS" else word for word in words], PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr
    done.stdout.decode(encoding)


def test_a_run_on_an_ascii_terminal_says_how_it_ended(tmp_path):
    done = deepgnn("train", *TINY, f"output_dir={tmp_path / 'o'}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"test accuracy" in done.stdout, done.stderr


def test_warnings_as_errors_do_not_break_the_libraries(tmp_path):
    done = deepgnn("train", *TINY, f"output_dir={tmp_path / 'o'}", PYTHONWARNINGS="error")
    assert done.returncode == 0 and b"test accuracy" in done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_a_run_goes_on_without_its_streams(closed, tmp_path):
    done = deepgnn("train", *TINY, f"output_dir={tmp_path / 'o'}", shell=closed)
    (folder,) = (tmp_path / "o").iterdir()
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert read_csv(folder / "result.csv")[0]["status"] == "ok"


@pytest.mark.parametrize("words", [["compare", "RUNS"], ["ls", "dataset"], ["--help"]])
@pytest.mark.parametrize("shell", [">&-", "| true", "| head -n 1"])
def test_output_that_nobody_reads_ends_quietly(words, shell, runs):
    done = deepgnn(*[str(runs) if word == "RUNS" else word for word in words], shell=shell)
    assert not done.stderr, done.stderr


@pytest.mark.parametrize("words", [["train", *TINY], ["ls"], ["doctor"]])
def test_a_deleted_working_directory_is_one_line_or_no_matter(words, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'cd {gone} && rmdir {gone} && exec "$0" -m deepgnn_cli "$@"'
    done = subprocess.run(["bash", "-c", line, sys.executable, *words], capture_output=True, timeout=120, check=False)
    assert b"Traceback" not in done.stderr and done.stderr.count(b"\n") <= 1, done.stderr


@pytest.mark.parametrize("words", [["ls", "--nope"], ["doctor", "--nope"], ["compare", "--nope"], ["report", "--nope"]])
def test_a_wrong_flag_is_one_line_everywhere(words):
    done = deepgnn(*words)
    assert done.returncode == 2 and done.stderr.startswith(b"deepgnn: ") and done.stderr.count(b"\n") == 1, done.stderr
