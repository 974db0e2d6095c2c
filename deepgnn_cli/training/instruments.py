"""What is measured beside the training itself: the memory of one step, and the layers at the best epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from deepgnn_cli.measure.gradients import LayerRow, layer_diagnostics
from deepgnn_cli.measure.memory import PhaseMemory, SavedTensors
from deepgnn_cli.training.loop import Trainer

LAYER_COLUMNS = tuple(LayerRow.__dataclass_fields__)
MEMORY_COLUMNS = ("phase", "peak_mib", "reserved_mib", "kind")


class StepProbe:
    """Measures the first training step: what autograd keeps, and the memory of each phase.

    The step is an ordinary one of the training, only not timed: measuring changes nothing.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.used = False
        self._phases = PhaseMemory(device, model)
        self._saved = SavedTensors(model)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around `forward`, `backward`, `optimiser`."""
        with ExitStack() as stack:
            stack.enter_context(self._phases.phase(name))
            if name == "forward":
                stack.enter_context(self._saved)
            yield

    @property
    def activation_mib(self) -> float | None:
        """What autograd kept for the backward pass of the step; None before it."""
        return self._saved.mib if self.used else None

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `memory.csv`."""
        return self._phases.rows()


def diagnose(trainer: Trainer) -> list[dict[str, Any]]:
    """The rows of `layers.csv` for the model as it stands."""
    inputs = next(iter(trainer.feed.train(0)))
    rows = layer_diagnostics(
        trainer.model, inputs.x, inputs.graph, inputs.y[inputs.train], inputs.train, trainer.objective.loss
    )
    return [asdict(row) for row in rows]
