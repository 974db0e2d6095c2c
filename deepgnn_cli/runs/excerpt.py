"""Some of an epoch's batches, from which the whole epoch's time is drawn out: what `plan` runs of many small graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median

import torch

from deepgnn_cli.data.batches import Batch
from deepgnn_cli.training.inputs import InputLoader, Inputs, prepared
from deepgnn_cli.training.trainer import Trainer

MOST = 10
"""So many training batches an epoch has, and evaluation batches an evaluation, at most."""
NEVER = 1 << 40
"""An epoch that does not come."""
_EPOCHS, _SECONDS = 5, 3.0
_COUNTED = 2  # the epoch whose batches are counted


class Excerpt(InputLoader):
    """As the loader it is made of, but for the batches after the first `MOST` of an epoch, or of an evaluation.

    The first evaluation is a whole one, where a run would keep its batches prepared: what they take has to be there
    when memory is measured.

    Attributes:
        train_batches: how many batches an epoch has.
        evaluation_batches: how many an evaluation has.
        largest: the batch of an epoch with most nodes and edges, ready to be trained on; None: every batch is run.
    """

    def __init__(self, loader: InputLoader) -> None:
        super().__init__(loader.whole, loader.batches, loader.device, loader.evaluation, loader.changed)
        self.train_batches, largest = 0, None
        for batch in self.batches.train(_COUNTED):
            self.train_batches += 1
            if largest is None or _extent(batch) > _extent(largest):
                largest = batch
        if self.train_batches <= MOST:
            largest = None
        self.largest = None if largest is None else prepared(largest, self.device, fleeting=True)
        self.evaluation_batches, self._kept = 0, True
        for batch in self.evaluation.evaluate():
            if self.evaluation_batches == 0:
                self._kept = self.keeps(batch)
            self.evaluation_batches += 1

    def train(self, epoch: int) -> Iterator[Inputs]:
        """The first training batches of an epoch."""
        yield from islice(super().train(epoch), MOST)

    def evaluate(self) -> Iterator[Inputs]:
        """The first evaluation batches; all of them the first time, where they stay prepared."""
        whole = self.evaluation_batches <= MOST or (self._kept and self._evaluated is None)
        yield from super().evaluate() if whole else islice(super().evaluate(), MOST)

    @property
    def timed(self) -> tuple[int, int]:
        """How many batches of an epoch, and of an evaluation, are timed."""
        return min(MOST, self.train_batches), min(MOST, self.evaluation_batches)


def _extent(batch: Batch) -> int:
    return batch.graph.num_nodes + batch.graph.num_edges


def epoch_seconds(trainer: Trainer, loader: Excerpt, eval_every: int) -> float:
    """The time of an epoch with its share of an evaluation: that of the batches run, times as many as there are.

    Args:
        trainer: trains on `loader` and evaluates in no epoch; its caches are warm.
        loader: the batches.
        eval_every: epochs from one evaluation to the next.
    """
    epoch = iter(range(_COUNTED + 1, NEVER))
    training = _median_seconds(lambda: trainer.epoch(next(epoch)))
    forward = _seconds(lambda: trainer.predict().cpu())
    whole = _seconds(lambda: trainer.evaluate().cpu())  # the batches again, and the scores, which see every graph
    trained, evaluated = loader.timed
    scoring = max(0.0, whole - forward)
    evaluation = forward * loader.evaluation_batches / evaluated + scoring
    return training * loader.train_batches / trained + evaluation / eval_every


def _median_seconds(work: Callable[[], object]) -> float:
    """Of a few times."""
    seconds: list[float] = []
    while len(seconds) < _EPOCHS and sum(seconds) < _SECONDS:
        seconds.append(_seconds(work))
    return median(seconds)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began
