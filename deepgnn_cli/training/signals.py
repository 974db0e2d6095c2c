"""SIGINT, SIGTERM and SIGHUP ask a run to finish its step and save; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from deepgnn_cli.training.errors import Interrupted

_LOOK_SECONDS = 0.5
_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Collects the signals that come inside `with Stop() as stop:`.

    A signal raises `Interrupted` on the spot, except while `stop.deferred()` or after `stop.defer()`: there it is
    noted, `stop.check()` raises it where it is safe to stop, and only a second signal raises on the spot. What was
    noted and never raised is sent again at the end, to whoever handled signals before. Outside the main thread,
    where Python handles no signals, only the marker is looked at.

    Args:
        marker: a file that asks to stop, too, as soon as it exists; it holds the signal's number.
        on_first: called with the number of the first signal.
    """

    def __init__(self, marker: Path | None = None, on_first: Callable[[int], None] | None = None) -> None:
        self.number: int | None = None
        self._marker, self._on_first, self._looked = marker, on_first, -_LOOK_SECONDS
        self._gentle = self._raised = False
        self._before: dict[int, _Handler] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # under nohup a hang-up is to be survived
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not installed from Python: it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._before and self.number is not None and not self._raised:
            signal.raise_signal(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.number = self.number is None, self.number or number
        if first and self._on_first is not None:
            self._on_first(number)
        if not (first and self._gentle):
            self._raise(number)

    def _raise(self, number: int) -> None:
        self._raised, self._gentle = True, True
        raise Interrupted(number)

    def defer(self) -> None:
        """From here on, only note a first signal."""
        self._gentle = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, only note a first signal; it is raised at the end if `check` did not raise it."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = self._raised
        if self.number is not None and not self._raised:
            self._raise(self.number)

    def asked(self) -> bool:
        """Whether a signal or the marker asks to stop; the marker is looked at twice a second at most."""
        now = time.monotonic()
        if self.number is None and self._marker is not None and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if self._marker.exists():
                self.number = read_marker(self._marker)
        return self.number is not None

    def share(self, largest: Callable[[int], int]) -> bool:
        """Whether any of several processes is asked to stop, the same answer in all of them; then so is this one.

        `largest` compares a number with the others'. A signal that comes meanwhile counts at the next call.
        """
        self.asked()
        agreed = largest(self.number or 0)
        if agreed:
            self.number = agreed
        return agreed > 0

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for."""
        if self.asked():
            assert self.number is not None
            self._raise(self.number)


def write_marker(path: Path, number: int) -> None:
    """Ask every run that looks at `path` to stop, as if signal `number` had come."""
    path.write_text(str(number), encoding="utf-8")


def read_marker(path: Path) -> int:
    """The number of the signal a marker stands for."""
    text = path.read_text(encoding="utf-8")
    return int(text) if text.isdigit() else int(signal.SIGTERM)


def number_of(error: str | None) -> int:
    """The signal that the error line of an interrupted row names."""
    return int(next((number for number in _SIGNALS if number.name in (error or "")), signal.SIGINT))
