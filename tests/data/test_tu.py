"""Sets of the TU collection from files in their true form, and ten folds of them."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from deepgnn_cli.data.download import DataError, DataUnavailable
from deepgnn_cli.data.folds import dealt, fold_masks, numbered_masks
from deepgnn_cli.data.new_graph import new_graph


def test_the_files_are_read_as_pyg_reads_them(build, raw, tmp_path):
    from torch_geometric.io import read_tu_data

    folder = raw.tu("ENZYMES", graphs=12, attributes=2)
    data, slices, _ = read_tu_data(str(folder), "ENZYMES")
    graph = build("tu", name="ENZYMES", node_attributes=True)
    assert torch.equal(graph.x, data.x) and torch.equal(graph.y, data.y)
    offset = torch.tensor([0, *slices["x"][1:-1].tolist()]).repeat_interleave(slices["edge_index"].diff())
    assert torch.equal(graph.edge_index, data.edge_index + offset)
    assert torch.equal(graph.edge_attr[:, 0].long(), data.edge_attr.argmax(1))
    assert graph.part_of.bincount().tolist() == slices["x"].diff().tolist()
    assert (graph.level, graph.metric, graph.num_classes) == ("graph", "accuracy", 3)


def test_node_labels_are_categories(build, raw):
    raw.tu("NCI1", graphs=12)
    graph = build("nci1", split="stratified")
    assert graph.categories == (4,) and graph.x.size(1) == 1 and graph.num_features == 4
    assert graph.num_edge_features == sum(graph.edge_categories)
    assert build("nci1", split="stratified", edge_labels=False).edge_attr is None


def test_a_new_graph_may_have_its_categories_one_hot(build, raw):
    raw.tu("NCI1", graphs=12)
    graph = build("nci1", split="stratified")
    given = {"edge_index": graph.edge_index, "batch": graph.part_of}
    sizes = {"x": graph.categories[0], "edge_attr": graph.edge_categories[0]}
    hot = given | {name: one_hot(getattr(graph, name)[:, 0].long(), size).float() for name, size in sizes.items()}
    read = new_graph(hot, graph, reads_edges=True, features="degree")
    assert torch.equal(read.x, graph.x) and torch.equal(read.edge_attr, graph.edge_attr)
    assert torch.equal(read.part_of, graph.part_of) and read.categories == (4,)
    with pytest.raises(ValueError, match="4 columns of x, and the model was trained on 1"):
        new_graph(hot | {"x": 2 * hot["x"]}, graph, reads_edges=True, features="degree")


def test_without_labels_a_node_has_its_degree(build, raw):
    raw.tu("IMDB-BINARY", graphs=12, labels=False)
    graph = build("tu", name="IMDB-BINARY")
    degrees = torch.bincount(graph.edge_index[1], minlength=graph.x.size(0))
    assert torch.equal(graph.x[:, 0].long(), degrees) and graph.categories == (int(degrees.max()) + 1,)
    assert build("tu", name="IMDB-BINARY", features="constant").x.unique().tolist() == [1.0]


def test_attributes_that_a_set_lacks_are_refused(build, raw):
    raw.tu("NCI1", graphs=12)
    with pytest.raises(ValueError, match="node_attributes=true, and NCI1 has none; leave it false"):
        build("nci1", split="stratified", node_attributes=True)


def test_mutag_lies_unpacked(build, raw):
    raw.tu("MUTAG", graphs=20, unpacked=True)
    assert build("mutag").y.numel() == 20


def test_ten_folds_test_every_graph_once_with_equal_shares_of_the_classes(build, raw):
    raw.tu("PROTEINS", graphs=47)
    folds = [build("tu", fold=fold) for fold in range(10)]
    tested = torch.stack([graph.test for graph in folds])
    assert (tested.sum(0) == 1).all()
    for number, graph in enumerate(folds):
        assert (graph.train ^ graph.val ^ graph.test).all() and graph.split == f"fold-{number}"
        assert torch.equal(graph.val, folds[(number + 1) % 10].test)
        for k in range(graph.num_classes):
            share = int((graph.y == k).sum()) / 10
            assert abs(int((graph.y[graph.test] == k).sum()) - share) < 1
    again = build("tu", fold=3, seed=7)
    assert torch.equal(again.test, folds[3].test), "folds are the same for every seed of a run"
    assert not torch.equal(build("tu", fold=3, split_seed=1).test, folds[3].test)


def test_published_folds_are_those_of_the_file(build, raw, tmp_path):
    raw.tu("NCI1", graphs=12)
    chosen = {"test": [0, 5], "model_selection": [{"train": [1, 2, 3, 4, 6, 7, 8], "validation": [9, 10, 11]}]}
    other = {"test": [1, 5], "model_selection": [{"train": [0, 2, 3, 4, 6, 7, 8], "validation": [9, 10, 11]}]}
    (tmp_path / "tu" / "NCI1_splits.json").write_text(json.dumps([chosen] + 9 * [other]))
    graph = build("nci1")
    assert graph.split == "published-0"
    assert graph.test.nonzero()[:, 0].tolist() == [0, 5] and graph.val.nonzero()[:, 0].tolist() == [9, 10, 11]
    assert torch.equal(graph.train, ~(graph.test | graph.val))
    assert build("nci1", fold=9).test.nonzero()[:, 0].tolist() == [1, 5]


def test_what_is_missing_or_wrong_is_one_line(build, raw, tmp_path):
    with pytest.raises(DataUnavailable, match="FOO.zip"):
        build("tu", name="FOO")
    with pytest.raises(ValueError, match="sets of the TU collection have names such as MUTAG"):
        build("tu", name="../x")
    raw.tu("PROTEINS", graphs=12)
    with pytest.raises(DataUnavailable, match="no folds of PROTEINS are published"):
        build("tu", split="published")
    with pytest.raises(ValueError, match="no folds of MUTAG are published"):
        build("mutag", split="published")
    raw.tu("ENZYMES", graphs=12, wrong="graph_labels")
    with pytest.raises(DataError, match="11 labels for 12 graphs"):
        build("tu", name="ENZYMES")
    archive = tmp_path / "tu" / "PROTEINS.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match="PROTEINS.zip cannot be read"):
        build("tu")


def test_folds_are_of_equal_size():
    labels = np.array([0] * 33 + [1] * 14)
    fold = dealt(labels, seed=1)
    assert max(np.bincount(fold)) - min(np.bincount(fold)) <= 1
    masks = [fold_masks(fold, number) for number in range(10)]
    assert sum(mask.test.sum() for mask in masks) == 47
    with pytest.raises(ValueError, match="too few"):
        fold_masks(dealt(labels[:8], seed=1), 9)
    with pytest.raises(ValueError, match="two of its lists"):
        numbered_masks(4, [0, 1], [1], [2])
    with pytest.raises(ValueError, match="item 4, and there are 4"):
        numbered_masks(4, [0, 1], [4], [2])
