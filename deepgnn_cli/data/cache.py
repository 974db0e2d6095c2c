"""Processed copies of raw files that take long to parse, used as long as the raw files stay as they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepgnn_cli.data.download import locked, reading
from deepgnn_cli.runfiles.files import write_atomic

Tensors = dict[str, Tensor]
Stamp = list[list[str | int]]


def cached(copy: Path, raw: Sequence[Path], parse: Callable[[], Tensors]) -> Tensors:
    """The tensors that `parse` makes of the `raw` files, from `copy` where it is up to date.

    One process parses while others wait for its copy. In a folder that may not be written, nothing is kept.

    Raises:
        DataError: `copy` is damaged; or whatever `parse` raises.
    """
    stamp: Stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in raw]
    folder = copy.parents[1]
    if not os.access(folder, os.W_OK) or not os.access(folder.parent, os.W_OK):
        stored = _read(copy, stamp)
        return parse() if stored is None else stored
    with locked(folder):
        stored = _read(copy, stamp)
        if stored is None:
            stored = parse()
            copy.parent.mkdir(exist_ok=True)
            write_atomic(copy, lambda file: torch.save({"stamp": stamp, "tensors": stored}, file))
        return stored


def _read(copy: Path, stamp: Stamp) -> Tensors | None:
    if not copy.is_file():
        return None
    with reading(copy):
        stored = torch.load(copy, weights_only=True)
        tensors: Tensors = stored["tensors"]
        return tensors if stored["stamp"] == stamp else None
