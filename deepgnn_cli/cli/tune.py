"""`deepgnn tune`: a fair, resumable search by validation score."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deepgnn_cli.cli.terminal import Parser, quietly, tell_loading
from deepgnn_cli.cli.words import parsed
from deepgnn_cli.config.search import Search, is_space, search_of
from deepgnn_cli.config.sweep_words import axes_of
from deepgnn_cli.config.validate import checked
from deepgnn_cli.rules.metrics import in_words, lower_is_better
from deepgnn_cli.runfiles.record import collect_results

if TYPE_CHECKING:
    from deepgnn_cli.runs.tuning import Trialled, Tuner, Winner

_ABOUT = """\
Search for the settings with the best validation score. Lists of dataset, experiment, model, depth and layers are
compared: each combination gets the same number of trials. The test score is told at the end alone, of each winner on
fresh seeds.
"""
_EXAMPLES = """
what is searched
  search=default                          a space from conf/search (deepgnn ls search), or from --config-dir DIR
  optimizer.lr=log(1e-4,1e-1)             a number on a logarithmic scale
  drop.dropout=uniform(0,0.8)             a number;  residual.groups=int(2,8)  a whole number
  hidden=32,64,128                        one of these, also choice(32,64,128)

examples
  deepgnn tune dataset=cora model=gcn,gcnii layers=2,32 search=default --trials 40 --seeds 10
  deepgnn tune model=gcnii layers=64 'optimizer.lr=log(1e-4,1e-1)' --trials 20 --pruner hyperband

