"""Time and memory of a training step of the deeper models: ours against PyG's own convolutions in the same wiring.

    python scripts/bench_models.py --out docs/bench_models.csv

DeeperGCN with each aggregation, the attention models, the reversible ones and GRAND: the same network twice, once
through `nn.aggregation`, once with PyG's operators run as they are (GRAND, of which PyG has none: with gathers and
scatters). The times alternate in one process: medians and ratios are what to believe. The peak is the growth of the
resident set over what stood before the model, in a process of its own for each side. A picture lies beside the CSV.
`--growth` times ours over layers, edges and channels instead, and fits the growth on logarithmic scales (1: linear).
`--check R` fails if a softmax or an attention model takes more than R times as long as with PyG's convolutions.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import torch
from bench_aggregation import status_mib
from bench_step import Step, alternate, device_name, line, random_graph, training_step
from torch import nn
from torch_geometric.nn import GCNConv

from deepgnn_cli.nn import attention, convs, gen, norms, residuals
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.grand import grand
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.nn.portable import PlainAdjacency

GEN = partial(
    gen.gen, aggregation="softmax", t=0.1, learn_t=False, stop_gradient=False, p=2.0, learn_p=False, message_norm=False,
    learn_message_scale=False, mlp_layers=1, mlp_norm="batch", expansion=2, bias=True,
)  # fmt: skip
HEADS: dict[str, Any] = {"heads": 4, "attention_dropout": 0.0, "bias": True}
RES_PLUS = partial(residuals.res_plus, alpha=0.0)
REVERSIBLE = partial(
    residuals.reversible, groups=2, exact=False, store_activations=False, shared_mask=True, alpha=0.0, depth_scaling=1.0
)
# Convolution, residual, and what stands in for the convolution on PyG's side where it is not the same operator.
MODELS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], Callable[..., nn.Module] | None]] = {
    "deepergcn, softmax": (GEN, RES_PLUS, None),
    "deepergcn, learned t": (partial(GEN, learn_t=True), RES_PLUS, None),
    "deepergcn, power": (partial(GEN, aggregation="power"), RES_PLUS, None),
    "deepergcn, max": (partial(GEN, aggregation="max"), RES_PLUS, None),
    "gat": (partial(attention.gat, negative_slope=0.2, **HEADS), RES_PLUS, None),
    "gatv2": (partial(attention.gatv2, negative_slope=0.2, share_weights=False, **HEADS), RES_PLUS, None),
    "transformer": (partial(attention.transformer, beta=False, **HEADS), RES_PLUS, None),
    "revgen": (partial(GEN, aggregation="max"), REVERSIBLE, None),
    "revgat": (partial(attention.gat, negative_slope=0.2, **HEADS), REVERSIBLE, None),
    "revgcn": (partial(convs.gcn, bias=True), REVERSIBLE, GCNConv),
}


GRAND = partial(
    grand, norm=None, residual=None, drop=Drop(0.5, 0.5), drop_node=0.5, views=1, temperature=0.5, consistency=0.0
)
CHECKED = ("deepergcn, softmax", "gat")
NAMES = (*MODELS, "grand")
Sizes = dict[str, int]
Row = dict[str, Any]


def model_step(name: str, side: str, sizes: Sizes, device: torch.device) -> Step:
    """A training step of a model with batch (reversible: layer) normalisation in front of each convolution."""
    edge_index, x, y = (t.to(device) for t in random_graph(sizes["nodes"], sizes["edges"], 128, 1.0))
    shape, layers, hidden = Shape(x.size(1), 7), sizes["layers"], sizes["hidden"]
    if name == "grand":
        kind = Adjacency if side == "ours" else PlainAdjacency
        model = GRAND(shape, layers=layers, hidden=hidden).to(device)
        return training_step(model, x, kind(edge_index, sizes["nodes"]), y, fused=True)
    conv, residual, plain = MODELS[name]
    model = deep_gnn(
        shape, layers=layers, hidden=hidden, norm=norms.layer if residual is REVERSIBLE else norms.batch,
        residual=residual, drop=Drop(0.5, 0.0), conv=conv if side == "ours" else plain or conv,
        encoder="linear", decoder="linear", encoder_act="none", act="relu", identity_mapping=None,
    ).to(device)  # fmt: skip
    step = training_step(model, x, Adjacency(edge_index, sizes["nodes"]), y, fused=True)
    return step if side == "ours" else as_pyg(step)


def as_pyg(step: Step) -> Step:
    """The same step with PyG's operators run as they are."""

    def run() -> None:
        found, convs.twin = convs.twin, lambda operator, edge_attr: None
        try:
            step()
        finally:
            convs.twin = found

    return run


