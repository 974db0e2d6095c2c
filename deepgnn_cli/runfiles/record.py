"""What a run leaves behind: its row, its tables, its status; each file as `files` writes it, whole or not at all.

Nothing here imports torch or pandas: `compare` and `ls` start without them.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from deepgnn_cli.rules.text import printable
from deepgnn_cli.runfiles.files import read_csv, write_csv, write_json, write_text

STATUSES = ("ok", "diverged", "oom", "failed", "interrupted", "killed")


@dataclass(frozen=True)
class Row:
    """One run, as `result.csv` says it.

    Scores are fractions in [0, 1], errors (mae, mse, …) the plain numbers; `direction` says which way they are better,
    `higher` or `lower`. What is unknown is None and an empty cell, never 0. `step_seconds` is the median time of a
    training step (forward, backward, optimiser). `memory_kind` says what `peak_memory_mib` is: `cuda` (the allocator's
    peak) or `rss` (this run's resident peak). `activation_mib` is what autograd keeps for one step's backward pass.
    `range_hops` is how far away what a node hears is on average, and `influence_beyond` the share from beyond half the
    layers: at the best epoch, and before training. `edges` are directed, `spectral_gap` is that of
    the largest component; `_before`: before rewiring. `data_hash` is equal for two runs whose graphs and splits are.
    """

    run_id: str
    status: str
    dataset: str
    split: str | None
    model: str
    conv: str
    norm: str
    residual: str
    layers: int
    hidden: int
    seed: int
    metric: str | None = None
    direction: str | None = None
    train_score: float | None = None
    val_score: float | None = None
    test_score: float | None = None
    val_loss: float | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    parameters: int | None = None
    step_seconds: float | None = None
    train_seconds: float | None = None
    peak_memory_mib: float | None = None
    memory_kind: str | None = None
    activation_mib: float | None = None
    rewire: str | None = None
    edges_before: int | None = None
    edges: int | None = None
    spectral_gap_before: float | None = None
    spectral_gap: float | None = None
    range_hops_untrained: float | None = None
    range_hops: float | None = None
    influence_beyond_untrained: float | None = None
    influence_beyond: float | None = None
    reported: float | None = None
    reported_source: str | None = None
    device: str | None = None
    config_hash: str | None = None
    data_hash: str | None = None
    git_sha: str | None = None
    version_torch: str | None = None
    version_pyg: str | None = None
    version_deepgnn: str | None = None
    overrides: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The columns in their order."""
        return asdict(self)


# Which run it is, known before it starts.
IDENTITY = (
    "run_id",
    "dataset",
    "model",
    "conv",
    "norm",
    "residual",
    "layers",
    "hidden",
    "seed",
    "config_hash",
    "overrides",
)
COLUMNS = tuple(field.name for field in fields(Row))


def collect_results(sweep: Path) -> list[dict[str, str]]:
    """Rebuild `results.csv` in `sweep` from the `result.csv` of every job below it, and return its rows.

    A file that is none of ours is named on stderr, and left out.
    """
    paths = sorted(sweep.rglob("result.csv"), key=lambda path: [int(p) if p.isdigit() else -1 for p in path.parts])
    rows = []
    for path in paths:
        try:
            found = read_csv(path)
            if not all({"run_id", "status"} <= row.keys() for row in found):
                raise ValueError(f"{path}: not a run's result")
            rows += found
        except (ValueError, OSError) as error:
            print(f"deepgnn: skipped {printable(str(error))}", file=sys.stderr)
    if rows:
        columns = list(COLUMNS) + sorted({key for row in rows for key in row} - set(COLUMNS))
        write_csv(sweep / "results.csv", columns, rows)
    return rows


def new_id(label: str) -> str:
    """A name no other run has: the time to the second, what it is, and six random digits."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{label}_{secrets.token_hex(3)}"


class RunFolder:
    """Writes the files of one run, each whole or not at all.

    Args:
        path: the folder; made by `start`.
        run: the columns that say which run this is, repeated in `status.json`.
        machine: what is known of where it runs, written there too.
    """

    def __init__(
        self, path: Path, run: Mapping[str, object] | None = None, machine: Mapping[str, object] | None = None
    ) -> None:
        self.path = path
        self._run, self._machine = dict(run or {}), dict(machine or {})
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
            "machine": self._machine,
            "started": self._since.isoformat(timespec="seconds"),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "epoch": epoch,
            "error": error,
            "run": self._run,  # what a killed run was: it has no result.csv
        }
        write_json(self.path / "status.json", content)

    def log(self, text: str) -> None:
        """Add `text` to `train.log`, with the time; under DEEPGNN_VERBOSE it is told on stderr, too."""
        if os.environ.get("DEEPGNN_VERBOSE"):
            print(f"{self.path.name}: {text.rstrip()}", file=sys.stderr)
        path = self.path / "train.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text.rstrip()}\n")
        except OSError as error:
            error.filename = str(path)  # which file, in the message
            raise

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
        """Write `name`.csv."""
        write_csv(self.path / f"{name}.csv", columns, rows)

    def finish(self, row: Row) -> None:
        """Write `result.csv`, and last the final status."""
        self.table("result", COLUMNS, [row.as_dict()])
        self.status(row.status, row.epochs, row.error)
