"""What a data set asks for: labels of nodes or of whole graphs, of which kind, by which metric, trained by which loss.

Imports no torch: tables know as well as the training which way a score is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["node", "graph"]
Loss = Literal["cross_entropy", "binary_cross_entropy", "mae", "mse"]


@dataclass(frozen=True)
class Metric:
    """How predictions are scored.

    Args:
        kind: what is predicted: one of K `classes`, K `binary` tasks, or K numbers (`regression`).
        loss: what is minimised for it, unless the data set names another.
        lower_is_better: whether it is an error.
        fraction: whether it lies in [0, 1], which people read in percent.
    """

    kind: Literal["classes", "binary", "regression"]
    loss: Loss
    lower_is_better: bool = False
    fraction: bool = True


METRICS = {
    "accuracy": Metric("classes", "cross_entropy"),
    "macro_f1": Metric("classes", "cross_entropy"),
    "micro_f1": Metric("binary", "binary_cross_entropy"),
    "roc_auc": Metric("binary", "binary_cross_entropy"),
    "average_precision": Metric("binary", "binary_cross_entropy"),
    "mae": Metric("regression", "mae", lower_is_better=True, fraction=False),
    "mse": Metric("regression", "mse", lower_is_better=True, fraction=False),
    "rmse": Metric("regression", "mse", lower_is_better=True, fraction=False),
    "log10_mse": Metric("regression", "mse", lower_is_better=True, fraction=False),
    "r2": Metric("regression", "mse", fraction=False),
}
LOSSES: dict[str, tuple[Loss, ...]] = {
    "classes": ("cross_entropy",),
    "binary": ("binary_cross_entropy",),
    "regression": ("mae", "mse"),
}
"""The losses that each kind can be trained by."""


@dataclass(frozen=True)
class Task:
    """The labels of `level`, scored by `metric`, one of `METRICS`; `loss` None: the metric's own.

    Raises:
        ValueError: there is no such metric, or the loss is not for it.
    """

    level: Level = "node"
    metric: str = "accuracy"
    loss: Loss | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} is not one of {', '.join(METRICS)}")
        if self.loss is not None and self.loss not in LOSSES[self.kind]:
            raise ValueError(f"loss={self.loss!r} does not train {self.kind}; use {' or '.join(LOSSES[self.kind])}")

    @property
    def kind(self) -> str:
        """What is predicted: `classes`, `binary` or `regression`."""
        return METRICS[self.metric].kind

    @property
    def minimised(self) -> Loss:
        """The loss to train by."""
        return self.loss or METRICS[self.metric].loss

    @property
    def direction(self) -> str:
        """`lower` of an error, `higher` of a score."""
        return "lower" if METRICS[self.metric].lower_is_better else "higher"
