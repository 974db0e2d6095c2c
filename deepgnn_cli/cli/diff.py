"""`deepgnn diff`: what two runs differ in. Imports neither torch nor pandas."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from deepgnn_cli.analysis.difference import Change, Difference, difference
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.config.compose import NOT_HASHED
from deepgnn_cli.rules.text import printable

_ABOUT = """\
What two runs differ in: the configuration, the environment, the result, and the first epoch at which their curves part
(to the last bit).
"""
_EXAMPLE = """
example
  deepgnn diff outputs/2026-01-31_12-00-00_cora_gcn_L2_s0_0a1b2c outputs/sweep/3
"""


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn diff` and return its exit status."""
    parser = Parser(
        prog="deepgnn diff",
        description=_ABOUT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    words = parser.parse_args(argv)
    first, second = (path.parent if path.is_file() else path for path in words.runs)
    for folder in (first, second):
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder")
    found = difference(first, second, NOT_HASHED)
    if words.format == "json":
        print(json.dumps(asdict(found), indent=2))
    else:
        sys.stdout.write(printed(found, first, second))
    return 0


def printed(found: Difference, first: Path, second: Path) -> str:
    """The differences as text."""
    lines = [f"A  {first}", f"B  {second}"]
    sections = {
        "configuration": found.config,
        "settings that change nothing of what is computed": found.aside,
        "environment": found.environment,
        "result": found.result,
    }
    for title, changes in sections.items():
        lines += ["", title if changes else f"{title}: the same"]
        lines += _rows(changes)
    return "\n".join([*lines, "", *_curves(found)]) + "\n"


def _curves(found: Difference) -> Iterator[str]:
    if not found.shared_epochs:
        yield "curves: the runs have no epoch in common"
    elif not found.partings:
        yield f"curves: the same to the last bit, {found.shared_epochs} epochs"
    else:
        yield f"curves part at epoch {found.partings[0].epoch} of {found.shared_epochs} they share"
        yield from _rows([parting.change for parting in found.partings], [p.epoch for p in found.partings])


def _rows(changes: Sequence[Change], epochs: Sequence[int] = ()) -> Iterator[str]:
    """Each change in a line, aligned."""
    cells = []
    for index, change in enumerate(changes):
        name = f"{change.name} (epoch {epochs[index]})" if epochs else change.name
        first, second = (printable(value) or "–" for value in (change.first, change.second))
        cells.append((name, first, second, "" if change.by is None else f"({change.by:+.6g})"))
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    for row in cells:
        yield "  " + "  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]).rstrip()
