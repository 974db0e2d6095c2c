"""A study in one file to hand on: what ran, on what, with which versions, what came out; checksums of it all.

manifest.json       the runs by number, where each ran, the SHA-256 of every other file
results.csv         all rows
constraints.txt     the versions that were installed: pip install -c constraints.txt deepgnn
commands.sh         the command of each run
runs/0001/…         a run's own files, without its checkpoint
data/0001/…         the user's own graph, where a run reads one from a file
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import shlex
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from deepgnn_cli.analysis.grouping import override_tokens
from deepgnn_cli.runfiles.files import read_csv, read_yaml
from deepgnn_cli.runfiles.record import COLUMNS
from deepgnn_cli.runfiles.status import read_status

FORMAT = 1
_LARGEST_DATA = 2**28
_FILES = (
    "config.yaml",
    "result.csv",
    "epochs.csv",
    "layers.csv",
    "influence.csv",
    "embeddings.csv",
    "memory.csv",
    "graph.json",
)
_CHOICES = ("dataset", "model", "conv", "norm", "residual")
_WHEN = (1980, 1, 1, 0, 0, 0)  # two bundles of the same files are the same file


@dataclass(frozen=True)
class BundledRun:
    """A run in a bundle: its number there, its row, and what else it takes to repeat it.

    `data` is the path of the user's own graph in the bundle, "" where the run reads none; `machine` is where it ran.
    """

    name: str
    row: dict[str, str]
    choices: dict[str, str]
    machine: dict[str, object]
    data: str = ""


def write_bundle(paths: Sequence[Path], file: BinaryIO, *, weights: bool = False) -> list[BundledRun]:
    """Write a bundle of all runs below `paths`; returns them.

    Args:
        paths: folders to search.
        file: takes the zip file.
        weights: with `best.pt`, the scored weights.

    Raises:
        ValueError: there is no run, or a file cannot be read.
    """
    folders = list(_runs(paths))
    if not folders:
        raise ValueError(f"{', '.join(map(str, paths))}: there is no run with a result.csv and a config.yaml")
    names = (*_FILES, *(["best.pt"] if weights else []))
    checksums: dict[str, str] = {}
    bundled = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, content: bytes) -> None:
            checksums[name] = hashlib.sha256(content).hexdigest()
            archive.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)

        for number, folder in enumerate(folders, start=1):
            run = _described(f"{number:04}", folder)
            for name in names:
                if (folder / name).is_file():
                    add(f"runs/{run.name}/{name}", (folder / name).read_bytes())
            if run.data and run.data not in checksums:
                for name, content in _own_data(run, folder):
                    if name not in checksums:
                        add(name, content)
            bundled.append(run)
        add("results.csv", _results([run.row for run in bundled]))
        add("constraints.txt", _constraints().encode())
        add("commands.sh", "".join(f"{command(run.row)}\n" for run in bundled).encode())
        manifest = {
            "format": FORMAT,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "runs": [asdict(run) for run in bundled],
            "sha256": checksums,
        }
        archive.writestr(zipfile.ZipInfo("manifest.json", _WHEN), json.dumps(manifest, indent=1))
    return bundled


def command(row: Mapping[str, str]) -> str:
    """The command of a run, as one would type it."""
    return shlex.join(["deepgnn", "train", *override_tokens(row.get("overrides", ""))])


def read_bundle(path: Path, folder: Path) -> list[BundledRun]:
    """Unpack a bundle into `folder` and return its runs; every file is what it was when the bundle was made.

    Raises:
        ValueError: it is no bundle, or it was changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise ValueError(f"{path}: a bundle of another version of deepgnn")
            for name, checksum in dict(manifest["sha256"]).items():
                target = (folder / str(name)).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise ValueError(f"{path}: {name} lies outside the bundle")
                content = archive.read(str(name))
                if hashlib.sha256(content).hexdigest() != checksum:
                    raise ValueError(f"{path}: {name} is not the file that was bundled (checksum)")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            return [BundledRun(**run) for run in manifest["runs"]]
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a bundle that `deepgnn bundle` wrote ({type(error).__name__})") from None


def _runs(paths: Iterable[Path]) -> Iterator[Path]:
    """The folders of runs, each run once."""
    seen = set()
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        for file in sorted(path.rglob("result.csv")):
            if not (file.parent / "config.yaml").is_file():
                continue
            rows = read_csv(file)
            if rows and (rows[0].get("run_id"), rows[0].get("config_hash")) not in seen:
                seen.add((rows[0].get("run_id"), rows[0].get("config_hash")))
                yield file.parent


def _described(name: str, folder: Path) -> BundledRun:
    row = read_csv(folder / "result.csv")[0]
    machine = read_status(folder).get("machine")
    choices = {group: row[group] for group in _CHOICES if row.get(group)}
    own = _own_path(folder)
    data = f"data/{_digest(str(own.resolve()))}/{own.name}" if own is not None else ""
    return BundledRun(name, row, choices, dict(machine) if isinstance(machine, dict) else {}, data)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _own_path(folder: Path) -> Path | None:
    """The user's own graph that a run reads, if it does: `dataset.path`."""
    dataset = read_yaml(folder / "config.yaml").get("dataset")
    path = dataset.get("path") if isinstance(dataset, dict) else None
    return Path(path) if isinstance(path, str) else None


def _own_data(run: BundledRun, folder: Path) -> Iterator[tuple[str, bytes]]:
    own = _own_path(folder)
    assert own is not None
    if not own.exists():
        raise ValueError(f"{folder}: its graph dataset.path={own} is not here; run this where the run was started")
    files = [own] if own.is_file() else sorted(path for path in own.rglob("*") if path.is_file())
    if (size := sum(file.stat().st_size for file in files)) > _LARGEST_DATA:
        raise ValueError(f"{own}: {size / 2**20:.0f} MiB of data are too much for a bundle; hand them on apart")
    for file in files:
        yield (run.data if own.is_file() else f"{run.data}/{file.relative_to(own)}"), file.read_bytes()


def _results(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    writer = csv.DictWriter(text, [*COLUMNS, *extra], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _constraints() -> str:
    """Every installed distribution with its version, as pip's constraints."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    lines = [f"{name}=={version}" for name, version in found.items() if name and name != "deepgnn"]
    return "\n".join(sorted(lines, key=str.lower)) + "\n"
