"""Sweeps: no job takes another along, what was done is not done again, and the table says what happened."""

import gc
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config import sweep_words
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs import run as train
from deepgnn_cli.runs import sweep
from deepgnn_cli.runs.monitor import SweepMonitor
from deepgnn_cli.training.callbacks import CheckpointCallback
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.trainer import Trainer

TINY = [
    "dataset=csbm",
    "dataset.num_nodes=60",
    "dataset.num_features=8",
    "hidden=8",
    "device=cpu",
    "trainer.max_epochs=3",
    "trainer.diagnostics=false",
]


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def swept(folder: Path, *words: str) -> int:
    return run_command(["train", "-m", *TINY, f"output_dir={folder}", *words])


def sweeps(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)


def statuses(folder: Path) -> list[str]:
    return [row["status"] for row in read_csv(folder / "results.csv")]


def trained(monkeypatch) -> list[int]:
    """The depths of the runs that are trained from here on."""
    depths, fit = [], Trainer.fit

    def counting(self, progress, after_epoch):
        depths.append(len(self.model.stack.branches) if hasattr(self.model.stack, "branches") else 0)
        fit(self, progress, after_epoch)

    monkeypatch.setattr(Trainer, "fit", counting)
    return depths


def test_a_diverging_and_an_impossible_job_keep_every_other_row(tmp_path, monkeypatch, capsys):
    words = ["optimizer.lr=0.01,1e30", "residual.alpha=0.1,7", "residual=initial"]
    assert swept(tmp_path, *words) == 1
    (folder,) = sweeps(tmp_path)
    rows = read_csv(folder / "results.csv")
    assert len(rows) == 4 and [path.name for path in sorted(folder.glob("[0-9]"))] == list("0123")
    for row in rows:
        impossible, absurd = "residual.alpha=7" in row["overrides"], "lr=1e+30" in row["overrides"]
        assert row["status"] == ("failed" if impossible else "diverged" if absurd else "ok")
        assert bool(row["test_score"]) == (row["status"] == "ok")
        assert ("at most 1" in row["error"]) == impossible and ("loss" in row["error"]) == (row["status"] == "diverged")
    printed = capsys.readouterr().out
    assert f"4 jobs (2 optimizer.lr × 2 residual.alpha), here, one after the other; files in {folder}" in printed
    noted = json.loads((folder / "sweep.json").read_text())
    assert noted["total"] == 4 and [job["folder"] for job in noted["jobs"]] == list("0123")
    first = next(line for line in printed.splitlines() if line.startswith("[1/4]"))
    assert (
        f"validation {100 * float(rows[0]['val_score']):.1f} % test {100 * float(rows[0]['test_score']):.1f} %" in first
    )
    assert "[4/4] optimizer.lr=1e+30 residual.alpha=7: failed residual.alpha=7" in printed
    assert "4 jobs: 2 failed, 1 ok, 1 diverged" in printed and f"deepgnn compare {folder}" in printed
    table = printed[printed.index("job  optimizer") :].splitlines()
    assert table[0].split() == ["job", "optimizer.lr", "residual.alpha", "status", "validation", "test", "training"]
    assert table[1].split()[:4] == ["0", "0.01", "0.1", "ok"]
    for name in ("result.csv", "epochs.csv", "config.yaml", "status.json", "checkpoint.pt"):
        assert (folder / "0" / name).is_file()


