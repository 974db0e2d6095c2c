"""OGB's graph benchmarks from files in their true form: what ogb reads in them, and what is refused."""

import numpy as np
import pytest
import torch
from ogb.graphproppred.mol_encoder import AtomEncoder, BondEncoder
from ogb.io.read_graph_pyg import read_graph_pyg
from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims

from deepgnn_cli.data.datasets import ogb_files
from deepgnn_cli.data.datasets.ogbg import ATOMS, BENCHMARKS, BONDS
from deepgnn_cli.data.download import DataError
from deepgnn_cli.nn.sparse_features import Linear, one_hot

NAMES = list(BENCHMARKS)


def change(table, row, value):
    def changed(tables):
        tables[table][row] = value

    return changed


def drop(table, row=-1):
    return lambda tables: tables[table].pop(row)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_read_as_ogb_reads_them(raw, build, name):
    folder = raw.ogbg(name)
    graphs = read_graph_pyg(str(folder), add_inverse_edge=True)
    found = build(name)
    start = np.cumsum([0, *(each.num_nodes for each in graphs)])
    ends = torch.cat([each.edge_index + int(first) for each, first in zip(graphs, start, strict=False)], dim=1)
    assert torch.equal(found.edge_index, ends)
    assert torch.equal(found.edge_attr, torch.cat([each.edge_attr for each in graphs]).float())
    assert found.part_of.bincount().tolist() == [each.num_nodes for each in graphs]
    if name != "ogbg_ppa":
        assert torch.equal(found.x, torch.cat([each.x for each in graphs]).float())
        assert (found.categories, found.edge_categories) == (ATOMS, BONDS)
        assert (found.num_features, found.num_edge_features) == (sum(ATOMS), sum(BONDS))
    assert (found.name, found.level, found.split) == (name, "graph", "public")


def test_the_tasks_are_those_of_ogb(raw, build):
    tables = {}
    for name in NAMES:
        raw.ogbg(name, changed=lambda rows, name=name: tables.setdefault(name, rows))
    hiv, pcba, ppa = map(build, NAMES)
    assert [each.metric for each in (hiv, pcba, ppa)] == ["roc_auc", "average_precision", "accuracy"]
    assert [each.num_classes for each in (hiv, pcba, ppa)] == [1, 128, 37]
    assert torch.equal(hiv.y, torch.tensor(tables["ogbg_molhiv"]["graph-label"]).float())
    assert ppa.y.tolist() == [label for (label,) in tables["ogbg_ppa"]["graph-label"]]
    texts = np.array(tables["ogbg_molpcba"]["graph-label"])
    assert np.array_equal(pcba.y.isnan(), texts == "")
    assert np.array_equal(pcba.y[texts != ""], texts[texts != ""].astype(float))
    for graph, name in ((hiv, "ogbg_molhiv"), (pcba, "ogbg_molpcba"), (ppa, "ogbg_ppa")):
        for mask, part in ((graph.train, "train"), (graph.val, "valid"), (graph.test, "test")):
            assert mask.nonzero()[:, 0].tolist() == sorted(tables[name][part].tolist())


def test_a_node_of_ppa_is_the_sum_of_the_features_of_its_edges(raw, build):
    raw.ogbg("ogbg_ppa")
    graph = build("ogbg_ppa")
    expected = torch.zeros(graph.num_nodes, 7)
    for (a, _), features in zip(graph.edge_index.t().tolist(), graph.edge_attr, strict=True):
        expected[a] += features  # edges are listed both ways
    torch.testing.assert_close(graph.x, expected)
    assert not graph.x[graph.part_of == 3].any()


def test_a_loop_is_dropped_with_its_features(raw, build):
    raw.ogbg("ogbg_ppa")
    before = build("ogbg_ppa")
    raw.ogbg("ogbg_ppa", changed=change("edge", 0, (1, 1)))
    after = build("ogbg_ppa")
    assert torch.equal(after.edge_index, before.edge_index[:, 2:])
    assert torch.equal(after.edge_attr, before.edge_attr[2:])
    torch.testing.assert_close(after.x[1], before.x[1] - before.edge_attr[0])


def test_a_graph_without_any_known_task_is_in_no_mask(raw, build):
    def forget(tables):
        tables["graph-label"][5] = [""] * 128

    raw.ogbg("ogbg_molpcba", changed=forget)
    graph = build("ogbg_molpcba")
    assert (graph.train | graph.val | graph.test).logical_not().nonzero()[:, 0].tolist() == [5]


