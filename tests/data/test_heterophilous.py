"""The heterophilous graphs and WikiCS, on small files in the published form, and on the published ones if there."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deepgnn_cli.data.datasets import heterophilous
from deepgnn_cli.data.graph_check import checked

# Folders that may hold the published files: one named by the user, or one beside the checkout.
PLACES = [os.environ.get("DEEPGNN_HETEROPHILOUS"), Path(__file__).parents[3] / "shared" / "data" / "heterophilous"]


@pytest.fixture
def unhashed(monkeypatch):
    """Small files have not the hash of the published ones."""
    monkeypatch.setattr(heterophilous, "SHA256", {})


def pairs(graph):
    return sorted(map(tuple, graph.edge_index.t().tolist()))


@pytest.mark.parametrize("name", ["roman_empire", "amazon_ratings", "chameleon_filtered", "squirrel_filtered"])
def test_several_classes(raw, build, name, unhashed):
    raw.heterophilous(name, [0, 1, 2, 1, 0])
    graph = checked(build(name, split_index=3))
    assert pairs(graph) == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    assert graph.x.tolist() == np.arange(15.0).reshape(5, 3).tolist() and graph.y.tolist() == [0, 1, 2, 1, 0]
    part = (np.arange(5) + 3) % 5
    assert graph.split == "fixed-3" and graph.train.tolist() == (part < 3).tolist()
    assert graph.val.tolist() == (part == 3).tolist() and graph.test.tolist() == (part == 4).tolist()
    assert (graph.metric, graph.num_classes) == ("accuracy", 3)
    rows = build(name, normalize_features=True).x.sum(1)
    assert torch.allclose(rows, torch.ones(5))


@pytest.mark.parametrize("name", ["minesweeper", "tolokers", "questions"])
def test_two_classes_are_one_task_scored_by_the_area_under_the_curve_of_class_1(raw, build, name, unhashed):
    raw.heterophilous(name, [0, 1, 1, 0, 1])
    graph = build(name)
    with pytest.raises(ValueError, match="in val no task has both"):  # of one node
        checked(graph)
    assert (graph.metric, graph.num_classes, graph.multi_label) == ("roc_auc", 1, True)
    assert graph.y.tolist() == [[0], [1], [1], [0], [1]]
    drawn = build(name, split="random", train_fraction=0.4, val_fraction=0.4)
    assert [int(mask.sum()) for mask in (drawn.train, drawn.val, drawn.test)] == [2, 2, 1]


def test_a_file_with_another_hash_is_refused(raw, build):
    raw.heterophilous("minesweeper", [0, 1, 1, 0, 1])
    with pytest.raises(ValueError, match="minesweeper.npz is damaged: its sha256 is"):
        build("minesweeper")


def test_wrong_arrays_name_the_file(raw, build, unhashed):
    raw.heterophilous("questions", [0, 1, 1, 0, 1], splits=2)
    with pytest.raises(ValueError, match=r"questions.npz cannot be read .*split 5 of 5 nodes"):
        build("questions", split_index=5)
    raw.heterophilous("questions", [0, 1, 1, 0, 1], edges=[(0, 9)])
    with pytest.raises(ValueError, match=r"questions.npz cannot be read .*ends at node 9"):
        build("questions")


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("questions", {"node_labels": [0, 1, 2, 1, 0]}, "labels from 0 to 2, they must be 0 and 1"),
        ("minesweeper", {"node_labels": [0, 0, 0, 0, 0]}, "labels from 0 to 0, they must be 0 and 1"),
        ("roman_empire", {"node_labels": [0, 0.5, 2, 1, 0]}, "node_labels hold numbers that are not whole, such as 0"),
        ("roman_empire", {"node_labels": ["a"] * 5}, "node_labels are no whole numbers"),
        ("roman_empire", {"node_labels": [[0, 1]] * 5}, r"labels of shape \[5, 2\] for 5 nodes"),
        ("roman_empire", {"node_features": np.zeros((0, 3)), "node_labels": []}, r"labels of shape \[0\] for 0 nodes"),
        ("roman_empire", {"node_features": np.ones((5, 3), dtype=complex)}, "node_features are complex"),
        ("roman_empire", {"edges": [[0, 1, 2]]}, r"edges of shape \[1, 3\], they must be \[M, 2\]"),
        ("roman_empire", {"edges": [[0, 1.5]]}, "edges hold numbers that are not whole, such as 1.5"),
        ("roman_empire", {"edges": [[0, float("nan")]]}, "edges hold numbers that are not whole, such as nan"),
        ("roman_empire", {"edges": [[0, -1]]}, "an edge ends at node -1, but there are 5 nodes"),
    ],
)
def test_arrays_that_would_be_misread_are_refused(raw, build, unhashed, name, changed, said):
    path = raw.heterophilous(name, [0, 1, 1, 0, 1])
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {key: np.array(value) for key, value in changed.items()})
    with pytest.raises(ValueError, match=rf"{name}.npz cannot be read .*{said}"):
        build(name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_masks": []}, "masks of 0 splits, but split 0 is asked for"),
        ({"test_mask": [True]}, "a mask of 1 nodes, the graph has 6"),
        ({"links": [[0.5], [], [], [], [], []]}, "links hold numbers that are not whole, such as 0.5"),
    ],
)
def test_a_wrong_wikics_says_what_is_wrong(raw, build, tmp_path, changed, said):
    raw.wikics()
    path = tmp_path / "wikics" / "raw" / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ValueError, match=f"data.json cannot be read .*{said}"):
        build("wikics")


@pytest.mark.parametrize(("name", "beyond"), [("minesweeper", 10), ("wikics", 20)])
def test_a_split_that_does_not_exist_is_refused_before_anything_is_read(build, name, beyond):
    with pytest.raises(ValueError, match=rf"split_index={beyond} is not in 0\.\.{beyond - 1}"):
        build(name, split_index=beyond)
    with pytest.raises(ValueError, match="try dataset.split_seed=3"):
        build(name, split="random", split_index=3)


def test_wikics(raw, build):
    raw.wikics()
    graph = checked(build("wikics", split_index=1))
    assert pairs(graph) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 3)]
    assert pairs(build("wikics", undirected=False)) == [(0, 1), (0, 2), (1, 2), (3, 3)]
    assert graph.train.nonzero()[:, 0].tolist() == [1, 2] and graph.val.nonzero()[:, 0].tolist() == [3, 4]
    assert graph.test.nonzero()[:, 0].tolist() == [5] and graph.split == "fixed-1"


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes", "sizes"),
    [
        ("minesweeper", 10_000, 39_402, 7, 1, [5000, 2500, 2500]),
        ("chameleon_filtered", 890, 8_854, 2_325, 5, [409, 287, 194]),
        ("squirrel_filtered", 2_223, 46_998, 2_089, 5, [1053, 718, 452]),
    ],
)
def test_the_published_file(tmp_path, build, name, nodes, edges, features, classes, sizes):
    found = [Path(place) / f"{name}.npz" for place in PLACES if place and (Path(place) / f"{name}.npz").is_file()]
    if not found:
        pytest.skip(f"no {name}.npz; name its folder by DEEPGNN_HETEROPHILOUS")
    (tmp_path / name / "raw").mkdir(parents=True)
    shutil.copy(found[0], tmp_path / name / "raw")
    graph = checked(build(name))
    assert (graph.num_nodes, graph.num_edges, graph.num_features) == (nodes, 2 * edges, features)
    assert graph.num_classes == classes
    assert [int(mask.sum()) for mask in (graph.train, graph.val, graph.test)] == sizes
