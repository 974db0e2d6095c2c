"""`deepgnn train`: words become a checked configuration, then one run or a sweep of them."""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.cli.terminal import Parser, quietly, tell_loading
from deepgnn_cli.cli.words import parsed
from deepgnn_cli.config.compose import as_yaml, resolved
from deepgnn_cli.config.groups import GROUPS
from deepgnn_cli.config.sweep_words import sweep_words
from deepgnn_cli.config.validate import checked
from deepgnn_cli.rules.metrics import in_words
from deepgnn_cli.runfiles.record import Row

_HELP = f"""\
usage: deepgnn train [key=value …] [-m] [-q | -v] [--config-dir DIR] [--cfg job]

One run, or with -m one for every combination of comma-separated values.

what to run: `deepgnn ls` lists the options of each group, `deepgnn ls GROUP NAME` the keys of one
{textwrap.fill(" ".join(f"{group}=" for group in GROUPS), 100, initial_indent="  ", subsequent_indent="  ")}
  layers=64 hidden=64 seed=0 device=cpu optimizer.lr=0.01 trainer.max_epochs=200 …

flags
  -m, --multirun    layers=2,4,8 seed=0,1,2
  -q, --quiet       nothing but errors
  -v, --verbose     what runs write to their log, as they do
  --config-dir DIR  a folder of your own options, laid out as conf/: DIR/model/mine.yaml …
  --cfg job         print the configuration and run nothing

what was begun or done before
  output_dir=DIR       where runs are written and looked for (default: outputs)
  resume=true          go on with the newest unfinished run of this configuration; or resume=FOLDER
  skip_finished=true   do not repeat what has an ok row (in a sweep the default); or further folders

where the jobs of a sweep run: pip install 'deepgnn[joblib]', [slurm], [ray]
  hydra/launcher=joblib hydra.launcher.n_jobs=4
  hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1
  hydra/launcher=ray +hydra.launcher.ray.remote.num_gpus=1
"""


def _parsed(argv: Sequence[str]) -> Namespace:
    parser = Parser(prog="deepgnn train", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    return parsed(parser, argv)


def main(argv: list[str]) -> int:
    """Run `deepgnn train` with these words; returns the exit status."""
    words = _parsed(argv)
    if words.help:
        print(_HELP, end="")
        return 0
    if words.multirun and words.cfg:
        return _show_sweep(words.overrides)
    if words.quiet and not words.cfg:
        return quietly(lambda: _run(words))
    return _run(words)


def _run(words: Namespace) -> int:
    if words.multirun:
        if "RANK" in os.environ:
            raise ValueError("a sweep (-m) is not for torchrun; leave that out and give trainer.processes=N")
        # Hundreds of values take a while, and torch its own before them.
        print("checking every value of the sweep …", flush=True)
        asked = sweep_words(words.overrides)
        from deepgnn_cli.runs.sweep import sweep

        return sweep(asked)
    config = checked(words.overrides)
    if words.cfg:
        print(as_yaml(config.values), end="")
        return 0
    tell_loading("torch and the data")
    from deepgnn_cli.runs.plan import plan_for
    from deepgnn_cli.runs.run import run

    plan = plan_for(config, skip=bool(config.values["skip_finished"]))
    if plan.finished is not None:
        print(f"skipped: finished already in {plan.finished}")
        return 0
    row = plan.row(run(plan))
    if int(os.environ.get("RANK", "0")) == 0:
        print(summary(row, plan.folder))
    elif row.status != "ok":
        print(f"deepgnn: process {os.environ['RANK']}: {row.status}: {row.error}", file=sys.stderr)
    return exit_status(row.status, row.error)


def _show_sweep(overrides: Sequence[str]) -> int:
    """Print the first configuration of a sweep and what runs through which values; nothing runs."""
    asked = sweep_words(overrides)
    print(as_yaml(resolved(asked.first)), end="")
    for key, values in asked.axes.items():
        if len(values) > 1:
            print(f"# {key} runs through {', '.join(value.partition('=')[2] for value in values)}")
    return 0


def exit_status(status: str, error: str | None) -> int:
    """0 for ok; 130, 143 or 129 for an interrupted run, as the signal; 1 for any other end."""
    if status == "interrupted":
        from deepgnn_cli.training.signals import number_of

        return 128 + number_of(error)
    return 0 if status == "ok" else 1


def summary(row: Row, folder: Path) -> str:
    """What a reader wants to know at the end of a run."""
    title = f"{row.model} · {row.dataset} ({row.split}) · {row.layers} layers × {row.hidden} · seed {row.seed}"
    lines = [title]
    if row.status != "ok":
        lines.append(f"  {row.status}: {row.error}")
    if row.test_score is not None and row.val_score is not None:
        lines.append(
            f"  test {row.metric} {in_words(row.metric, row.test_score, 2)}  "
            f"(validation {in_words(row.metric, row.val_score, 2)}, best epoch {row.best_epoch} of {row.epochs})"
            + (f"  published {in_words(row.metric, row.reported)}" if row.reported is not None else "")
        )
    if row.step_seconds is not None and row.train_seconds is not None:
        lines.append(f"  step {1000 * row.step_seconds:.1f} ms, training {row.train_seconds:.1f} s on {row.device}")
    if row.peak_memory_mib is not None and row.activation_mib is not None:
        lines.append(
            f"  peak memory {row.peak_memory_mib:.0f} MiB ({row.memory_kind}), activations "
            f"{row.activation_mib:.1f} MiB, {row.parameters:,} parameters"
        )
    if row.status == "interrupted":
        lines.append("  go on with the same command and resume=true")
    lines.append(f"  files in {folder}")
    return "\n".join(lines)