@pytest.mark.parametrize(("encoder", "sizes", "ours"), [(AtomEncoder, ATOMS, "atom"), (BondEncoder, BONDS, "bond")])
def test_a_linear_layer_of_categories_is_the_encoder_of_ogb(encoder, sizes, ours):
    """Σ_s E_s[x_s] + b is E x + b, x one-hot and the columns of E those of all E_s."""
    assert sizes == tuple({"atom": get_atom_feature_dims, "bond": get_bond_feature_dims}[ours]())
    theirs = encoder(6).double()
    layer = Linear(sum(sizes), 6).double()
    weights = [table.weight for table in getattr(theirs, f"{ours}_embedding_list")]
    layer.load_state_dict({"weight": torch.cat(weights).t(), "bias": torch.zeros(6)})
    x = torch.stack([torch.randint(size, (50,)) for size in sizes], dim=1)
    expected = theirs(x)
    torch.testing.assert_close(layer(one_hot(x, sizes, dense=True).double()), expected)
    found = layer.float()(one_hot(x.float(), sizes))  # in the form that training takes
    torch.testing.assert_close(found, expected.float())
    found.square().sum().backward()
    expected.square().sum().backward()
    gradients = torch.cat([table.weight.grad for table in getattr(theirs, f"{ours}_embedding_list")]).t()
    torch.testing.assert_close(layer.weight.grad, gradients.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_zip_as_published_is_unpacked(raw, build, tmp_path, monkeypatch, name):
    raw.ogbg(name)
    before = build(name)
    raw.zipped_ogbg(name, monkeypatch)
    assert build(name).digest == before.digest
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["home", name]


def test_it_is_parsed_once(raw, build, monkeypatch):
    raw.ogbg("ogbg_molhiv")
    first = build("ogbg_molhiv")
    monkeypatch.setattr(ogb_files, "gzip", None)
    assert build("ogbg_molhiv").digest == first.digest


HOSTILE = {
    "an edge beyond the nodes": (
        "molhiv",
        change("edge", 0, (9, 0)),
        r"edge.csv.gz .*graph 0 has \d nodes, .*\[9, 0",
    ),
    "a negative end": ("ppa", change("edge", 0, (-1, 0)), r"edge.csv.gz .*graph 0 has \d nodes, .*\[-1, 0\]"),
    "an end that is a node of the next graph": (
        "molhiv",
        lambda tables: tables["edge"].__setitem__(0, (tables["num-node-list"][0], 0)),
        "edge.csv.gz .*counted from 0",
    ),
    "an edge less": ("molpcba", drop("edge"), r"edge.csv.gz .*edges where"),
    "a row of edge features less": ("ppa", drop("edge-feat"), r"edge-feat.csv.gz .*rows of edge features where"),
    "an atom less": ("molhiv", drop("node-feat"), r"node-feat.csv.gz .*rows of node features where"),
    "a number of edges less": (
        "molhiv",
        drop("num-edge-list", 3),
        r"num-edge-list.csv.gz .*23 numbers of edges",
    ),
    "a graph without nodes": ("molhiv", change("num-node-list", 2, 0), r"num-node-list.csv.gz .*graph 2 has 0 nodes"),
    "a negative number of edges": (
        "ppa",
        change("num-edge-list", 2, -1),
        r"edge-list.csv.gz .*graph 2 has -1 edges",
    ),
    "a label less": ("molhiv", drop("graph-label"), r"graph-label.csv.gz .*23 graphs with labels where 24"),
    "a missing column of labels": (
        "molpcba",
        lambda tables: tables.update({"graph-label": [row[:-1] for row in tables["graph-label"]]}),
        r"graph-label.csv.gz .*127 columns where 128",
    ),
    "no class": ("ppa", change("graph-label", 4, ["nan"]), r"graph-label.csv.gz .*graph 4 has no label"),
    "an unknown task where all are known": ("molhiv", change("graph-label", 4, ["nan"]), "graph 4 has no label"),
    "a class that does not exist": ("ppa", change("graph-label", 4, [37]), "graph 4 has label 37: 0 to 36"),
    "a task that is half true": ("molhiv", change("graph-label", 4, [0.5]), "graph 4 has label 0.5: 0 to 1"),
    "a word": ("ppa", change("graph-label", 4, ["human"]), r"graph-label.csv.gz cannot be read"),
    "an element that does not exist": (
        "molhiv",
        change("node-feat", 2, [119, 0, 0, 0, 0, 0, 0, 0, 0]),
        r"node-feat.csv.gz .*row 2 has 119 in column 0: 0 to 118",
    ),
    "half a bond": ("molhiv", change("edge-feat", 1, [0.5, 0, 0]), r"edge-feat.csv.gz .*row 1 has 0.5 in column 0"),
    "an edge feature that is no number": ("ppa", change("edge-feat", 1, ["nan"] * 7), r"edge-feat.csv.gz .*no number"),
    "a split of other graphs": ("molpcba", change("test", 0, 24), r"test.csv.gz .*graph 24 of 24"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_wrong_file_is_named_in_one_line(raw, build, tmp_path, case):
    name, changed, said = HOSTILE[case]
    raw.ogbg(f"ogbg_{name}", changed=changed)
    with pytest.raises(DataError, match=said) as caught:
        build(f"ogbg_{name}")
    assert "\n" not in str(caught.value) and str(tmp_path / f"ogbg_{name}") in str(caught.value)
    assert not (tmp_path / f"ogbg_{name}" / "processed").exists()
