"""Pictures of results, drawn on figures of their own: no window, no global state.

Colours are Okabe and Ito's, told apart with any colour vision; markers tell curves apart in print.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from deepgnn_cli.analysis.curves import Curve, HeatMap, Panel, Training
from deepgnn_cli.analysis.embeddings import Embedding
from deepgnn_cli.analysis.influence import Hearing
from deepgnn_cli.runfiles.files import write_out

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
INK, GRID = "#1F2328", "#D0D7DE"
MOST_DEPTHS_A_ROW = 6
MOST_POINTS = 300
MOST_CLASSES_NAMED = 16

STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "deepgnn",
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor", "titlecolor")},
}


def check_suffix(path: Path) -> None:
    """Raise ValueError unless the end of `path` names a format that can be drawn."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--plot {path}: cannot draw {path.suffix or 'a file without an ending'};"
                         f" use one of {', '.join(SUFFIXES)}")  # fmt: skip


def save(figure: Figure, path: Path, *, style: Any = STYLE, dpi: int = 160) -> None:
    """Write a figure as its suffix says, whole or not at all; the same figure gives the same file.

    Args:
        figure: what to write.
        path: where to; its ending says the format.
        style: matplotlib's settings while it is written.
        dpi: dots per inch of a picture of pixels.

    Raises:
        ValueError: an unknown suffix.
    """
    check_suffix(path)
    form = path.suffix.lower()[1:]
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with matplotlib.rc_context(style):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=dpi, metadata=date)
    write_out(path, buffer.getvalue())


def draw_depth(panels: Sequence[Panel]) -> Figure:
    """Depth curves, a panel a quantity: means over runs with bands of one sample standard deviation."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.4 * ((len(panels) + 1) // 2) + 0.6), layout="constrained")
        grid = list(figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).flat)
        labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
        depths = sorted({depth for panel in panels for curve in panel.curves for depth in curve.layers})
        for axes, panel in zip(grid, panels, strict=False):
            for curve in panel.curves:
                _draw_curve(axes, curve, labels.index(curve.label), panel)
            _dress(axes, panel, depths)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        _legend(figure, labels)
    return figure


def draw_heat_map(heat_map: HeatMap) -> Figure:
    """A diagnostic, rows for groups and columns for layers (0: the encoder's output)."""
    rows, width = heat_map.values.shape
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(10, 0.28 * rows + 1.1), layout="constrained")
        axes = figure.subplots()
        values = heat_map.values
        if heat_map.log:  # zeros get the colour of the smallest value
            values = np.maximum(values, values[values > 0].min())
        limits = (float(np.nanmin(values)), float(np.nanmax(values)))
        norm = LogNorm(*limits) if heat_map.log else Normalize(*limits)
        masked = np.ma.masked_invalid(values)
        image = axes.imshow(masked, aspect="auto", norm=norm, cmap="viridis", interpolation="nearest")
        axes.set_title(heat_map.title, loc="left")
        axes.set_yticks(range(rows), labels=[_clip(text) for text in heat_map.labels])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_xlabel("layer (0: the encoder's output)")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=max(8, 3 * rows))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())  # on a low bar they overlap
    return figure


def draw_influence(hearings: Sequence[Hearing]) -> Figure:
    """The share of influence by hop: a panel a family, a curve a depth; dotted: before training."""
    depths = sorted({heard.layers for hearing in hearings for heard in hearing.depths})
    colours = dict(zip(depths, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(depths))), strict=True))
    down = (len(hearings) + 1) // 2
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.0 * down + 0.6), layout="constrained")
        grid = list(figure.subplots(down, 2, squeeze=False).flat)
        for axes, hearing in zip(grid, hearings, strict=False):
            for heard in hearing.depths:
                ways = ((heard.share, "-", 1.6, ""), (heard.untrained, ":", 1.0, "\nbefore training"))
                for share, style, width, when in ways:
                    # A share of zero has no place on a logarithm.
                    shown = np.where(share > 0, share, np.nan)
                    name = f"{heard.layers} layers{when}"
                    axes.plot(np.arange(len(share)), shown, style, color=colours[heard.layers], lw=width, label=name)
            axes.set_yscale("log")
            axes.set_ylim(1e-6, 1.5)
            axes.set_title(_clip(hearing.label), loc="left")
            axes.set_xlabel("hops")
            axes.set_ylabel("share of influence")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in grid[len(hearings) :]:
            axes.set_visible(False)
        first = figure.axes[0]
        handles = [first.plot([], [], "-", color=colours[depth], lw=1.6)[0] for depth in depths]
        handles += [first.plot([], [], ":", color=INK, lw=1.0)[0]]
        names = [*(f"{depth} layers" for depth in depths), "before training"]
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 8))
    return figure


def draw_embedding(embedding: Embedding) -> Figure:
    """A run's nodes in the plane of each layer's principal components, coloured by class."""
    clouds = embedding.clouds
    classes = sorted({int(value) for cloud in clouds for value in cloud.classes if np.isfinite(value)})
    few = len(classes) <= MOST_CLASSES_NAMED
    spectrum = matplotlib.colormaps["tab20" if few else "turbo"](np.linspace(0, 1, max(len(classes), 1)))
    colours = dict(zip(classes, COLOURS if len(classes) <= len(COLOURS) else spectrum, strict=False))
    across = min(len(clouds), 3)
    down = -(-len(clouds) // across)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(3.3 * across, 2.5 * down + 0.4), layout="constrained")
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, cloud in zip(grid, clouds, strict=False):
            known = np.isfinite(cloud.classes)
            for number, colour in colours.items():
                here = cloud.points[known & (cloud.classes == number)]
                axes.scatter(*here.T, s=9, color=colour, lw=0, alpha=0.8, label=f"class {number}")
            if not known.all():
                axes.scatter(*cloud.points[~known].T, s=9, color="#7F7F7F", lw=0, alpha=0.6, label="nodes")
            held = f" · {100 * cloud.share:.0f} % of the variance" if np.isfinite(cloud.share) else ""
            axes.set_title(f"layer {cloud.layer}{held}", loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in grid[len(clouds) :]:
            axes.set_visible(False)
        if few and classes:
            first = figure.axes[0]
            handles = [first.plot([], [], "o", color=colours[number], ms=5)[0] for number in classes]
            names = [f"class {number}" for number in classes]
            figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 8))
    return figure


