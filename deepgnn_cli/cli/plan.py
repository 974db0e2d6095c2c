"""`deepgnn plan`: what runs will take, by measuring a few small depths, before any of them runs."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.cli.words import parsed
from deepgnn_cli.config.compose import RunConfig
from deepgnn_cli.config.validate import checked
from deepgnn_cli.rules.duration import duration
from deepgnn_cli.rules.text import mib_of

_ABOUT = """\
What each run will take: parameters, activations, peak memory by kind, seconds an epoch, the whole time. A few small
depths are trained on some batches of the real data; deeper ones, and epochs of more batches, are drawn out from them.
Nothing is written.
"""
_COLUMNS = """\
columns
  parameters           how many numbers are trained
  parameters_mib, gradients_mib, optimiser_mib, activation_mib
                       what those tensors take; activations are what autograd keeps for the backward pass
  transient_mib        the rest of the peak: temporary tensors, the allocator's slack; below 0 where gradients
                       come as activations go, so that the two never stand together
  base_mib             in use before there is a model: the program and the graph (rss), the graph (cuda)
  peak_memory_mib      the peak of the whole process (rss), or of the allocator on the device (cuda)
  batches              training steps an epoch
  timed_batches        so many of them are run and timed, and as many batches of an evaluation; epoch_seconds is
                       their time, times as many as there are
  epoch_seconds        training and evaluation
  whole_seconds        trainer.max_epochs of them: what a run takes at most, where patience does not end it before
  runs                 how many runs (seeds) are like this one
  measured             whether this depth was trained itself, or drawn out from others

examples
  deepgnn plan dataset=cora model=gcnii layers=64
  deepgnn plan -m dataset=cora model=gcn,gcnii,revgcn layers=64,256,1024
  deepgnn plan dataset=cora model=gcnii --fits 16GiB                  the deepest that fits
  deepgnn plan model=gcnii layers=64 --fits 16GiB --vary hidden       the widest
"""
COLUMNS = (
    "dataset", "model", "conv", "norm", "residual", "layers", "hidden", "parameters", "parameters_mib",
    "gradients_mib", "optimiser_mib", "activation_mib", "transient_mib", "base_mib", "peak_memory_mib", "memory_kind",
    "batches", "timed_batches", "epoch_seconds", "whole_seconds", "runs", "measured",
)  # fmt: skip
_SHOWN = {
    "parameters": "parameters", "parameters_mib": "params", "gradients_mib": "grads", "optimiser_mib": "optim",
    "activation_mib": "activations", "transient_mib": "transient", "base_mib": "base", "peak_memory_mib": "peak",
    "epoch_seconds": "s/epoch", "whole_seconds": "at most", "measured": "",
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run `deepgnn plan` with these words; returns the exit status."""
    parser = Parser(
        prog="deepgnn plan",
        description=_ABOUT,
        epilog=_COLUMNS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--fits", type=mib_of_word, metavar="SIZE", help="the largest that fits in this: 16GiB")
    vary = "what --fits makes larger (default: layers)"
    parser.add_argument("--vary", choices=["layers", "hidden"], default="layers", help=vary)
    parser.add_argument("--format", choices=["text", "csv", "json"], default="text")
    words = parsed(parser, argv)
    configs = _configs(words.overrides, words.multirun)

    def told(line: str) -> None:
        if not words.quiet:
            print(line, file=sys.stderr, flush=True)

    told("measuring small depths …")
    from deepgnn_cli.runs.planning import planned

    rows = planned(configs, words.fits, words.vary, told)
    sys.stdout.write(_rendered(rows, words.format, words.fits))
    return 0


def mib_of_word(text: str) -> float:
    """As `mib_of`, with argparse's kind of error."""
    try:
        return mib_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _configs(overrides: Sequence[str], multirun: bool) -> list[RunConfig]:
    """Every run that the words describe; of a sweep, those that can be run.

    Raises:
        ValueError: none can.
    """
    if not multirun:
        return [checked(overrides)]
    from deepgnn_cli.config.sweep_words import sweep_words

    axes = sweep_words(overrides).axes
    configs: list[RunConfig] = []
    for words in product(*axes.values()):
        try:
            configs.append(checked(words))
        except ValueError as error:
            print(f"deepgnn: left out: {error}", file=sys.stderr)
    if not configs:
        raise ValueError("no combination of these values can be run; the lines above say why")
    return configs


def _rendered(rows: Sequence[dict[str, object]], form: str, fits: float | None) -> str:
    if form == "json":
        return json.dumps(list(rows), indent=2) + "\n"
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    return _text(rows, fits)


def _text(rows: Sequence[dict[str, Any]], fits: float | None) -> str:
    from deepgnn_cli.analysis.formats import Table, as_text

    differing = [name for name in COLUMNS[:5] if len({row[name] for row in rows}) > 1]
    names = [*(differing or ["model"]), "layers", "hidden"]
    header = (*names, *(title for title in _SHOWN.values()))
    cells = [tuple(_cell(name, row[name]) for name in (*names, *_SHOWN)) for row in rows]
    first = rows[0]
    title = f"{first['dataset']}: MiB ({first['memory_kind']}) and seconds" if "dataset" not in differing else "MiB"
    if fits is not None:
        title += f"; the largest whose peak is at most {fits:,.0f} MiB"
    total = sum(row["whole_seconds"] * row["runs"] for row in rows if row["whole_seconds"] is not None)
    count = sum(row["runs"] for row in rows)
    some = {(row["timed_batches"], row["batches"]) for row in rows if row["timed_batches"] < row["batches"]}
    timed = "".join(f"\ns/epoch is drawn out from {few} of an epoch's {every} batches\n" for few, every in sorted(some))
    end = "" if fits is not None else f"\n{count} runs, one after the other: at most {duration(total)}\n"
    return as_text(Table(title, header, tuple(cells), names=len(names))) + timed + end


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "none fits" if name in ("layers", "hidden") else ""
    if name == "measured":
        return "measured" if value else "drawn out"
    if name == "whole_seconds":
        return duration(value)
    if name == "epoch_seconds":
        return f"{value:.3g}"
    if name.endswith("_mib"):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return f"{value:,}" if name == "parameters" else str(value)
