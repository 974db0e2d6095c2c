"""What is measured beside the training itself: the memory of one step, and the layers at the best epoch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from deepgnn_cli.measure.layer_diagnostics import Layered, LayerRow, layer_diagnostics
from deepgnn_cli.measure.memory import PhaseMemory
from deepgnn_cli.training.trainer import Trainer

LAYER_COLUMNS = tuple(LayerRow.__dataclass_fields__)
MEMORY_COLUMNS = ("phase", "peak_mib", "reserved_mib", "kind")


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
    inputs = next(iter(trainer.feed.train(0)))
    rows = layer_diagnostics(
        cast(Layered, trainer.model),
        inputs.x,
        inputs.graph,
        inputs.y[inputs.train],
        inputs.train,
        trainer.objective.loss,
    )
    return [asdict(row) for row in rows]
