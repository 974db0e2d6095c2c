"""Sparse products that give the same bits every time, on a GPU as well.

The algorithm that torch takes for a CSR product on CUDA may add up a row in another order in every run (cuSPARSE's
documentation of `cusparseSpMM`). Where a result is to be found again bit by bit, each row is added up in its order.

N, R nodes, E entries, C channels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_ASKED = threading.local()
_BYTES = 128 << 20  # of the tensor of entries that is made at a time


@contextmanager
def repeatable() -> Iterator[None]:
    """Inside, the sparse products of this thread are repeatable on every device; on a CPU they always are."""
    before = getattr(_ASKED, "now", False)
    _ASKED.now = True
    try:
        yield
    finally:
        _ASKED.now = before


def asked_for(device: torch.device) -> bool:
    """Whether products on `device` are to be made by `row_sums`."""
    return device.type != "cpu" and getattr(_ASKED, "now", False)


def row_sums(matrix: Tensor, x: Tensor) -> Tensor:
    """`matrix @ x`, a thread a row and channel; matrix: [R, N] CSR with E entries, x: [N, C], result: [R, C]."""
    offsets, values = matrix.crow_indices().long(), matrix.values().unsqueeze(1)
    width = max(1, _BYTES // max(1, values.numel() * x.element_size()))
    parts = [
        torch.segment_reduce(
            part.index_select(0, matrix.col_indices()) * values, "sum", offsets=offsets, axis=0, unsafe=True
        )
        for part in x.split(width, dim=1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
