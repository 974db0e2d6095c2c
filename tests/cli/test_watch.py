"""What goes on below a folder, by the files that runs leave."""

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from deepgnn_cli.analysis.watching import Watcher
from deepgnn_cli.cli.main import run_command
from deepgnn_cli.cli.watch import sparkline
from tests.analysis.fake_runs import fake_epochs, fake_run, fake_status


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def outputs(tmp_path):
    """A sweep of five jobs on this machine: one ok, one failed, one running, one killed, one not begun."""
    sweep, here = tmp_path / "sweep", {"pid": 1, "host": socket.gethostname()}
    run = {"model": "gcn", "dataset": "cora", "conv": "gcn", "norm": "pair", "layers": 4, "hidden": 8, "seed": 0}
    fold = {"overrides": "layers=4 dataset.fold=3"}
    fake_run(sweep / "0", val_score=0.75, test_score=0.71, train_seconds=20)
    fake_status(sweep / "0", status="ok", started=at(-100), updated=at(-80), run=run | {"layers": 2})
    fake_run(sweep / "1", status="failed", val_score="", test_score="")
    fake_status(sweep / "1", status="failed", error="no memory", started=at(-80), updated=at(-79), run=run)
    fake_status(sweep / "2", status="running", started=at(-60), updated=at(-10), run=run | fold, **here)
    fake_epochs(sweep / "2", [0.9, 0.8, 0.5, 0.6, 0.4])
    (sweep / "2" / "config.yaml").write_text("trainer: {max_epochs: 14}\n")
    fake_status(
        sweep / "3", status="running", started=at(-60), updated=at(-10), run=run, pid=2**22 + 1, host=here["host"]
    )
    jobs = [{"folder": str(i), "overrides": [f"layers={depth}"]} for i, depth in enumerate([2, 4, 4, 4, 8])]
    content = {"status": "running", **here, "started": at(-101), "total": 5, "axes": ["layers"], "jobs": jobs}
    (sweep / "sweep.json").write_text(json.dumps(content))
    return tmp_path


def test_a_survey_counts_jobs_and_reads_curves(outputs):
    survey = Watcher(outputs).survey()
    (sweep,), (run,) = survey.sweeps, survey.running
    assert sweep.states == {"ok": 1, "failed": 1, "running": 1, "killed": 1, "not started": 1}
    assert (sweep.ended, sweep.failed, sweep.total, sweep.live) == (3, 2, 5, True)
    assert run.label == "gcn · cora · pair · fold=3 · 4 × 8 · seed 0" and run.epoch == 4 and run.max_epochs == 14
    assert run.curves["train_loss"] == (0.9, 0.8, 0.5, 0.6, 0.4) and run.best_val == pytest.approx(0.7)
    assert run.seconds_left == pytest.approx(50 / 4 * 10, rel=0.02)
    assert {one.status for one in survey.ended} == {"ok", "failed", "killed"}


def test_time_left_follows_depth_and_the_clock(outputs):
    # One job of 2 layers took 20 s of training; the last end is 10 s ago. 4 and 8 layers are left.
    (sweep,) = Watcher(outputs).survey().sweeps
    assert sweep.left == pytest.approx(30 + 50 - 10, abs=3)


def test_a_run_that_has_ended_is_read_once_and_again_when_it_changes(outputs):
    watcher = Watcher(outputs)
    watcher.survey()
    folder = outputs / "sweep" / "0"
    (folder / "result.csv").unlink()
    assert [run.row["test_score"] for run in watcher.survey().ended if run.folder == folder] == ["0.71"]
    fake_status(folder, status="interrupted", updated=at(0))
    assert [run.status for run in watcher.survey().ended if run.folder == folder] == ["interrupted"]


def test_it_prints_once_where_there_is_no_terminal(outputs, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    assert run_command(["watch", str(outputs)]) == 0
    said = capsys.readouterr().out
    assert "3 of 5 jobs done, 1 running, 2 failed, about" in said
    assert "4/14" in said and "75.0 %" in said and "71.0 %" in said and "no memory" in said


def test_an_empty_folder_says_that_nothing_runs(tmp_path, capsys):
    assert run_command(["watch", str(tmp_path)]) == 0
    assert "nothing runs" in capsys.readouterr().out


def test_what_cannot_be_read_is_passed_over(outputs):
    (outputs / "sweep" / "sweep.json").write_text("{")
    (outputs / "sweep" / "2" / "epochs.csv").write_text("epoch,val_score\n1\n")
    (outputs / "sweep" / "0" / "status.json").write_text("[]")
    survey = Watcher(outputs).survey()
    assert not survey.sweeps and survey.running[0].epoch == 0


@pytest.mark.parametrize(
    ("values", "bars"),
    [((), ""), ((1.0,), "▁"), ((0, 1, 2, 3, 4, 5, 6, 7), "▁▂▃▄▅▆▇█"), ((float("nan"), 0, 1), "▁█"), ((2, 2), "▁▁")],
)
def test_a_curve_is_drawn_from_its_lowest_to_its_highest(values, bars):
    assert sparkline(values) == bars
    assert len(sparkline([float(i) for i in range(999)])) == 20


@pytest.mark.parametrize(("words", "said"), [(["nowhere"], "no such folder"), ([".", "--every", "0"], "--every")])
def test_a_mistake_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(["watch", *words]) == 2
    assert said in capsys.readouterr().err


def test_watching_needs_no_torch(tmp_path):
    code = f"import sys; from deepgnn_cli.cli.main import run_command\nrun_command(['watch', {str(tmp_path)!r}])\n"
    code += "assert not {'torch', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
