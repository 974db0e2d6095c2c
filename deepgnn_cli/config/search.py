"""What `deepgnn tune` searches: a space of values for each key, in a `search=` option or in the words themselves.

    log(1e-4, 1e-1)   uniform(0, 0.8)   int(2, 16)   choice(32, 64, 128)

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

from deepgnn_cli.config.explain import did_you_mean
from deepgnn_cli.config.groups import CONF, options

ARMS = ("dataset", "experiment", "model", "depth", "layers")
"""The keys whose values are compared, each with a budget of its own, and not searched."""

_CALL = re.compile(r"(log|uniform|int|choice)\((.*)\)")


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; on a logarithmic scale, or whole numbers only."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """Values that stand for all of it when it is checked."""
        return (str(int(self.low)), str(int(self.high))) if self.whole else (str(self.low), str(self.high))

    def __str__(self) -> str:
        kind = "log" if self.log else "int" if self.whole else "uniform"
        return f"{kind}({', '.join(f'{float(end):g}' for end in self.ends)})"


@dataclass(frozen=True)
class Choice:
    """One of these values, as words."""

    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """Every value."""
        return self.values

    def __str__(self) -> str:
        return f"choice({', '.join(self.values)})"


Space = Mapping[str, Interval | Choice]


@dataclass(frozen=True)
class Search:
    """What is tuned.

    `arms` are the words of each configuration that is tuned for itself, those that all share among them; `names` are
    the words that tell them apart.
    """

    arms: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    space: Space


def space_of(key: str, text: str) -> Interval | Choice:
    """The space that `text` describes.

    Raises:
        ValueError: it describes none.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{key}: '{text}' is no space; write log(a, b), uniform(a, b), int(a, b) or choice(a, b, …)")
    kind, values = match[1], [part.strip() for part in match[2].split(",")]
    if kind == "choice":
        if len(set(values)) < 2 or "" in values:
            raise ValueError(f"{key}={text}: name two different values or more")
        return Choice(tuple(values))
    try:
        low, high = (int(value) if kind == "int" else float(value) for value in values)
    except ValueError:
        raise ValueError(f"{key}={text}: give two {'whole ' * (kind == 'int')}numbers, the ends") from None
    if not low < high < float("inf") or (kind == "log" and low <= 0):
        raise ValueError(f"{key}={text}: the ends must rise" + ", from a number above 0" * (kind == "log"))
    return Interval(low, high, log=kind == "log", whole=kind == "int")


def read_space(name: str, folders: Sequence[Path] = ()) -> dict[str, Interval | Choice]:
    """The space of a `search=` option.

    Raises:
        ValueError: there is none of this name, or its file describes no space.
    """
    known = options("search", folders)
    if name not in known:
        raise ValueError(f"search={name}: there is no such search" + (did_you_mean(name, known) or _listed(known)))
    path = next(path for folder in (*folders, CONF) if (path := folder / "search" / f"{name}.yaml").is_file())
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise ValueError(f"{path}: not a YAML file") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: write a key and its space on each line")
    return {str(key): space_of(str(key), str(text)) for key, text in content.items()}


def _listed(known: Iterable[str]) -> str:
    return "; there are " + ", ".join(known)


def search_of(words: Sequence[str], axes: Mapping[str, Sequence[str]], folders: Sequence[Path] = ()) -> Search:
    """Take the words of `deepgnn tune` apart.

    Args:
        words: those with a space in them, and `search=`.
        axes: of the other words, the key of each and the words it stands for.
        folders: of the user's own options.

    Raises:
        ValueError: nothing is searched, or a space is wrong.
    """
    space: dict[str, Interval | Choice] = {}
    for key, _, text in (word.partition("=") for word in words):
        if key in axes:
            raise ValueError(f"{key}={text}: {key} has another value in the same command; say which it is")
        space |= read_space(text, folders) if key == "search" else {key: space_of(key, text)}
    fixed = {}
    for key, values in axes.items():
        if len(values) == 1 or key in ARMS:
            fixed[key] = tuple(values)
        else:
            space[key] = Choice(tuple(value.partition("=")[2] for value in values))
    for key in (key for key in ARMS if key in space):
        raise ValueError(f"{key} is compared, not searched; list its values: {key}=a,b")
    # What the words fix is not searched.
    space = {key: values for key, values in space.items() if key not in fixed}
    if not space:
        raise ValueError("nothing is searched; say search=default, or optimizer.lr=log(1e-4,1e-1)")
    arms = tuple(tuple(arm) for arm in product(*fixed.values()))
    apart = [key for key, values in fixed.items() if len(values) > 1]
    named = [[word for word in arm if word.partition("=")[0] in apart] for arm in arms]
    return Search(arms, tuple(" ".join(name) for name in named), space)


def is_space(word: str) -> bool:
    """Whether a word says what to search."""
    key, _, text = word.partition("=")
    return key == "search" or _CALL.fullmatch(text.strip()) is not None
