"""What was done before: finished runs that need not be repeated, unfinished ones that can go on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from deepgnn_cli.config.compose import config_hash
from deepgnn_cli.runfiles.files import read_csv, read_yaml, write_atomic, write_json
from deepgnn_cli.runfiles.status import read_status, runs_now
from deepgnn_cli.training import checkpoint

# In this order: a folder with a result.csv has everything else, too.
_ADOPTED = ("config.yaml", "epochs.csv", "layers.csv", "embeddings.csv", "influence.csv", "memory.csv", "result.csv")


def finished_runs(places: Sequence[Path], digest: str) -> Iterator[Path]:
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
                write_atomic(folder / name, partial(shutil.copyfileobj, source))
    # The row is written before the status: another process may be between the two.
    status = read_status(done) | {"status": "ok", "error": None, "finished_in": str(done.resolve())}
    write_json(folder / "status.json", status)


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


def checkpoint_for(resume: str | None, places: Sequence[Path], digest: str) -> Path | None:
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
