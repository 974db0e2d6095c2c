"""How long a training step takes, without waiting for the device inside a step."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class StepTimer:
    """`with timer:` around each step; `seconds()` afterwards, once the device has caught up.

    On CUDA the times are those of `device`, from events, whichever one is current; elsewhere the wall clock's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._starts: list[torch.cuda.Event] = []
        self._ends: list[torch.cuda.Event] = []
        self._seconds: list[float] = []
        self._start = 0.0

    def __enter__(self) -> StepTimer:
        if self._cuda:
            self._starts.append(self._event())
        else:
            self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda:
            self._ends.append(self._event())
        else:
            self._seconds.append(time.perf_counter() - self._start)

    def seconds(self) -> list[float]:
        """The length of every step since the last call, in seconds; on CUDA this waits for the device."""
        measured, self._seconds = self._seconds, []
        if self._cuda:
            torch.cuda.synchronize(self._device)
            pairs = zip(self._starts, self._ends, strict=True)
            measured = [start.elapsed_time(end) / 1000 for start, end in pairs]
            self._starts, self._ends = [], []
        return measured

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
