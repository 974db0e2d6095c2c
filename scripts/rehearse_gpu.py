"""What a GPU would wait for, found without one: a training step and an evaluation of every model, norm and residual.

    python scripts/rehearse_gpu.py

Prints a table of cases: waits of the host in a step and in an evaluation, and operations that mix devices, before they
were looked for → now, and the lines that cause them; names choose among the cases. Exit status 1 where a case mixes
devices, or waits otherwise than `tests/rehearsal/step.py` says and explains. Runs on torch's `meta` device; no time or
memory of a GPU is measured or implied.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.rehearsal.step import EXCEPTIONS, as_expected, cases, rehearse, table


def main() -> int:
    """Print the table and the exceptions."""
    words = sys.argv[1:]
    chosen = [case for case in cases() if not words or any(word in case.name for word in words)]
    rows = [(case, rehearse(case)) for case in chosen]
    print(table(rows), end="\n\n")
    for name, exception in EXCEPTIONS.items():
        print(f"{name}: {exception.reason}.")
    wrong = [case.name for case, seen in rows if not as_expected(case, seen)]
    print(f"{len(rows)} cases, {len(wrong)} not as expected{': ' if wrong else ''}{', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