def test_the_same_command_again_runs_only_what_is_missing(tmp_path, monkeypatch, capsys):
    assert swept(tmp_path, "seed=0,1,2") == 0
    (first,) = sweeps(tmp_path)
    shutil.rmtree(first / "2")
    (first / "results.csv").unlink()
    capsys.readouterr()
    counted = trained(monkeypatch)
    assert swept(tmp_path, "seed=0,1,2") == 0
    assert len(counted) == 1
    printed = capsys.readouterr().out
    assert "3 jobs: 2 finished before, 1 ok" in printed and "[1/3] seed=0: finished before" in printed
    (second,) = [each for each in sweeps(tmp_path) if each != first]
    # The new folder is complete by itself, and says of each run that it is the same one.
    assert statuses(second) == ["ok"] * 3
    assert read_csv(second / "0" / "result.csv") == read_csv(first / "0" / "result.csv")
    assert (second / "1" / "epochs.csv").read_bytes() == (first / "1" / "epochs.csv").read_bytes()
    assert history.read_status(second / "1")["finished_in"] == str(first / "1")
    counted.clear()
    assert swept(tmp_path, "seed=0", "skip_finished=false") == 0
    assert len(counted) == 1


def test_finished_runs_of_a_named_folder_are_not_repeated(tmp_path, monkeypatch):
    assert swept(tmp_path / "here", "seed=0,1") == 0
    counted = trained(monkeypatch)
    assert swept(tmp_path / "there", "seed=0,1,2", f"skip_finished=[{tmp_path / 'here'}]") == 0
    assert len(counted) == 1
    assert swept(tmp_path / "other", "seed=0,1", f"skip_finished={tmp_path / 'here'}") == 0
    assert len(counted) == 1
    assert swept(tmp_path / "wrong", "seed=0,1", "skip_finished=nowhere") == 2
    assert not (tmp_path / "wrong").exists()


def test_a_sweep_folder_named_twice_is_finished_in_place(tmp_path, monkeypatch):
    named = f"hydra.sweep.dir={tmp_path / 'mine'}"
    assert swept(tmp_path, "layers=2,3", named) == 0
    before = (tmp_path / "mine" / "0" / "result.csv").read_bytes()
    counted = trained(monkeypatch)
    assert swept(tmp_path, "layers=2,3,4", named) == 0
    assert len(counted) == 1 and (tmp_path / "mine" / "0" / "result.csv").read_bytes() == before
    # Other configurations under the same numbers lose nothing of the earlier ones.
    assert swept(tmp_path, "layers=5,6", named) == 0
    depths = sorted(int(row["layers"]) for row in read_csv(tmp_path / "mine" / "results.csv"))
    assert depths == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["layers=2,abc"], "layers=abc: layers must be a whole number"),
        (["model=gcn,gcnni"], "model=gcnni: there is no such model; did you mean 'gcnii'?"),
        (["layers=2,4", "optimizer.rate=1"], "optimizer.rate"),
        (["layers=2,4", "hiden=8"], "did you mean 'hidden'?"),
        (["layers=0,-1"], "layers=0: layers must be a whole number of at least 1"),
        (["layers=2,4", "resume=some/folder"], "resume=true"),
        (["layers=2,4", "hydra/launcher=jobless"], "there is no such plugin"),
        (["layers=interval(2,9)"], "interval"),
    ],
)
def test_wrong_words_exit_2_before_anything_is_written(tmp_path, capsys, words, told):
    assert swept(tmp_path / "new", *words) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_sweeps_started_in_the_same_second_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.setattr("deepgnn_cli.runfiles.record.datetime", _FrozenTime)
    assert swept(tmp_path, "seed=0,1") == 0
    assert swept(tmp_path, "seed=2,3") == 0
    assert sorted(row["seed"] for path in sweeps(tmp_path) for row in read_csv(path / "results.csv")) == list("0123")


