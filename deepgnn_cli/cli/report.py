"""`deepgnn report`: result files -> one HTML page that needs nothing else.

Style, pictures and numbers are inside the page; it is read offline, in light and dark, and printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.analysis.baseline import parse_baseline
from deepgnn_cli.analysis.report import page
from deepgnn_cli.analysis.study import study
from deepgnn_cli.cli.compare import check_target, report_skipped, results_parser
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.runfiles.files import write_out

EXAMPLES = """
examples:
  deepgnn report outputs/ --out report.html
  deepgnn report outputs/2026-01-31_depth --out depth.html --baseline model=gcn --title "Depth on Cora"
"""


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn report` and return its exit status.

    Raises:
        ValueError: the user's input is wrong.
    """
    options = _parser().parse_args(argv)
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {options.out}: the report is a page; end it in .html")
    check_target(options.out)
    baseline = parse_baseline(options.baseline) if options.baseline else None
    by = [name.strip() for text in options.by for name in text.split(",") if name.strip()]
    found = study(options.paths, by=by, metric=options.metric, baseline=baseline)
    report_skipped(found.collected)
    write_out(options.out, page(found, title=options.title).encode())
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def _parser() -> Parser:
    description = "Write one self-contained HTML page: tables, depth curves, layers, training, runs, commands."
    parser = results_parser("report", description, EXAMPLES)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE.html", help="the page, written whole or not at all")
    add("--title", default="Deep graph neural networks: results", help="the heading of the page")
    by = "columns that separate groups (default: all settings that differ); name the PATHs first"
    add("--by", nargs="+", action="extend", default=[], metavar="COL", help=by)
    add("--metric", default="test_score", metavar="COL", help="the column to summarise (default: test_score)")
    baseline = "difference and paired t-test of each group to the one with these values and else the same"
    add("--baseline", metavar="KEY=VALUE[,KEY=VALUE]", help=baseline)
    return parser
