"""What the pictures show."""

import math

import pandas as pd
import pytest

from deepgnn_cli.analysis.curves import depth_curves, heat_maps
from deepgnn_cli.analysis.influence import influence_curves
from tests.analysis.fake_runs import fake_influence, fake_run, write_rows


def test_the_depth_figure_and_the_page_lead_with_a_measure_that_a_growing_norm_cannot_fool(tmp_path):
    """A GCN of eight layers on PubMed: 18 % accuracy, the energy rises from 20 to 609, the rank falls from 15 to 1."""
    row = {"status": "ok", "folder": str(tmp_path), "model": "gcn", "layers": 8, "fold": "", "test_score": 0.18}
    runs = pd.DataFrame([row | {"unit": 0, "step_seconds": 0.1, "peak_memory_mib": 1.0, "range_hops": 1.0}])
    layers = [{"layer": 0, "dirichlet_energy": 20.0, "effective_rank": 15.0, "mad_all": 0.457}]
    layers += [{"layer": 1, "dirichlet_energy": 609.0, "effective_rank": 1.003, "mad_all": 0.0006}]
    write_rows(tmp_path / "layers.csv", layers, tuple(layers[0]))
    score, rank, *_ = depth_curves(runs, ["model", "layers"], "test_score")
    assert score.curves[0].mean == (18.0,)
    assert rank.title.startswith("effective rank") and rank.curves[0].mean == (1.003,)
    maps = heat_maps(runs, ["model", "layers"])
    assert maps[0].title.startswith("effective rank") and maps[0].values.tolist() == [[15.0, 1.003]]
    assert maps[-1].title == "Dirichlet energy" and "can rise while all nodes become alike" in maps[-1].meaning


def test_each_data_set_has_panels_of_its_own_and_what_was_not_measured_has_none(tmp_path):
    rows = [
        {"status": "ok", "folder": "", "dataset": dataset, "model": "gcn", "layers": layers, "fold": "", "unit": 0}
        | {"test_score": score - layers / 100, "step_seconds": math.nan, "peak_memory_mib": 9.0, "range_hops": math.nan}
        for dataset, score in (("cora", 0.8), ("pubmed", 0.7))
        for layers in (2, 4)
    ]
    panels = depth_curves(pd.DataFrame(rows), ["dataset", "model", "layers"], "test_score")
    assert [panel.title for panel in panels] == [
        "test_score (%) · cora", "peak memory (MiB) · cora", "test_score (%) · pubmed", "peak memory (MiB) · pubmed"
    ]  # fmt: skip
    assert [[(curve.label, curve.mean) for curve in panel.curves] for panel in panels[::2]] == [
        [("gcn", (pytest.approx(78), pytest.approx(76)))],
        [("gcn", (pytest.approx(68), pytest.approx(66)))],
    ]


def test_influence_curves_are_means_over_replicates_of_a_depth(tmp_path):
    rows = []
    for seed, shares in enumerate([[0.5, 0.5], [0.25, 0.25, 0.5]]):
        fake_influence(fake_run(tmp_path / str(seed), seed=seed), shares)
        rows.append({"status": "ok", "folder": str(tmp_path / str(seed)), "model": "gcn", "layers": 2})
    rows.append(rows[0] | {"folder": str(tmp_path / "none")})
    (hearing,) = influence_curves(pd.DataFrame(rows), ["model", "layers"])
    (heard,) = hearing.depths
    assert hearing.label == "gcn" and heard.layers == 2
    assert heard.share.tolist() == [0.375, 0.375, 0.25] and heard.untrained.tolist() == [0, 0, 0]
    assert influence_curves(pd.DataFrame(rows[2:]), ["model", "layers"]) == ()
