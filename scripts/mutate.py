"""Break the numeric core one line at a time, and see whether the tests notice.

    python scripts/mutate.py                  all of scripts/mutations.toml, some ten minutes on one core
    python scripts/mutate.py --only optimizers
    python scripts/mutate.py --list

A line that survives is a law nobody holds. The table is written by hand, in place of mutmut or cosmic-ray: those swap
every operator and constant of a file, thousands of them, each against the whole suite; what matters here is that a
formula cannot lose a factor, a mask or a direction, and which tests are to see it.

Exit status: 0, all are killed; 1, some survive; 2, the table is out of date, or the tests fail unbroken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "deepgnn_cli"
TIMEOUT_SECONDS = 600  # a line that makes a test run for ever is noticed, too


@dataclass(frozen=True)
class Mutation:
    """In `file`, below the package, `text` becomes `broken`; one of `tests` must fail."""

    file: str
    text: str
    broken: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.text}  →  {self.broken}"

    def applied(self, root: Path) -> str:
        """The file's content once broken.

        Raises:
            ValueError: there is no such file, or the text does not stand in it exactly once.
        """
        path = root / PACKAGE / self.file
        count = path.read_text().count(self.text) if path.is_file() else 0
        if count != 1:
            raise ValueError(f"{self.file} holds this {count} times, it must be once: {self.text}")
        return path.read_text().replace(self.text, self.broken)


def table() -> list[Mutation]:
    """The mutations of `mutations.toml`."""
    entries = tomllib.loads((ROOT / "scripts" / "mutations.toml").read_text())["mutation"]
    return [Mutation(**(entry | {"tests": tuple(entry["tests"])})) for entry in entries]


def outdated(mutations: list[Mutation], root: Path = ROOT) -> list[str]:
    """What is wrong with the table: a line for each mutation that cannot be made."""
    problems = []
    for mutation in mutations:
        try:
            compile(mutation.applied(root), mutation.file, "exec")
        except (ValueError, SyntaxError) as error:
            problems.append(str(error))
        problems += [f"{mutation.file}: there is no {test}" for test in mutation.tests if not (root / test).exists()]
    return problems


def passes(tests: tuple[str, ...], root: Path, timeout: float | None = TIMEOUT_SECONDS, tell: int = 1) -> bool:
    """Whether the tests pass on the copy of the project at `root`; pytest is shown if it exits above `tell`."""
    # Bytecode is told from its source by whole seconds: a line broken and mended within one would not be seen.
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    if ended.returncode > tell:
        print(ended.stdout.decode(errors="replace")[-2000:], file=sys.stderr)
    return ended.returncode == 0


def copied(folder: Path) -> Path:
    """A copy of all that the tests read."""
    skip = shutil.ignore_patterns("__pycache__", ".git", ".*_cache", "outputs")
    return Path(shutil.copytree(ROOT, folder / "copy", ignore=skip))


def survivors(mutations: list[Mutation], root: Path) -> list[Mutation]:
    """Make each mutation in turn on the copy at `root`, say what became of it, and return those not noticed."""
    left = []
    for number, mutation in enumerate(mutations, 1):
        path, began = root / PACKAGE / mutation.file, time.monotonic()
        whole = path.read_text()
        path.write_text(mutation.applied(root))
        survived = passes(mutation.tests, root)
        path.write_text(whole)
        left += [mutation] if survived else []
        word, seconds = "SURVIVED" if survived else "killed  ", time.monotonic() - began
        print(f"{number:3}/{len(mutations)} {word} {seconds:4.0f} s  {mutation}", flush=True)
    return left


def main() -> int:
    """Break, test, tell."""
    parser = argparse.ArgumentParser(description="Break single lines of the numeric core and run their tests.")
    parser.add_argument("--only", metavar="TEXT", default="", help="those whose file or line holds TEXT")
    parser.add_argument("--list", action="store_true", help="show the table and run nothing")
    arguments = parser.parse_args()
    mutations = [mutation for mutation in table() if arguments.only in str(mutation)]
    if arguments.list:
        print(*mutations, sep="\n")
    if problems := outdated(mutations):
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    if arguments.list:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        tests = tuple(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
        if not passes(tests, root, timeout=None, tell=0):
            print("the tests fail on the unbroken code: mend them first", file=sys.stderr)
            return 2
        left = survivors(mutations, root)
    print(f"{len(mutations)} lines broken: {len(mutations) - len(left)} killed, {len(left)} survived")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
