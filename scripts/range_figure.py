"""The picture of `scripts/range_study.sh`: accuracy, range and surviving gradient against distance.

    python scripts/range_figure.py outputs/range_study range_study.png

A column a rewiring, a curve a network, at the depth of the better validation score. `--table` prints the numbers as
Markdown instead.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from deepgnn_cli.analysis.collect import collect
from deepgnn_cli.analysis.curves import read_columns
from deepgnn_cli.analysis.plots import COLOURS, MARKERS, STYLE, save

NAMES = {"gcn2": "GCNII", "antisymmetric": "A-DGN", "gated": "GatedGCN", "unitary": "unitary", "gcn": "GCN"}
REWIRINGS = ("none", "fosr", "expander")
TITLES = {"none": "the ring's own edges", "fosr": "FoSR, distance/5 edges", "expander": "an expander's edges as well"}
ROWS = {
    "accuracy": "test accuracy (%)",
    "range": "range R (hops of the ring)",
    "gradient": "gradient norm, first ÷ last layer",
}


def study(folder: Path) -> pd.DataFrame:
    """A row a network, rewiring and distance: the run of the better validation score, the shallower of equals."""
    runs = collect([folder], metric="test_score").runs
    runs = runs[runs["status"] == "ok"].sort_values("layers")
    found = pd.DataFrame(
        {
            "network": [
                "ResGCN" if model == "resgcn" and conv == "gcn" else NAMES[conv]
                for model, conv in zip(runs["model"], runs["conv"], strict=True)
            ],
            "rewire": runs["rewire"],
            "distance": [int(re.findall(r"distance_(\d+)", text)[-1]) for text in runs["folder"]],
            "layers": runs["layers"],
            "validation": runs["val_score"].astype(float),
            "accuracy": 100 * runs["test_score"].astype(float),
            "untrained": runs["range_hops_untrained"].astype(float),
            "range": runs["range_hops"].astype(float),
            "gradient": [survives(Path(text)) for text in runs["folder"]],
        }
    )
    best = found.groupby(["network", "rewire", "distance"], sort=False)["validation"].idxmax()
    return found.loc[best].sort_values(["distance", "rewire", "network"])


def survives(folder: Path) -> float:
    """How much of the gradient at the last layer's output reaches the encoder's."""
    norms = read_columns(folder / "layers.csv").get("output_gradient_norm")
    return float("nan") if norms is None or not norms[-1] else float(norms[0] / norms[-1])


def draw(table: pd.DataFrame) -> Figure:
    """Rows for what is measured, columns for rewirings."""
    networks = list(dict.fromkeys([*NAMES.values(), "ResGCN"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 8), layout="constrained")
        grid = figure.subplots(len(ROWS), len(REWIRINGS), sharex=True, sharey="row")
        for column, rewire in enumerate(REWIRINGS):
            for line, (name, title) in enumerate(ROWS.items()):
                axes = grid[line][column]
                for number, network in enumerate(networks):
                    own = table[(table["network"] == network) & (table["rewire"] == rewire)].sort_values("distance")
                    axes.plot(own["distance"], own[name], color=COLOURS[number], marker=MARKERS[number], ms=4.5)
                _dress(axes, name, sorted(set(table["distance"])))
                if column == 0:
                    axes.set_ylabel(title)
            grid[0][column].set_title(TITLES[rewire], loc="left")
            grid[-1][column].set_xlabel("distance from source to target (hops)")
        handles = grid[0][0].get_lines()[: len(networks)]
        figure.legend(handles, networks, loc="outside lower center", ncols=len(networks))
    return figure


def _dress(axes: matplotlib.axes.Axes, name: str, distances: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(distances, labels=map(str, distances))
    axes.xaxis.set_minor_locator(NullLocator())
    if name == "accuracy":
        axes.axhline(20, color="grey", lw=0.8, ls="--")
        axes.set_ylim(0, 104)
    elif name == "range":
        axes.plot(distances, [distance / 2 for distance in distances], color="grey", lw=0.8, ls="--")
        axes.set_yscale("log")
    else:
        axes.set_yscale("log")


def main() -> None:
    """Draw, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    table = study(options.folder)
    if options.table:
        print("| distance | edges | network | layers | test % | R before | R trained | gradient |")
        print("|---:|---|---|---:|---:|---:|---:|---:|")
        for row in table.itertuples():
            print(
                f"| {row.distance} | {row.rewire} | {row.network} | {row.layers} | {row.accuracy:.0f} "
                f"| {row.untrained:.1f} | {row.range:.1f} | {row.gradient:.1e} |"
            )
    if options.out:
        save(draw(table), options.out)


if __name__ == "__main__":
    main()
