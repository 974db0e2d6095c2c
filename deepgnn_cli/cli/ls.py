"""`deepgnn ls`: what there is to choose from, one line each."""

from __future__ import annotations

import difflib
from pathlib import Path

from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.config.groups import GROUPS, options


def main(argv: list[str]) -> int:
    """Print the groups, or the options of one."""
    parser = Parser(prog="deepgnn ls", description="The options of each config group.")
    parser.add_argument("group", nargs="?", metavar="GROUP", help="dataset, model, norm, residual, experiment, …")
    parser.add_argument("--config-dir", type=Path, action="append", default=[], help="a folder of your own options")
    arguments = parser.parse_args(argv)
    for folder in arguments.config_dir:
        if not folder.is_dir():
            raise ValueError(f"--config-dir {folder}: there is no such folder")
    if arguments.group is not None and arguments.group not in GROUPS:
        near = difflib.get_close_matches(arguments.group, GROUPS, 1)
        hint = f"did you mean '{near[0]}'?" if near else "there are " + ", ".join(GROUPS)
        raise ValueError(f"there is no group '{arguments.group}'; {hint}")
    for group in [arguments.group] if arguments.group else GROUPS:
        print(f"{group}=")
        for name, line in options(group, arguments.config_dir).items():
            print(f"  {name:<20} {line}")
    return 0
