"""Numbers too small for a CPU to compute with at full speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def subnormals_are_zeros() -> Iterator[None]:
    """Inside, what is below 1.2e-38 in single precision (2.2e-308 in double) is 0 on a CPU.

    Arithmetic with such numbers takes a CPU a hundred times as long, and a deep network whose signal vanishes is full
    of them: with GCN of 32 to 128 layers on Cora training takes twice as long, for the same scores. It holds for this
    thread and for those that it starts; a CPU that cannot do it goes on as before.
    """
    already = torch.full((), 1e-40, dtype=torch.float32, device="cpu").mul(1).item() == 0
    changed = not already and torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if changed:
            torch.set_flush_denormal(False)
