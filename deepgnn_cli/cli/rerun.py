"""`deepgnn rerun`: a bundled study again, each row held against the one it had."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepgnn_cli.analysis.bundle import BundledRun, read_bundle
from deepgnn_cli.cli.terminal import Parser

if TYPE_CHECKING:
    from deepgnn_cli.runs.rerun import Repeated

_ABOUT = """\
Repeat every finished run of a bundle and compare its row: to the last bit on the same kind of machine with the same
versions, scores within --tolerance elsewhere. The same command again goes on where it was stopped.
"""


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn rerun` and return its exit status: 1 if a row is another."""
    parser = Parser(
        prog="deepgnn rerun",
        description=_ABOUT,
        epilog="example\n  deepgnn rerun study.zip --out again",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bundle", type=Path, metavar="FILE.zip")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the runs go (default: outputs/FILE_rerun)")
    tolerance = "how far a score may be off on another machine (default: 0.02, two points)"
    parser.add_argument("--tolerance", type=float, default=0.02, metavar="X", help=tolerance)
    parser.add_argument("--trust", action="store_true", help="let it run code that is no part of deepgnn")
    words = parser.parse_args(argv)
    if not words.bundle.is_file():
        raise ValueError(f"{words.bundle}: there is no such file")
    if not 0 <= words.tolerance <= 1:
        raise ValueError(f"--tolerance {words.tolerance}: must be a fraction from 0 to 1")
    out = words.out or Path("outputs", f"{words.bundle.stem}_rerun")
    with tempfile.TemporaryDirectory(prefix="deepgnn_rerun_") as folder:
        return _repeat(read_bundle(words.bundle, Path(folder)), Path(folder), out, words.tolerance, words.trust)


def _repeat(runs: Sequence[BundledRun], unpacked: Path, out: Path, tolerance: float, trust: bool) -> int:
    from deepgnn_cli.cli.train import exit_status
    from deepgnn_cli.runs.rerun import REPEATED, configurations, repeat

    wanted = [run for run in runs if run.row["status"] in REPEATED]
    if not wanted:
        raise ValueError("no run of this bundle was finished: there is nothing to repeat")
    configs = configurations(wanted, unpacked, out, trust)
    others = 0
    for number, (config, bundled) in enumerate(zip(configs, wanted, strict=True), start=1):
        found = repeat(config, bundled)
        print(f"[{number}/{len(wanted)}] {found.plan.label}: {_verdict(found, tolerance)}", flush=True)
        if found.row["status"] == "interrupted":
            return exit_status("interrupted", found.row["error"])
        others += not found.agrees(tolerance)
    print(f"{len(wanted) - others} of {len(wanted)} rows are the same; files in {out}")
    return 1 if others else 0


def _verdict(found: Repeated, tolerance: float) -> str:
    score = f"test {found.row['test_score'][:7]}" if found.row["test_score"] else found.row["status"]
    if not found.differing:
        return f"{score}, the same to the last bit"
    changes = ", ".join(f"{name} {before or '–'} → {now or '–'}" for name, before, now in found.differing)
    where = "on the same kind of machine" if found.same_machine else "on another machine or with other versions"
    return f"{score}, {'within the tolerance' if found.agrees(tolerance) else 'ANOTHER'} {where}: {changes}"
