from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from deepgnn_cli.config.validate import check_node
from deepgnn_cli.data.splits import Split, random_masks


def sizes(graph):
    return [int(mask.sum()) for mask in (graph.train, graph.val, graph.test)]


def disjoint(graph):
    return int((graph.train.int() + graph.val.int() + graph.test.int()).max()) == 1


def test_random_split_by_fractions(build):
    graph = build("cora", split="random", train_fraction=0.5, val_fraction=0.25, seed=7)
    assert sizes(graph) == [1354, 677, 677] and disjoint(graph) and graph.split == "random-7"


def test_random_split_per_class(build):
    graph = build("cora", split="random", train_per_class=20, val_per_class=30)
    assert torch.bincount(graph.y[graph.train]).tolist() == [20] * 7
    assert torch.bincount(graph.y[graph.val]).tolist() == [30] * 7
    assert graph.test.sum() == 2708 - 7 * 50 and disjoint(graph)


def test_a_split_is_its_seeds(build):
    first, again, other = (build("cora", split="random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train, again.train) and not torch.equal(first.train, other.train)
    fixed = [build("cora", split="random", split_seed=1, seed=seed) for seed in (0, 5)]
    assert all(torch.equal(graph.test, other.test) and graph.split == "random-1" for graph in fixed)


def test_public_split_ignores_the_seed(build):
    assert torch.equal(build("cora", seed=0).train, build("cora", seed=3).train)


def test_nodes_without_a_label_are_in_no_mask():
    masks = random_masks(Split("random", 0, 0.5, 0.25, per_class=False), np.array([0, -1, 1, 0, -1, 1]))
    assert (masks.train | masks.val | masks.test).tolist() == [True, False, True, True, False, True]


def test_a_class_too_small_is_named(build):
    with pytest.raises(ValueError, match=r"class 6 has 180 nodes, fewer than dataset.train_per_class=170 \+ val"):
        build("cora", split="random", train_per_class=170, val_per_class=30)


def test_fractions_that_leave_no_node_are_refused(build):
    with pytest.raises(ValueError, match="leaves 1/1/8 of 10|leaves 0/"):
        build("csbm", num_nodes=10, num_classes=2, average_degree=2.0, train_fraction=0.01)


@pytest.mark.parametrize(
    ("name", "wrong", "line"),
    [
        ("cora", {"split": "pubic"}, "dataset.split must be one of public, geom, random"),
        ("texas", {"split": "public"}, "dataset.split must be one of geom, random"),
        ("ogbn_arxiv", {"split": "random"}, "dataset.split must be public"),
        ("ppi", {"split": "geom"}, "dataset.split must be public"),
        ("cora", {"split": "geom", "split_index": 12}, r"split_index=12 is not in 0\.\.9"),
        ("cora", {"split": "geom", "split_index": -1}, "dataset.split_index must be a whole number of at least 0"),
        ("cora", {"split_index": 3}, "try dataset.split=geom"),
        ("cora", {"split": "random", "split_index": 3}, "try dataset.split_seed=3"),
        ("cora", {"split": "random", "train_fraction": 0.8, "val_fraction": 0.2}, "sum to less than 1"),
        ("cora", {"split": "random", "train_fraction": 0}, "must be a number above 0 and below 1"),
        ("cora", {"split": "random", "train_fraction": float("nan")}, "must be a number above 0"),
        ("cora", {"split": "random", "train_per_class": 0}, "must be a whole number of at least 1"),
        ("cora", {"split_seed": -1}, "dataset.split_seed must be a whole number of at least 0"),
        ("cora", {"splitt": "geom"}, r"unknown key 'dataset.splitt'; did you mean 'dataset\.split'\?"),
        ("cora", {"split_index": "two"}, "dataset.split_index must be a whole number"),
        ("cora", {"normalize_features": 1}, "dataset.normalize_features must be true or false"),
        ("cora", {"homophily": 0.5}, "unknown key 'dataset.homophily'"),
        ("citeseer", {"name": "citesear"}, "dataset.name must be one of citeseer, pubmed"),
        ("csbm", {"homophily": 1.5}, "dataset.homophily must be a number of at least 0 and at most 1"),
        ("csbm", {"homophily": "high"}, "dataset.homophily must be a number"),
        ("csbm", {"num_classes": 1}, "dataset.num_classes must be a whole number of at least 2"),
        ("csbm", {"average_degree": 0}, "dataset.average_degree must be a number above 0"),
        ("csbm", {"average_degree": 900.0, "homophily": 1.0}, "edges within classes, but only 399000 pairs"),
        ("csbm", {"feature_noise": -1}, "dataset.feature_noise must be a number of at least 0"),
        ("csbm", {"num_features": 0}, "dataset.num_features must be a whole number of at least 1"),
        ("csbm", {"graph_seed": -1}, "dataset.graph_seed must be a whole number of at least 0"),
        ("ring_transfer", {"distance": 1}, "dataset.distance must be a whole number of at least 2"),
        ("ring_transfer", {"num_classes": 1}, "dataset.num_classes must be a whole number of at least 2"),
        (
            "neighbors_match",
            {"tree_depth": 30},
            "must be a whole number of at least 1 and at most 10",
        ),
        ("neighbors_match", {"num_samples": 2}, "dataset.num_samples must be a whole number of at least 3"),
    ],
)
def test_a_wrong_knob_is_refused_before_anything_is_read(build, tmp_path, name, wrong, line):
    with pytest.raises(ValueError, match=line):
        build(name, root=tmp_path / "absent", **wrong)
    assert not (tmp_path / "absent").exists()


def test_every_yaml_builds_what_is_offered_and_says_what_it_is(tmp_path):
    for name in ("nodes.csv", "edges.csv"):
        (tmp_path / name).touch()
    names = {path.stem: path for path in (Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml")}
    for name, path in names.items():
        assert path.read_text().startswith("# ")
        config = OmegaConf.to_container(OmegaConf.load(path))
        config = config.get("dataset", config)  # of options that choose other groups, too
        own = {"pyg": __file__, "table": tmp_path}  # what only the user can give
        config |= {"path": str(own[name])} if name in own else {}
        function = config["_target_"].rpartition(".")[2]
        # One function serves several: crossed_ring_transfer, peptides_func.
        told = {function, f"{config.get('shape')}_{function}", f"{function}_{config.get('target')}"}
        assert name in told or name in (str(value).lower() for value in config.values())
        check_node("dataset", config, {"seed": 0})


def test_a_key_that_was_deleted_is_missed():
    with pytest.raises(ValueError, match="dataset.split is missing"):
        node = {"_target_": "deepgnn_cli.data.datasets.ppi.ppi", "standardize_features": True}
        check_node("dataset", node, {"seed": 0})
