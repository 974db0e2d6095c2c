"""Starts the processes of one data-parallel run, watches over them, and says how it ended.

The process that starts them takes no part in the training. It passes signals on to rank 0, which decides with the
others when to stop; a rank that fails ends all, and none is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from deepgnn_cli.runfiles.record import Row, write_json
from deepgnn_cli.training.errors import line_of, status_of
from deepgnn_cli.training.signals import Stop

_LOOK_SECONDS = 0.2
# What a rank may take to end after rank 0 has ended or another has failed.
_GRACE_SECONDS = 15.0
# What all ranks do together: none is left waiting for another.
_AGREED = ("ok", "interrupted", "diverged")


@dataclass(frozen=True)
class End:
    """How the work of a rank ended: status and error as in a row; `mistake`: a ValueError, which is the user's.

    `row` is what rank 0 made of it; `at` orders the ends of one machine's processes in time.
    """

    status: str
    error: str | None = None
    mistake: bool = False
    row: dict[str, Any] | None = None
    at: float = 0.0


def in_processes(count: int, work: Callable[[], Row], stop: Stop) -> tuple[Row | None, End]:
    """Do `work` in `count` new processes at once, each with its rank in the environment.

    Args:
        count: the number of processes; the threads of this one are divided among them.
        work: a function of a module, or a `functools.partial` of one; what it returns says how it ended.
        stop: what asks this process to stop; the request is passed on to rank 0.

    Returns:
        Rank 0's row, unless it was killed; and how it all ended, which is what ended first.

    Raises:
        ValueError: rank 0 found a mistake of the user's.
    """
    threads = max(1, torch.get_num_threads() // count)
    with TemporaryDirectory(prefix="deepgnn-") as name:
        room = Path(name)
        started = start_processes(_rank, (work, count, threads, room), count, join=False, start_method="spawn")
        assert started is not None
        codes: list[int | None] = []
        try:
            _watch(started.processes, stop)
            codes = [process.exitcode for process in started.processes]
        finally:
            for process in started.processes:
                process.kill()
                process.join()
        ends = [_read(room, rank) for rank in range(count)]
    first = ends[0]
    if first is not None and first.mistake:
        raise ValueError(first.error)
    row = Row(**first.row) if first is not None and first.row is not None else None
    return row, _cause(ends, codes)


def _rank(rank: int, work: Callable[[], Row], world: int, threads: int, room: Path) -> None:
    os.setsid()  # Ctrl-C goes to the starting process alone, which passes it on
    torch.set_num_threads(threads)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "DEEPGNN_STORE": str(room / "store"),
    }
    if loopback := next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    try:
        row = work()
        end = End(row.status, row.error, row=row.as_dict())
    except (Exception, KeyboardInterrupt) as error:
        end = End(status_of(error), line_of(error), isinstance(error, ValueError))
    write_json(room / f"{rank}.json", asdict(end) | {"at": time.monotonic()})
    sys.exit(0 if end.status in _AGREED else 1)


def _watch(processes: Sequence[BaseProcess], stop: Stop) -> None:
    """Return when all have ended, or when the rest had long enough after one that failed."""
    told, deadline = False, float("inf")
    while living := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in living], timeout=_LOOK_SECONDS)
        if stop.asked() and not told and processes[0].is_alive():
            assert stop.number is not None and processes[0].pid is not None
            os.kill(processes[0].pid, stop.number)
            told = True
        failed = any(process.exitcode not in (None, 0) for process in processes)
        if deadline == float("inf") and (failed or not processes[0].is_alive()):
            deadline = time.monotonic() + _GRACE_SECONDS
        if time.monotonic() > deadline:
            return


def _read(room: Path, rank: int) -> End | None:
    path = room / f"{rank}.json"
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
            return End("failed", _obituary(rank, len(ends), code))
    return failed[0] if failed else End("failed", "rank 0 did not answer")


def _obituary(rank: int, world: int, code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with status {code}"
    hint = "; is there enough memory?" if code == -signal.SIGKILL else ""
    return f"process {rank} of {world} {how}{hint}"
