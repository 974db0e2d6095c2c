"""What is told after each epoch: the progress bar, and the logger that `logger=` names (see `loggers`)."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from tqdm import tqdm

from deepgnn_cli.runfiles.record import Row
from deepgnn_cli.training.checkpoint import Epoch


class Logger(Protocol):
    """Hears of every epoch, and of the row at the end."""

    def epoch(self, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, row: Row) -> None:
        """After the run, however it ended."""


class Bar:
    """The progress bar: loss and validation score; quiet when the terminal is none."""

    def __init__(self, total: int, done: int, label: str) -> None:
        quiet = not sys.stderr.isatty() or "DEEPGNN_QUIET" in os.environ
        self._bar = tqdm(total=total, initial=done, desc=label, unit="epoch", leave=False, disable=quiet, ncols=100)

    def epoch(self, epoch: Epoch) -> None:
        """Move on by one epoch."""
        shown = {"loss": f"{epoch.train_loss:.3f}"}
        if epoch.val_score is not None:
            shown["val"] = f"{epoch.val_score:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(1)

    def finish(self, row: Row) -> None:
        """Clear the line."""
        self._bar.close()