def draw_training(groups: Sequence[Training]) -> Figure:
    """Training curves: a column a depth; above the losses, below the scores; solid train, dashed validation."""
    across = min(len(groups), MOST_DEPTHS_A_ROW)
    down = -(-len(groups) // across)
    names = list(dict.fromkeys(name for group in groups for name, _ in group.runs))
    with matplotlib.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(max(4.0, 1.75 * across), 3.2 * down), layout="constrained")
        grid = figure.subplots(2 * down, across, squeeze=False, sharey="row", sharex=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for i, group in enumerate(groups):
            row, column = divmod(i, across)
            for axes, what in ((grid[2 * row][column], "loss"), (grid[2 * row + 1][column], "score")):
                axes.set_visible(True)
                _draw_epochs(axes, group, what, names)
                if column == 0:
                    axes.set_ylabel("loss" if what == "loss" else "score (%)" if group.percent else "score")
            grid[2 * row][column].set_title(group.label)
            grid[2 * row + 1][column].set_xlabel("epoch")
        _epoch_legend(figure, names)
    return figure


def _draw_curve(axes: Axes, curve: Curve, index: int, panel: Panel) -> None:
    """One curve and its band: inside the limits, and on a logarithm without a lower half that would reach zero."""
    colour = COLOURS[index % len(COLOURS)]
    style = DASHES[index // len(COLOURS) % len(DASHES)]
    mean, std = np.array(curve.mean), np.nan_to_num(np.array(curve.std))
    label = _clip(curve.label)
    marker = MARKERS[index % len(MARKERS)]
    axes.plot(curve.layers, mean, style, color=colour, marker=marker, ms=4.5, lw=1.6, label=label)
    if std.any():
        lower = np.where(mean > std, mean - std, mean) if panel.log else mean - std
        band = np.clip(lower, *panel.limits), np.clip(mean + std, *panel.limits)
        axes.fill_between(curve.layers, *band, color=colour, alpha=0.18, lw=0, label=label)


def _dress(axes: Axes, panel: Panel, depths: Sequence[int]) -> None:
    """Title and scales; the depths that were run are the ticks."""
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel("layers")
    if depths and depths[0] > 0:
        axes.set_xscale("log", base=2)
        axes.set_xlim(depths[0] / 1.15, depths[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(depths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if panel.log:
        axes.set_yscale("log")
    if not panel.curves:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])


def _ticks(depths: Sequence[int]) -> list[float]:
    """At most ten of the depths, no two nearer than a factor of 1.25."""
    kept: list[float] = []
    for depth in depths:
        if not kept or depth >= 1.25 * kept[-1]:
            kept.append(float(depth))
    return kept[:: -(-len(kept) // 10) or 1]


def _legend(figure: Figure, labels: Sequence[str]) -> None:
    """One legend for all panels, below them; none for a single curve without a name."""
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], DASHES[i // len(COLOURS) % len(DASHES)], color=COLOURS[i % len(COLOURS)],
                  marker=MARKERS[i % len(MARKERS)], ms=4.5, lw=1.6)[0]
        for i in range(len(labels))
    ]  # fmt: skip
    if labels and labels != ["all runs"]:
        widest = max(len(_clip(text)) for text in labels)
        columns = max(1, min(len(labels), 110 // (widest + 6)))
        shown = [_clip(text) for text in labels]
        figure.legend(handles, shown, loc="outside lower center", ncols=columns)


def _draw_epochs(axes: Axes, group: Training, what: str, names: Sequence[str]) -> None:
    """Train (solid) and validation (dashed) curves of each run of a group, coloured by its place in `names`."""
    scale = 100.0 if what == "score" and group.percent else 1.0
    for name, columns in group.runs:
        colour = COLOURS[names.index(name) % len(COLOURS)]
        for part, said, style, strength in (("train", "train", "-", 0.6), ("val", "validation", "--", 1.0)):
            values = columns.get(f"{part}_{what}")
            if values is None:
                continue
            epochs = columns.get("epoch", np.arange(len(values)))
            every = max(1, len(values) // MOST_POINTS)
            line: dict[str, Any] = {"color": colour, "lw": 0.9, "alpha": strength, "label": f"{_clip(name)}\n{said}"}
            axes.plot(epochs[::every], scale * values[::every], style, **line)


def _epoch_legend(figure: Figure, names: Sequence[str]) -> None:
    """Which line is which split, and which colour is which run where they are few."""
    axes = figure.axes[0]
    entries = [("train", "-", INK), ("validation", "--", INK)]
    if len(names) <= len(COLOURS):
        entries += [(_clip(name), "-", colour) for name, colour in zip(names, COLOURS, strict=False)]
    handles = [axes.plot([], [], style, color=colour, lw=1.2)[0] for _, style, colour in entries]
    figure.legend(handles, [text for text, _, _ in entries], loc="outside lower center", ncols=6)


def _clip(text: str) -> str:
    """A label that fits; `$` is text, not mathematics."""
    text = text if len(text) <= 48 else f"{text[:47]}…"
    return text.replace("$", r"\$")
