"""What a GPU would wait for, found without one: a training step and an evaluation of every model, norm and residual.

    python scripts/rehearse_gpu.py

Prints a table of cases: waits of the host in a step and in an evaluation, operations that mix devices, and the lines
that cause them. Runs on torch's `meta` device (`tests/rehearsal`); no time or memory of a GPU is measured or implied.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.rehearsal.step import cases, rehearse, table


def main() -> int:
    """Print the table; 1 if an operation mixes devices."""
    words = sys.argv[1:]
    chosen = [case for case in cases() if not words or any(word in case.name for word in words)]
    rows = [(case, rehearse(case)) for case in chosen]
    print(table(rows))
    return int(any(seen.step.mixed or seen.evaluation.mixed for _, seen in rows))


if __name__ == "__main__":
    sys.exit(main())
