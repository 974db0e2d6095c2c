"""Several gloo processes on one graph: what they compute together, and how they end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.batches import parts
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.training.distributed import ALONE, End, Ranks, _cause, place
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.trainer import Settings, Trainer
from tests.conftest import N, undirected

KNOBS = {"train_parts": 2, "eval_parts": 1, "views": 1, "evaluate_on": "device"}
SETTINGS = Settings(3, None, "val_loss", 1, 0, None, "none", "auto", 0.1)
CPU = torch.device("cpu")


def problem() -> Graph:
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(N, 5, generator=draw), torch.arange(N) % 3
    masks = [torch.arange(N) % 3 == k for k in range(3)]
    return Graph("ring", "thirds", x.double(), undirected(), y, 3, *masks)


class Small(nn.Module):
    """Two layers with a batch norm between them, `relu(BN(x W1)) W2` after one sum over the neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, graph: Adjacency) -> torch.Tensor:
        return self.last(self.norm(self.first(x + graph.operator("sum", x.dtype)(x))).relu())


def trainer(ranks: Ranks) -> Trainer:
    torch.manual_seed(7)
    model, graph = Small().double(), problem()
    mine = parts(graph, seed=0, rank=ranks.rank, world=ranks.world, **KNOBS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, InputLoader(graph, mine, CPU), optimizer, objective("accuracy"), SETTINGS, ranks)


WORKER = """
import os, sys, torch
from pathlib import Path
from deepgnn_cli.training.distributed import join
from tests.training.test_distributed import trainer
ranks = join(False)
one = trainer(ranks)
one.train_step(next(iter(one.loader.train(1))))
gradients = [p.grad.clone() for p in one.model.parameters()]
ranks.average_buffers(one.model)
agreed = ranks.agree(ranks.rank + 4), ranks.largest(ranks.rank), ranks.mean(float(ranks.rank))
weights = [p.detach() for p in one.model.parameters()]
torch.save([gradients, weights, dict(one.model.named_buffers()), agreed], Path(sys.argv[1]) / f"{ranks.rank}.pt")
torch.distributed.barrier()
os._exit(0)  # gloo's threads may abort a rank whose peer has ended before it
"""


def test_a_step_of_two_ranks_is_the_average_of_their_parts(tmp_path: Path) -> None:
    environment = os.environ | {"WORLD_SIZE": "2", "DEEPGNN_STORE": str(tmp_path / "store")}
    ranks = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], env=environment | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    one = trainer(ALONE)
    start = [parameter.detach().clone() for parameter in one.model.parameters()]
    gradients, buffers = [], []
    for inputs in one.loader.train(1):
        model = Small().double()
        model.load_state_dict(dict(trainer(ALONE).model.state_dict()))
        nn.functional.cross_entropy(model(inputs.x, inputs.graph)[inputs.train], inputs.y[inputs.train]).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        buffers.append(dict(model.named_buffers()))
    assert len(gradients) == 2
    for rank in range(2):
        for got, first, second in zip(found[rank][0], *gradients, strict=True):
            torch.testing.assert_close(got, (first + second) / 2)
        for got, weight, first, second in zip(found[rank][1], start, *gradients, strict=True):
            torch.testing.assert_close(got, weight - 0.1 * (first + second) / 2)
        for name in ("norm.running_mean", "norm.running_var"):
            torch.testing.assert_close(found[rank][2][name], (buffers[0][name] + buffers[1][name]) / 2)
        assert found[rank][3] == (4, 1, 0.5)  # rank 0's word, the largest, the mean


