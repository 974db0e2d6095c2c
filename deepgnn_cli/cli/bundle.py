"""`deepgnn bundle`: a study as one file to hand on. Imports no torch."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.analysis.bundle import write_bundle
from deepgnn_cli.cli.compare import check_target
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.runfiles.files import write_out

_ABOUT = """\
Every run below PATH in one zip file: configurations, rows, curves, commands, versions, the user's own graphs, and the
checksum of each. `deepgnn rerun FILE.zip` repeats it.
"""


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn bundle` and return its exit status."""
    parser = Parser(
        prog="deepgnn bundle",
        description=_ABOUT,
        epilog="example\n  deepgnn bundle outputs/sweep --out study.zip",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folders to search for runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip")
    parser.add_argument("--weights", action="store_true", help="with each run's scored weights, best.pt")
    words = parser.parse_args(argv)
    if words.out.suffix.lower() != ".zip":
        raise ValueError(f"--out {words.out}: the bundle is a zip file; end it in .zip")
    check_target(words.out)
    content = io.BytesIO()
    runs = write_bundle(words.paths, content, weights=words.weights)
    write_out(words.out, content.getvalue())
    repeated = sum(run.row["status"] in ("ok", "diverged") for run in runs)
    print(f"{len(runs)} runs, {repeated} of them to be repeated by: deepgnn rerun {words.out}")
    return 0
