"""The configuration: how words become one, and its hash.

Imports Hydra, never torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from deepgnn_cli.config.groups import CONF, GROUPS
from deepgnn_cli.config.schema import Config, Root

# What says where a run writes and how it is kept, and not what it computes.
NOT_HASHED = ("output_dir", "data_dir", "logger", "skip_finished", "resume", "reported")


@dataclass(frozen=True)
class RunConfig:
    """One run as the user asked for it.

    Args:
        values: every key, interpolations resolved.
        choices: which option each group has, by name: `{"model": "gcnii", …}`.
        overrides: the words it came from.
    """

    values: Root
    choices: dict[str, str]
    overrides: str

    @staticmethod
    def of(cfg: DictConfig) -> RunConfig:
        """From a configuration composed with Hydra's own node."""
        return RunConfig(resolved(cfg), choices(cfg), " ".join(cfg.hydra.overrides.task))

    @cached_property
    def hash(self) -> str:
        """Equal for two runs exactly if they compute the same thing."""
        return config_hash(self.values)


def register() -> None:
    """Make the root schema known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `overrides` (`key=value`) give, with Hydra's own node (`cfg.hydra`).

    Raises:
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: `explain` puts them in a line.
        ValueError: an option's file is no plain YAML.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra_compose("config", list(overrides), return_hydra_config=True)
        except YAMLError as error:  # an option of the user's own
            raise ValueError(f"an option's file cannot be read: {error}") from None


def searched(folders: Sequence[Path]) -> list[str]:
    """The override that lets Hydra find options in folders of one's own."""
    return ["hydra.searchpath=[" + ",".join(f"'file://{folder.resolve()}'" for folder in folders) + "]"] * bool(folders)


def choices(cfg: DictConfig) -> dict[str, str]:
    """Which option each group has, by name: `{"model": "gcnii", …}`; asks for a config composed with Hydra's node."""
    chosen = cfg.hydra.runtime.choices
    named = {group: str(chosen[group]) for group in GROUPS if chosen.get(group) is not None}
    for word in OmegaConf.select(cfg, "hydra.overrides.task") or []:
        key, _, value = word.lstrip("+").partition("=")
        if key == "model.conv":
            value = str(OmegaConf.select(cfg, "model.conv._target_"))
        if key in ("model.conv", "model.conv._target_"):
            named["conv"] = value.strip("'\"").rpartition(".")[2]  # not the group's any more
    return named


def resolved(cfg: DictConfig) -> Root:
    """The configuration without Hydra's node, as plain values, interpolations resolved."""
    return cast(Root, plain_values(cfg))  # what the schema holds it to


def plain_values(cfg: DictConfig) -> dict[str, object]:
    """The values of any node but Hydra's, interpolations resolved."""
    inner = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    values = OmegaConf.to_container(inner, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def as_yaml(values: Mapping[str, object]) -> str:
    """What `config.yaml` holds."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def config_hash(values: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits that are equal for two runs exactly if they compute the same thing."""
    computed = {key: value for key, value in values.items() if key not in NOT_HASHED}
    trainer = values["trainer"]
    assert isinstance(trainer, Mapping)
    computed["trainer"] = {key: v for key, v in trainer.items() if not key.startswith("checkpoint")}
    text = json.dumps(computed, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make(node: Mapping[str, object], **arguments: object) -> Any:
    """The object that a config node (`_target_`) describes; an error is its own, not Hydra's note of where it arose."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise error.__cause__ or error from None
