"""How long a training step takes, without waiting for the device inside a step."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class StepTimer:
    """`with timer:` around each step; `seconds()` afterwards, once the device has caught up.

    On CUDA the times are the device's own, from events; elsewhere the wall clock's.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: list[tuple[float | torch.cuda.Event, float | torch.cuda.Event]] = []
        self._start: float | torch.cuda.Event = 0.0

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self) -> StepTimer:
        self._start = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spans.append((self._start, self._now()))

    def seconds(self) -> list[float]:
        """The length of every step since the last call, in seconds; on CUDA this waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
        spans, self._spans = self._spans, []
        return [
            start.elapsed_time(end) / 1000 if isinstance(start, torch.cuda.Event) else end - start  # type: ignore
            for start, end in spans
        ]
