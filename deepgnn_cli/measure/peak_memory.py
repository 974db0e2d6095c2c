"""The peak memory of a stretch of work.

On CUDA the figures are the allocator's own. On a CPU a peak is the largest resident size of the process *within the
stretch*: Linux can set its high-water mark back (`/proc/self/clear_refs`), and where it does not let us, or
elsewhere, a thread reads the resident size every few milliseconds, which can miss a short spike.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

import psutil
import torch

MIB = 2**20
_SAMPLING_SECONDS = 0.002
_aside = 0  # bytes of resident memory that no peak counts


@contextmanager
def set_aside() -> Iterator[None]:
    """Leave the resident memory that the block takes for good out of every peak read after it.

    For libraries that have no part in the work: what a run takes must not depend on who watches it.
    """
    global _aside
    process = psutil.Process()
    _trim()
    before = process.memory_info().rss
    try:
        yield
    finally:
        _trim()
        _aside += max(0, process.memory_info().rss - before)


class PeakMemory:
    """The peak within a `with` block, whatever the process did before it; blocks may be nested.

    `peak_mib`, and on CUDA `reserved_mib` (None elsewhere), are there after the block. `kind` is `cuda` (the
    allocator's peak on that device) or `rss` (the resident peak of the process).

    Args:
        device: where the work runs.
        tidy: first give back what earlier work has freed, so that it does not count as this block's.
    """

    peak_mib: float
    reserved_mib: float | None

    def __init__(self, device: torch.device, *, tidy: bool = True) -> None:
        self._device, self._tidy = device, tidy
        self.kind = "cuda" if device.type == "cuda" else "rss"
        self._peak = 0
        self._reserved: int | None = None

    def __enter__(self) -> PeakMemory:
        for outer in _OPEN:
            outer._note_peak()
        self._counter = counter_of(self._device)
        if self._tidy:
            self._counter.tidy()
        self._counter.reset()
        self._peak, self._reserved = 0, None
        _OPEN.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note_peak()
        _OPEN.remove(self)
        self._counter.close()
        self.peak_mib = self._peak / MIB
        self.reserved_mib = None if self._reserved is None else self._reserved / MIB

    def _note_peak(self) -> None:
        """Take note of the peak so far: an inner block is about to set the common mark back."""
        peak, reserved = self._counter.read()
        self._peak = max(self._peak, peak)
        if reserved is not None:
            self._reserved = max(self._reserved or 0, reserved)


_OPEN: list[PeakMemory] = []


class PeakCounter(Protocol):
    """A peak that can be set back to the present."""

    kind: str

    def tidy(self) -> None:
        """Give back what earlier work left behind."""

    def reset(self) -> None:
        """Set the peak back to what is in use now."""

    def read(self) -> tuple[int, int | None]:
        """The peak since `reset`, and the peak the allocator reserved (CUDA), in bytes."""

    def close(self) -> None:
        """Stop measuring."""


def counter_of(device: torch.device) -> PeakCounter:
    """The most exact one there is for the work on `device`; making it resets what it reads."""
    if device.type == "cuda":
        return CudaAllocator(device)
    return HighWaterMark() if HighWaterMark.works() else Sampler()


class CudaAllocator:
    """The allocator's own peaks on one device."""

    kind = "cuda"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def tidy(self) -> None:
        """Give back what earlier work left behind."""
        gc.collect()
        torch.cuda.empty_cache()

    def reset(self) -> None:
        """Set the peak back to what is in use now."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> tuple[int, int | None]:
        """The peak since `reset`, and the peak the allocator reserved (CUDA), in bytes."""
        return torch.cuda.max_memory_allocated(self._device), torch.cuda.max_memory_reserved(self._device)

    def close(self) -> None:
        """Nothing runs."""


class HighWaterMark:
    """Linux: the kernel's own mark, set back by writing to `clear_refs`."""

    kind = "rss"
    _RESET = "5"  # proc(5): set the peak resident size to the present one

    @classmethod
    def works(cls) -> bool:
        """Whether this system lets us set the mark back (which this does)."""
        try:
            cls().reset()
        except OSError:
            return False
        return True

    def tidy(self) -> None:
        """Give back what earlier work left behind."""
        _give_back_freed_memory()

    def reset(self) -> None:
        """Set the peak back to what is in use now."""
        with open("/proc/self/clear_refs", "w") as file:
            file.write(self._RESET)

    def read(self) -> tuple[int, int | None]:
        """The peak since `reset`, and the peak the allocator reserved (CUDA), in bytes."""
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 - _aside, None

    def close(self) -> None:
        """Nothing runs."""


class Sampler:
    """Anywhere else: a thread that reads the resident size every few milliseconds."""

    kind = "rss"

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def tidy(self) -> None:
        """Give back what earlier work left behind."""
        _give_back_freed_memory()

    def reset(self) -> None:
        """Set the peak back to what is in use now."""
        self._sample()
        self._thread.start()

    def read(self) -> tuple[int, int | None]:
        """The peak since `reset`, and the peak the allocator reserved (CUDA), in bytes."""
        self._sample()
        return self._peak - _aside, None

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLING_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


def _give_back_freed_memory() -> None:
    """Free what nothing refers to, and return it to the system."""
    gc.collect()
    _trim()


def _trim() -> None:
    """Return to the system what the C library has freed but still holds; without that library, do nothing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
