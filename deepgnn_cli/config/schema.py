"""The keys that no builder's signature declares: those at the root, and the groups that are plain values.

Type and range stand here once, in the vocabulary of `rules.types`; Hydra's own schema is made from them.
"""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from omegaconf import MISSING

from deepgnn_cli.rules.types import Count, Natural, NonNegative, Positive, Rate, Seed

Node = dict[str, object]
"""What a builder is made from: its `_target_` and its keywords."""


class Reported(TypedDict, total=False):
    """What a paper reports."""

    value: float
    source: str
    metric: str | None


class Drop(TypedDict):
    """The group `drop`."""

    dropout: Rate
    input: Rate
    edge: Rate
    node: Rate
    message: Rate


class Trainer(TypedDict):
    """The group `trainer`."""

    max_epochs: Count
    patience: Count | None
    select: Literal["val_loss", "val_score"]
    eval_every: Count
    warmup_epochs: Annotated[int, Ge(0), Le(100_000)]  # more, and no epoch trains at the rate asked for
    clip_norm: Positive | None
    label_smoothing: Rate
    processes: Count
    autocast: Literal["none", "bf16"]
    cuda_graph: Literal["auto", True, False]
    gradient_checkpointing: Natural
    checkpoint_every: Natural
    checkpoint_seconds: NonNegative
    diagnostics: bool
    influence: Natural


class Root(TypedDict):
    """Every key of a configuration; groups are parts that a builder makes, or plain values."""

    layers: Count
    hidden: Count
    seed: Seed
    device: str
    output_dir: str
    data_dir: str | None
    skip_finished: object
    resume: str | None
    reported: Reported | None
    dataset: Node
    model: Node
    norm: Node
    residual: Node
    readout: Node
    drop: Drop
    rewire: Node
    encoding: Node
    batch: Node
    optimizer: Node
    trainer: Trainer
    logger: Node


def _rule(hint: object) -> object:
    """The annotation of a plain value; object of a group, and of what is checked by hand."""
    return hint if hint in (str, str | None) or get_origin(hint) is Annotated else object


ROOT = {key: _rule(hint) for key, hint in get_type_hints(Root, include_extras=True).items()}
PLAIN: dict[str, dict[str, object]] = {
    "drop": get_type_hints(Drop, include_extras=True),
    "trainer": get_type_hints(Trainer, include_extras=True),
}
"""Group -> key -> annotation."""

MAY_BE_ABSENT = ("data_dir", "skip_finished", "resume", "reported", "logger")


def declared(key: str) -> object:
    """The annotation of a dotted key that this module declares, or None."""
    group, _, name = key.rpartition(".")
    return ROOT.get(key) if not group else PLAIN.get(group, {}).get(name)


def _plain(hint: object) -> object:
    """The annotation without its range, as OmegaConf knows it."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[0]
    return Any if hint is object else hint


Config = make_dataclass(
    "Config",
    [(key, _plain(hint), None if key in MAY_BE_ABSENT else MISSING) for key, hint in ROOT.items()],
)
"""Hydra's structured schema of the root."""
