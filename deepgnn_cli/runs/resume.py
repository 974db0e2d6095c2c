"""What was done before: finished runs that need not be repeated, unfinished ones that can go on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepgnn_cli.config.compose import config_hash
from deepgnn_cli.runfiles.record import new_id, read_csv, read_yaml, refuse_no_file, write_atomic, write_json
from deepgnn_cli.runfiles.status import live_status
from deepgnn_cli.runs.run import Plan
from deepgnn_cli.training import checkpoint

# In this order: a folder with a result.csv has everything else, too.
_ADOPTED = ("config.yaml", "epochs.csv", "layers.csv", "memory.csv", "result.csv")


def plan_for(
    values: dict[str, Any],
    chosen: dict[str, str],
    overrides: str,
    *,
    skip: bool,
    folder: Path | None = None,
    also: Sequence[Path] = (),
    stop_marker: Path | None = None,
) -> tuple[Plan, Path | None]:
    """The plan of a run, and the folder of a finished one of the same configuration if `skip` asks for it.

    Args:
        values: the checked configuration.
        chosen: the option of each group.
        overrides: the words it came from.
        skip: look for a finished run, below `output_dir` and the folders that `skip_finished` names.
        folder: where the run's files go; None: a new folder below `output_dir`, or the resumed run's own.
        also: further folders to look in.
        stop_marker: see `Plan`.

    Raises:
        ValueError: `resume` names a folder without a checkpoint, or with one of another configuration.
    """
    root, digest = Path(values["output_dir"]), config_hash(values)
    named = values["skip_finished"]
    named = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    places = _outermost([root, *also, *map(Path, named)])
    run_id = new_id(f"{chosen['dataset']}_{chosen['model']}_L{values['layers']}_s{values['seed']}")
    done = next(finished(places, digest), None) if skip else None
    resumed = _resumed(values["resume"], places, digest) if done is None else None
    own = folder or (resumed.parent if resumed else root / run_id)
    return Plan(values, chosen, own, run_id, overrides, resumed, stop_marker), done


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders without those that lie in another of them, so that none is searched twice."""
    paths = sorted({folder.resolve() for folder in folders})
    return [path for path in paths if not any(other in path.parents for other in paths)]


def finished(places: Sequence[Path], digest: str) -> Iterator[Path]:
    """The folders below `places` whose run of this configuration ended ok."""
    for place in places:
        for path in place.rglob("result.csv"):
            if (digest, "ok") in outcomes(path):
                yield path.parent


def adopt(done: Path, folder: Path) -> None:
    """Copy what a finished run left to `folder`, which makes a sweep's folder complete by itself.

    The row keeps its `run_id`: it is the same run. Checkpoint and log stay where they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() == done.resolve():
        return
    for name in _ADOPTED:
        if (done / name).exists():
            with (done / name).open("rb") as source:
                write_atomic(folder / name, lambda file, source=source: shutil.copyfileobj(source, file))  # type: ignore[misc]
    # The row is written before the status: another process may be between the two.
    status = read_status(done) | {"status": "ok", "error": None, "finished_in": str(done.resolve())}
    write_json(folder / "status.json", status)


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


def outcomes(path: Path) -> tuple[tuple[str, str], ...]:
    """The configuration's hash and the status of each row of a `result.csv`; nothing if it cannot be read."""
    try:
        return _outcomes(path, path.stat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=100_000)
def _outcomes(path: Path, mtime_ns: int) -> tuple[tuple[str, str], ...]:
    # A job of a long sweep looks at every earlier result: each version of a file is read once.
    try:
        return tuple((row.get("config_hash") or "", row.get("status") or "") for row in read_csv(path))
    except ValueError:
        return ()


def _resumed(resume: str | None, places: Sequence[Path], digest: str) -> Path | None:
    """The checkpoint to go on from."""
    if resume is None or resume.lower() == "false":
        return None
    if resume.lower() != "true":
        return _named(resume, digest)
    found = [path for place in places for path in place.rglob("checkpoint.pt") if path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        if _unfinished(path.parent, digest) and not runs_now(path.parent) and _has_hash(path, digest):
            return path
    return None


def _named(resume: str, digest: str) -> Path:
    path = Path(resume) / "checkpoint.pt"
    if not path.is_file():
        raise ValueError(f"resume={resume}: there is no checkpoint.pt; give the folder of an interrupted run")
    if checkpoint.read(path)["config_hash"] != digest:
        raise ValueError(f"resume={resume}: that run has another configuration; give the same key=value words")
    if (digest, "ok") in outcomes(path.parent / "result.csv"):
        raise ValueError(f"resume={resume}: that run is finished, its row is in result.csv; leave resume out")
    if runs_now(path.parent):
        pid = read_status(path.parent)["pid"]
        raise ValueError(f"resume={resume}: that run is still running (process {pid}); stop it first")
    return path


def _unfinished(folder: Path, digest: str) -> bool:
    """Whether the run of a folder is of this configuration and can go on: a diverged one would only diverge again."""
    known = outcomes(folder / "result.csv")
    if known:
        return any(row == digest and status not in ("ok", "diverged") for row, status in known)
    try:
        return config_hash(read_yaml(folder / "config.yaml")) == digest
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _has_hash(path: Path, digest: str) -> bool:
    """Whether the checkpoint of an unfinished run of this configuration is one; a damaged one is named."""
    try:
        return bool(checkpoint.read(path)["config_hash"] == digest)
    except ValueError as error:
        print(f"deepgnn: not resumed: {error}", file=sys.stderr)
        return False
