"""The builders of conf/, with the knobs of their yaml files: what a user composes."""

from copy import deepcopy
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from omegaconf import OmegaConf

from deepgnn_cli.config.validate import check_node

CONF = Path(__file__).parents[2] / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def knobs(group, name):
    """The plain values of a yaml file, those of the file it builds on included."""
    return deepcopy(_read(group, name))


@cache
def _read(group, name):
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml")) or {}
    merged = {}
    for base in node.pop("defaults", []):
        if isinstance(base, str):  # an `override /conv: …` of a model concerns another group
            merged |= node if base == "_self_" else _read(group, base)
    return merged | node


def builder(group, name, **changes):
    """`partial(builder, **knobs)`, checked as the configuration is, or None for a file without a `_target_`."""
    values = knobs(group, name) | changes
    if "_target_" not in values:
        return None
    check_node("model.conv" if group == "conv" else group, values, {})
    target = values.pop("_target_")
    values.pop("_partial_", None)
    module, _, function = target.rpartition(".")
    return partial(getattr(import_module(module), function), **values)
