"""Figures for the inside of a page: an SVG each, and beside it what it shows as numbers, for the pointer.

A line, band or cloud of points that has a label is a series; a label may hold several names, a line each, and is shown
while none of them is switched off. Entries of the legend that bear one of the names are switches.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure

from deepgnn_cli.analysis.plots import GRID, INK, STYLE

_MOST_POINTS = 80
_POINTS_AN_INCH = 72


def chart(figure: Figure) -> Markup:
    """A figure with its numbers; it refers to nothing outside, and its ink is the page's."""
    names = list(dict.fromkeys(name for artist in _series(figure) for name in _names(artist)))
    labels = {id(artist): _names(artist) for artist in _series(figure)}
    for artist in _series(figure):
        artist.set_gid("series:" + ",".join(str(names.index(name)) for name in labels[id(artist)]))
    for legend in figure.legends:
        for entries in zip(legend.get_texts(), legend.legend_handles, strict=True):
            name = _plain(entries[0].get_text())
            for entry in entries:
                if name in names and entry is not None:
                    entry.set_gid(f"legend:{names.index(name)}")
    svg = _svg(figure)
    numbers = json.dumps(_numbers(figure, names), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Markup('<div class="chart">{}<script type="application/json">{}</script></div>').format(
        Markup(svg), Markup(numbers)
    )


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r' id="[a-zA-Z0-9]+_\d+(_\d+)*"', "", text)
    text = re.sub(r' id="(series|legend):([\d,]*)"', r' data-\1="\2"', text)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="plot" role="img" \1>', text, count=1)
    return text.replace(INK.lower(), "var(--ink)").replace(GRID.lower(), "var(--rule)")


def _numbers(figure: Figure, names: list[str]) -> dict[str, object]:
    """What is drawn: the place and scales of each pair of axes, the points of each series, the cells of an image."""
    shown = [axes for axes in figure.axes if axes.get_visible()]
    common = next(filter(None, (axes.get_xlabel() for axes in shown)), "x")
    lines: list[object] = []
    cells: list[object] = []
    for number, axes in enumerate(shown):
        for artist in _labelled(axes):
            at = [names.index(name) for name in _names(artist)]
            if isinstance(artist, PathCollection):
                lines.append([number, at, *map(_list, np.asarray(artist.get_offsets()).T), "points"])
            elif not isinstance(artist, PolyCollection):
                lines.append([number, at, *_line(artist, _band(axes, artist))])
        for image in axes.images:
            rows: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
            marks = [_plain(text.get_text()) for text in axes.get_yticklabels()]
            cells.append([number, marks, [_list(row) for row in rows]])
    places = [_place(figure, axes) | {"xlabel": axes.get_xlabel() or common} for axes in shown]
    return {"names": names, "axes": places, "lines": lines, "cells": cells}


def _place(figure: Figure, axes: Axes) -> dict[str, object]:
    """Where axes lie in the picture (left, top, right, bottom), and the scale and limits of each."""
    width, height = figure.get_size_inches() * _POINTS_AN_INCH
    box = axes.get_position()
    return {
        "box": _list((box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height)),
        "x": [axes.get_xscale(), *map(_short, axes.get_xlim())],
        "y": [axes.get_yscale(), *map(_short, axes.get_ylim())],
    }


def _line(line: Any, band: dict[float, tuple[float, float]]) -> tuple[list[Any], list[Any], list[Any] | None]:
    """The points of a line, not more than can be told apart, and the ends of its band at each."""
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    every = max(1, -(-len(x) // _MOST_POINTS))
    x, y = x[::every], y[::every]
    ends = [[_short(end) for end in band[value]] if value in band else None for value in x] if band else None
    return _list(x), _list(y), ends


def _band(axes: Axes, line: Artist) -> dict[float, tuple[float, float]]:
    """The lower and upper end of the band of the same label, by x."""
    ends: dict[float, tuple[float, float]] = {}
    for other in axes.collections:
        if isinstance(other, PolyCollection) and other.get_label() == line.get_label():
            for x, y in np.asarray(other.get_paths()[0].vertices, dtype=float):
                low, high = ends.get(x, (y, y))
                ends[float(x)] = min(low, float(y)), max(high, float(y))
    return ends


def _series(figure: Figure) -> Iterator[Artist]:
    for axes in figure.axes:
        yield from _labelled(axes)


def _labelled(axes: Axes) -> Iterator[Artist]:
    for artist in (*axes.lines, *axes.collections):
        label = str(artist.get_label())
        if label and not label.startswith("_"):
            yield artist


def _names(artist: Artist) -> list[str]:
    return [_plain(name) for name in str(artist.get_label()).split("\n")]


def _plain(text: str) -> str:
    return text.replace(r"\$", "$")


def _list(values: Any) -> list[float | None]:
    return [_short(value) for value in values]


def _short(value: float) -> float | None:
    """Five digits are more than a pixel tells; None for what is no number."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
