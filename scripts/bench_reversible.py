"""Reversible layers against the alternatives: step time, memory and gradient error, by depth.

    python scripts/bench_reversible.py --layers 8 32 64 128

Stored activations, checkpointing every layer, PyG's GroupAddRev, ours, and ours on the exact grid run in turn in one
process. Believe the ratios rather than the seconds. Writes OUT.csv and OUT.png.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from reversible_variants import VARIANTS, Problem, measure

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend has to be chosen first


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 32, 64, 128])
    parser.add_argument("--nodes", type=int, default=20_000)
    parser.add_argument("--edges", type=int, default=200_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=["wall", "process"], default="wall", help="process: processor time, for a busy machine"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_reversible"), help="without suffix")
    return parser.parse_args()


def main() -> None:
    """Measure depth by depth; write the table and the plot."""
    args = arguments()
    torch.set_num_threads(args.threads)
    frames = []
    for layers in args.layers:
        problem = Problem.random(
            nodes=args.nodes,
            edges=args.edges,
            channels=args.channels,
            groups=args.groups,
            layers=layers,
            device=args.device,
        )
        rows = [asdict(row) for row in measure(problem, list(VARIANTS), args.rounds, clock=args.clock)]
        frames.append(pd.DataFrame(rows).assign(layers=layers))
        print(frames[-1].to_string(index=False, float_format="{:.4g}".format), flush=True)
    settings = {"device": str(args.device), "threads": args.threads, "clock": args.clock}
    table = pd.concat(frames).assign(**settings, version_torch=torch.__version__)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out.with_suffix(".csv"), index=False)
    plot(table, args.out.with_suffix(".png"))
    print(f"wrote {args.out.with_suffix('.csv')} and {args.out.with_suffix('.png')}")


def plot(table: pd.DataFrame, path: Path) -> None:
    """Step time, peak and kept activations, by depth."""
    panels = {
        "ratio": "step time ÷ stored activations",
        "peak_mib": "peak of a step above rest, MiB",
        "kept_mib": "kept by autograd, MiB",
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(13, 4), constrained_layout=True)
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for variant, rows in table.groupby("variant", sort=False):
            shown = rows.dropna(subset=[column])
            if len(shown):
                axis.plot(shown["layers"], shown[column], marker="o", label=variant)
        axis.set(xscale="log", xlabel="layers", ylabel=label)
        axis.set_xticks(sorted(table["layers"].unique()), [str(n) for n in sorted(table["layers"].unique())])
        axis.minorticks_off()
        if column == "ratio":
            axis.set_ylim(bottom=0)
        else:
            axis.set_yscale("log")
            axis.set_ylim(bottom=1)
    axes[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
