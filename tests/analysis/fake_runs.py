"""Run folders as training leaves them, made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from deepgnn_cli.runfiles.record import COLUMNS


def fake_row(**values: Any) -> dict[str, Any]:
    """A finished run of gcn with two layers; `values` say what differs."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {
        "status": "ok",
        "dataset": "cora",
        "split": "public",
        "model": "gcn",
        "conv": "gcn",
        "norm": "none",
    }
    row |= {"residual": "none", "layers": 2, "hidden": 64, "seed": 0, "metric": "accuracy", "test_score": 0.8}
    row |= values
    if "config_hash" not in values:
        keys = ("dataset", "split", "model", "norm", "residual", "layers", "hidden", "seed", "overrides")
        row["config_hash"] = "-".join(str(row[key]) for key in keys)
    if "run_id" not in values:
        row["run_id"] = f"run-{row['config_hash']}"
    return row


def write_rows(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...] | None = None) -> Path:
    """Write a CSV file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or tuple(dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def fake_run(folder: Path, **values: Any) -> Path:
    """A run folder with its `result.csv`."""
    return write_rows(folder / "result.csv", [fake_row(**values)]).parent


def fake_status(folder: Path, **values: Any) -> Path:
    """A run folder with its `status.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps(values))
    return folder


def fake_layers(folder: Path, energies: list[float]) -> None:
    """The diagnostics of a run: its energies, and numbers for the rest."""
    names = ("rayleigh_quotient", "mad_neighbours", "mad_all", "numerical_rank", "effective_rank")
    names += ("feature_norm", "output_gradient_norm")
    rows = [
        {"layer": layer, "dirichlet_energy": energy, **{name: 1.0 + layer for name in names}}
        | {"parameter_gradient_norm": 0.1 * layer if layer else ""}
        for layer, energy in enumerate(energies)
    ]
    write_rows(folder / "layers.csv", rows, tuple(rows[0]))


def fake_influence(folder: Path, shares: list[float]) -> None:
    """What a run's nodes hear from each hop."""
    names = ("hop", "nodes", "influence_untrained", "share_untrained", "influence", "share")
    rows = [dict(zip(names, (hop, 1 + hop, 1.0, "", share, share), strict=True)) for hop, share in enumerate(shares)]
    write_rows(folder / "influence.csv", rows, names)


def fake_embeddings(folder: Path, layers: list[int]) -> None:
    """Four nodes of two classes in a plane, and one without a class."""
    names = ("layer", "share", "node", "label", "pc1", "pc2")
    rows = [
        dict(zip(names, (layer, 0.75, node, "" if node == 4 else node % 2, node - 2.0, layer * node), strict=True))
        for layer in layers
        for node in range(5)
    ]
    write_rows(folder / "embeddings.csv", rows, names)


def fake_epochs(folder: Path, losses: list[float]) -> None:
    """The training curve of a run."""
    rows = [
        {"epoch": epoch, "train_loss": loss, "val_loss": loss + 0.1, "train_score": 1 - loss / 2}
        | {"val_score": 0.9 - loss / 2, "test_score": 0.88 - loss / 2, "lr": 0.01, "step_seconds": 0.01}
        for epoch, loss in enumerate(losses)
    ]
    write_rows(folder / "epochs.csv", rows, tuple(rows[0]))
