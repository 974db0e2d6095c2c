"""A sweep's own folder: the list of its jobs, for itself alone, without what other sweeps left there."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from deepgnn_cli.runfiles.files import write_json
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.monitor import SweepMonitor
from deepgnn_cli.runs.plan import Plan


def note_jobs(folder: Path, monitor: SweepMonitor) -> None:
    """Write `sweep.json`, which tells `deepgnn watch` of the jobs that have not begun."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [{"folder": os.path.relpath(job.folder, folder), "overrides": job.overrides} for job in monitor.jobs]
    begun = {"pid": os.getpid(), "host": socket.gethostname(), "started": datetime.now(UTC).isoformat()}
    axes = list(monitor.axes)
    write_json(
        folder / "sweep.json", {"status": "running", **begun, "total": monitor.total, "axes": axes, "jobs": jobs}
    )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A folder the user named, for this sweep alone: job numbers of two would collide."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"hydra.sweep.dir={folder}: another sweep writes there now; name another folder") from None


def set_aside_other_runs(plan: Plan) -> None:
    """Move aside what a run of another configuration left under this job's number, in a sweep folder used again."""
    known = history.outcomes(plan.folder / "result.csv")
    if known and all(digest != plan.config.hash for digest, _ in known):
        plan.folder.rename(plan.folder.with_name(f"{plan.folder.name}_{secrets.token_hex(3)}"))
        plan.folder.mkdir()
