"""A heat map of scripts/depth_frontier.sh: a row a residual, a column a norm and depth, in each cell the test score.

    python scripts/depth_heat_map.py Cora=cora.csv [Minesweeper=minesweeper.csv] --out depth_frontier.png

The rows are ordered by the validation score at the deepest column, never by the test score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SCORE, CHOICE = "mean", "val_score_mean"


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="+", metavar="TITLE=FILE", help="a csv of `deepgnn compare --by …`")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    named = [each.partition("=") for each in arguments.table]
    tables = {title: pd.read_csv(path, keep_default_na=False, na_values=[""]) for title, _, path in named}
    figure = Figure(figsize=(1.4 + 3.6 * len(tables), 5.6), layout="constrained", dpi=150)
    for axes, (title, table) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables.items(), strict=True):
        draw(axes, title, table)
    figure.savefig(arguments.out)


def draw(axes: Axes, title: str, table: pd.DataFrame) -> None:
    """One data set's cells, from 0 to 100 %."""
    cells = {
        measure: table.pivot(index="residual", columns=["norm", "layers"], values=measure)
        for measure in (SCORE, CHOICE)
    }
    # no norm first, and the depths in their order
    columns = sorted(cells[SCORE].columns, key=lambda column: (column[0] != "none", column[0], column[1]))
    deepest = cells[CHOICE].xs(max(table["layers"]), axis=1, level="layers").max(axis=1)
    shown = cells[SCORE].loc[deepest.sort_values(ascending=False, kind="stable").index, columns] * 100
    axes.imshow(shown, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(shown.to_numpy()):
        if not np.isnan(value):
            colour = "black" if value > 60 else "white"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(len(shown)), shown.index, fontsize=8)
    axes.set_xticks(range(len(columns)), [f"{norm}\n{layers}" for norm, layers in columns], fontsize=8)
    axes.set_title(f"{title}: test score in %", fontsize=9)
    axes.set_xlabel("norm, layers", fontsize=8)


if __name__ == "__main__":
    main()
