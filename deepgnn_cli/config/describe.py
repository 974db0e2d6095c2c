"""Every key of an option: what it may be, what it is by default, and what it means.

Type and range come from the declaration, the default from the composed configuration, the meaning from the comment
beside the key, from the builder's docstring, or from the glossary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.compose import choices, compose, resolved, searched
from deepgnn_cli.config.explain import explain, leaves, shown
from deepgnn_cli.config.glossary import shared_meaning
from deepgnn_cli.config.groups import CONF
from deepgnn_cli.config.schema import declared
from deepgnn_cli.rules.check import described
from deepgnn_cli.rules.signatures import signature_of
from deepgnn_cli.rules.text import printable

_NODES = {"conv": "model.conv"}  # where a group stands, if not under its own name


@dataclass(frozen=True)
class Key:
    """A key that one may set, as words: what it may be, what it is by default, what it means."""

    name: str
    allowed: str
    default: str
    meaning: str


def keys_of(group: str, name: str, extra: Sequence[Path] = ()) -> tuple[list[Key], list[Key]]:
    """The keys of the option's own node, and the other keys that choosing it sets to something else than usual.

    Args:
        group: one of `GROUPS`.
        name: an option of it.
        extra: folders of one's own options.

    Raises:
        ValueError: there is no such option, or it cannot be composed.
    """
    words = searched(extra) + [f"{group}={name}"]
    try:
        cfg, usual = compose(words), dict(leaves(resolved(compose(searched(extra)))))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, words)) from None
    found = list(_keys(resolved(cfg), choices(cfg), (CONF, *extra)))
    own = f"{_NODES.get(group, group)}."
    inside = [key for key in found if key.name.startswith(own)]
    changed = [key for key in found if key not in inside and shown(usual.get(key.name)) != key.default]
    return inside, changed


def recipe_of(name: str, extra: Sequence[Path] = ()) -> tuple[str, str]:
    """What an experiment chooses, as words, and the score reported for it with its source ("" where there is none).

    Raises:
        ValueError: it cannot be composed.
    """
    words = searched(extra) + [f"experiment={name}"]
    try:
        cfg, usual = compose(words), choices(compose(searched(extra)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, words)) from None
    told = {group for group, option in choices(cfg).items() if option != usual.get(group)} | {"dataset", "model"}
    chosen = [f"{group}={option}" for group, option in choices(cfg).items() if group in told - {"experiment"}]
    reported: Any = resolved(cfg)["reported"]
    return " ".join(chosen), f"{reported['value']:g} ({reported['source']})" if reported else ""


def _keys(values: Mapping[str, object], chosen: Mapping[str, str], folders: Sequence[Path]) -> Iterator[Key]:
    general = _comments(CONF / "config.yaml")
    comments = {
        _NODES.get(group, group): general | _comments(*(folder / group / f"{option}.yaml" for folder in folders))
        for group, option in chosen.items()
    }
    for name, value in leaves(values):
        path, _, last = name.rpartition(".")
        if last.startswith("_") or path == "reported":
            continue
        node: Any = values
        for part in path.split(".") if path else ():
            node = node[part]
        hint, meaning = declared(name), ""
        if hint is None and "_target_" in node:
            signature = signature_of(node["_target_"])
            parameter = signature.parameters.get(last)
            hint, meaning = (parameter.hint if parameter else None), signature.meanings.get(last, "")
        allowed = "" if hint in (None, Any, object) else described(hint)
        told = comments.get(path, general).get(last) or meaning or shared_meaning(name)
        yield Key(name, allowed, shown(value), printable(told))


def hint_of(key: str, words: Sequence[str]) -> object:
    """The annotation of a key in the configuration that `words` give; None where nothing declares it."""
    path, _, last = key.rpartition(".")
    if (hint := declared(key)) is not None:
        return hint
    try:
        node: Any = resolved(compose(words))
        for part in path.split(".") if path else ():
            node = node[part]
    except (HydraException, OmegaConfBaseException, LookupError, TypeError):
        return None
    if not isinstance(node, Mapping) or "_target_" not in node:
        return None
    parameter = signature_of(node["_target_"]).parameters.get(last)
    return parameter.hint if parameter else None


def _comments(*files: Path) -> dict[str, str]:
    """Key -> the comment at the end of its line."""
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    return dict(re.findall(r"^\s*(\w+):[^#\n]*#\s*(.+?)\s*$", "\n".join(texts), re.MULTILINE))
