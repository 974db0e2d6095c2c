"""What the command prints to, whatever it is: another encoding, a closed stream, a reader that has gone."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message}; see `{self.prog} --help`")

    def parse_known_args(self, args: Any = None, namespace: object = None) -> Any:
        """As argparse's; a shell that asks what may stand on the line is answered instead, and the process ends."""
        self._answer()
        return super().parse_known_args(args, namespace)

    def parse_known_intermixed_args(self, args: Any = None, namespace: object = None) -> Any:
        """As `parse_known_args`."""
        self._answer()
        return super().parse_known_intermixed_args(args, namespace)

    def _answer(self) -> None:
        if "_ARGCOMPLETE" in os.environ and not self._answers:
            self._answers = True  # argcomplete parses with this very parser
            import argcomplete

            argcomplete.autocomplete(self)

    _answers = False


def quietly(act: Callable[[], int]) -> int:
    """Do something without what it prints; if its exit status is not 0, that is told as an error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = act()
    if status:
        sys.stderr.write(said.getvalue())
    return status


def tell_loading(what: str) -> None:
    """Say in a terminal that something takes a while; the next line there takes its place."""
    if sys.stderr.isatty() and not os.environ.get("DEEPGNN_QUIET"):
        print(f"loading {what} …", end="\r", file=sys.stderr, flush=True)


class _Lasting(io.FileIO):
    """Writes to a file descriptor until its reader (`… | head`) or its terminal has gone, then to nowhere."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def prepare() -> None:
    """Give the process a stdout and a stderr that no character and no reader can break, and spare it others' warnings.

    What an encoding lacks is shown as `?`. A stream that was closed (`2>&-`) goes nowhere, and its number stays taken:
    a file of the run that got it would receive what libraries print. Under `PYTHONWARNINGS=error` a library's note
    about its own future is no error: PyG could not be imported.
    """
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(?!deepgnn_cli)")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if name != "stdin":
            before = getattr(sys, name)
            stream = io.TextIOWrapper(
                io.BufferedWriter(_Lasting(number, "w", closefd=False)),
                encoding=before.encoding if before is not None else "utf-8",
                errors="replace",
                line_buffering=name == "stderr" or os.isatty(number),
            )
            setattr(sys, name, stream)


def finish(status: int) -> int:
    """Write out what is still held back; returns the exit status, 1 where it cannot be written (a full disk)."""
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"deepgnn: {error}", file=sys.stderr)
        return status or 1
    return status
