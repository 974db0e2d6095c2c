"""Depth curves as an article prints them: the width of one column or of two, a panel a data set, fonts embedded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from deepgnn_cli.analysis import plots
from deepgnn_cli.analysis.curves import Panel
from deepgnn_cli.analysis.plots import COLOURS, DASHES, GRID, INK, MARKERS

SINGLE, DOUBLE = 3.35, 6.9
"""Inches: a column of a two-column article, and both."""
_HEIGHT, _ACROSS = 1.9, 3
_STYLE: Any = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "grid.color": GRID,
    "grid.linewidth": 0.4,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,  # TrueType inside: publishers refuse Type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "deepgnn",
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
}


def draw(panels: Sequence[Panel], ylabel: str) -> Figure:
    """One column wide for one data set, two for several."""
    across = min(len(panels), _ACROSS)
    down = -(-len(panels) // across)
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    width = SINGLE if len(panels) == 1 else DOUBLE
    beside = max(1, min(len(labels), int(width / (0.45 + 0.055 * max(map(len, labels))))))
    legend = -(-len(labels) // beside) * 0.17
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, _HEIGHT * down + legend), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index >= len(panels):
                axes.set_visible(False)
                continue
            _draw(axes, panels[index], labels)
            if index % across == 0:
                axes.set_ylabel(ylabel)
        handles = [grid.flat[0].plot([], [], **_line(labels.index(name)))[0] for name in labels]
        names = [name.replace("$", r"\$") for name in labels]
        figure.legend(handles, names, loc="outside lower center", ncols=beside)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure as `plots.save` does, fonts embedded, at a printer's resolution.

    Raises:
        ValueError: an unknown suffix.
    """
    plots.save(figure, path, style=_STYLE, dpi=600)


def _line(index: int) -> dict[str, Any]:
    return {
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 3,
        "linewidth": 1.1,
    }


def _draw(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    for curve in panel.curves:
        mean, std = np.array(curve.mean), np.nan_to_num(np.array(curve.std))
        line = _line(labels.index(curve.label))
        axes.plot(curve.layers, mean, **line)
        if std.any():
            low, high = np.clip(mean - std, *panel.limits), np.clip(mean + std, *panel.limits)
            axes.fill_between(curve.layers, low, high, color=line["color"], alpha=0.18, linewidth=0)
    depths = sorted({depth for curve in panel.curves for depth in curve.layers})
    axes.set_title(panel.title.replace("$", r"\$"))
    axes.set_xlabel("layers")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(depth) for depth in depths]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
