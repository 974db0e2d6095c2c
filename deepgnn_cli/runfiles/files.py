"""Files that are written whole or not at all, and read with one line to say what is wrong with them.

Nothing here imports torch or pandas: `compare` and `ls` start without them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from deepgnn_cli.rules.text import printable

_LARGEST_YAML = 1 << 20
_DEEPEST_YAML = 100


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], mode: int | None = None) -> None:
    """Call `write(file)` on a temporary neighbour of `path`, sync it, and put it in place in one step.

    A reader sees the old file or the new one, never half of either; after a failure (a full disk, a kill) the
    old file still stands and no temporary file stays behind. `mode`: the file's permissions; None: as any new file's.

    Raises:
        OSError: the file system refused; `path` is untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if mode is None:
            umask = os.umask(0)
            os.umask(umask)
            mode = 0o666 & ~umask
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # which file, in the message
        raise


def write_out(path: Path, content: bytes) -> None:
    """Write to where the user says: a file whole or not at all, through a link to what it names, its mode kept.

    What is no file (a pipe, a device, `/dev/fd/3`) is written to, and never replaced.

    Raises:
        OSError: the file system refused.
    """
    target = Path(os.path.realpath(path))
    before = path.stat().st_mode if path.exists() else None
    if before is not None and (not stat.S_ISREG(before) or path.absolute().is_relative_to("/dev")):
        with path.open("wb") as file:
            file.write(content)
        return
    write_atomic(target, lambda file: file.write(content), before and stat.S_IMODE(before))


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` to `path` with a header; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    # A carriage return would not be quoted, and tear the row.
    writer.writerows({k: printable(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as strings.

    Raises:
        ValueError: it is none, or torn.
        OSError: it cannot be read.
    """
    refuse_no_file(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table ({error})") from None
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: a row is longer or shorter than the header; torn?")
    return rows


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a `config.yaml`.

    Raises:
        ValueError: it is none that a run writes: those are short, and no part of them stands for another, of which
            a few lines can make more than any memory holds.
        OSError: it cannot be read.
    """
    refuse_no_file(path)
    import yaml  # here: what reads no config.yaml needs torch and PyG alone

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if path.stat().st_size > _LARGEST_YAML:
            raise ValueError(f"{path}: larger than any config.yaml")
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path}: not a config.yaml (it has an alias)")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST_YAML:  # far more, and the process would die of a full stack
                raise ValueError(f"{path}: not a config.yaml (nested too deeply)")
        content = yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not a YAML file ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a config.yaml")
    return {str(key): value for key, value in content.items()}


def refuse_no_file(path: Path) -> None:
    """Refuse what is there and no regular file: reading a pipe would wait for its writer.

    Raises:
        ValueError: it is none.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a file")
