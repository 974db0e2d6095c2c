"""A run's own folder: where each of its files is, and the status that tells a reader whether it still runs."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepgnn_cli.runfiles.record import COLUMNS, Row, write_csv, write_json, write_text


def new_id(label: str) -> str:
    """A name no other run has: the time to the second, what it is, and six random digits."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{label}_{secrets.token_hex(3)}"


class RunFolder:
    """Writes the files of one run, each whole or not at all.

    Args:
        path: the folder; made by `start`.
        run: the columns that say which run this is, repeated in `status.json`.
    """

    def __init__(self, path: Path, run: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._run = dict(run or {})
        self.checkpoint = path / "checkpoint.pt"
        self.started = False
        self._since = datetime.now(UTC)

    def start(self, config_yaml: str) -> None:
        """Make the folder, write `config.yaml`, and say that the run has begun."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.started = True
        for left in self.path.glob(".*.tmp"):  # a kill in the middle of a write leaves its temporary file
            left.unlink(missing_ok=True)
        write_text(self.path / "config.yaml", config_yaml)
        self.status("running")

    def status(self, status: str, epoch: int | None = None, error: str | None = None) -> None:
        """Write `status.json`."""
        content = {
            "status": status,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self._since.isoformat(timespec="seconds"),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "epoch": epoch,
            "error": error,
            "run": self._run,  # what a killed run was: it has no result.csv
        }
        write_json(self.path / "status.json", content)

    def log(self, text: str) -> None:
        """Add `text` to `train.log`, with the time."""
        path = self.path / "train.log"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, f"{before}{datetime.now(UTC).isoformat(timespec='seconds')} {text.rstrip()}\n")

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `name`.csv."""
        write_csv(self.path / f"{name}.csv", columns, rows)

    def finish(self, row: Row) -> None:
        """Write `result.csv`, and last the final status."""
        self.table("result", COLUMNS, [row.as_dict()])
        self.status(row.status, row.epochs, row.error)
