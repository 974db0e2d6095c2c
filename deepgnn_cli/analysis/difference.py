"""What two runs differ in: what they were told, where they ran, what came out, and when their curves parted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from deepgnn_cli.runfiles.files import read_csv, read_yaml
from deepgnn_cli.runfiles.status import read_status

ENVIRONMENT = ("device", "git_sha", "version_torch", "version_pyg", "version_deepgnn")
RESULT = (
    "status", "error", "split", "metric", "parameters", "epochs", "best_epoch", "train_score", "val_score",
    "test_score", "val_loss", "step_seconds", "train_seconds", "peak_memory_mib", "memory_kind", "activation_mib",
)  # fmt: skip
_NOT_COMPARED = ("epoch", "step_seconds")


@dataclass(frozen=True)
class Change:
    """A value that the two runs do not share; "" where one has none."""

    name: str
    first: str
    second: str

    @property
    def by(self) -> float | None:
        """How much more the second is, where both are numbers."""
        try:
            change = float(self.second) - float(self.first)
        except ValueError:
            return None
        return change if isfinite(change) else None


@dataclass(frozen=True)
class Parting:
    """The first epoch at which a curve of the two runs is not the same to the last bit."""

    epoch: int
    change: Change


@dataclass(frozen=True)
class Difference:
    """All that two runs differ in.

    `aside` are settings that change nothing of what is computed (where files go). `partings` has each curve that parts,
    the earliest first; `shared_epochs` is how many epochs both runs have.
    """

    config: tuple[Change, ...]
    aside: tuple[Change, ...]
    environment: tuple[Change, ...]
    result: tuple[Change, ...]
    partings: tuple[Parting, ...]
    shared_epochs: int


def difference(first: Path, second: Path, aside: Sequence[str]) -> Difference:
    """Compare the files of two runs.

    Args:
        first: a run's folder.
        second: another one.
        aside: root keys that change nothing of what is computed.

    Raises:
        ValueError: a folder is none of a run, or its files cannot be read.
    """
    configs = [dict(_leaves(read_yaml(_the(folder, "config.yaml")))) for folder in (first, second)]
    changed = _changes(*configs)
    rows = [_row(folder) for folder in (first, second)]
    machines = [_environment(folder, row) for folder, row in zip((first, second), rows, strict=True)]
    partings, shared = _partings(*(_epochs(folder) for folder in (first, second)))
    return Difference(
        config=tuple(change for change in changed if change.name.partition(".")[0] not in aside),
        aside=tuple(change for change in changed if change.name.partition(".")[0] in aside),
        environment=tuple(_changes(*machines)),
        result=tuple(_changes(*({name: row.get(name, "") for name in RESULT} for row in rows))),
        partings=tuple(partings),
        shared_epochs=shared,
    )


def _the(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{name}"))[:3]
        hint = f"name one of the runs in it, as {folder / inside[0]}" if inside else "name the folder of a run"
        raise ValueError(f"{folder}: there is no {name} in it; {hint}")
    return path


def _row(folder: Path) -> dict[str, str]:
    path = folder / "result.csv"
    rows = read_csv(path) if path.is_file() else []
    return rows[0] if rows else {"status": str(read_status(folder).get("status", ""))}


def _environment(folder: Path, row: Mapping[str, str]) -> dict[str, str]:
    status = read_status(folder)
    known = {name: row.get(name, "") for name in ENVIRONMENT} | {"host": str(status.get("host") or "")}
    machine = status.get("machine")
    return known | {name: str(value) for name, value in (machine if isinstance(machine, dict) else {}).items()}


def _epochs(folder: Path) -> list[dict[str, str]]:
    path = folder / "epochs.csv"
    return read_csv(path) if path.is_file() else []


def _leaves(node: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _changes(first: Mapping[str, str], second: Mapping[str, str]) -> list[Change]:
    names = [*first, *(name for name in second if name not in first)]
    pairs = [Change(name, first.get(name, ""), second.get(name, "")) for name in names]
    return [change for change in pairs if change.first != change.second]


def _partings(first: list[dict[str, str]], second: list[dict[str, str]]) -> tuple[list[Parting], int]:
    after = {row["epoch"]: row for row in second}
    shared = [(row, after[row["epoch"]]) for row in first if row["epoch"] in after]
    names = [name for name in (first[0] if first else {}) if name not in _NOT_COMPARED]
    partings = []
    for name in names:
        for one, other in shared:
            if one[name] != other.get(name, ""):
                partings.append(Parting(int(one["epoch"]), Change(name, one[name], other.get(name, ""))))
                break
    return sorted(partings, key=lambda parting: parting.epoch), len(shared)