def peak_mib(name: str, side: str, sizes: Sizes) -> float:
    """The growth of the resident peak during two steps, the second of which finds everything sorted."""
    before = status_mib("VmRSS")
    step = model_step(name, side, sizes, torch.device("cpu"))
    step()
    step()
    return status_mib("VmHWM") - before


def compared(names: Sequence[str], sizes: Sizes, rounds: int, device: torch.device, memory: bool) -> list[Row]:
    """Each model in turn with PyG's convolutions in the same wiring."""
    rows: list[Row] = []
    for name in names:
        sides = {side: model_step(name, side, sizes, device) for side in ("ours", "pyg")}
        times = {side: 1e3 * median(taken) for side, taken in alternate(sides, rounds, device).items()}
        row: Row = {"table": "models", "model": name, **sizes, "device": device_name(device)}
        row |= {"ours_ms": times["ours"], "pyg_ms": times["pyg"], "time_ratio": times["ours"] / times["pyg"]}
        if memory:
            peaks = {}
            for side in sides:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    peaks[side] = pool.apply(peak_mib, (name, side, sizes))
            row |= {"ours_mib": peaks["ours"], "pyg_mib": peaks["pyg"], "memory_ratio": peaks["ours"] / peaks["pyg"]}
        rows.append(row)
        show(row)
    return rows


def growth(names: Sequence[str], sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """The step of each model over layers, edges and channels, with the exponent of the growth along each."""
    rows: list[Row] = []
    for name in names:
        for axis in ("layers", "edges", "hidden"):
            cases = [sizes | {axis: sizes[axis] * factor} for factor in (1, 2, 4)]
            steps = {str(case[axis]): model_step(name, "ours", case, device) for case in cases}
            times = alternate(steps, rounds, device)
            points = [(case[axis], median(times[str(case[axis])])) for case in cases]
            # Both logarithms: the slope is the exponent.
            slope, _, fit = line([(math.log(size), math.log(taken)) for size, taken in points])
            for case, (_, taken) in zip(cases, points, strict=True):
                known = {"table": f"growth_{axis}", "model": name, **case, "device": device_name(device)}
                rows.append({**known, "ours_ms": 1e3 * taken, "exponent": slope, "fit_r2": fit})
            show(rows[-1])
    return rows


def show(row: Row) -> None:
    """One line."""
    cells = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items())
    print("  ".join(cells), flush=True)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Time and memory of each model as shares of PyG's."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = {"time_ratio": "time of a step ÷ PyG's", "memory_ratio": "peak memory ÷ PyG's"}
    shown = {column: label for column, label in columns.items() if column in rows[0]}
    figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 4), sharey=True, squeeze=False)
    names = [row["model"] for row in rows]
    for axis, (column, label) in zip(axes[0], shown.items(), strict=True):
        bars = axis.barh(names, [row[column] for row in rows], color="tab:blue")
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(1, color="0.4", linewidth=1)
        axis.set(xlabel=label, xlim=(0, max(1.15, 1.15 * max(row[column] for row in rows))))
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> int:
    """Run the table asked for, print it, write the CSV and the picture, hold the ratios against `--check`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--edges", type=int, default=70_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--check", type=float, metavar="R")
    parser.add_argument("--out", type=Path, metavar="FILE.csv")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device, checked = torch.device(arguments.device), arguments.check is not None
    sizes = {name: getattr(arguments, name) for name in ("layers", "hidden", "nodes", "edges")}
    names = arguments.models or (CHECKED if checked else NAMES)
    if arguments.growth:
        rows = growth(names, sizes, arguments.rounds, device)
    else:
        memory = not (arguments.no_memory or checked) and device.type == "cpu"
        rows = compared(names, sizes, arguments.rounds, device, memory)
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        if not arguments.growth:
            plot(rows, arguments.out.with_suffix(".png"))
    if not checked:
        return 0
    worst = max(row["time_ratio"] for row in rows)
    print(f"ours / PyG = {worst:.3f} at worst, at most {arguments.check} asked for")
    return int(worst > arguments.check)


if __name__ == "__main__":
    sys.exit(main())
