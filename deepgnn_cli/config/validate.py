"""What is wrong with a configuration, said in one line: the value, the rule, the remedy.

`check` runs before any data is loaded or any file written. Everything here is the user's mistake: a `ValueError`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.combinations import refuse
from deepgnn_cli.config.compose import ROOT_KEYS, RunConfig, compose, resolved
from deepgnn_cli.config.groups import GROUPS, options
from deepgnn_cli.config.rules import RULES, Rule
from deepgnn_cli.data.batch_checks import check_batch
from deepgnn_cli.data.checks import check_dataset
from deepgnn_cli.training.loggers import check_installed

_PLAIN_GROUPS = ("drop", "trainer")


def checked(overrides: Sequence[str]) -> RunConfig:
    """The configuration that the overrides give, composed and checked.

    Raises:
        ValueError: one line that says what is wrong with them.
    """
    try:
        config = RunConfig.of(compose(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, overrides)) from None
    _count_processes(config.values)
    check(config.values, config.choices)
    return config


def _count_processes(values: dict[str, Any]) -> None:
    """Under `torchrun` the run has its processes already: the configuration says how many, as without it."""
    world = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if world == 1 or not isinstance(values.get("trainer"), dict):
        return
    if values["trainer"].get("processes") not in (1, world):
        raise ValueError(
            f"trainer.processes={values['trainer']['processes']}, but torchrun has started {world}; leave it out"
        )
    values["trainer"]["processes"] = world


def check(values: dict[str, Any], chosen: dict[str, str]) -> None:
    """Refuse a configuration that cannot work.

    Args:
        values: as `config.resolved` gives it.
        chosen: as `config.choices` gives it.

    Raises:
        ValueError: one line saying which value, which rule, and the remedy.
    """
    keys = dict(_leaves(values))
    unknown = [key for key in values if key not in ROOT_KEYS]
    unknown += [key for key in keys if key.split(".")[0] in _PLAIN_GROUPS and key not in RULES]
    if unknown:
        raise ValueError(_unknown_key(unknown[0], [k for k in (*ROOT_KEYS, *keys) if k not in unknown]))
    for key, rule in RULES.items():
        if key in keys and (problem := rule.broken_by(keys[key])):
            raise ValueError(f"{key}={_shown(keys[key])}: {key} {problem}")
    if "reported" in values:
        _check_reported(values["reported"])
    _check_skip(values["skip_finished"])
    _check_output(values["output_dir"])
    _check_device(str(values["device"]))
    refuse(values, chosen)
    for path, node in _targets(values):
        _check_signature(path, node)
        _check_types(path, node)
    check_installed(values["logger"]["_target_"])
    _check_combination(values, chosen)


def _check_reported(reported: Any) -> None:
    if reported is not None and not (isinstance(reported, dict) and {"value", "source"} <= set(reported)):
        raise ValueError(f"reported={reported}: give reported.value (a fraction) and reported.source, or null")
    if reported is not None and (problem := Rule(float, 0, 1).broken_by(reported["value"])):
        raise ValueError(f"reported.value={_shown(reported['value'])}: reported.value, a fraction, {problem}")


def _check_skip(skip: Any) -> None:
    if skip is None or isinstance(skip, bool):
        return
    for folder in skip if isinstance(skip, list) else [skip]:
        if not isinstance(folder, str) or not os.path.isdir(folder):
            raise ValueError(
                f"skip_finished={_shown(skip)}: must be true, false, null, or folders of results, "
                f"and there is no folder {folder}"
            )


def _check_output(folder: str) -> None:
    """The nearest folder that is there must take what a run writes."""
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "not a folder" if not there.is_dir() else "not to be written to"
        raise ValueError(f"output_dir={folder}: {there} is {what}; name another")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device={device}: must be auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise ValueError(
                f"device={device}: this machine shows torch {count} CUDA device(s); use device=auto or cpu"
            )


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, child in node.items():
            yield from _targets(child, f"{path}.{key}" if path else key)


def locate(path: str, target: object) -> Any:
    """The function or class that `target` (a dotted path) names, for the config node at `path`."""
    if not isinstance(target, str):
        raise ValueError(f"{path}._target_={_shown(target)}: must be the dotted name of a function or class")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        instantiate({"_target_": target, "_partial_": True})  # Hydra refuses some, and what cannot be called
        return found
    except InstantiationException as error:
        raise ValueError(f"{path}._target_={target}: {str(error).splitlines()[0]}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}._target_={target} cannot be imported ({error}); is its package installed or on PYTHONPATH?"
        ) from None


def _check_signature(path: str, node: dict[str, Any]) -> None:
    """The keys of a node must be parameters of what it names."""
    function = locate(path, node["_target_"])
    if not isinstance(node.get("_partial_", True), bool):
        raise ValueError(f"{path}._partial_={_shown(node['_partial_'])}: must be true or false")
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.append(name)
        elif knobs := get_args(get_type_hints(function).get(name)):  # **knobs: Unpack[SomeTypedDict]
            names.extend(get_type_hints(knobs[0]))
        else:
            return
    for key in node:
        if not key.startswith("_") and key not in names:
            raise ValueError(_unknown_key(f"{path}.{key}", [f"{path}.{name}" for name in names]))


def _check_types(path: str, node: dict[str, Any]) -> None:
    """What goes to a parameter annotated as bool, int or float (or None) must be one."""
    function = locate(path, node["_target_"])
    try:
        hints: dict[str, Any] = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # annotated with names that only a type checker sees
        return
    for key, value in node.items():
        hint: Any = hints.get(key)
        kinds = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
        wanted = kinds - {NoneType}
        if len(wanted) != 1 or not wanted <= {bool, int, float}:
            continue
        if problem := Rule(wanted.pop(), none=NoneType in kinds).broken_by(value):
            raise ValueError(f"{path}.{key}={_shown(value)}: {path}.{key} {problem}")


def _check_combination(values: dict[str, Any], chosen: dict[str, str]) -> None:
    refuse(values, chosen)
    check_dataset(values["dataset"], seed=values["seed"])
    check_batch(values["batch"], world=values["trainer"]["processes"])
    _check_processes(str(values["device"]), values["trainer"]["processes"])


def _check_processes(device: str, processes: int) -> None:
    """Every process of a run on GPUs has its own."""
    if processes == 1 or device == "cpu":
        return
    import torch

    count = torch.cuda.device_count()
    if device.startswith("cuda:"):
        raise ValueError(f"device={device} is one GPU for trainer.processes={processes}; say device=cuda or device=cpu")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if (device == "cuda" or count) and here > count:
        raise ValueError(
            f"trainer.processes={processes} wants a GPU each, and torch sees {count}; use device=cpu or fewer processes"
        )


def _leaves(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, name)
        else:
            yield name, value


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no known word is near."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1, 0.6)
    if not near:  # a forgotten prefix: `lr` for `optimizer.lr`
        last = [name for name in known if name.rpartition(".")[2] == word.rpartition(".")[2]]
        near = last[:1] or difflib.get_close_matches(word, [name.rpartition(".")[2] for name in known], 1, 0.75)
    return f"; did you mean '{near[0]}'?" if near else ""


def _unknown_key(key: str, known: Iterable[str]) -> str:
    return f"unknown key '{key}'" + (did_you_mean(key, known) or "; `deepgnn train --cfg job` shows the keys there are")


def _all_keys(overrides: Sequence[str]) -> list[str]:
    """The groups, and every key of the configuration with the options that the overrides choose."""
    chosen = [word for word in overrides if word.partition("=")[0] in (*GROUPS, "hydra.searchpath")]
    try:
        cfg = compose(chosen)
    except (HydraException, OmegaConfBaseException):
        cfg = compose([])
    return [*GROUPS, *ROOT_KEYS, *(key for key, _ in _leaves(resolved(cfg)))]


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """One line for what Hydra or OmegaConf refused."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = options(group) if group in GROUPS else {}
        if known:
            hint = did_you_mean(name, known) or "; there are " + ", ".join(known)
            return f"{group}={name}: there is no such {group}{hint}"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read; write key=value (a value with special characters in quotes)"
    cause: BaseException = error
    while isinstance(cause, ConfigCompositionException) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = re.sub(r"\s+", " ", str(cause)).strip()
    if match := re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in", text):
        full = getattr(cause, "full_key", None) or match.group(1) or match.group(2)
        return _unknown_key(str(full), _all_keys(overrides))
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match.group(1), _all_keys(overrides))
    if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
        key_name = str(cause.full_key)
        given = next((o for o in overrides if o.lstrip("+~").startswith(f"{key_name}=")), key_name)
        if rule := RULES.get(key_name):
            return f"{given}: {key_name} must be {rule}"
        return f"{given}: {getattr(cause, 'msg', None) or text}"
    return text
