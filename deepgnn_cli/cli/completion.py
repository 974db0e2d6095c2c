"""Completion in bash, zsh and fish: commands, flags, keys, options of a group, values that a key allows.

The shell asks the command itself (argcomplete's protocol), which answers without importing torch.
"""

from __future__ import annotations

import importlib
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import argcomplete
from argcomplete.shell_integration import shellcode

from deepgnn_cli.cli.terminal import Parser

_FILES = {
    "bash": "~/.local/share/bash-completion/completions/deepgnn",
    "zsh": "~/.zfunc/_deepgnn",
    "fish": "~/.config/fish/completions/deepgnn.fish",
}
_NEXT = {
    "bash": "a new shell has it",
    "zsh": "put `fpath+=~/.zfunc; autoload -Uz compinit; compinit` into ~/.zshrc; a new shell has it then",
    "fish": "a new shell has it",
}


def install(shell: str | None) -> str:
    """Write the completion file of a shell, by default that of $SHELL; returns what to say about it.

    Raises:
        ValueError: there is no completion for that shell.
    """
    shell = shell or Path(os.environ.get("SHELL") or "bash").name
    if shell not in _FILES:
        raise ValueError(f"--install-completion {shell}: must be one of {', '.join(_FILES)}")
    path = Path(_FILES[shell]).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(shellcode(["deepgnn"], shell=shell), encoding="utf-8")
    return f"wrote {path}; {_NEXT[shell]}"


def answer(commands: Mapping[str, str]) -> int:
    """Tell the shell what may stand where its cursor is; ends the process.

    Args:
        commands: word -> module.
    """
    line = os.environ["COMP_LINE"][: int(os.environ.get("COMP_POINT", 1 << 20))]
    words = line.split()
    if len(words) > 2 or (len(words) == 2 and line.endswith(" ")):
        if words[1] not in commands:
            return 1
        os.environ["_ARGCOMPLETE"] = "2"  # the command's word is part of the program's name
        status: int = importlib.import_module(commands[words[1]]).main([])  # its parser answers
        return status
    parser = Parser(prog="deepgnn")
    parser.add_argument("command", choices=[*commands])
    for flag in ("--version", "--install-completion"):
        parser.add_argument(flag, action="store_true")
    argcomplete.autocomplete(parser)
    return 1


def overrides(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """What a word of the form `key=value` may be that begins with `prefix`."""
    from deepgnn_cli.config.explain import all_keys
    from deepgnn_cli.config.groups import GROUPS

    before = [word for word in parsed_args.overrides or [] if "=" in word]
    key, equals, value = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in dict.fromkeys((*GROUPS, *all_keys(before))) if not name.endswith("_")]
    done, comma = value.rpartition(",")[:2]
    return [f"{key}={done}{comma}{choice}" for choice in _values(key, before)]


def _values(key: str, before: list[str]) -> Iterator[str]:
    """The values that a key allows, where they can be counted."""
    from deepgnn_cli.config.describe import hint_of
    from deepgnn_cli.config.groups import LISTED, options

    if key in LISTED:
        yield from options(key)
        return
    yield from (
        str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in _counted(hint_of(key, before))
    )


def _counted(hint: object) -> Iterator[object]:
    origin = get_origin(hint)
    if origin is Literal:
        yield from get_args(hint)
    elif origin is Annotated:
        yield from _counted(get_args(hint)[0])
    elif origin in (Union, UnionType):
        for each in get_args(hint):
            yield from _counted(each)
    elif hint is bool:
        yield from (True, False)
    elif hint is type(None):
        yield "null"