def test_alone_nothing_is_exchanged() -> None:
    module = nn.Linear(2, 2)
    assert ALONE.share(module) is module and ALONE.agree(3) == ALONE.largest(3) == 3 and ALONE.mean(0.5) == 0.5
    assert place({}) is place({"RANK": "0", "WORLD_SIZE": "1"}) is ALONE
    assert place({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Ranks(3, 8, 1)


def test_a_signal_that_comes_while_the_ranks_compare_is_not_lost() -> None:
    stop = Stop()

    def interrupted(number: int) -> int:
        stop.number = signal.SIGTERM  # as the handler sets it
        return number

    assert not stop.share(interrupted)  # the others have not heard of it
    assert stop.share(lambda number: number)
    other = Stop()
    assert other.share(lambda number: max(number, signal.SIGINT)) and other.number == signal.SIGINT


def test_the_first_failure_is_the_cause() -> None:
    lost = End("failed", "connection lost", at=2.0)
    assert _cause([lost, End("oom", "no memory", at=1.0)], [1, 1]).status == "oom"
    assert "process 1 of 2 was killed by SIGKILL" in str(_cause([lost, None], [1, -signal.SIGKILL]).error)
    assert _cause([None, End("failed", "x", at=1.0)], [None, 1]).error == "x"
    assert _cause([End("interrupted", "stopped"), lost], [0, 1]).status == "interrupted"
    assert _cause([End("ok"), None], [0, None]).status == "ok"
    assert "SIGABRT" not in str(_cause([None, End("oom", "x", at=1.0)], [-signal.SIGABRT, 1]).error)


TINY = ["dataset=csbm", "dataset.num_nodes=120", "dataset.average_degree=4", "dataset.num_features=8", "hidden=8"]
TWO = ["batch=parts", "batch.train_parts=2", "batch.eval_parts=1", "trainer.processes=2", "device=cpu"]


def test_two_processes_leave_one_row_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *TINY,
        *TWO,
        "model=revgcn",
        "norm=batch",
        "layers=3",
        "drop=none",
        "trainer.max_epochs=25",
        f"output_dir={tmp_path}",
    ]
    assert run_command(["train", *words]) == 0
    (folder,) = tmp_path.iterdir()
    with (folder / "result.csv").open() as file:
        (row,) = csv.DictReader(file)
    with (folder / "epochs.csv").open() as file:
        losses = [float(epoch["train_loss"]) for epoch in csv.DictReader(file)]
    assert (row["status"], row["epochs"], row["device"]) == ("ok", "25", "cpu")
    assert len(losses) == 25 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert json.loads((folder / "status.json").read_text())["status"] == "ok"
    assert {"layers.csv", "memory.csv", "checkpoint.pt"} <= {path.name for path in folder.iterdir()}
    assert capsys.readouterr().out.count("test accuracy") == 1


def test_torchrun_starts_the_same_run(tmp_path: Path) -> None:
    words = [*TINY, *TWO[:-2], "device=cpu", "model=gcn", "layers=2", "trainer.max_epochs=4", f"output_dir={tmp_path}"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, "-m", "deepgnn_cli", "train", *words], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    with (folder / "result.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "ok" and done.stdout.count("test accuracy") == 1
    assert "processes: 2" in (folder / "config.yaml").read_text()


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run beside the test; its ranks end with it."""
    run = subprocess.Popen([sys.executable, "-m", "deepgnn_cli", "train", *words], stdout=subprocess.DEVNULL)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def wait_for(run: subprocess.Popen[bytes], root: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(root.glob(pattern)):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def ended(folder: Path) -> tuple[str, str]:
    """Status and error, of which the row and the status file say the same."""
    status = json.loads((folder / "status.json").read_text())
    with (folder / "result.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["error"]) == (status["status"], status["error"]) and float(row["val_score"]) >= 0
    return row["status"], row["error"]


def test_one_that_is_killed_ends_all(tmp_path: Path) -> None:
    words = [*TINY, *TWO, "model=gcn", "layers=2", "trainer.max_epochs=1000000", "trainer.patience=null"]
    with running(*words, f"output_dir={tmp_path}", "trainer.checkpoint_every=5") as run:
        wait_for(run, tmp_path, "*/checkpoint.pt")
        ranks = children(run.pid)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        assert run.wait(60) == 1
    (folder,) = tmp_path.iterdir()
    assert ended(folder) == ("failed", "process 1 of 2 was killed by SIGKILL; is there enough memory?")
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


def children(pid: int) -> list[int]:
    """The ranks of a run, in order: its processes but for multiprocessing's own."""
    psutil = pytest.importorskip("psutil")
    found = psutil.Process(pid).children()
    return [child.pid for child in found if any("spawn_main" in word for word in child.cmdline())]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.processes=2"], "use batch=parts"),
        (["trainer.processes=3", "batch=parts", "batch.train_parts=4"], "try 6"),
        (["trainer.processes=2", "batch=parts", "device=cuda"], "CUDA device"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_loaded(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["train", "dataset=ogbn_arxiv", f"output_dir={tmp_path}/runs", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_mistake_found_by_the_ranks_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=ogbn_arxiv", f"data_dir={tmp_path}/data", f"output_dir={tmp_path}/runs", *TWO]
    assert run_command(["train", *words, "model=gcn", "layers=2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_signal_ends_all_and_the_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    words = [*TINY, *TWO, "model=gcn", "layers=2", "norm=batch", "trainer.max_epochs=120", "trainer.patience=null"]
    words += ["trainer.checkpoint_every=3", "trainer.diagnostics=false"]
    train = [sys.executable, "-m", "deepgnn_cli", "train", *words]
    subprocess.run([*train, f"output_dir={tmp_path}/whole"], check=True, stdout=subprocess.DEVNULL)
    with running(*words, f"output_dir={tmp_path}/two") as run:
        wait_for(run, tmp_path / "two", "*/checkpoint.pt")
        ranks = children(run.pid)
        run.terminate()
        assert run.wait(60) == 143
    (folder,) = (tmp_path / "two").iterdir()
    assert ended(folder) == ("interrupted", "stopped by SIGTERM")
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    again = subprocess.run([*train, f"output_dir={tmp_path}/two", "resume=true"], stdout=subprocess.DEVNULL)
    assert again.returncode == 0
    tables = []
    for name in ("whole", "two"):
        (folder,) = (tmp_path / name).iterdir()
        with (folder / "epochs.csv").open() as file:
            tables.append([{**epoch, "step_seconds": ""} for epoch in csv.DictReader(file)])
    assert len(tables[0]) == 120 and tables[0] == tables[1]
