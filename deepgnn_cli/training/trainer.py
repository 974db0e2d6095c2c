"""The training loop: epochs of steps, an evaluation, the best kept, until patience ends.

N nodes, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deepgnn_cli.measure.timing import StepTimer
from deepgnn_cli.training.checkpoint import Epoch, TrainState
from deepgnn_cli.training.cuda_graph import StepGraph
from deepgnn_cli.training.distributed import ALONE, Ranks
from deepgnn_cli.training.errors import Diverged
from deepgnn_cli.training.inputs import InputLoader, Inputs
from deepgnn_cli.training.objectives import Objective

Phase = Callable[[str], AbstractContextManager[object]]
Look = Callable[[nn.Module, Inputs], Tensor]


class Probe(Protocol):
    """Measures one training step from inside: `phase(name)` wraps its forward, backward and optimiser."""

    used: bool

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A context manager around the phase."""


@dataclass(frozen=True)
class Settings:
    """How to train: the values of `trainer`, with the optimiser's base learning rate."""

    max_epochs: int
    patience: int | None
    select: str
    eval_every: int
    warmup_epochs: int
    clip_norm: float | None
    autocast: str
    cuda_graph: str | bool
    lr: float

    @staticmethod
    def of(recipe: Mapping[str, Any], lr: float) -> Settings:
        """From the values of the config's `trainer`."""
        names = [name for name in Settings.__dataclass_fields__ if name != "lr"]
        return Settings(lr=lr, **{name: recipe[name] for name in names})


class TrainingLoss(nn.Module):
    """The training loss of a batch, a scalar: the model's own if it has one (GRAND), the task's otherwise.

    A module, so that the gradients of all that is trained by it can be shared between processes.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, inputs: Inputs) -> Tensor:
        """The loss over the batch's training nodes, or graphs."""
        y = inputs.y[inputs.train]
        own = getattr(self.model, "loss", None)
        if own is not None:
            loss: Tensor = own(inputs.x, inputs.graph, y, inputs.train, self.objective.loss)
            return loss
        logits: Tensor = self.model(inputs.x, inputs.graph)[inputs.train].float()
        return self.objective.loss(logits, y)


