"""`deepgnn evaluate`: the scores of a run again, from its weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.cli.words import find_own_modules

_ABOUT = """\
Load the model of a run's folder, score it on the run's own data, and compare with the row of result.csv.
Exit status 0: the same scores, to the last bit; 1: others.
"""
_SCORES = ("train_score", "val_score", "test_score")


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn evaluate` and return its exit status.

    Raises:
        ValueError: the user's input is wrong.
    """
    parser = Parser(prog="deepgnn evaluate", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="the folder of one run")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the run's, if it is here)")
    options = parser.parse_args(argv)
    find_own_modules()
    from deepgnn_cli.runs.trained import load

    run = load(options.run, device=options.device)
    found, row = run.evaluate(), run.row
    other = [name for name in _SCORES if not _same(getattr(found, name), row[name])]
    if other:
        name = other[0]
        print(
            f"deepgnn: {options.run}: {name} is {getattr(found, name)}, and result.csv says {row[name]}; versions and "
            f"devices other than the run's ({row['device']}, torch {row['version_torch']}) may round otherwise",
            file=sys.stderr,
        )
        return 1
    scores = ", ".join(f"{name.partition('_')[0]} {_shown(row[name])}" for name in _SCORES)
    print(f"{row['model']} · {row['dataset']} ({row['split']}) · {row['layers']} layers · seed {row['seed']}")
    print(f"  {row['metric']}: {scores}: as in result.csv")
    return 0


def _same(found: float, written: float | None) -> bool:
    return found == written or (math.isnan(found) and (written is None or math.isnan(written)))


def _shown(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.6g}"
