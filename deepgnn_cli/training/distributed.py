"""The processes that train one model together, as each of them sees it.

`in_processes` starts them, watches over them and says how the run ended; the process that calls it takes no part in
the training. It passes signals on to rank 0, which decides with the others when to stop; a rank that fails ends all,
and none is left behind.

Every rank has its own batches and a copy of the model; torch's DistributedDataParallel averages the gradients, so
all copies stay the same. Rank 0 evaluates, writes the files and decides; `ALONE` is a run of one process, for which
everything here costs nothing.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from deepgnn_cli.runfiles.files import write_json
from deepgnn_cli.training.errors import line_of, status_of
from deepgnn_cli.training.signals import Stop

# A rank that has died is noticed at once, by its closed connections. This is for one that lives and does not answer;
# rank 0 may evaluate a large graph on the CPU for long while the others wait for it.
_PATIENCE = timedelta(minutes=30)
_LOOK_SECONDS = 0.2
# What a rank may take to end after rank 0 has ended or another has failed.
_GRACE_SECONDS = 15.0
# What all ranks do together: none is left waiting for another.
_AGREED = ("ok", "interrupted", "diverged")


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `world`; `local` is its place among those of its machine, which chooses its GPU."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, module: nn.Module) -> nn.Module:
        """`module` such that a backward pass through it gives every rank the mean of all gradients.

        Buffers are left alone: `average_buffers` sees to them. Every trainable parameter must get a gradient in
        every step, as all of this package's models give theirs.
        """
        if self.world == 1:
            return module
        # torch 2.13 gave the switch another name.
        names = inspect.signature(DistributedDataParallel.__init__).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        off: dict[str, Any] = {switch: False}
        # Views: the averaged gradients are not kept twice.
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **off)

    def average_buffers(self, module: nn.Module) -> None:
        """Give all ranks the mean of their floating-point buffers.

        The running statistics of a batch normalisation then are those of every rank's batches, as they would be if
        one process had seen them all, and not of rank 0's alone.
        """
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        flat = torch.cat([buffer.detach().double().flatten() for buffer in buffers]).cpu()
        parts = self._total(flat).div_(self.world).split([buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))

    def mean(self, value: float) -> float:
        """The mean of what every rank gives."""
        return value if self.world == 1 else float(self._total(torch.tensor(value, dtype=torch.float64))) / self.world

    def agree(self, value: int) -> int:
        """What rank 0 gives, on every rank."""
        if self.world == 1:
            return value
        answer = torch.tensor(value)
        distributed.broadcast(answer, src=0)
        return int(answer)

    def largest(self, value: int) -> int:
        """The largest of what the ranks give, on every rank."""
        if self.world == 1:
            return value
        answer = torch.tensor(value)
        distributed.all_reduce(answer, op=distributed.ReduceOp.MAX)
        return int(answer)

    def device(self, device: torch.device) -> torch.device:
        """This rank's device: of several GPUs the one with its local number."""
        if self.world == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.local)

    @staticmethod
    def _total(value: Tensor) -> Tensor:
        distributed.all_reduce(value)
        return value


ALONE = Ranks()


