"""What happens beside the training steps: the progress bar, checkpoints, and measurements.

The logger that `logger=` names is one more that hears of every epoch (see `loggers`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from deepgnn_cli.data.pieces import stream
from deepgnn_cli.measure.memory import PhaseMemory
from deepgnn_cli.runfiles.record import Row, RunFolder
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.checkpoint import EPOCH_COLUMNS, Epoch, TrainState
from deepgnn_cli.training.errors import line_of
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.trainer import Trainer

MEMORY_COLUMNS = ("phase", "peak_mib", "reserved_mib", "kind")
# A checkpoint by the clock waits this many times as long as the last one took: at most 5 % of the time goes to them.
_PATIENCE = 20
# So often at most the epochs are written between checkpoints: for those who watch.
_SHOW_SECONDS = 2.0


class Logger(Protocol):
    """Hears of every epoch, and of the row at the end."""

    def epoch(self, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, row: Row) -> None:
        """After the run, however it ended."""


def quiet() -> bool:
    """Whether nobody would see a progress bar: neither a terminal nor a notebook, or DEEPGNN_QUIET is set."""
    return "DEEPGNN_QUIET" in os.environ or not (sys.stderr.isatty() or "ipykernel" in sys.modules)


class ProgressBar:
    """The progress bar: loss and validation score; in a terminal or a notebook, quiet elsewhere."""

    def __init__(self, total: int, done: int, label: str) -> None:
        width = None if "ipykernel" in sys.modules else 100  # characters; a notebook would take them for pixels
        off = quiet()
        self._bar = tqdm(total=total, initial=done, desc=label, unit="epoch", leave=False, disable=off, ncols=width)

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


class CheckpointCallback:
    """`after_epoch` is what the loop calls; `save` writes the checkpoint and the epochs.

    Args:
        folder: where the run's files go.
        trainer: whose model and optimiser are saved.
        state: how far the run is.
        config_hash: written into the checkpoint, to refuse one of another configuration.
        recipe: the values of `trainer`; `checkpoint_every` epochs (0: only by the clock), `checkpoint_seconds`, which
            are more where writing a checkpoint takes long.
        loggers: told of each epoch and of the end; one that raises is told no more.
        stop: what asks the run to stop.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        state: TrainState,
        config_hash: str,
        recipe: Mapping[str, Any],
        loggers: Sequence[Logger],
        stop: Stop,
    ) -> None:
        self.folder, self.trainer, self.state, self.config_hash = folder, trainer, state, config_hash
        self.every_epochs, self.every_seconds = recipe["checkpoint_every"], recipe["checkpoint_seconds"]
        self.loggers, self.stop = list(loggers), stop
        self._before = state.train_seconds
        self._began = self._saved = self._shown = time.monotonic()
        self._cost = self._showing_cost = 0.0

    def after_epoch(self, state: TrainState) -> None:
        """Tell the loggers, save when it is time, and stop where a signal asked for it.

        Raises:
            Interrupted: a signal came; everything is saved.
            OSError: the checkpoint cannot be written; the previous one still stands.
        """
        now = time.monotonic()
        state.train_seconds = self._before + now - self._began
        self._tell(state.epochs[-1])
        due = now - self._saved >= max(self.every_seconds, _PATIENCE * self._cost)
        due |= self.every_epochs > 0 and state.epoch % self.every_epochs == 0
        asked = self.stop.share(self.trainer.ranks.largest)
        if due or asked:
            self.save()
        elif now - self._shown >= max(_SHOW_SECONDS, _PATIENCE * self._showing_cost):
            self._show()
        if asked:
            self.stop.check()

    def _show(self) -> None:
        """Write the epochs so far and the status, between checkpoints; where that fails the next checkpoint tells."""
        began = time.monotonic()
        with suppress(OSError):
            self._write_epochs()
            self.folder.status("running", self.state.epoch)
        self._shown = time.monotonic()
        self._showing_cost = self._shown - began

    def _tell(self, epoch: Epoch) -> None:
        for logger in tuple(self.loggers):
            try:
                logger.epoch(epoch)
            except Exception as error:  # a logger's trouble is not the run's
                self.loggers.remove(logger)
                name = type(logger).__name__.lstrip("_")
                self.folder.log(f"{name} is told nothing after epoch {epoch.epoch - 1}: {error}")

    def save(self) -> None:
        """Write the checkpoint, the epochs so far, and the status."""
        began = time.monotonic()
        checkpoint.save(
            self.folder.checkpoint, self.trainer.model, self.trainer.optimizer, self.state, self.config_hash
        )
        self._write_epochs()
        self.folder.status("running", self.state.epoch)
        self._saved = self._shown = time.monotonic()
        self._cost = self._saved - began

    def write_training(self) -> None:
        """Write what the training leaves, however it ended: `epochs.csv` and the scored weights, `best.pt`."""
        self._write_epochs()
        self.state.best_weights.put(self.folder.path / "best.pt")

    def finish(self, row: Row) -> None:
        """Tell the loggers how the run ended."""
        for logger in self.loggers:
            try:
                logger.finish(row)
            except Exception as error:  # a logger's trouble is not the run's
                self.folder.log(f"{type(logger).__name__}: {line_of(error)}")

    def _write_epochs(self) -> None:
        self.folder.table("epochs", EPOCH_COLUMNS, map(asdict, self.state.epochs))


class AssistingRank:
    """What a process that trains along with rank 0 does after an epoch: draw other masks than it, stop when it does."""

    def __init__(self, trainer: Trainer, state: TrainState, seed: int, stop: Stop) -> None:
        self.ranks, self.seed, self.stop = trainer.ranks, seed, stop
        self._draw(state)

    def after_epoch(self, state: TrainState) -> None:
        """Go on with the masks of the next epoch, or stop where any of the processes was asked to.

        Raises:
            Interrupted: a signal came.
        """
        self._draw(state)
        if self.stop.share(self.ranks.largest):
            self.stop.check()

    def _draw(self, state: TrainState) -> None:
        # The same ones after a resumption as without.
        torch.manual_seed(stream(self.seed, self.ranks.rank, state.epoch))


class StepProbe:
    """Measures the first training step: what autograd keeps, and the memory of each phase.

    The step is an ordinary one of the training, only not timed: measuring changes nothing.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.used = False
        self._memory = PhaseMemory(device, model, optimizer)
        self.phase = self._memory.phase

    @property
    def activation_mib(self) -> float | None:
        """What autograd kept for the backward pass of the step; None before it."""
        return self._memory.activation_mib if self.used else None

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `memory.csv`."""
        return self._memory.rows()