def test_two_sweeps_at_once_below_one_folder_lose_nothing(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deepgnn_cli.runs.sweep"])
    words = ["train", "-m", *TINY, f"output_dir={tmp_path}", "seed=0,1,2"]
    both = [context.Process(target=run_command, args=(words,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    folders = sweeps(tmp_path)
    assert [statuses(folder) for folder in folders] == [["ok"] * 3] * 2
    assert [[row["seed"] for row in read_csv(folder / "results.csv")] for folder in folders] == [list("012")] * 2


class _FrozenTime:
    """Every now is the same."""

    from datetime import UTC, datetime

    moment = datetime(2020, 1, 1, tzinfo=UTC)

    @staticmethod
    def now(zone=None):
        return _FrozenTime.moment


def test_a_folder_in_use_is_refused_to_a_second_sweep(tmp_path, capsys):
    folder = tmp_path / "mine"
    with sweep.held(folder):
        assert swept(tmp_path, "seed=0,1", f"hydra.sweep.dir={folder}") == 2
    assert "another sweep" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_sweep_and_the_same_command_finishes_it(tmp_path, monkeypatch, capsys, number, code):
    after_epoch, seen = CheckpointCallback.after_epoch, []

    def interrupting(self, progress):
        seen.append(progress.epoch)
        if len(seen) == 5:  # the second epoch of the second job
            signal.raise_signal(number)
        after_epoch(self, progress)

    monkeypatch.setattr(CheckpointCallback, "after_epoch", interrupting)
    assert swept(tmp_path, "seed=0,1,2") == code
    monkeypatch.undo()
    (folder,) = sweeps(tmp_path)
    assert statuses(folder) == ["ok", "interrupted"]
    assert "1 ok, 1 interrupted, 1 not started" in capsys.readouterr().out
    epochs, fit = [], Trainer.fit
    monkeypatch.setattr(
        Trainer, "fit", lambda self, progress, after: (epochs.append(progress.epoch), fit(self, progress, after))
    )
    assert swept(tmp_path, "seed=0,1,2", "resume=true") == 0
    assert epochs == [2, 0]
    (again,) = [each for each in sweeps(tmp_path) if each != folder]
    assert statuses(again) == ["ok"] * 3


def test_a_signal_between_two_jobs_ends_the_sweep(tmp_path, monkeypatch):
    run = sweep.run

    def then_signal(plan, alone):
        outcome = run(plan, alone=alone)
        signal.raise_signal(signal.SIGTERM)
        return outcome

    monkeypatch.setattr(sweep, "run", then_signal)
    assert swept(tmp_path, "seed=0,1,2") == 143
    (folder,) = sweeps(tmp_path)
    assert statuses(folder) == ["ok"]


def test_the_memory_of_a_failed_job_is_freed_before_the_next(tmp_path, monkeypatch):
    """An out-of-memory error must not leave its model to the next job."""
    alive, epoch = [], Trainer.epoch

    def trainers():
        gc.collect()
        return sum(type(each) is Trainer for each in gc.get_objects())

    def failing(self, number):
        alive.append(trainers() - before)
        hoard = torch.zeros(1000, 1000)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError as error:
            raise RuntimeError(f"out of memory with {len(hoard)}") from error

    before = trainers()  # what pytest keeps of a test that failed
    monkeypatch.setattr(Trainer, "epoch", failing)
    assert swept(tmp_path, "seed=0,1,2") == 1
    monkeypatch.setattr(Trainer, "epoch", epoch)
    assert alive == [1, 1, 1]
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == (1000, 1000)]
    assert statuses(sweeps(tmp_path)[0]) == ["oom"] * 3


@pytest.mark.parametrize(("during", "status"), [("training", "failed"), ("diagnostics", "ok")])
def test_a_gpu_that_is_lost_keeps_its_row_ends_the_sweep_and_the_same_command_runs_the_rest(
    during, status, tmp_path, monkeypatch, capsys
):
    """After a device-side assert every call of CUDA's fails in this process."""
    fit, lost = Trainer.fit, []

    def asserting(self, progress, after_epoch):
        failing = self.settings.lr == 0.02
        if not failing or during == "diagnostics":
            fit(self, progress, after_epoch)
        if failing:
            lost.append(True)
        if failing and during == "training":
            raise RuntimeError("CUDA error: device-side assert triggered")

    def refusing(*_):
        if lost:
            raise RuntimeError("CUDA error: device-side assert triggered")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", asserting)
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "synchronize", refusing)
        patch.setattr(torch.cuda, "empty_cache", refusing)
        assert swept(tmp_path, "optimizer.lr=0.01,0.02,0.03,0.04") == 1
    (folder,) = sweeps(tmp_path)
    assert statuses(folder) == ["ok", status]
    printed = capsys.readouterr()
    assert "the GPU takes no more work from this process" in printed.err and "2 not started" in printed.out
    assert ("device-side assert" in read_csv(folder / "results.csv")[1]["error"]) == (status == "failed")
    assert swept(tmp_path, "optimizer.lr=0.01,0.02,0.03,0.04") == 0
    assert statuses(sweeps(tmp_path)[-1]) == ["ok"] * 4


def test_a_run_on_the_cpu_starts_no_cuda(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: started.append(True))
    words = ["trainer.diagnostics=true", "trainer.influence=4", "residual=reversible", "seed=0,1"]
    assert swept(tmp_path, *words) == 0
    assert not started


def test_a_job_killed_with_its_sweep_is_run_again(tmp_path, monkeypatch):
    """A folder that says running, but whose process is gone, is neither finished nor in the way."""
    assert swept(tmp_path, "seed=0,1") == 0
    (folder,) = sweeps(tmp_path)
    (folder / "1" / "result.csv").unlink()
    status = history.read_status(folder / "1") | {"status": "running", "pid": 2**22 + 1}
    (folder / "1" / "status.json").write_text(json.dumps(status))
    counted = trained(monkeypatch)
    assert swept(tmp_path, "seed=0,1") == 0
    assert len(counted) == 1


def test_a_running_job_is_not_resumed_by_another(tmp_path):
    assert swept(tmp_path, "seed=0,1") == 0
    (folder,) = sweeps(tmp_path)
    run = folder / "1"
    (run / "result.csv").unlink()
    digest = torch.load(run / "checkpoint.pt", weights_only=True)["config_hash"]
    status = history.read_status(run) | {"status": "running", "pid": os.getppid()}
    (run / "status.json").write_text(json.dumps(status))
    assert history.runs_now(run) and history.checkpoint_for("true", [tmp_path], digest) is None
    with pytest.raises(ValueError, match="still running"):
        history.checkpoint_for(str(run), [tmp_path], digest)
    (run / "status.json").write_text(json.dumps(status | {"pid": 2**22 + 1}))
    assert history.checkpoint_for("true", [tmp_path], digest) == run / "checkpoint.pt"


def test_a_folder_with_spaces_and_quotes_works(tmp_path):
    assert run_command(["train", "-m", *TINY, f'output_dir="{tmp_path}/my runs, it\'s"', "seed=0,1"]) == 0
    (folder,) = sweeps(tmp_path / "my runs, it's")
    assert statuses(folder) == ["ok", "ok"]


def test_a_sweep_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(["train", "-m", *TINY, "seed=0,1"]) == 0
    assert statuses(sweeps(tmp_path / "outputs")[0]) == ["ok", "ok"]


def test_a_full_disk_in_one_job_is_told_and_the_sweep_goes_on(tmp_path, monkeypatch, capsys):
    started = train.RunFolder.start

    def full(self, text):
        if self.path.name == "1":
            raise OSError(28, "No space left on device", str(self.path))
        started(self, text)

    monkeypatch.setattr(train.RunFolder, "start", full)
    assert swept(tmp_path, "seed=0,1,2") == 1
    printed = capsys.readouterr().out
    assert "2 ok, 1 failed" in printed and "No space left on device" in printed
    assert statuses(sweeps(tmp_path)[0]) == ["ok", "ok"]


def test_jobs_are_kept_under_the_users_own_names(tmp_path):
    assert swept(tmp_path, "layers=2,3", "hydra.sweep.subdir=depth${layers}") == 0
    (folder,) = sweeps(tmp_path)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["depth2", "depth3"]
    assert statuses(folder) == ["ok", "ok"]


def test_a_sweep_of_many_results_looks_at_each_file_once(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "result.csv").write_text("config_hash,status\nabc,ok\n")
    reads = []
    monkeypatch.setattr(history, "read_csv", lambda path: reads.append(path) or read_csv(path))
    history._outcomes.cache_clear()
    for _ in range(5):
        assert next(history.finished_runs([tmp_path], "other"), None) is None
    assert len(reads) == 300
    time.sleep(0.01)
    (tmp_path / "7" / "result.csv").write_text("config_hash,status\nother,ok\n")
    assert next(history.finished_runs([tmp_path], "other")) == tmp_path / "7"


def test_foreign_files_below_the_output_folder_end_no_job(tmp_path, capsys, within_a_minute):
    """Over-long, binary, torn, a folder and a pipe, each called `result.csv`."""
    for name in ("long", "binary", "torn", "folder", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "long" / "result.csv").write_text('config_hash,status\n"' + "x" * 200_000 + '",ok\n')
    (tmp_path / "binary" / "result.csv").write_bytes(bytes(range(256)))
    (tmp_path / "torn" / "result.csv").write_text("a,b\n1,2,3,4\n")
    (tmp_path / "folder" / "result.csv").mkdir()
    os.mkfifo(tmp_path / "pipe" / "result.csv")
    assert swept(tmp_path, "seed=0,1") == 0
    assert "2 jobs: 2 ok" in capsys.readouterr().out


def test_foreign_files_in_the_sweeps_own_folder_do_not_hide_its_table(tmp_path, capsys, within_a_minute):
    folder = tmp_path / "sweep"
    for name, content in (("torn", b"a,b\n1,2,3,4\n"), ("binary", bytes(range(256)))):
        (folder / name).mkdir(parents=True)
        (folder / name / "result.csv").write_bytes(content)
    os.mkfifo(folder / "result.csv")
    assert swept(tmp_path / "o", "seed=0,1", f"hydra.sweep.dir={folder}") == 0
    assert "2 jobs: 2 ok" in capsys.readouterr().out
    assert statuses(folder) == ["ok", "ok"]


def test_a_table_that_cannot_be_written_is_shown_all_the_same(tmp_path, capsys):
    folder = tmp_path / "sweep"
    (folder / "results.csv").mkdir(parents=True)  # in the way
    assert swept(tmp_path / "o", "seed=0,1", f"hydra.sweep.dir={folder}") in (0, 1)
    told = capsys.readouterr()
    assert "2 jobs: 2 ok" in told.out and "results.csv" in told.out + told.err


def test_a_sweep_says_that_it_lives_before_it_checks_its_values(tmp_path, monkeypatch, capsys):
    def check(axes):
        assert "checking" in capsys.readouterr().out
        raise ValueError("reached")

    monkeypatch.setattr(sweep_words, "validated", check)
    assert swept(tmp_path, "seed=0,1") == 2 and "reached" in capsys.readouterr().err


def test_an_empty_sweep_is_refused_in_one_line(tmp_path, capsys):
    for axis in ("layers=range(0)", "model=glob(nope*)"):
        assert swept(tmp_path, axis) == 2
        told = capsys.readouterr().err
        assert axis.split("=")[0] in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_task_takes_nothing_of_the_sweeps_process_to_another():
    task = sweep.JobTask(Stop(), SweepMonitor([], None))
    copy = pickle.loads(pickle.dumps(task))
    assert type(copy) is sweep.JobTask and copy._stop is copy._monitor is None


def test_a_key_that_one_of_the_swept_options_lacks_stops_the_sweep_before_its_first_job(tmp_path, capsys):
    words = [*TINY, "model=revgcn,gcn", "residual.groups=1,2", "seed=0,1", f"output_dir={tmp_path / 'new'}"]
    assert run_command(["train", "-m", *words]) == 2
    assert "residual.groups" in capsys.readouterr().err and not (tmp_path / "new").exists()
