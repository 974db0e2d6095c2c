"""The files of the Open Graph Benchmark (arXiv:2005.00687), in the form that all of its data sets share.

Files lie below `ROOT/NAME` as ogb lays them out, so that an ogb root can be used as it is. ogb's own reader
parses them, once: a processed copy serves every later run. Its data set classes are not used, because they ask
questions on stdin, load pickles, and leave half a data set behind when a download breaks off.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from deepgnn_cli.data.download import obtain, reading, zipped
from deepgnn_cli.data.transfer import CHUNK_BYTES

HOME = "https://snap.stanford.edu/ogb/data"
PARTS = ("train", "valid", "test")
RawGraph = dict[str, Any]
"""One graph of ogb's reader: numpy's `edge_index` [2, E], `edge_feat` [E, D] and `node_feat` [N, F] or None, and
`num_nodes`."""


def files_of(tables: Sequence[str], split: str) -> list[str]:
    """All files a run needs: the tables of `raw/`, those of the split, and the mark of the version, in this order."""
    splits = (f"split/{split}/{part}.csv.gz" for part in PARTS)
    return [*(f"raw/{name}.csv.gz" for name in tables), *splits, "RELEASE_v1.txt"]


def fetched(folder: Path, files: Sequence[str], archive: str) -> list[Path]:
    """The paths of the files in `folder`, fetched where they are missing.

    Args:
        folder: `ROOT/NAME`.
        files: of `files_of`.
        archive: the zip file below `HOME`; the folder in it has its name.

    Raises:
        DataError: files cannot be had.
    """
    inside = Path(archive).stem
    return obtain(folder, files, [zipped(f"{HOME}/{archive}", {file: f"{inside}/{file}" for file in files})])


def rows_of(folder: Path, files: Sequence[str]) -> dict[str, int]:
    """How many rows each table has; refuses those that are empty or cut off, before anything parses them.

    Raises:
        DataError: one of them is.
    """
    return {name: _rows(folder, name) for name in tqdm(files, f"{folder.name}: checking", disable=None, leave=False)}


def _rows(folder: Path, name: str) -> int:
    if not name.endswith(".gz"):
        return 0
    with reading(folder / name), gzip.open(folder / name) as file:
        rows, chunk = 0, b""
        while more := file.read(CHUNK_BYTES):
            rows, chunk = rows + more.count(b"\n"), more
        if not chunk:
            raise ValueError("it is empty")
        return rows + (not chunk.endswith(b"\n"))


def read_graphs(folder: Path) -> list[RawGraph]:
    """The graphs of `folder/raw` by ogb's reader.

    Raises:
        DataError: it cannot read them.
    """
    with no_version_check():  # imported only when there is something to parse, because that takes seconds
        from ogb.io.read_graph_raw import read_csv_graph_raw
    with reading(folder / "raw"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        graphs: list[RawGraph] = read_csv_graph_raw(str(folder / "raw"))
    return graphs


def numbers_of(path: Path, count: int, what: str) -> Tensor:
    """The nodes or graphs that a file of a split names, each a number below `count`.

    Raises:
        DataError: one is not.
    """
    with reading(path):
        numbers = torch.from_numpy(table(path))[:, 0].long()
        if (wrong := numbers[(numbers < 0) | (numbers >= count)]).numel():
            raise ValueError(f"{what} {int(wrong[0])} of {count}")
        return numbers


def split_masks(parts: dict[str, Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The masks of training, validation and test, [count] each, of the numbers of each of `PARTS`."""
    train, val, test = (torch.zeros(count, dtype=torch.bool) for _ in PARTS)
    for mask, part in zip((train, val, test), PARTS, strict=True):
        mask[parts[part]] = True
    return train, val, test


def same(what: str, found: int, wanted: int) -> None:
    """Refuse a number that is not the one wanted.

    Raises:
        ValueError: it is not.
    """
    if found != wanted:
        raise ValueError(f"{found} {what} where {wanted} should be")


def table(path: Path) -> NDArray[Any]:
    """The rows of a csv file without names."""
    import pandas

    # A copy: pandas 3 hands out arrays that may not be written to.
    return np.array(pandas.read_csv(path, header=None))


@contextmanager
def no_version_check() -> Iterator[None]:
    """Hide the package with which ogb asks the network for its newest version while it is imported."""
    hidden = "outdated" not in sys.modules
    sys.modules.setdefault("outdated", None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["outdated"]
