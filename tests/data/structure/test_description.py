"""graph.json: the numbers of a known graph, and the copy that is kept."""

import json
from dataclasses import replace

import pytest
import torch

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.structure import description
from deepgnn_cli.data.structure.description import describe, described, fingerprint, lines


@pytest.fixture(scope="module")
def cora(tmp_path_factory):
    from deepgnn_cli.data.datasets.planetoid import cora

    knobs = {"split_index": 0, "split_seed": None, "train_fraction": 0.6, "val_fraction": 0.2}
    knobs |= {"train_per_class": None, "val_per_class": 30}
    return cora(normalize_features=True, split="public", root=tmp_path_factory.mktemp("data"), seed=0, **knobs)


def test_cora_is_as_published(cora):
    found = describe(cora)
    json.dumps(found, allow_nan=False)
    assert (found["nodes"], found["edges"], found["undirected_edges"]) == (2708, 10556, 5278)
    assert (found["components"], found["largest_component"], found["diameter_at_least"]) == (78, 2485, 19)
    assert found["degree"]["maximum"] == 168
    assert found["homophily"]["edge"] == pytest.approx(0.81, abs=0.005)
    assert found["homophily"]["adjusted"] == pytest.approx(0.771, abs=0.001), "arXiv:2209.06177, table 1"
    assert found["spectral_gap"] == pytest.approx(0.00478, abs=1e-5)
    assert found == describe(cora), "the same numbers every time"
    assert any("adjusted 0.7711" in line for line in lines(found))


def test_it_is_looked_at_once(cora, tmp_path, monkeypatch):
    first = described(cora, tmp_path / "kept")
    monkeypatch.setattr(description, "describe", lambda graph: pytest.fail("looked at again"))
    assert described(cora, tmp_path / "kept") == first
    other = replace(cora, edge_index=cora.edge_index.flip(0))
    assert fingerprint(other) != fingerprint(cora) != fingerprint(replace(cora, y=cora.y.flip(0)))
    assert fingerprint(replace(cora, x=cora.x + 1)) == fingerprint(cora)


def test_a_folder_that_cannot_be_written_costs_the_copy_only(cora, tmp_path, monkeypatch):
    monkeypatch.setattr(description, "describe", lambda graph: {"nodes": 1})
    monkeypatch.setattr(description, "_WORTH_KEEPING", -1)
    (tmp_path / "file").touch()
    assert described(cora, tmp_path / "file" / "kept") == {"nodes": 1}


def test_strange_graphs_have_a_description(cora):
    nothing = replace(cora, edge_index=torch.empty(2, 0, dtype=torch.int64), y=torch.zeros(2708, 3))
    found = describe(nothing)
    assert found["spectral_gap"] is None and found["homophily"] is None and found["components"] == 2708
    assert found["forman_curvature"]["mean"] is None and lines(found)


def test_ls_tells_what_the_graph_is_like_where_it_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPGNN_DATA", str(tmp_path))
    assert run_command(["ls", "dataset", "cora"]) == 0
    shown = capsys.readouterr().out
    assert "dataset.split" in shown and "spectral gap: 0.004784" in shown
    assert run_command(["ls", "dataset", "citeseer"]) == 0
    assert "not there yet" in capsys.readouterr().out and not (tmp_path / "citeseer" / "raw").exists()
    assert run_command(["ls", "dataset", "pyg"]) == 0
    assert "graph\n" not in capsys.readouterr().out
