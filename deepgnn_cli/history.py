"""What was done before: finished runs that need not be repeated, unfinished ones that can go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepgnn_cli.config import config_hash
from deepgnn_cli.results.folder import new_id
from deepgnn_cli.results.record import read_csv
from deepgnn_cli.train import Plan
from deepgnn_cli.training import checkpoint


def plan_for(
    values: dict[str, Any],
    chosen: dict[str, str],
    overrides: str,
    *,
    skip: bool,
    folder: Path | None = None,
) -> tuple[Plan, Path | None]:
    """The plan of a run, and the folder of a finished one of the same configuration if `skip` asks for it.

    Args:
        values: the checked configuration.
        chosen: the option of each group.
        overrides: the words it came from.
        skip: look for a finished run.
        folder: where the run's files go; None: a new folder below `output_dir`, or the resumed run's own.

    Raises:
        ValueError: `resume` names a folder without a checkpoint, or with one of another configuration.
    """
    root, digest = Path(values["output_dir"]), config_hash(values)
    run_id = new_id(f"{chosen['dataset']}_{chosen['model']}_L{values['layers']}_s{values['seed']}")
    done = next(finished(root, digest), None) if skip else None
    resumed = _resumed(values["resume"], root, digest)
    own = folder or (resumed.parent if resumed else root / run_id)
    return Plan(values, chosen, own, run_id, overrides, resumed), done


def finished(root: Path, digest: str) -> Iterator[Path]:
    """The folders below `root` whose run of this configuration ended ok."""
    for path in root.rglob("result.csv"):
        if any(row.get("config_hash") == digest and row.get("status") == "ok" for row in _rows(path)):
            yield path.parent


def _resumed(resume: str | None, root: Path, digest: str) -> Path | None:
    if resume is None or resume.lower() == "false":
        return None
    if resume.lower() != "true":
        path = Path(resume) / "checkpoint.pt"
        if not path.is_file():
            raise ValueError(f"resume={resume}: there is no checkpoint.pt; give the folder of an interrupted run")
        if checkpoint.read(path)["config_hash"] != digest:
            raise ValueError(f"resume={resume}: that run has another configuration; give the same key=value words")
        return path
    left = [path for path in root.rglob("checkpoint.pt") if not _ended_ok(path.parent)]
    for path in sorted(left, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if checkpoint.read(path)["config_hash"] == digest:
                return path
        except ValueError:
            continue
    return None


def _ended_ok(folder: Path) -> bool:
    return any(row.get("status") == "ok" for row in _rows(folder / "result.csv"))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return read_csv(path)
    except (OSError, ValueError):
        return []
