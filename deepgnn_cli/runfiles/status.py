"""Whether a run that says `running` still runs.

A killed process cannot write its end. Its `status.json` says `running` for ever: here it is shown as crashed.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

STALE_AFTER = timedelta(hours=1)
"""A run of another host, whose process cannot be asked, is believed this long after its last update."""

CLOCK_TOLERANCE = timedelta(seconds=5)


def live_status(status: Mapping[str, Any], now: datetime) -> str:
    """The status that `status.json` tells, with `running` checked: it becomes `crashed` when nobody runs.

    Args:
        status: the contents of `status.json`.
        now: an aware time.
    """
    told = str(status.get("status") or "crashed")
    if told != "running":
        return told
    pid = status.get("pid")
    here = status.get("host") in (None, "", socket.gethostname())
    alive = _runs_here(pid, status) if here and isinstance(pid, int) else _is_fresh(status, now)
    return "running" if alive else "crashed"


def _runs_here(pid: int, status: Mapping[str, Any]) -> bool:
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


def _is_fresh(status: Mapping[str, Any], now: datetime) -> bool:
    """Whether a run that cannot be asked wrote its status not long ago."""
    updated = _time(status.get("updated") or status.get("started"))
    return updated is not None and now - updated < STALE_AFTER


def _time(text: Any) -> datetime | None:
    """An ISO 8601 time as an aware one (a naive one is local), None when it is none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
