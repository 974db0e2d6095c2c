"""The search: fair, judged by validation, and the same however often it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.runfiles.files import read_csv

optuna = pytest.importorskip("optuna")

TINY = ["dataset=csbm", "dataset.num_nodes=60", "device=cpu", "hidden=8", "trainer.max_epochs=20", "layers=2"]
TINY += ["trainer.diagnostics=false", "optimizer.lr=log(1e-4,1e-1)", "drop.dropout=uniform(0,0.8)"]


def tune(root: Path, *words: str) -> int:
    return run_command(["tune", *TINY, f"output_dir={root}", *words])


def trials(root: Path) -> list[tuple[int, str, float | None, dict[str, float]]]:
    """What the storage keeps, arm by arm."""
    storage = f"sqlite:///{root / 'tune.db'}"
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return [(t.number, t.state.name, t.value, t.params) for study in studies for t in study.trials]


def test_each_arm_gets_its_trials_and_the_test_score_is_told_last(tmp_path, capsys):
    assert tune(tmp_path, "model=gcn,gcnii", "--trials", "2", "--seeds", "2", "seed=5") == 0
    said = capsys.readouterr().out
    assert "4 trials (2 for each of 2), 0 done before" in said and "[4/4] model=gcnii: validation" in said
    assert "test" not in said[: said.index("fresh seeds")].replace(str(tmp_path), "")
    assert said.count("test ") == 2 and "(n = 2)" in said
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    rows = read_csv(folder / "trials" / "results.csv")
    assert sorted(row["model"] for row in rows) == ["gcn", "gcn", "gcnii", "gcnii"]
    best = max(float(row["val_score"]) for row in rows if row["model"] == "gcn")
    assert f"model=gcn: validation {100 * best:.1f} %" in said[said.index("winners by validation") :]
    assert sorted(row["seed"] for row in read_csv(folder / "fresh" / "results.csv")) == ["6", "6", "7", "7"]


def test_more_trials_add_to_those_there_are(tmp_path, capsys):
    assert tune(tmp_path, "--trials", "2") == 0
    two = trials(tmp_path)
    assert tune(tmp_path, "--trials", "4") == 0
    assert trials(tmp_path)[:2] == two and len(trials(tmp_path)) == 4
    assert "4 trials, 2 done before" in capsys.readouterr().out
    assert tune(tmp_path, "--trials", "4", "--sampler-seed", "1") == 0
    assert len(trials(tmp_path)) == 8


def test_killed_and_resumed_it_is_the_same_search(tmp_path):
    words = ["--trials", "8", "trainer.checkpoint_every=1", "trainer.max_epochs=40"]
    assert tune(tmp_path / "whole", *words) == 0
    command = [sys.executable, "-m", "deepgnn_cli", "tune", *TINY, f"output_dir={tmp_path / 'killed'}", *words]
    for ended in (2, 5):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        for line in process.stdout:
            if line.startswith(f"[{ended}/"):
                break
        time.sleep(0.3)  # in the middle of the next trial, most likely
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert tune(tmp_path / "killed", *words) == 0
    assert trials(tmp_path / "killed") == trials(tmp_path / "whole") and len(trials(tmp_path / "whole")) == 8
    assert {"COMPLETE", "PRUNED"} == {state for _, state, _, _ in trials(tmp_path / "whole")}
    for root in (tmp_path / "whole", tmp_path / "killed"):
        (table,) = root.glob("tune-*/trials/results.csv")
        assert len(read_csv(table)) == 8


def test_a_trial_that_diverges_takes_no_other_along(tmp_path, capsys):
    words = [word for word in TINY if not word.startswith("optimizer.lr")] + [f"output_dir={tmp_path}"]
    assert run_command(["tune", *words, "optimizer.lr=0.01,1e30", "--trials", "6", "--sampler", "random"]) == 0
    said = capsys.readouterr().out
    assert "diverged after" in said and "[6/6]" in said
    assert "optimizer.lr=0.01" in said[said.index("winner by validation") :]


def test_two_at_a_time_are_refused(tmp_path, capsys):
    from filelock import FileLock

    with FileLock(tmp_path / "tune.db.lock"):
        assert tune(tmp_path, "--trials", "1") == 2
    assert "another `deepgnn tune` works in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--trials"),
        (["--trials", "0"], "at least 1"),
        (["--trials", "1", "--seeds", "-1"], "--seeds"),
        (["--trials", "1", "search=nope"], "there is no such search"),
        (["--trials", "1", "hidden=choice(8,x)"], "hidden"),
        (["--trials", "1", "drop.edge=choice(0,x)"], "drop.edge"),
        (["--trials", "1", "drop.input=uniform(0,2)"], "drop.input"),
        (["--trials", "1", "model=choice(gcn,gcnii)"], "compared, not searched"),
        (["--trials", "1", "optimizer.ll=log(1e-4,1)"], "optimizer.ll"),
        (["--trials", "1", "-m"], "leave it out"),
        (["--trials", "1", "--storage", "file.db"], "sqlite:///FILE"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(words, said, tmp_path, capsys):
    assert tune(tmp_path / "new", *words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "new").exists()
