"""The command line: a word names a command, imported only then; errors become one line and an exit status.

Exit status: 0 done; 1 a run failed; 2 the input is wrong; 130, 143, 129 interrupted (128 + the signal).
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys

from deepgnn_cli import __version__
from deepgnn_cli.rules.text import printable

_HELP = """\
deepgnn: what happens when this GNN gets deeper, and which trick keeps it alive?

usage: deepgnn COMMAND …

  train [key=value …] [-m]   one run, or a sweep over comma-separated values with -m
  plan [key=value …] [-m]    before running: parameters, activations, peak memory, time; the deepest that fits
  tune [key=value …] --trials N
                             a fair, resumable search by validation score; winners on fresh seeds
  watch [PATH]               what runs now: curves as they grow, time left, sweeps on any launcher
  compare PATH… [options]    result files as one table: mean ± std, intervals, tests, depth curves
  report PATH… --out FILE    one page with tables, depth curves and diagnostics
  predict RUN [options]      what a trained model says of every node or graph: class and probabilities, as CSV
  evaluate RUN               the scores of a run again, from its weights; exit 1 where they are not those of its row
  diff RUN RUN               what two runs differ in, and the first epoch at which their curves part
  bundle PATH --out FILE.zip a study to hand on: configurations, rows, versions, commands, checksums
  rerun FILE.zip             the same study again, each row held against the one it had
  ls [GROUP [NAME]]          the data sets, models, norms, residuals, experiments …; of one every key
  doctor                     versions, devices, optional parts, and a check of the reversible gradients

examples
  deepgnn train dataset=cora model=gcnii layers=64
  deepgnn train -m dataset=cora model=gcn,gcnii layers=2,4,8,16,32,64 seed=0,1,2
  deepgnn train experiment=gcnii_cora
  deepgnn compare outputs/ --baseline model=gcn --plot depth.png

deepgnn COMMAND --help says more; deepgnn --version says which version this is.
deepgnn --install-completion [bash|zsh|fish] completes commands, keys and values.

environment
  DEEPGNN_DATA        where data sets are kept (default: deepgnn/ in the user's cache)
  DEEPGNN_QUIET       set: no progress bars
  DEEPGNN_VERBOSE     set: runs tell on stderr what they write to their log, as with -v
  DEEPGNN_TRACEBACK   set: an error shows where it arose
"""

_COMMANDS = {
    "train": "deepgnn_cli.cli.train",
    "plan": "deepgnn_cli.cli.plan",
    "tune": "deepgnn_cli.cli.tune",
    "watch": "deepgnn_cli.cli.watch",
    "compare": "deepgnn_cli.cli.compare",
    "report": "deepgnn_cli.cli.report",
    "predict": "deepgnn_cli.cli.predict",
    "evaluate": "deepgnn_cli.cli.evaluate",
    "diff": "deepgnn_cli.cli.diff",
    "bundle": "deepgnn_cli.cli.bundle",
    "rerun": "deepgnn_cli.cli.rerun",
    "ls": "deepgnn_cli.cli.ls",
    "doctor": "deepgnn_cli.cli.doctor",
}


def run_command(argv: list[str]) -> int:
    """Run `deepgnn` with these words and return its exit status."""
    if "_ARGCOMPLETE" in os.environ and not argv:
        from deepgnn_cli.cli.completion import answer

        return answer(_COMMANDS)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if argv[0] in ("--version", "version"):
        print(f"deepgnn {__version__}")
        return 0
    try:
        word, *rest = argv
        if word == "--install-completion":
            from deepgnn_cli.cli.completion import install

            print(install(rest[0] if rest else None))
            return 0
        if word not in _COMMANDS:
            near = difflib.get_close_matches(word, _COMMANDS, 1) or ["train"] * ("=" in word)
            hint = f"; did you mean 'deepgnn {near[0]}'?" if near else ""
            raise ValueError(f"there is no command '{word}'{hint} `deepgnn --help` lists them")
        status: int = importlib.import_module(_COMMANDS[word]).main(rest)
        return status
    except ValueError as error:
        if os.environ.get("DEEPGNN_TRACEBACK"):
            raise
        print("deepgnn: " + " ".join(printable(str(error)).split()), file=sys.stderr)
        return 2
    except OSError as error:
        if os.environ.get("DEEPGNN_TRACEBACK"):
            raise
        print(f"deepgnn: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
