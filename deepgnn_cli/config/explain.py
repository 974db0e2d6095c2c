"""What Hydra or OmegaConf refused, in one line, with the word that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.compose import compose, resolved
from deepgnn_cli.config.groups import GROUPS, options
from deepgnn_cli.config.own_conv import DELETED
from deepgnn_cli.config.schema import ROOT, declared
from deepgnn_cli.rules.check import described

# What other programs call it.
_OTHER_NAMES = {
    "epochs": "trainer.max_epochs",
    "num_layers": "layers",
    "depth": "layers",
    "hidden_channels": "hidden",
    "hidden_dim": "hidden",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "batch_size": "batch.seeds_per_batch",
}


def leaves(node: Mapping[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted key and value of everything in a configuration that is no group."""
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, name)
        else:
            yield name, value


def shown(value: object) -> str:
    """A value as one would write it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no known word is near."""
    known = list(known)
    last = [name for name in known if name.rpartition(".")[2] == word.rpartition(".")[2]]
    # A key by the name it has elsewhere, one near in letters, one whose group was left out: `lr` for `optimizer.lr`.
    near = [name for name in [_OTHER_NAMES.get(word)] if name in known]
    near = near or difflib.get_close_matches(word, known, 1, 0.6) or last[:1]
    near = near or difflib.get_close_matches(word, [name.rpartition(".")[2] for name in known], 1, 0.75)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The line about a key that there is not."""
    return f"unknown key '{key}'" + (did_you_mean(key, known) or "; `deepgnn train --cfg job` shows the keys there are")


def all_keys(overrides: Sequence[str]) -> list[str]:
    """The groups, and every key of the configuration with the options that the overrides choose."""
    chosen = [word for word in overrides if word.partition("=")[0] in (*GROUPS, "hydra.searchpath")]
    try:
        cfg = compose(chosen)
    except (HydraException, OmegaConfBaseException):
        cfg = compose([])
    return [*GROUPS, *ROOT, *(key for key, _ in leaves(resolved(cfg)))]


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """One line for what Hydra or OmegaConf refused."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = options(group) if group in GROUPS else {}
        if known:
            hint = did_you_mean(name, known) or "; there are " + ", ".join(known)
            if group == "dataset" and ("." in name or name == "csv"):
                hint = f"; your own graph is dataset=pyg dataset.path={name}, or dataset=table dataset.path=FOLDER"
            return f"{group}={name}: there is no such {group}{hint}"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read; write key=value (a value with special characters in quotes)"
    cause: BaseException = error
    while isinstance(cause, ConfigCompositionException) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = re.sub(r"\s+", " ", str(cause)).strip()
    if match := re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in", text):
        full = getattr(cause, "full_key", None) or match.group(1) or match.group(2)
        return unknown_key(str(full), all_keys(overrides))
    if DELETED in overrides and "Could not delete" in text:
        return (
            "model.conv: the layers of this model are propagation steps without a conv; use a model made of "
            "convolutions such as model=gcn"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match.group(1), all_keys(overrides))
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?: requires|\s1\.)", text):
        return f"{match.group(1)}: several values are a sweep; add -m"
    if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
        key = str(cause.full_key)
        given = next((word for word in overrides if word.lstrip("+~").startswith(f"{key}=")), key)
        rule = declared(key)
        if rule in (None, object):
            return f"{given}: {getattr(cause, 'msg', None) or text}"
        return f"{given}: {key} must be {described(rule)}"
    return text
