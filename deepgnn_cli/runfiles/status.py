"""Whether a run that says `running` still runs.

A killed process cannot write its end. Its `status.json` says `running` for ever: here it is shown as killed.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from deepgnn_cli.runfiles.files import refuse_no_file

STALE_AFTER = timedelta(hours=1)
"""A run of another host, whose process cannot be asked, is believed this long after its last update."""

CLOCK_TOLERANCE = timedelta(seconds=5)


def live_status(status: Mapping[str, object], now: datetime) -> str:
    """The status that `status.json` tells, with `running` checked: it becomes `killed` when nobody runs.

    Args:
        status: the contents of `status.json`.
        now: an aware time.
    """
    written = str(status.get("status") or "killed")
    if written != "running":
        return written
    pid = status.get("pid")
    here = status.get("host") in (None, "", socket.gethostname())
    alive = _runs_here(pid, status) if here and isinstance(pid, int) else _is_fresh(status, now)
    return "running" if alive else "killed"


def _runs_here(pid: int, status: Mapping[str, object]) -> bool:
    """Whether process `pid` of this host exists and is not a later one that was given the same number."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        born = datetime.fromtimestamp(process.create_time(), UTC)
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.AccessDenied:
        return True
    started = _time(status.get("started"))
    return started is None or born <= started + CLOCK_TOLERANCE


def _is_fresh(status: Mapping[str, object], now: datetime) -> bool:
    """Whether a run that cannot be asked wrote its status not long ago."""
    updated = _time(status.get("updated") or status.get("started"))
    return updated is not None and now - updated < STALE_AFTER


def _time(text: object) -> datetime | None:
    """An ISO 8601 time as an aware one (a naive one is local), None when it is none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def read_status(folder: Path) -> dict[str, Any]:
    """The `status.json` of a run's folder; empty where there is none that can be read."""
    try:
        refuse_no_file(folder / "status.json")
        content = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def runs_now(folder: Path) -> bool:
    """Whether another process works on this run's folder; this one has no second run under way."""
    status = read_status(folder)
    if status.get("pid") == os.getpid() and status.get("host") == socket.gethostname():
        return False
    return live_status(status, datetime.now(UTC)) == "running"
