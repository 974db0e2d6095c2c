"""A run that is killed, stopped or out of disk, and goes on, ends as one that never was."""

import csv
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.validate import checked
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.plan import Plan, plan_for
from deepgnn_cli.runs.run import run as do_run
from deepgnn_cli.training.callbacks import CheckpointCallback
from deepgnn_cli.training.checkpoint import sealed

EPOCHS, KILLS = 170, 24
# Dropout, batch statistics, early stopping's state, a warm-up: all that a run carries from epoch to epoch.
RUN = [
    "dataset=csbm",
    "dataset.num_nodes=60",
    "dataset.num_features=8",
    "model=gcnii",
    "layers=3",
    "hidden=8",
    "norm=batch",
    "device=cpu",
    "optimizer.lr=0.003",
    "trainer.warmup_epochs=20",
    "trainer.patience=null",
    "trainer.checkpoint_every=1",
]


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def plan(folder: Path, *more: str) -> Plan:
    words = [*RUN, f"output_dir={folder}", *more]
    return plan_for(checked(words), skip=False)


def only(folder: Path) -> Path:
    (run,) = [path for path in folder.iterdir() if path.is_dir()]
    return run


def check_whole(run: Path) -> None:
    """No file of the run is torn."""
    for path in run.iterdir():
        if path.name.startswith("."):
            continue  # what a kill left of a write that was not finished: nothing reads it
        if path.suffix == ".csv":
            text = path.read_text()
            rows = list(csv.reader(text.splitlines()))
            assert text.endswith("\n") and len({len(row) for row in rows}) == 1, path
        elif path.suffix == ".json":
            assert json.loads(path.read_text())["pid" if path.name == "status.json" else "homophily"]
        elif path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())["hidden"] == 8
        elif path.suffix == ".pt":
            assert sealed(path) and torch.load(path, weights_only=True)


def assert_same(one, other, path=""):
    """Equal to the last bit, tensors and containers alike."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            if key not in ("run_id", "train_seconds", "step_seconds"):
                assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}.{index}")
    else:
        assert one == other, path


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimiser, generators, scores, diagnostics and every epoch: all but the times."""
    states = [torch.load(run / "checkpoint.pt", weights_only=True) for run in (one, other)]
    for state in states:
        state["progress"]["epochs"] = [epoch[:-1] for epoch in json.loads(state["progress"]["epochs"])]
    assert_same(*states)
    assert_same(*[torch.load(run / "best.pt", weights_only=True) for run in (one, other)])
    assert_same(*[read_csv(run / "epochs.csv") for run in (one, other)])
    assert (one / "layers.csv").read_bytes() == (other / "layers.csv").read_bytes()
    kept = ("train_score", "val_score", "test_score", "val_loss", "best_epoch", "epochs", "status", "config_hash")
    rows = [read_csv(run / "result.csv")[0] for run in (one, other)]
    assert [rows[0][key] for key in kept] == [rows[1][key] for key in kept]


