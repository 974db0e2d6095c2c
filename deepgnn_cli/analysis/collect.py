"""Result files below any number of folders -> one pandas table of runs.

A run is a `result.csv` of its own folder, a row of a CSV file with the same columns, or a folder that has
only a `status.json`: a run under way, or one that was killed before it could write its row. What cannot be
read is named and left out, never guessed.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from deepgnn_cli.rules.metrics import is_fraction
from deepgnn_cli.rules.text import printable
from deepgnn_cli.runfiles.files import read_yaml
from deepgnn_cli.runfiles.record import COLUMNS, Row
from deepgnn_cli.runfiles.status import live_status

OTHER_TABLES = ("epochs.csv", "layers.csv", "memory.csv", "influence.csv", "embeddings.csv")
IDENTITY = ("dataset", "split", "model", "conv", "norm", "residual", "layers", "hidden")
TOLD = ("run_id", "dataset", "split", "model", "conv", "norm", "residual", "config_hash", "overrides")
SCORES = ("train_score", "val_score", "test_score", "reported")
INTEGERS = ("layers", "hidden")
MEASURES = tuple(
    column.name
    for column in fields(Row)
    if column.name not in (*INTEGERS, "seed") and str(column.type).startswith(("float", "int"))
)
"""The columns of `result.csv` that hold what was measured, as numbers."""


@dataclass(frozen=True)
class Collected:
    """The runs that were found, one a row, and what was not a run.

    `runs` has the columns of `result.csv`, those a foreign file adds, and `folder` (the run's own, "" when
    the row is from elsewhere). Unknown text is "", an unknown measure NaN; `layers`, `hidden` and `seed`
    are int or "".
    """

    runs: pd.DataFrame
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass
class _Reader:
    """Rows, and the messages of the files they came from."""

    metric: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Take the rows of one CSV file, or say why not."""
        try:
            rows = read_rows(path, self.metric)
        except (ValueError, OSError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.skipped.append(f"skipped {path}: {reason}")
            return
        folder = path.parent if path.name == "result.csv" else None
        for row in rows:
            row["folder"] = str(folder or "")
            if folder is not None and row["status"] != "ok":
                self._ask_status(folder, row)
            fraction = is_fraction(row.get("metric"))
            for name in (name for name in SCORES if fraction and not 0 <= row.get(name, 0.0) <= 1):
                if row[name] == row[name]:
                    self.warnings.append(f"{path}: {name}={row[name]:g} is not a fraction in [0, 1]; in percent?")
        self.rows += rows

    def read_unfinished(self, folder: Path) -> None:
        """Take the row of a run folder that has a `status.json` and no `result.csv`."""
        row = {"run_id": folder.name, "folder": str(folder), "status": ""}
        self._ask_status(folder, row)
        if row["status"] == "ok":
            self.skipped.append(f"skipped {folder}: its status.json says ok, but result.csv is missing")
        elif row["status"]:
            self.rows.append(row)

    def _ask_status(self, folder: Path, row: dict[str, Any]) -> None:
        """Let a `status.json` that says `running` (a resumed run, a killed one) speak for the row."""
        path = folder / "status.json"
        try:
            if path.exists() and not path.is_file():
                raise ValueError("not a file")
            status = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(status, dict):
                raise ValueError("not an object")
        except FileNotFoundError:
            return
        except (ValueError, OSError) as error:
            self.skipped.append(f"skipped {path}: not a readable status ({error})")
            return
        if not row["status"]:
            row |= _told(status.get("run")) or _configured(folder)
        if not row["status"] or status.get("status") == "running":
            row["status"] = live_status(status, datetime.now(UTC))
            row["error"] = str(status.get("error") or row.get("error") or "")
            if row["status"] == "killed" and not row["error"]:
                row["error"] = _last_seen(status)


def collect(paths: Sequence[Path], *, metric: str = "test_score") -> Collected:
    """Read every result below `paths`: folders are searched, files are read.

    A sweep's `results.csv` repeats its jobs' own files: a row with the `run_id`, the configuration and the
    seed of an earlier one is the same run, and `result.csv` is read first.

    Args:
        paths: folders and CSV files.
        metric: a column that also makes a foreign file a result file.

    Raises:
        ValueError: a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
    reader = _Reader(metric)
    files, folders = _find(paths, reader.skipped)
    for path in sorted(files, key=lambda path: path.name != "result.csv"):
        reader.read(path)
    for folder in folders:
        reader.read_unfinished(folder)
    rows = (_shown(row) for row in _unique(reader.rows))
    return Collected(_table(rows), tuple(map(printable, reader.skipped)), tuple(map(printable, reader.warnings)))


def _find(paths: Sequence[Path], skipped: list[str]) -> tuple[list[Path], list[Path]]:
    """The CSV files that may hold results, and the run folders without any; each once."""
    files: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    for path in paths:
        if path.is_file():
            files.setdefault(os.path.realpath(path), path)
            continue
        for name, below, inside in os.walk(
            path, onerror=lambda e: skipped.append(f"skipped {e.filename}: {e.strerror}")
        ):
            below[:] = sorted(folder for folder in below if not folder.startswith("."))
            for file in sorted(inside):
                if file.endswith(".csv") and not file.startswith(".") and file not in OTHER_TABLES:
                    if not Path(name, file).is_file():  # a pipe would be waited for
                        skipped.append(f"skipped {Path(name, file)}: not a file")
                        continue
                    files.setdefault(os.path.realpath(os.path.join(name, file)), Path(name, file))
            if "status.json" in inside and "result.csv" not in inside:
                folders.setdefault(os.path.realpath(name), Path(name))
    return list(files.values()), list(folders.values())


def read_rows(path: Path, metric: str = "test_score") -> list[dict[str, Any]]:
    """The runs of one CSV file, with numbers as numbers.

    Raises:
        ValueError: the file is empty, foreign, torn, or a number is none; the message says which.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            table = list(csv.reader(file))
        except UnicodeDecodeError:
            raise ValueError("not a text file") from None
    if not table:
        raise ValueError("empty")
    header, *body = table
    known = {"model", "dataset", "layers", "conv"} & set(header)
    if not known or not {"run_id", "test_score", "val_score", metric} & set(header):
        raise ValueError("not a result file (no model, dataset or layers with a score)")
    if len(set(header)) < len(header):
        raise ValueError("not a result file (a column appears twice)")
    rows = [_parse(line, header, cells, metric) for line, cells in enumerate(body, start=2) if cells]
    if not rows:
        raise ValueError("no rows")
    return rows


def _parse(line: int, header: list[str], cells: list[str], metric: str) -> dict[str, object]:
    """One row of text as a run."""
    if len(cells) != len(header):
        raise ValueError(f"line {line} has {len(cells)} cells, the header {len(header)}: torn?")
    row: dict[str, Any] = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    try:
        for name in MEASURES:
            if name in row:
                row[name] = float(row[name] or "nan")
        for name in INTEGERS:
            if row.get(name):
                row[name] = _integer(row[name])
    except (ValueError, OverflowError):
        raise ValueError(f"line {line}: {name}={row[name]!r} is not a number") from None
    try:
        row["seed"] = _integer(row.get("seed", ""))
    except ValueError:
        row["seed"] = row.get("seed", "")
    if not row.get("status"):
        row["status"] = "ok" if row.get(metric, "") not in ("",) and row[metric] == row[metric] else "failed"
    return row


def _integer(text: str) -> int:
    """`4` and `4.0` as 4."""
    value = float(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


def _last_seen(status: dict[str, object]) -> str:
    """What a killed run could not say itself."""
    epoch, updated = status.get("epoch"), status.get("updated")
    after = "" if epoch is None else f" after epoch {epoch}"
    return f"gone{after}" + (f", last seen {updated}" if updated else "")


def _told(run: object) -> dict[str, object]:
    """What `status.json` says about its run: the columns of its row that were known at its start."""
    if not isinstance(run, dict):
        return {}
    texts = {name: str(run[name]) for name in TOLD if run.get(name) not in (None, "")}
    numbers = {name: run[name] for name in (*INTEGERS, "seed") if isinstance(run.get(name), int)}
    return texts | numbers


def _configured(folder: Path) -> dict[str, object]:
    """What the `config.yaml` of an unfinished run says about it; nothing where it is missing.

    Its groups are builders: a model's builder serves several models, so only a name it carries is its name.
    """
    try:
        config = read_yaml(folder / "config.yaml")
    except (OSError, ValueError):
        return {}
    row: dict[str, object] = {name: config[name] for name in (*INTEGERS, "seed") if isinstance(config.get(name), int)}
    for name in ("dataset", "model", "norm", "residual"):
        node = config.get(name)
        if isinstance(node, dict):
            builder = "" if name == "model" else str(node.get("_target_") or "").rpartition(".")[2]
            row[name] = str(node.get("name") or builder)
        elif node is not None:
            row[name] = str(node)
    return row


def _unique(rows: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """The rows without the later copies of a run."""
    seen = set()
    for row in rows:
        key = tuple(str(row.get(name, "")) for name in ("run_id", *IDENTITY, "seed", "config_hash"))
        if key not in seen:
            yield row
        if row.get("run_id"):
            seen.add(key)


def _shown(row: dict[str, object]) -> dict[str, object]:
    """The row with text that can be shown; its folder stays the one there is."""
    return {
        name: printable(value) if isinstance(value, str) and name != "folder" else value for name, value in row.items()
    }


def _table(rows: Iterator[dict[str, object]]) -> pd.DataFrame:
    """The rows with every column of `result.csv`, measures as floats and everything else as it is."""
    frame = pd.DataFrame(list(rows), dtype=object)
    extra = [name for name in frame.columns if name not in (*COLUMNS, "folder")]
    frame = frame.reindex(columns=[*COLUMNS, *extra, "folder"])
    measures = frame[list(MEASURES)].astype(float)
    others = [name for name in frame.columns if name not in MEASURES]
    return pd.concat([frame[others].where(frame[others].notna(), ""), measures], axis=1)[list(frame.columns)]
