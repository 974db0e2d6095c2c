"""The words that say which configuration is meant: `key=value …`, `-m` and `--config-dir`, in any order."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.cli.completion import overrides
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.config.compose import searched
from deepgnn_cli.config.own_conv import DELETED, with_own_conv


def parsed(parser: Parser, argv: Sequence[str]) -> Namespace:
    """The command line taken apart: flags, those of `parser` among them, may stand anywhere between the overrides.

    Options from the folders that `--config-dir` names are among the overrides then, and the user's own modules
    (`_target_: mine.convs.f`) are found where the command was given.

    Raises:
        ValueError: an unknown flag, or a word that is no override.
    """
    words = parser.add_argument("overrides", nargs="*", metavar="key=value")
    words.completer = overrides  # type: ignore[attr-defined]
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="nothing but errors")
    loud.add_argument("-v", "--verbose", action="store_true", help="what runs write to their log, as they do")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path, action="append", default=[])
    given: Namespace
    given, unknown = parser.parse_known_intermixed_args(list(argv))
    given.overrides = with_own_conv(given.overrides)
    for word in (*unknown, *(word for word in given.overrides if "=" not in word.lstrip("~") and word != DELETED)):
        raise ValueError(f"'{word}' is neither key=value nor a flag of `{parser.prog}`; see `{parser.prog} --help`")
    for folder in given.config_dir:
        if not folder.is_dir():
            raise ValueError(f"--config-dir {folder}: there is no such folder")
    given.overrides = [*map(_quoted, given.overrides), *searched(given.config_dir)]
    for name in ("quiet", "verbose"):
        if getattr(given, name):
            os.environ[f"DEEPGNN_{name.upper()}"] = "1"
    find_own_modules()
    return given


def _quoted(word: str) -> str:
    """The word with its value in quotes where Hydra's grammar has no such characters: a folder of any name."""
    key, _, value = word.partition("=")
    plain = value.isascii() or any(mark in value for mark in "'\",[]{}()$")
    return word if plain else f"{key}='{value}'"


def find_own_modules() -> None:
    """Have the user's own modules imported from where the command was given."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
