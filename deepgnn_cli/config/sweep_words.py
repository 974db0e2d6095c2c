"""The words of a sweep: what each key runs through, and whether the values can work. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.compose import choices, compose, plain_values, register, resolved
from deepgnn_cli.config.explain import explain
from deepgnn_cli.config.groups import CONF, GROUPS
from deepgnn_cli.config.schema import Root
from deepgnn_cli.config.validate import check

EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
"""Hydra's option -> the extra of this package that brings it."""


@dataclass(frozen=True)
class SweepWords:
    """The checked words of a sweep.

    Args:
        words: as given, with what a plugin needs and its users forget.
        axes: the key of each word and the words it stands for: several where it is swept.
        first: the first configuration.
    """

    words: tuple[str, ...]
    axes: dict[str, list[str]]
    first: DictConfig


def sweep_words(overrides: Sequence[str]) -> SweepWords:
    """Check the words of a sweep.

    Raises:
        ValueError: an unknown key or option, a value of a wrong type, or values none of which can work.
    """
    words = completed(overrides)
    axes = axes_of(words)
    return SweepWords(tuple(words), axes, validated(axes))


def completed(overrides: Sequence[str]) -> list[str]:
    """The words with what a plugin needs and its users forget."""
    words = list(overrides)
    if given(words, "hydra/sweeper") == "optuna":
        raise ValueError("hydra/sweeper=optuna: that plugin is for an Optuna of 2022; use `deepgnn tune` (--help)")
    if given(words, "hydra/launcher") == "ray" and not given(words, "hydra.launcher.ray.remote.max_retries"):
        words.append("+hydra.launcher.ray.remote.max_retries=0")  # what kills a job would kill it again
    resume = given(words, "resume")
    if resume is not None and resume.lower() not in ("true", "false", "null"):
        raise ValueError(f"resume={resume}: a sweep takes resume=true; a folder is for a single run")
    return words


def given(words: Sequence[str], key: str) -> str | None:
    """The value the words give to a key; the last one counts."""
    found = [value for name, _, value in (word.lstrip("+").partition("=") for word in words) if name == key]
    return found[-1] if found else None


def quoted(path: Path) -> str:
    """A path as a value of Hydra's grammar."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def axes_of(words: Sequence[str]) -> dict[str, list[str]]:
    """The key of each word and the words it stands for: several where it is swept."""
    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            return {word.get_key_element(): _values(word) for word in parser.parse_overrides(list(words))}
    except HydraException as error:
        raise ValueError(explain(error, words)) from None


def _values(word: Override) -> list[str]:
    key = word.get_key_element()
    if not word.is_sweep_override():
        return [word.input_line or ""]
    if word.is_discrete_sweep():
        values = [f"{key}={value}" for value in word.sweep_string_iterator()]
        if not values:
            raise ValueError(f"{word.input_line}: there is no value in it to run; `deepgnn ls` lists what groups offer")
        return values
    raise ValueError(f"{word.input_line}: an interval is for `deepgnn tune`; list the values instead")


def validated(axes: dict[str, list[str]]) -> DictConfig:
    """Compose and check each swept value with the first ones of the others; returns the first configuration.

    A value that stands for itself, and not for an option of a group, is put into the first configuration: hundreds of
    them are checked in a moment.

    Raises:
        ValueError: one cannot be composed, or none passes the check.
    """
    firsts = {key: values[0] for key, values in axes.items()}
    base = _composed(list(firsts.values()))
    plain, chosen = resolved(base), choices(base)
    problems = [_problem(plain, chosen)]
    for key, values in axes.items():
        for word in values[1:]:
            if _is_leaf(plain, key) and _problem(_with(plain, key, word), chosen) is None:
                problems.append(None)
                continue
            cfg = _composed(list((firsts | {key: word}).values()))  # a value of a wrong type ends here
            problems.append(_problem(resolved(cfg), choices(cfg)))
    if all(problem is not None for problem in problems):
        assert problems[0] is not None
        raise problems[0]
    return base


def _problem(values: Root, chosen: dict[str, str]) -> ValueError | None:
    try:
        check(values, chosen)
    except ValueError as error:
        return error
    return None


def _is_leaf(values: Mapping[str, object], key: str) -> bool:
    """Whether a key is a value of the configuration, which no other one is made of."""
    node: object = values
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return not isinstance(node, dict) and key not in GROUPS


def _with(values: Root, key: str, word: str) -> Root:
    """The configuration with the value that `word` gives to `key`."""
    value = OverridesParser.create().parse_override(word).value()
    path, _, last = key.rpartition(".")
    changed: dict[str, object] = dict(values)
    node = changed
    for part in path.split(".") if path else ():
        below = node[part]
        assert isinstance(below, dict)
        node[part] = node = dict(below)
    node[last] = plain_values(OmegaConf.create({"value": value}))["value"]
    return cast(Root, changed)


def _composed(words: Sequence[str]) -> DictConfig:
    """As `config.compose`, with an error in a line."""
    try:
        return compose(words)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group not in ("hydra/launcher", "hydra/sweeper"):
            raise ValueError(explain(error, words)) from None
        if name in EXTRAS:
            raise ValueError(f"{group}={name} is not installed; pip install 'deepgnn[{EXTRAS[name]}]'") from None
        raise ValueError(f"{group}={name}: there is no such plugin; there are {', '.join(EXTRAS)}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, words)) from None
