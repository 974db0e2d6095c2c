"""The config groups and their options, read from the yaml files alone: nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.rules.text import printable

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf")
    if (folder / "config.yaml").is_file()
)

GROUPS = (
    "dataset",
    "model",
    "conv",
    "depth",
    "norm",
    "residual",
    "readout",
    "drop",
    "rewire",
    "encoding",
    "batch",
    "optimizer",
    "trainer",
    "logger",
    "experiment",
)

LISTED = (*GROUPS, "search")
"""What `ls` lists: a space to search is for `deepgnn tune` and no part of a run's configuration."""


def chooses(word: str) -> bool:
    """Whether a word of the command line chooses an option of a group, and not a value by its key."""
    key = word.lstrip("+~").partition("=")[0].partition("@")[0]
    return key in GROUPS or "/" in key


def options(group: str, extra: Sequence[Path] = ()) -> dict[str, str]:
    """The options of a group with one line each: the first comment of its yaml file, Hydra's `@package` aside."""
    described = {}
    for folder in (CONF, *extra):
        for path in sorted((folder / group).glob("*.yaml")):
            lines = path.read_text(encoding="utf-8").splitlines()
            comments = (line.lstrip("# ").strip() for line in lines if line.startswith("#"))
            described[path.stem] = printable(next((text for text in comments if not text.startswith("@")), ""))
    return described


def notes(group: str, name: str, extra: Sequence[Path] = ()) -> str:
    """What the head of an option's yaml file says beyond its first line, e.g. how a recipe differs from its source."""
    found = ""
    for folder in (CONF, *extra):
        if (path := folder / group / f"{name}.yaml").is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            head = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
            comments = [line.lstrip("# ").strip() for line in head]
            found = printable(" ".join([text for text in comments if not text.startswith("@")][1:]))
    return found