The same command again goes on with its study (SQLite), also after kill -9, and --trials 80 adds to 40. Every trial is
a run with files of its own below output_dir.
"""


def main(argv: list[str]) -> int:
    """Run `deepgnn tune` with these words; returns the exit status."""
    words = parsed(_parser(), argv)
    for name in ("trials", "seeds"):
        if getattr(words, name) < (name == "trials"):
            raise ValueError(f"--{name} {getattr(words, name)}: must be at least {int(name == 'trials')}")
    if words.multirun:
        raise ValueError("tune compares lists of models and depths without -m; leave it out")
    search = _search(words.overrides, words.config_dir)
    if importlib.util.find_spec("optuna") is None:
        raise ValueError("tune needs Optuna; pip install 'deepgnn[optuna]'")
    _check(search)
    storage = words.storage or f"sqlite:///{_outputs(search) / 'tune.db'}"
    file = re.fullmatch(r"sqlite:///(.+)", storage)
    if file is None:
        raise ValueError(f"--storage {storage}: write it as sqlite:///FILE")
    Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
    return (
        quietly(lambda: _run(words, search, storage, file[1])) if words.quiet else _run(words, search, storage, file[1])
    )


def _run(words: argparse.Namespace, search: Search, storage: str, file: str) -> int:
    """Open the study, and do what is missing of it."""
    tell_loading("torch and the data")
    from deepgnn_cli.runs.tuning import Interruption, Options, Tuner, held, study_name

    os.environ.setdefault("DEEPGNN_QUIET", "1")  # a trial has a line; bars of epochs between them would be noise
    options = Options(words.trials, words.sampler, words.sampler_seed, words.pruner)
    name = study_name(search, options)
    with held(storage, Path(f"{file}.lock")):
        tuner = Tuner(search, options, storage, name, _outputs(search) / name)
        try:
            return _tune(tuner, words.trials, words.seeds, storage)
        except Interruption as end:
            from deepgnn_cli.cli.train import exit_status

            print(f"{end}; the same command goes on")
            return exit_status("interrupted", end.outcome.error)
        finally:
            for folder in ("trials", "fresh"):
                if (tuner.folder / folder).is_dir():
                    collect_results(tuner.folder / folder)


def _outputs(search: Search) -> Path:
    return Path(str(checked(search.arms[0]).values["output_dir"]))


def _parser() -> Parser:
    parser = Parser(
        prog="deepgnn tune",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--trials", type=int, required=True, metavar="N", help="for each combination")
    add(
        "--seeds",
        type=int,
        default=0,
        metavar="K",
        help="then run each winner on K fresh seeds, and tell the test score",
    )
    add("--storage", metavar="sqlite:///FILE", help="where the study is kept (default: tune.db in output_dir)")
    pruner = "ends trials early that others beat by then (default: median)"
    add("--pruner", choices=["median", "hyperband", "none"], default="median", help=pruner)
    add("--sampler", choices=["tpe", "random"], default="tpe")
    add("--sampler-seed", type=int, default=0, metavar="S", help="another search of the same space")
    return parser


def _search(overrides: list[str], folders: list[Path]) -> Search:
    spaces = [word for word in overrides if is_space(word)]
    return search_of(spaces, axes_of([word for word in overrides if word not in spaces]), folders)


def _check(search: Search) -> None:
    """Refuse a space whose ends a run would refuse, before anything is loaded."""
    firsts = {key: spec.ends[0] for key, spec in search.space.items()}
    for arm in search.arms:
        for key, spec in search.space.items():
            for end in spec.ends:
                checked([*arm, *(f"{name}={value}" for name, value in (firsts | {key: end}).items())])


def _tune(tuner: Tuner, trials: int, seeds: int, storage: str) -> int:
    arms = tuner.search.names
    done = sum(min(trials, tuner.done(arm)) for arm in range(len(arms)))
    total, space = trials * len(arms), ", ".join(tuner.search.space)
    each = f" ({trials} for each of {len(arms)})" * (len(arms) > 1)
    print(f"{total} trials{each}, {done} done before; searched: {space}; study in {storage}", flush=True)
    for count, trial in enumerate(tuner.trials(), start=done + 1):
        print(f"[{count}/{total}] {_line(tuner, trial)}", flush=True)
    winners = tuner.winners()
    if not winners:
        print("no trial ran to its end: there is no winner")
        return 1
    print(f"\nwinner{'s' * (len(winners) > 1)} by validation")
    for winner in winners:
        print(f"  {_named(tuner, winner)}")
    if seeds:
        _freshly(tuner, winners, seeds)
    print(f"files in {tuner.folder}\ndeepgnn compare {tuner.folder / ('fresh' if seeds else 'trials')}")
    return 0


def _line(tuner: Tuner, trial: Trialled) -> str:
    metric = tuner.metrics[trial.arm]
    name = f"{tuner.search.names[trial.arm]}: " * bool(tuner.search.names[trial.arm])
    score = f"validation {in_words(metric, trial.value)}" * (trial.value is not None)
    ended = score if trial.ended == "ok" else f"{trial.ended} after {trial.epochs or 0} epochs  {score}"
    best = tuner.best(trial.arm)
    so_far = "" if best is None else f"  (best {in_words(metric, best.value)}, trial {best.number})"
    return f"{name}{ended}{so_far}  {_values(trial.params)}" + f"  {trial.error}" * (
        trial.ended not in ("ok", "pruned")
    )


def _values(params: dict[str, object]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )


def _named(tuner: Tuner, winner: Winner) -> str:
    name = tuner.search.names[winner.arm] or "the best"
    return (
        f"{name}: validation {in_words(winner.metric, winner.value)}, trial {winner.number}: {' '.join(winner.words)}"
    )


def _freshly(tuner: Tuner, winners: list[Winner], seeds: int) -> None:
    """Run each winner on fresh seeds, and only then tell what the test says."""
    from dataclasses import replace

    print(f"\nfresh seeds, {seeds} for each winner", flush=True)
    for winner in winners:
        runs = []
        for run in tuner.fresh(winner, seeds):
            runs.append(run)
            print(f"  {tuner.search.names[winner.arm]} [{len(runs)}/{seeds}] {run.status}", file=sys.stderr, flush=True)
        tested = replace(winner, fresh=tuple(runs))
        scores = {"validation": tested.summary("val_score"), "test": tested.summary("test_score")}
        told = [f"{name} {_spread(winner.metric, score)}" for name, score in scores.items() if score is not None]
        print(f"  {tuner.search.names[winner.arm] or 'the best'}: {', '.join(told) or 'no run was ok'}", flush=True)


def _spread(metric: str | None, score: tuple[float, float | None, int]) -> str:
    mean, deviation, count = score
    scale = 1 if lower_is_better(metric) else 100
    spread = "" if deviation is None else f" ± {scale * deviation:.2f}"
    return f"{scale * mean:.2f}{spread}{' %' * (scale == 100)} (n = {count})"
