r"""What share of a run its diagnostics take: influence (twice), the graph's description, the layers.

    python scripts/bench_diagnostics.py dataset=cora model=gcnii layers=64
    python scripts/bench_diagnostics.py dataset=csbm dataset.num_nodes=169343 dataset.average_degree=13.7 \
        dataset.num_features=128 dataset.num_classes=40 model=gcn layers=3 hidden=128 trainer.max_epochs=50

The words are those of `deepgnn train`. Times are processor times, which a busy machine does not stretch; the graph is
described anew, as the first run on it does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import yaml

from deepgnn_cli import experiment
from deepgnn_cli.data.structure.description import describe
from deepgnn_cli.runs import run
from deepgnn_cli.training import diagnostics

spent: dict[str, float] = {}


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose processor time is added up under `name`."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - began

    return wrapped


def main() -> None:
    """Run, and print a line a part."""
    diagnostics.listen = timed("influence, twice", diagnostics.listen)
    diagnostics.diagnose = timed("layers", diagnostics.diagnose)
    diagnostics.described = timed("graph.json", lambda graph, folder: describe(graph))
    run.train = timed("whole run", run.train)
    pairs = (word.split("=", 1) for word in sys.argv[1:])
    words = {key: yaml.safe_load(value) for key, value in pairs}
    with tempfile.TemporaryDirectory() as folder:
        row = experiment(words | {"output_dir": folder}).iloc[0]
    whole = spent.pop("whole run")
    print(f"{' '.join(sys.argv[1:])}: {row.status}, {row.epochs} epochs, {whole:.1f} s of processor time")
    for name, seconds in (*spent.items(), ("together", sum(spent.values()))):
        print(f"  {name}: {seconds:.2f} s, {100 * seconds / whole:.2f} %")


if __name__ == "__main__":
    main()
