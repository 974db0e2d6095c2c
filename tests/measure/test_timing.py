"""Steps are timed on their own device, whichever GPU is the current one."""

import time

import pytest
import torch

from deepgnn_cli.measure.timing import StepTimer

SECOND = torch.device("cuda:1")


def test_events_are_recorded_and_waited_for_on_the_timed_device(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[object] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object = "of the current device") -> None:
            did.append(stream)
            self.at = 100.0 * len(did)

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: did.append(f"wait for {device}"))
    timer = StepTimer(SECOND)
    for _ in range(2):
        with timer:
            pass
    assert did == ["of cuda:1"] * 4  # nothing waits before the times are asked for
    assert timer.seconds() == [0.1, 0.1] and did[4:] == ["wait for cuda:1"]
    assert timer.seconds() == []


def test_elsewhere_by_the_wall_clock() -> None:
    timer = StepTimer(torch.device("cpu"))
    with timer:
        time.sleep(0.02)
    (seconds,) = timer.seconds()
    assert 0.02 <= seconds < 2
