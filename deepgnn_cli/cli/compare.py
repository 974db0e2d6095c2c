"""`deepgnn compare`: result files -> one table.

Never imports torch: it starts in a second and runs where the results are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.analysis.baseline import parse_baseline
from deepgnn_cli.analysis.collect import Collected
from deepgnn_cli.analysis.paper import Layout
from deepgnn_cli.analysis.study import FORMATS, Study, render, study
from deepgnn_cli.analysis.tables import form, is_score
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.runfiles.files import write_out

SUFFIXES = {".csv": "csv", ".md": "markdown", ".markdown": "markdown", ".tex": "latex", ".json": "json"}

EXAMPLES = """
examples:
  deepgnn compare outputs/
  deepgnn compare outputs/ --baseline model=gcn --plot depth.pdf
  deepgnn compare old/results.csv outputs/ --by model layers --metric val_score
  deepgnn compare outputs/ --format latex --out table.tex --where dataset=cora,pubmed --rename gcnii=Ours
  deepgnn compare outputs/ --style paper --plot depth.pdf

Runs that differ only in the seed, or in the index of the split, are replicates: their mean, sample standard
deviation, number n and 95 % interval (from n = 3 on) are shown. Everything else that differs separates groups,
unless --by says which columns do. The best depth is chosen by the validation score, the test score is only
reported. Runs that failed, diverged, ran out of memory, were interrupted or killed are counted, unless the same
configuration finished later.
"""


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn compare` and return its exit status.

    Raises:
        ValueError: the user's input is wrong.
    """
    options = _parser().parse_args(argv)
    baseline = parse_baseline(options.baseline) if options.baseline else None
    by = _split(options.by)
    form = options.format or (SUFFIXES.get(options.out.suffix.lower(), "text") if options.out else "text")
    for path in filter(None, (options.out, options.plot)):
        check_target(path)
    layout = Layout(tuple(_split(options.columns)), _pairs("--rename", options.rename), options.transpose)
    if options.plot:
        from deepgnn_cli.analysis.plots import check_suffix

        check_suffix(options.plot)
    found = study(options.paths, by=by, metric=options.metric, baseline=baseline, where=_where(options.where))
    report_skipped(found.collected)
    text = render(found, form, layout, detail=options.detail)
    if form in ("csv", "json"):
        for note in found.comparison.notes:
            print(f"note: {note}", file=sys.stderr)
    if options.out:
        write_out(options.out, text.encode())
        print(f"wrote {options.out}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    if options.plot:
        _plot(found, options.plot, layout if options.style == "paper" else None)
    return 0


def _split(texts: Sequence[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if not all(text.partition("=")[::2]):
            raise ValueError(f"{flag} {text}: write it as NAME=VALUE")
    return dict(text.partition("=")[::2] for text in texts)


def _where(texts: Sequence[str]) -> dict[str, list[str]]:
    return {name: _split([values]) for name, values in _pairs("--where", texts).items()}


def _plot(found: Study, path: Path, layout: Layout | None) -> None:
    """Draw the depth curves; with a layout, as an article prints them."""
    if layout is not None:
        from deepgnn_cli.analysis import paper, paper_figure

        ylabel = found.comparison.metric.replace("_", " ") + " (%)" * is_score(form(found.comparison))
        paper_figure.save(paper_figure.draw(paper.panels(found.comparison, layout), ylabel), path)
        print(f"wrote {path}", file=sys.stderr)
        return
    from deepgnn_cli.analysis.curves import depth_curves
    from deepgnn_cli.analysis.influence import influence_curves
    from deepgnn_cli.analysis.plots import draw_depth, draw_influence, save

    save(draw_depth(depth_curves(found.runs, found.comparison.by, found.comparison.metric)), path)
    print(f"wrote {path}", file=sys.stderr)
    if heard := influence_curves(found.runs, found.comparison.by):
        beside = path.with_stem(f"{path.stem}_influence")
        save(draw_influence(heard), beside)
        print(f"wrote {beside}", file=sys.stderr)


def results_parser(command: str, description: str, examples: str) -> Parser:
    """A parser for a command that reads results: its paths."""
    parser = Parser(
        prog=f"deepgnn {command}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    folders = "folders to search for results, or CSV files of them"
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=folders)
    return parser


def _parser() -> Parser:
    description = "Collect results into one table: mean ± sample std, interval, paired test."
    parser = results_parser("compare", description, EXAMPLES)
    add = parser.add_argument
    by = "columns that separate groups (default: all settings that differ); name the PATHs first"
    add("--by", nargs="+", action="extend", default=[], metavar="COL", help=by)
    add("--metric", default="test_score", metavar="COL", help="the column to summarise (default: test_score)")
    baseline = "difference and paired t-test of each group to the one with these values and else the same"
    add("--baseline", metavar="KEY=VALUE[,KEY=VALUE]", help=baseline)
    form = "default: what --out ends in, else text; csv and json keep scores as fractions"
    add("--format", choices=FORMATS, help=form)
    where = "only runs with these values; more than one --where must all hold"
    add("--where", nargs="+", action="extend", default=[], metavar="COL=VALUE[,VALUE]", help=where)
    columns = "of latex the depths (or data sets, methods), of csv and json the columns to show, in this order"
    add("--columns", nargs="+", action="extend", default=[], metavar="COL", help=columns)
    rename = "what a model, data set … is called in the table of latex and in --style paper"
    add("--rename", nargs="+", action="extend", default=[], metavar="NAME=TEXT", help=rename)
    add("--transpose", action="store_true", help="latex: depths as rows, methods as columns")
    add("--detail", action="store_true", help="latex: the wide tables of everything, in place of the one to paste")
    style = "paper: a panel a data set, the width of one column or two, fonts embedded"
    add("--style", choices=["screen", "paper"], default="screen", help=style)
    add("--out", type=Path, metavar="FILE", help="write the table there, whole or not at all")
    plot = "draw score, effective rank, range, step time and memory against layers (.png, .svg or .pdf); and what nodes"
    plot += " hear by distance, into FILE_influence"
    add("--plot", type=Path, metavar="FILE", help=plot)
    return parser


def check_target(path: Path) -> None:
    """Refuse a file that could not be written before anything is read."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder for {path.name}")


def report_skipped(collected: Collected) -> None:
    """Name on stderr what was left out, and what looks wrong."""
    for line in (*collected.skipped, *(f"warning: {text}" for text in collected.warnings)):
        print(line, file=sys.stderr)
