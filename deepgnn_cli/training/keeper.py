"""Keeps a run safe while it trains: its checkpoint, its epochs, its status, and its listeners."""

from __future__ import annotations

import time
from dataclasses import asdict

from deepgnn_cli.runfiles.folder import RunFolder
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.callbacks import Logger
from deepgnn_cli.training.checkpoint import EPOCH_COLUMNS, Epoch, Progress
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.trainer import Trainer

# A checkpoint by the clock waits this many times as long as the last one took: at most 5 % of the time goes to them.
_PATIENCE = 20


class Keeper:
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
        progress: Progress,
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

    def after_epoch(self, progress: Progress) -> None:
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