def place(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Which rank this process is, as `torchrun` or `in_processes` has told it; `ALONE` without them."""
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    return Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", "0")))


@lru_cache(maxsize=1)
def join(cuda: bool) -> Ranks:
    """Meet the other ranks, once a process; on CUDA, gradients travel by NCCL.

    `DEEPGNN_STORE` names a file to meet at, which nobody else can have taken, unlike a port; without it the address
    is torchrun's.
    """
    ranks = place()
    if ranks.world > 1:
        store = os.environ.get("DEEPGNN_STORE")
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"file://{store}" if store else "env://",
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=_PATIENCE,
        )
        atexit.register(distributed.destroy_process_group)
    return ranks


@dataclass(frozen=True)
class End:
    """How the work of a rank ended: status and error as in a row; `mistake`: a ValueError, which is the user's.

    `outcome` is what the work returned; `at` orders the ends of one machine's processes in time.
    """

    status: str
    error: str | None = None
    mistake: bool = False
    outcome: dict[str, object] | None = None
    at: float = 0.0


def in_processes(count: int, work: Callable[[], dict[str, object]], stop: Stop) -> tuple[dict[str, Any] | None, End]:
    """Do `work` in `count` new processes at once, each with its rank in the environment.

    Args:
        count: the number of processes; the threads of this one are divided among them.
        work: a function of a module, or a `functools.partial` of one; what it returns says how it
            ended, by `status` and `error`.
        stop: what asks this process to stop; the request is passed on to rank 0.

    Returns:
        What rank 0's work returned, unless it was killed; and how it all ended, which is what ended first.

    Raises:
        ValueError: rank 0 found a mistake of the user's.
    """
    threads = max(1, torch.get_num_threads() // count)
    with TemporaryDirectory(prefix="deepgnn-") as name:
        folder = Path(name)
        started = start_processes(_rank, (work, count, threads, folder), count, join=False, start_method="spawn")
        assert started is not None
        codes: list[int | None] = []
        try:
            _watch(started.processes, stop)
            codes = [process.exitcode for process in started.processes]
        finally:
            for process in started.processes:
                process.kill()
                process.join()
        ends = [_read(folder, rank) for rank in range(count)]
    first = ends[0]
    if first is not None and first.mistake:
        raise ValueError(first.error)
    return None if first is None else first.outcome, _cause(ends, codes)


def _rank(rank: int, work: Callable[[], dict[str, Any]], world: int, threads: int, folder: Path) -> None:
    os.setsid()  # Ctrl-C goes to the starting process alone, which passes it on
    torch.set_num_threads(threads)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "DEEPGNN_STORE": str(folder / "store"),
    }
    if loopback := next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    try:
        outcome = work()
        end = End(outcome["status"], outcome["error"], outcome=outcome)
    except (Exception, KeyboardInterrupt) as error:
        end = End(status_of(error), line_of(error), isinstance(error, ValueError))
    write_json(folder / f"{rank}.json", asdict(end) | {"at": time.monotonic()})
    sys.exit(0 if end.status in _AGREED else 1)


def _watch(processes: Sequence[BaseProcess], stop: Stop) -> None:
    """Return when all have ended, or when the rest had long enough after one that failed."""
    passed_on, deadline = False, float("inf")
    while living := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in living], timeout=_LOOK_SECONDS)
        if stop.asked() and not passed_on and processes[0].is_alive():
            assert stop.number is not None and processes[0].pid is not None
            os.kill(processes[0].pid, stop.number)
            passed_on = True
        failed = any(process.exitcode not in (None, 0) for process in processes)
        if deadline == float("inf") and (failed or not processes[0].is_alive()):
            deadline = time.monotonic() + _GRACE_SECONDS
        if time.monotonic() > deadline:
            return


def _read(folder: Path, rank: int) -> End | None:
    path = folder / f"{rank}.json"
    return End(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _cause(ends: Sequence[End | None], codes: Sequence[int | None]) -> End:
    """How a run ended: rank 0's way if it went as agreed; else the first failure, from which the others follow.

    Args:
        ends: what each rank wrote at its end; None: nothing.
        codes: the exit status of those that ended by themselves; None: waited in vain, and was killed for it.
    """
    if ends[0] is not None and ends[0].status in _AGREED:
        return ends[0]
    failed = sorted((end for end in ends if end is not None and end.status not in _AGREED), key=lambda end: end.at)
    for rank, (end, code) in enumerate(zip(ends, codes, strict=True)):
        # What a library aborts follows from a failure elsewhere; what the kernel kills does not.
        if end is None and code is not None and (code == -signal.SIGKILL or not failed):
            return End("failed", _how_it_ended(rank, len(ends), code))
    return failed[0] if failed else End("failed", "rank 0 did not answer")


def _how_it_ended(rank: int, world: int, code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with status {code}"
    hint = "; is there enough memory?" if code == -signal.SIGKILL else ""
    return f"process {rank} of {world} {how}{hint}"
