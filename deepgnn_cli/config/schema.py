"""The keys that no builder's signature declares: those at the root, and the groups that are plain values.

Type and range stand here once, in the vocabulary of `rules.types`; Hydra's own schema is made from them.
"""

from __future__ import annotations

from dataclasses import make_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from omegaconf import MISSING

from deepgnn_cli.rules.types import Count, Natural, NonNegative, Positive, Rate, Seed


class Root(TypedDict):
    """Root keys; those that say Any are groups, or are checked by hand."""

    layers: Count
    hidden: Count
    seed: Seed
    device: str
    output_dir: str
    data_dir: str | None
    skip_finished: Any
    resume: str | None
    reported: Any
    dataset: Any
    model: Any
    norm: Any
    residual: Any
    readout: Any
    drop: Any
    rewire: Any
    encoding: Any
    batch: Any
    optimizer: Any
    trainer: Any
    logger: Any


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


ROOT: dict[str, Any] = get_type_hints(Root, include_extras=True)
PLAIN: dict[str, dict[str, Any]] = {
    "drop": get_type_hints(Drop, include_extras=True),
    "trainer": get_type_hints(Trainer, include_extras=True),
}
"""Group -> key -> annotation."""

MAY_BE_ABSENT = ("data_dir", "skip_finished", "resume", "reported", "logger")


def declared(key: str) -> Any:
    """The annotation of a dotted key that this module declares, or None."""
    group, _, name = key.rpartition(".")
    return ROOT.get(key) if not group else PLAIN.get(group, {}).get(name)


def _plain(hint: Any) -> Any:
    """The annotation without its range, as OmegaConf knows it."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[0]
    return hint if hint is Any or isinstance(hint, type | UnionType) else Any


Config = make_dataclass(
    "Config",
    [(key, _plain(hint), None if key in MAY_BE_ABSENT else MISSING) for key, hint in ROOT.items()],
)
"""Hydra's structured schema of the root."""
