"""Where the nodes of a run lie, layer by layer: the points of `embeddings.csv` beside a run's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepgnn_cli.analysis.curves import families, order, read_columns
from deepgnn_cli.analysis.tables import label

_COLUMNS = {"layer", "share", "label", "pc1", "pc2"}


@dataclass(frozen=True)
class Cloud:
    """One layer: the share of the variance that the plane holds (NaN: unknown), S points [S, 2], their classes [S]."""

    layer: int
    share: float
    points: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Embedding:
    """One run: which, and its layers."""

    label: str
    clouds: tuple[Cloud, ...]


def embeddings(runs: pd.DataFrame, by: Sequence[str]) -> tuple[Embedding, ...]:
    """One run of each family, the first that is there at the greatest depth."""
    rest = families(by)
    found: dict[tuple[object, ...], Embedding] = {}
    measured = runs[(runs["folder"] != "") & (runs["status"] == "ok") & (runs["layers"] != "")]
    for row in sorted(measured.to_dict("records"), key=lambda row: -row["layers"]):
        key = tuple(row[name] for name in rest)
        if key not in found and (clouds := _clouds(Path(row["folder"], "embeddings.csv"))):
            name = label([*rest, "layers"], [*key, row["layers"]])
            found[key] = Embedding(f"{name} · seed {row['seed']}", clouds)
    return tuple(found[key] for key in sorted(found, key=order))


def _clouds(path: Path) -> tuple[Cloud, ...]:
    """The layers of a file; none where it is missing or torn."""
    table = read_columns(path)
    if not table.keys() >= _COLUMNS:
        return ()
    clouds = []
    for layer in np.unique(table["layer"]):
        here = table["layer"] == layer
        points = np.stack([table["pc1"][here], table["pc2"][here]], axis=1)
        known = np.isfinite(points).all(axis=1)
        if known.any():
            share = float(table["share"][here][0])
            clouds.append(Cloud(int(layer), share, points[known], table["label"][here][known]))
    return tuple(clouds)
