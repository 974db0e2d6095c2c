"""The launchers of other processes: a killed job costs one job; threads, GPUs and scores reach where they should."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config import sweep_words
from deepgnn_cli.runfiles.environment import out_of_memory_kills
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.runfiles.status import read_status
from deepgnn_cli.runs import launchers, sweep
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.monitor import JobState
from deepgnn_cli.runs.plan import Outcome

TINY = [
    "dataset=csbm",
    "dataset.num_nodes=60",
    "dataset.num_features=8",
    "hidden=8",
    "device=cpu",
    "trainer.patience=null",
    "trainer.diagnostics=false",
]
# Long enough to be caught in the middle, whatever the machine.
LONG = 100_000


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def test_workers_share_the_cores():
    assert [launchers.threads_each(8, n) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_jobs_take_turns_on_the_gpus(monkeypatch):
    turns = [launchers.gpus_of(job, ["0", "1", "2"], 1) for job in range(5)]
    assert turns == [["0"], ["1"], ["2"], ["0"], ["1"]]
    assert launchers.gpus_of(3, ["0"], 1) == launchers.gpus_of(3, [], 1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert launchers.visible_gpus() == ["4", "7"]
    launchers.pin(3, "cuda:1", 1)
    launchers.pin(3, "auto", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"  # the user chose; it wants them all
    launchers.pin(3, "auto", 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    launchers.pin(4, "auto", 1)  # a worker that is used again stays where CUDA started
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_run_of_two_processes_gets_two_gpus_and_a_worker_keeps_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    launchers.pin(1, "cuda", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("DEEPGNN_WORKER", "2")
    launchers.pin(9, "auto", 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(
    ("package", "place"), [(p, each) for p, places in launchers.REPLACED.items() for each in places]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_is_replaced_in_other_packages_is_still_there(package, place):
    module, _, path = place.partition(":")
    part = pytest.importorskip(module)
    for name in path.split("."):
        assert hasattr(part, name), (
            f"{package} {version(package)} has no {module}:{path} any more; see runs/launchers.py"
        )
        part = getattr(part, name)
    assert callable(part)


def test_a_slot_renews_a_killed_worker_and_the_other_tasks_go_on():
    pytest.importorskip("joblib")
    tasks = [(abs, (-number,), {}) for number in range(4)]
    tasks.insert(1, (os._exit, (9,), {}))
    outcomes = launchers.OneWorkerPools(n_jobs=2)(tasks)
    assert [outcomes[index] for index in (0, 2, 3, 4)] == [0, 1, 2, 3]
    assert outcomes[1].status.name == "FAILED"


def kill_job(root: Path, number: int) -> threading.Thread:
    """Kill -9 the process of a job as soon as it trains."""

    def wait() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            for path in root.glob(f"*/{number}/checkpoint.pt"):
                os.kill(history.read_status(path.parent)["pid"], signal.SIGKILL)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_slot_whose_gpu_is_lost_gets_a_new_process_for_its_next_job():
    joblib = pytest.importorskip("joblib")
    tasks = [joblib.delayed(_lost)(lost) for lost in (False, True, False)]
    pids = [outcome._return_value.train_seconds for outcome in launchers.OneWorkerPools(1)(tasks)]
    assert pids[0] == pids[1] != pids[2]


def _lost(lost):
    outcome = JobReturn()
    outcome.status = JobStatus.COMPLETED
    outcome.return_value = JobState("failed", train_seconds=os.getpid(), gpu_lost=lost)
    return outcome


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
        ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false"]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_job_killed_from_outside_costs_one_job(tmp_path, capsys, plugin, words):
    pytest.importorskip(f"hydra_plugins.{plugin}")
    command = ["train", "-m", *TINY, f"output_dir={tmp_path}", *words]
    # The second job would never end by itself; a third cannot work.
    impossible = plugin == "hydra_joblib_launcher"
    command += [f"trainer.max_epochs=2,{LONG}{',0' * impossible}", "trainer.checkpoint_every=1"]
    killer = kill_job(tmp_path, 1)
    assert run_command(command) == 1
    killer.join()
    (folder,) = tmp_path.iterdir()
    rows = read_csv(folder / "results.csv")
    assert [row["status"] for row in rows] == ["ok", "killed", "failed"][: 2 + impossible]
    assert "killed from outside" in rows[1]["error"]
    assert rows[1]["run_id"] == history.read_status(folder / "1")["run"]["run_id"]
    printed = capsys.readouterr().out
    assert f"trainer.max_epochs={LONG}: killed its process was killed from outside" in printed
    assert ("1 ok, 1 killed, 1 failed" if impossible else "1 ok, 1 killed") in printed

    # The same command runs only what is missing; in this process, where the jobs can be counted.
    if impossible:
        ran = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweep, "run", lambda plan, alone: ran.append(plan) or Outcome("failed", "not run"))
            run_command([word for word in command if "launcher" not in word])
        assert [plan.values["trainer"]["max_epochs"] for plan in ran] == [LONG]
    _end_ray(plugin)


def _end_ray(plugin: str) -> None:
    if plugin == "hydra_ray_launcher":
        import ray

        ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_signal_stops_the_workers_at_their_next_epoch(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")

    ended = threading.Event()

    def interrupt() -> None:
        while not ended.wait(0.02):
            if len(list(tmp_path.glob("*/*/checkpoint.pt"))) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    words = [*TINY, f"output_dir={tmp_path}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words += ["seed=0,1,2", f"trainer.max_epochs={LONG}", "trainer.checkpoint_every=1"]
    code = run_command(["train", "-m", *words])
    ended.set()
    thread.join()
    assert code == 143
    (folder,) = tmp_path.iterdir()
    assert [row["status"] for row in read_csv(folder / "results.csv")] == ["interrupted"] * 2
    assert json.loads((folder / "0" / "status.json").read_text())["error"] == "stopped by SIGTERM"


def test_a_launcher_that_is_not_installed_names_its_extra(tmp_path, capsys, monkeypatch):
    from hydra.errors import MissingConfigException

    def missing(words):
        raise MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_slurm")

    monkeypatch.setattr(sweep_words, "compose", missing)
    assert run_command(["train", "-m", *TINY, f"output_dir={tmp_path / 'new'}", "hydra/launcher=submitit_slurm"]) == 2
    assert "pip install 'deepgnn[slurm]'" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_workers_end_with_a_sweep_that_is_killed(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["train", "-m", *TINY, f"output_dir={tmp_path}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words += ["seed=0,1", f"trainer.max_epochs={LONG}", "trainer.checkpoint_every=1"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "deepgnn_cli", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        workers = wait_for(lambda: [read_status(p.parent).get("pid") for p in tmp_path.glob("*/*/checkpoint.pt")], 2)
    finally:
        sweep.kill()
        sweep.wait()
    wait_for(lambda: [pid for pid in workers if not psutil.pid_exists(pid)], 2)
    statuses = {read_status(path.parent)["status"] for path in tmp_path.glob("*/*/status.json")}
    assert statuses == {"interrupted"}  # saved, as by SIGTERM


def wait_for(found, count):
    deadline = time.monotonic() + 240
    while len(now := found()) < count:
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    return now


def test_the_kernels_own_kills_are_told_from_others(tmp_path):
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 5\noom_kill 7\noom_kill_other 9\n")
    assert out_of_memory_kills(counters) == 7 and out_of_memory_kills(tmp_path / "absent") == 0
