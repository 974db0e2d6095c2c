"""Time and memory of one layer, forward and backward: this package's aggregation against PyG's own forward.

    python scripts/bench_aggregation.py --out bench_aggregation.csv

Both sides are the same PyG conv with the same parameters: once through `nn.aggregation`, once as PyG runs it. The
times alternate in one process; believe the ratios of the medians. The peak is the growth of the resident set over
what stood before the layer, measured in a process of its own for each side.
`--check R` fails if a softmax or an attention layer takes more than R times as long as PyG's.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn
from torch_geometric.nn import GATConv, GATv2Conv, GENConv, SAGEConv, TransformerConv

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.convs import Conv

HEADS = 4
CHECKED = ("softmax", "gat")


def attention(kind: Callable[..., nn.Module], channels: int) -> nn.Module:
    """Four heads, concatenated."""
    return kind(channels, channels // HEADS, heads=HEADS)


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "softmax": lambda c: GENConv(c, c, t=0.1, num_layers=1),
    "softmax, learned t": lambda c: GENConv(c, c, t=0.1, learn_t=True, num_layers=1),
    "power": lambda c: GENConv(c, c, aggr="power", p=2.0, num_layers=1),
    "power, learned p": lambda c: GENConv(c, c, aggr="power", p=2.0, learn_p=True, num_layers=1),
    "max": lambda c: GENConv(c, c, aggr="max", num_layers=1),
    "sage, max": lambda c: SAGEConv(c, c, aggr="max"),
    "gat": partial(attention, GATConv),
    "gatv2": partial(attention, GATv2Conv),
    "transformer": partial(attention, TransformerConv),
}


def step(name: str, side: str, sizes: tuple[int, int, int]) -> Callable[[], object]:
    """One forward and backward pass of the layer over random edges."""
    nodes, count, channels = sizes
    torch.manual_seed(0)
    edge_index = torch.randint(0, nodes, (2, count))
    x, gradient = torch.randn(nodes, channels, requires_grad=True), torch.randn(nodes, channels)
    operator = LAYERS[name](channels)
    adjacency, conv = Adjacency(edge_index, nodes), Conv(operator)

    def run() -> None:
        out = conv(x, adjacency) if side == "ours" else operator(x, edge_index)
        out.backward(gradient)

    return run


def peak_mib(name: str, side: str, sizes: tuple[int, int, int]) -> float:
    """The growth of the resident peak during two passes, the second of which finds everything sorted."""
    run = step(name, side, sizes)
    before = status_mib("VmRSS")
    run()
    run()
    return status_mib("VmHWM") - before


def status_mib(field: str) -> float:
    """A field of the kernel's account of this process; unlike rusage's peak, it does not count the parent's."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def in_a_process(name: str, side: str, sizes: tuple[int, int, int]) -> float:
    """`peak_mib` where nothing else has run."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_mib, (name, side, sizes))


def compare(name: str, sizes: tuple[int, int, int], rounds: int, memory: bool) -> dict[str, Any]:
    """A row of the table."""
    runs = {side: step(name, side, sizes) for side in ("ours", "pyg")}
    times: dict[str, list[float]] = {side: [] for side in runs}
    for round_ in range(rounds + 1):
        for side, run in runs.items():
            start = time.perf_counter()
            run()
            if round_:
                times[side].append(time.perf_counter() - start)
    ours, pyg = (1e3 * median(times[side]) for side in runs)
    row = {"layer": name, "ours_ms": ours, "pyg_ms": pyg, "time_ratio": ours / pyg}
    if memory:
        ours, pyg = (in_a_process(name, side, sizes) for side in runs)
        row |= {"ours_mib": ours, "pyg_mib": pyg, "memory_ratio": ours / pyg}
    return row


def main() -> int:
    """Print the table, write the CSV, hold the ratios against `--check`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20_000)
    parser.add_argument("--edges", type=int, default=400_000)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", nargs="*", default=list(LAYERS), choices=list(LAYERS), metavar="NAME")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--check", type=float, metavar="R", help="fail if softmax or gat takes over R of PyG's time")
    parser.add_argument("--out", metavar="FILE.csv")
    arguments = parser.parse_args()
    sizes = (arguments.nodes, arguments.edges, arguments.channels)
    names = CHECKED if arguments.check is not None else arguments.layers
    rows = []
    for name in names:
        rows.append(compare(name, sizes, arguments.rounds, not arguments.no_memory and arguments.check is None))
        cells = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items())
        print("  ".join(cells), flush=True)
    if arguments.out:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if arguments.check is None:
        return 0
    worst = max(row["time_ratio"] for row in rows)
    print(f"ours / PyG = {worst:.3f} at worst, at most {arguments.check} asked for")
    return int(worst > arguments.check)


if __name__ == "__main__":
    sys.exit(main())
