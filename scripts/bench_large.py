"""Train DeeperGCN and RevGEN, full batch, on a generated graph of ogbn-arxiv's size; report time and resident peak.

    python scripts/bench_large.py --out bench_large.csv

A csbm graph of 169,343 nodes, average degree 13.7, 128 features and 40 classes; 28 layers of 128 channels. Every case
runs in a process of its own, through the same `experiment` call that a user makes. `--pyg` adds the runs with PyG's own
convolutions in the same wiring, for as long as they fit (`--limit-gib` ends a process that grows past it).
`--nodes 20000` tries it small. `epoch_seconds` is training time over epochs, evaluation included; diagnostics, which
would come after the last epoch, are off.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import sys
import tempfile
from typing import Any

CASES = {"deepergcn": 24.0, "revgen": 4.0}  # what each is meant to fit into, GiB


def train(model: str, side: str, layers: int, nodes: int, epochs: int, limit_gib: float) -> dict[str, Any]:
    """One run; a row of the table."""
    from deepgnn_cli import experiment
    from deepgnn_cli.nn import convs

    if side == "pyg":
        convs.twin = lambda operator, edge_attr: None
    if limit_gib:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * 2**30), -1))
    keys = {
        "dataset.num_nodes": nodes, "dataset.average_degree": 13.7, "dataset.num_features": 128,
        "dataset.num_classes": 40, "trainer.max_epochs": epochs, "trainer.diagnostics": False,
    }  # fmt: skip
    row = {"model": model, "side": side, "layers": layers, "nodes": nodes, "goal_gib": CASES[model]}
    with tempfile.TemporaryDirectory() as folder:
        frame = experiment(
            keys | {"dataset": "csbm", "model": model, "layers": layers, "hidden": 128, "output_dir": folder}
        )
    found = frame.iloc[0]
    if found["status"] != "ok":
        return row | {"status": found["status"]}
    # The run's own measure begins the high-water mark anew: the process's peak is the larger of the two.
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**20
    return row | {
        "status": found["status"], "step_seconds": found["step_seconds"],
        "epoch_seconds": found["train_seconds"] / max(1, found["epochs"]),
        "process_peak_gib": max(peak, found["peak_memory_mib"] / 2**10),
    }  # fmt: skip


def main() -> int:
    """Run the cases one after the other, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--nodes", type=int, default=169_343)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pyg", action="store_true", help="PyG's own convolutions as well")
    parser.add_argument("--limit-gib", type=float, default=0.0, help="end a process that asks for more; 0: none")
    parser.add_argument("--out", metavar="FILE.csv")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        for side in ("ours", "pyg") if arguments.pyg else ("ours",):
            given = (model, side, arguments.layers, arguments.nodes, arguments.epochs, arguments.limit_gib)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                try:
                    rows.append(pool.apply(train, given))
                except (MemoryError, RuntimeError) as error:
                    rows.append({"model": model, "side": side, "nodes": arguments.nodes, "status": str(error)[:80]})
            print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    if arguments.out:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, max(rows, key=len), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