class Trainer:
    """One model in training: `fit` runs epochs until the end.

    `step_seconds` is the time of a `train_step`, but for the first, which `probe` measures.

    With several `ranks` each trains on its own batches; rank 0 evaluates, and all stop when it does.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: InputLoader,
        optimizer: Optimizer,
        objective: Objective,
        settings: Settings,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.loader, self.optimizer = model, loader, optimizer
        self.objective, self.settings, self.ranks = objective, settings, ranks
        self.loss = ranks.share(TrainingLoss(model, objective))
        self.step: Callable[[Inputs], Tensor] = self.train_step
        if settings.cuda_graph is not False:
            self.step = StepGraph(self.train_step, model, optimizer, loader.device, settings.cuda_graph, ranks.world)
        self.timer = StepTimer(loader.device)
        self.probe: Probe | None = None
        self._twin: nn.Module | None = None

    @property
    def captured(self) -> bool:
        """Whether training steps are replays of a CUDA graph by now."""
        return isinstance(self.step, StepGraph) and self.step.captured

    def fit(self, progress: TrainState, after_epoch: Callable[[TrainState], None]) -> None:
        """Train from where `progress` is to the end; `after_epoch` runs after each one and may raise to stop.

        Raises:
            Diverged: the loss is not finite.
        """
        settings = self.settings
        while not self.ranks.agree(progress.exhausted(settings.max_epochs, settings.patience)):
            number = progress.epoch + 1
            epoch = self.epoch(number)
            progress.epochs.append(epoch)
            # Before anything is saved: no checkpoint holds an epoch without a loss.
            if not isfinite(epoch.train_loss):
                raise Diverged(f"the training loss is {epoch.train_loss} in epoch {number}; try a smaller optimizer.lr")
            progress.keep_best(self.model, epoch, settings.select, self.objective.lower_is_better)
            after_epoch(progress)

    def epoch(self, number: int) -> Epoch:
        """Train for an epoch, evaluate, and read the numbers off the device: once."""
        lr = self._warm_up(number)
        losses = []
        for inputs in self.loader.train(number):
            if self.probe is not None and not self.probe.used:
                self.probe.used = True
                losses.append(self.train_step(inputs, self.probe.phase))
            else:
                with self.timer:
                    losses.append(self.step(inputs))
        # An evaluation and a checkpoint need room, which in a deep network the gradients take.
        self.optimizer.zero_grad(set_to_none=True)
        evaluated = number % self.settings.eval_every == 0 or number == self.settings.max_epochs
        seconds = self.timer.seconds()
        values = torch.stack(losses).cpu().tolist() if losses else [float("nan")]
        if evaluated:
            self.ranks.average_buffers(self.model)
        scores = self.evaluate().cpu().tolist() if evaluated and self.ranks.leads else [None] * 4
        val_loss, train_score, val_score, test_score = scores
        return Epoch(
            epoch=number,
            train_loss=self.ranks.mean(fmean(values)),
            val_loss=val_loss,
            train_score=train_score,
            val_score=val_score,
            test_score=test_score,
            lr=lr,
            step_seconds=median(seconds) if seconds else None,
        )

    def _warm_up(self, number: int) -> float:
        lr = self.settings.lr * min(1.0, number / max(1, self.settings.warmup_epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def train_step(self, inputs: Inputs, phase: Phase = lambda name: nullcontext()) -> Tensor:
        """Forward, backward, optimiser; returns the loss without waiting for it. `phase(name)` wraps each part."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with phase("forward"), self._autocast():
            loss: Tensor = self.loss(inputs)
        with phase("backward"):
            loss.backward()
        with phase("optimiser"):
            if self.settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
        return loss.detach()

    def predict(self, loader: InputLoader | None = None) -> Tensor:
        """Logits of every node, [N, K], or every graph, [G, K]; of another graph's with its `loader`."""
        return self._of_every("items", lambda model, inputs: model(inputs.x, inputs.graph), loader)

    def of_every_node(self, look: Look, loader: InputLoader | None = None) -> Tensor:
        """What `look(model, batch)` finds of every node, [N, C]: the mean over the evaluation batches a node is in."""
        return self._of_every("nodes", look, loader)

    @torch.no_grad()
    def _of_every(self, what: str, look: Look, loader: InputLoader | None) -> Tensor:
        """What `look` finds of all nodes, or of all `items` that are labelled."""
        model, loader = self._evaluated(), loader or self.loader
        size = loader.whole.num_nodes if what == "nodes" else loader.whole.num_items
        total = count = whole = None
        for inputs in loader.evaluate():
            with self._autocast():
                found = look(model, inputs).float()
            places = getattr(inputs, what)
            if places is None:
                whole = found
                continue
            if total is None or count is None:
                total = found.new_zeros(size, found.size(1))
                count = found.new_zeros(size, 1)
            total.index_add_(0, places, found)
            count.index_add_(0, places, found.new_ones(found.size(0), 1))
        if whole is not None:
            return whole
        assert total is not None and count is not None
        return total / count.clamp(min=1)

    def _evaluated(self) -> nn.Module:
        """The model in evaluation mode, where evaluation runs: a copy if that is not where it trains."""
        self.model.eval()
        if self.loader.evaluates_on == self.loader.device:
            return self.model
        if self._twin is None:
            self._twin = copy.deepcopy(self.model).to(self.loader.evaluates_on).eval()
        self._twin.load_state_dict(self.model.state_dict())
        return self._twin

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Validation loss, training, validation and test score: four numbers on the device, from one forward pass."""
        logits, targets = self.predict(), self.loader.targets
        parts = [(logits[index], y) for index, y in zip(targets.index, targets.y, strict=True)]
        scores = [self.objective.score(*part).float() for part in parts]
        numbers: Tensor = torch.stack([self.objective.loss(*parts[1]).float(), *scores])
        return numbers

    def _autocast(self) -> AbstractContextManager[object]:
        if self.settings.autocast == "none":
            return nullcontext()
        return torch.autocast(self.loader.device.type, dtype=torch.bfloat16)