def start(planned: Plan):
    """The run in a process of its own, forked from a server that has torch imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deepgnn_cli.runs.run"])
    process = context.Process(target=do_run, args=(planned,))
    process.start()
    return process


def wait_for_epoch(run: Path, process, epoch: int) -> None:
    while process.is_alive():
        status = history.read_status(run)
        if status.get("pid") == process.pid and (status["epoch"] or 0) >= epoch:
            return
        time.sleep(0.001)


def test_a_run_killed_at_many_moments_and_resumed_equals_an_undisturbed_one(tmp_path):
    words = [f"trainer.max_epochs={EPOCHS}"]
    undisturbed = plan(tmp_path / "undisturbed", *words)
    start(undisturbed).join()

    draw = random.Random(0)
    planned, killed, run = plan(tmp_path / "killed", *words), 0, None
    while True:
        process = start(planned)
        run = run or planned.folder
        if killed < KILLS:
            # Before a process has its handlers only SIGKILL is sure to be heard.
            signals = [signal.SIGKILL]
            if draw.random() < 0.8:
                done = history.read_status(run).get("epoch") or 0
                wait_for_epoch(run, process, done + draw.randint(1, 4))
                signals += [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
            time.sleep(draw.random() * 0.03)
            os.kill(process.pid, draw.choice(signals))
        process.join()
        if run.is_dir():
            check_whole(run)
            if history.outcomes(run / "result.csv") and read_csv(run / "result.csv")[0]["status"] == "ok":
                break
        assert killed < KILLS
        killed += 1
        planned = plan(tmp_path / "killed", *words, "resume=true")
        assert planned.resume is None or planned.folder == run
        run = planned.folder
    assert killed >= 20
    assert_same_run(undisturbed.folder, run)
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_can_be_resumed(tmp_path, monkeypatch, capsys, number, code):
    after_epoch = CheckpointCallback.after_epoch

    def interrupting(self, progress):
        if progress.epoch == 7:
            signal.raise_signal(number)
        after_epoch(self, progress)

    words = [*RUN, "trainer.max_epochs=12", "trainer.checkpoint_every=0"]
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(CheckpointCallback, "after_epoch", interrupting)
    assert run_command(["train", *words, f"output_dir={tmp_path / 'a'}"]) == code
    monkeypatch.undo()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    run = only(tmp_path / "a")
    (row,) = read_csv(run / "result.csv")
    assert row["status"] == history.read_status(run)["status"] == "interrupted"
    assert row["epochs"] == "7" and len(read_csv(run / "epochs.csv")) == 7
    assert torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["best"]
    assert "resume=true" in capsys.readouterr().out
    assert run_command(["train", *words, f"output_dir={tmp_path / 'a'}", "resume=true"]) == 0
    assert run_command(["train", *words, f"output_dir={tmp_path / 'b'}"]) == 0
    assert only(tmp_path / "a") == run
    assert read_csv(run / "result.csv")[0]["run_id"] == row["run_id"]
    assert_same_run(run, only(tmp_path / "b"))


def fill(folder: Path) -> None:
    """Leave next to no room."""
    with (folder / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True).returncode
    ):
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_one_clear_line_and_the_last_checkpoint_stays_good(small_disk, monkeypatch, capsys):
    after_epoch = CheckpointCallback.after_epoch

    def filling(self, progress):
        if progress.epoch == 5:
            fill(small_disk)
        after_epoch(self, progress)

    words = [*RUN, "trainer.max_epochs=9"]
    monkeypatch.setattr(CheckpointCallback, "after_epoch", filling)
    assert run_command(["train", *words, f"output_dir={small_disk}"]) == 1
    monkeypatch.undo()
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "No space left on device" in line]
    assert len(lines) == 1 and str(small_disk) in lines[0] and "Traceback" not in said.err
    run = only(small_disk)
    check_whole(run)
    assert not list(run.glob(".*.tmp"))
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert len(json.loads(saved["progress"]["epochs"])) == 4
    (small_disk / "ballast").unlink()
    assert run_command(["train", *words, f"output_dir={small_disk}", "resume=true"]) == 0
    assert run_command(["train", *words, f"output_dir={small_disk / 'new'}"]) == 0
    assert_same_run(run, only(small_disk / "new"))


def test_a_disk_that_fails_to_sync_leaves_the_last_checkpoint_good(tmp_path, monkeypatch, capsys):
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert run_command(["train", *RUN, "trainer.max_epochs=9", f"output_dir={tmp_path}"]) == 1
    said = capsys.readouterr()
    assert "No space left on device" in said.err and len(said.err.splitlines()) == 1
    check_whole(only(tmp_path))
    assert torch.load(only(tmp_path) / "checkpoint.pt", weights_only=True)["progress"]["epochs"]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(["train", *RUN, "trainer.max_epochs=1", f"output_dir={tmp_path / 'file' / 'below'}"]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and len(said.splitlines()) == 1


def test_a_finished_run_is_not_resumed_and_keeps_its_files(tmp_path, capsys):
    words = ["train", *RUN, "trainer.max_epochs=3", f"output_dir={tmp_path}"]
    assert run_command(words) == 0
    run = only(tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    assert run_command([*words, f"resume={run}"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and not told.out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_checkpoint_that_cannot_be_read_is_named_when_the_run_starts_anew(content, tmp_path, capsys):
    words = ["train", *RUN, "trainer.max_epochs=40", f"output_dir={tmp_path}"]
    process = start(plan(tmp_path, "trainer.max_epochs=40"))
    while process.is_alive() and not list(tmp_path.glob("*/checkpoint.pt")):
        time.sleep(0.01)
    process.kill()
    process.join()
    run = only(tmp_path)
    (run / "checkpoint.pt").write_bytes(content)
    assert run_command([*words, "resume=true"]) in (0, 2)
    told = capsys.readouterr()
    assert "checkpoint" in told.out + told.err and run.name in told.out + told.err


def test_two_processes_do_not_go_on_with_one_run(tmp_path, capsys):
    words = ["train", *RUN, "trainer.max_epochs=400", f"output_dir={tmp_path}"]
    process = start(plan(tmp_path, "trainer.max_epochs=400"))
    while process.is_alive() and not list(tmp_path.glob("*/checkpoint.pt")):
        time.sleep(0.01)
    process.kill()
    process.join()
    run = only(tmp_path)
    with FileLock(run / ".lock"):
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        assert run_command([*words, f"resume={run}"]) == 2
        assert "another process goes on" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
