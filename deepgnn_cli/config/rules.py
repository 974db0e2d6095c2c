"""What the values of single keys may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A key's type and range; `none` says whether it may be null."""

    kind: type
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    none: bool = False
    one_of: tuple[Any, ...] = ()

    def broken_by(self, value: Any) -> str | None:
        """What the value should have been, or None if it is right."""
        if value is None:
            return None if self.none else f"must be {self}"
        if self.one_of:
            return None if value in self.one_of else f"must be {self}"
        right = isinstance(value, self.kind) or (self.kind is float and isinstance(value, int))
        if not right or (self.kind is not bool and isinstance(value, bool)):
            return f"must be {self}"
        if self.kind in (int, float):
            low = value > self.low if self.open_low else value >= self.low
            high = value < self.high if self.open_high else value <= self.high
            if not (low and high) or not math.isfinite(value):
                return f"must be {self}"
        return None

    def __str__(self) -> str:
        if self.one_of:
            return "one of " + ", ".join(str(choice).lower() for choice in self.one_of)
        name = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[self.kind]
        if self.low > -math.inf:
            name += f" {'above' if self.open_low else 'of at least'} {self.low:.10g}"
        if self.high < math.inf:
            name += (
                f"{' and' if self.low > -math.inf else ''} {'below' if self.open_high else 'at most'} {self.high:.10g}"
            )
        return name + (" (or null)" if self.none else "")


_RATE = Rule(float, 0, 1, open_high=True)
_POSITIVE = Rule(float, 0, open_low=True)

# The keys of the groups that are plain values are all here: one that is not is unknown.
RULES: dict[str, Rule] = {
    "layers": Rule(int, 1),
    "hidden": Rule(int, 1),
    "seed": Rule(int, 0, 2**32 - 1),
    "resume": Rule(str, none=True),
    "drop.dropout": _RATE,
    "drop.input": _RATE,
    "drop.edge": _RATE,
    "drop.node": _RATE,
    "optimizer.lr": _POSITIVE,
    "optimizer.weight_decay": Rule(float, 0),
    "optimizer.conv_weight_decay": Rule(float, 0, none=True),
    "trainer.max_epochs": Rule(int, 1),
    "trainer.patience": Rule(int, 1, none=True),
    "trainer.select": Rule(str, one_of=("val_loss", "val_score")),
    "trainer.eval_every": Rule(int, 1),
    "trainer.warmup_epochs": Rule(int, 0),
    "trainer.clip_norm": Rule(float, 0, open_low=True, none=True),
    "trainer.label_smoothing": _RATE,
    "trainer.processes": Rule(int, 1),
    "trainer.autocast": Rule(str, one_of=("none", "bf16")),
    "trainer.cuda_graph": Rule(str, one_of=("auto", True, False)),
    "trainer.gradient_checkpointing": Rule(int, 0),
    "trainer.checkpoint_every": Rule(int, 0),
    "trainer.checkpoint_seconds": Rule(float, 0),
    "trainer.diagnostics": Rule(bool),
    "residual.alpha": Rule(float, 0, 1, none=True),
    "residual.groups": Rule(int, 2),
    "residual.depth_scaling": Rule(float, 0),
    "norm.scale": _POSITIVE,
    "norm.power": _POSITIVE,
    "norm.groups": Rule(int, 1),
    "model.conv.alpha": Rule(float, 0, 1),
    "model.conv.theta": Rule(float, 0, open_low=True, none=True),
    "model.conv.heads": Rule(int, 1),
    "model.identity_mapping": Rule(float, 0, open_low=True, none=True),
}
