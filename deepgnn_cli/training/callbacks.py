"""What happens beside the training steps: the progress bar, checkpoints, and measurements.

The logger that `logger=` names is one more that hears of every epoch (see `loggers`).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from deepgnn_cli.measure.layer_diagnostics import Layered, LayerRow, layer_diagnostics
from deepgnn_cli.measure.memory import PhaseMemory
from deepgnn_cli.runfiles.record import Row, RunFolder
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.checkpoint import EPOCH_COLUMNS, Epoch, TrainState
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.trainer import Trainer

LAYER_COLUMNS = tuple(LayerRow.__dataclass_fields__)
MEMORY_COLUMNS = ("phase", "peak_mib", "reserved_mib", "kind")
# A checkpoint by the clock waits this many times as long as the last one took: at most 5 % of the time goes to them.
_PATIENCE = 20


class Logger(Protocol):
    """Hears of every epoch, and of the row at the end."""

    def epoch(self, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, row: Row) -> None:
        """After the run, however it ended."""


class ProgressBar:
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


class CheckpointCallback:
    """`after_epoch` is what the loop calls; `save` writes the checkpoint and the epochs.

    Args:
        folder: where the run's files go.
        trainer: whose model and optimiser are saved.
        progress: how far the run is.
        config_hash: written into the checkpoint, to refuse one of another configuration.
        every_epochs: epochs between checkpoints; 0: only by the clock.
        every_seconds: seconds between checkpoints; more where writing one takes long.
        listeners: told of each epoch; one that raises is taken off the list.
        stop: what asks the run to stop.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        progress: TrainState,
        config_hash: str,
        every_epochs: int,
        every_seconds: float,
        listeners: list[Logger],
        stop: Stop,
    ) -> None:
        self.folder, self.trainer, self.progress, self.config_hash = folder, trainer, progress, config_hash
        self.every_epochs, self.every_seconds = every_epochs, every_seconds
        self.listeners, self.stop = listeners, stop
        self._before = progress.train_seconds
        self._began = self._saved = time.monotonic()
        self._cost = 0.0

    def after_epoch(self, progress: TrainState) -> None:
        """Tell the listeners, save when it is time, and stop where a signal asked for it.

        Raises:
            Interrupted: a signal came; everything is saved.
            OSError: the checkpoint cannot be written; the previous one still stands.
        """
        now = time.monotonic()
        progress.train_seconds = self._before + now - self._began
        self._tell(progress.epochs[-1])
        due = now - self._saved >= max(self.every_seconds, _PATIENCE * self._cost)
        due |= self.every_epochs > 0 and progress.epoch % self.every_epochs == 0
        asked = self.stop.share(self.trainer.ranks.largest)
        if due or asked:
            self.save()
        if asked:
            self.stop.check()

    def _tell(self, epoch: Epoch) -> None:
        for listener in tuple(self.listeners):
            try:
                listener.epoch(epoch)
            except Exception as error:  # a logger's trouble is not the run's
                self.listeners.remove(listener)
                name = type(listener).__name__.lstrip("_")
                self.folder.log(f"{name} is told nothing after epoch {epoch.epoch - 1}: {error}")

    def save(self) -> None:
        """Write the checkpoint, the epochs so far, and the status."""
        began = time.monotonic()
        checkpoint.save(
            self.folder.checkpoint, self.trainer.model, self.trainer.optimizer, self.progress, self.config_hash
        )
        self.write_epochs()
        self.folder.status("running", self.progress.epoch)
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def write_epochs(self) -> None:
        """Write `epochs.csv`."""
        self.folder.table("epochs", EPOCH_COLUMNS, map(asdict, self.progress.epochs))


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


def diagnose(trainer: Trainer) -> list[dict[str, Any]]:
    """The rows of `layers.csv` for the model as it stands."""
    inputs = next(iter(trainer.loader.train(0)))
    rows = layer_diagnostics(
        cast(Layered, trainer.model),
        inputs.x,
        inputs.graph,
        inputs.y[inputs.train],
        inputs.train,
        trainer.objective.loss,
    )
    return [asdict(row) for row in rows]
