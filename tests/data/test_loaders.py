"""Every loader that cannot download here, on small files in the true raw format."""

import sys

import numpy as np
import pytest
import torch

from deepgnn_cli.data.datasets import planetoid as citation


def pairs(graph):
    return sorted(map(tuple, graph.edge_index.t().tolist()))


def test_proteins_sums_incident_edge_features(raw, build):
    _, ends, feat, labels = raw.proteins()
    graph = build("ogbn_proteins")
    x = np.zeros((12, 8))
    for (a, b), features in zip(ends, feat, strict=True):
        x[a] += features
        x[b] += features
    assert np.allclose(graph.x, x, atol=1e-5)
    assert graph.edge_index.shape == (2, 60) and graph.edge_attr.shape == (60, 8)
    there = {tuple(e): f for e, f in zip(ends.tolist(), feat, strict=True)}
    for a, b, found in zip(*graph.edge_index.tolist(), graph.edge_attr.numpy(), strict=True):
        assert np.allclose(found, there.get((a, b), there.get((b, a))))
    assert torch.equal(graph.y, torch.tensor(labels).float()) and graph.y.shape == (12, 112)
    assert (graph.metric, graph.num_classes, graph.split, graph.multi_label) == (
        "roc_auc",
        112,
        "public",
        True,
    )
    assert graph.train.nonzero()[:, 0].tolist() == list(range(6))


def test_ogb_is_not_imported_again_and_asks_no_network(raw, build, monkeypatch):
    raw.proteins()
    monkeypatch.delitem(sys.modules, "outdated", raising=False)
    first = build("ogbn_proteins")
    assert "outdated" not in sys.modules
    monkeypatch.setitem(sys.modules, "ogb.io.read_graph_raw", None)
    again = build("ogbn_proteins")  # from the processed copy
    assert torch.equal(first.x, again.x) and torch.equal(first.edge_attr, again.edge_attr)


@pytest.mark.parametrize("undirected", [True, False])
def test_arxiv(raw, build, undirected):
    edges = [(0, 1), (2, 1), (1, 2), (3, 3)]
    raw.ogbn("ogbn_arxiv", "time", edges, [5, 0, 39, 1], node_feat=np.arange(8.0).reshape(4, 2) / 8)
    graph = build("ogbn_arxiv", undirected=undirected)
    both = [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert pairs(graph) == (both if undirected else [(0, 1), (1, 2), (2, 1)])
    assert graph.num_classes == 40 and graph.y.tolist() == [5, 0, 39, 1] and graph.metric == "accuracy"
    assert torch.allclose(graph.x, torch.arange(8.0).reshape(4, 2) / 8)
    assert [mask.tolist().index(True) for mask in (graph.train, graph.val, graph.test)] == [0, 2, 3]


def test_products_lists_each_edge_both_ways(raw, build):
    raw.ogbn("ogbn_products", "sales_ranking", [(0, 1), (2, 3)], [0, 1, 2, 46], node_feat=np.ones((4, 3)))
    graph = build("ogbn_products")
    assert pairs(graph) == [(0, 1), (1, 0), (2, 3), (3, 2)] and graph.num_classes == 47


def test_an_ogb_class_that_does_not_exist_names_its_file(raw, build):
    raw.ogbn("ogbn_arxiv", "time", [(0, 1)], [5, 0, 40, 1], node_feat=np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"node-label.csv.gz cannot be read .*class 40 of 40"):
        build("ogbn_arxiv")


@pytest.mark.parametrize("directed", [True, False])
def test_ppi_is_a_disjoint_union(raw, build, directed):
    raw.ppi(directed=directed)
    graph = build("ppi", standardize_features=False)
    assert graph.part_of.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3]
    rings = [(0, 3), (3, 4), (7, 3), (10, 2)]
    expected = {(f + i, f + (i + 1) % n) for f, n in rings for i in range(n)}
    assert set(pairs(graph)) == expected | {(b, a) for a, b in expected}
    assert graph.num_edges == len(set(pairs(graph)))
    assert (graph.metric, graph.num_classes, graph.num_features) == ("micro_f1", 7, 5)
    assert graph.train.sum() == 7 and graph.val.sum() == 3 and graph.test.sum() == 2
    folder = raw.folder("ppi")
    assert np.allclose(graph.x[7:10], np.load(folder / "valid_feats.npy"))
    assert np.array_equal(graph.y[:7], np.load(folder / "train_labels.npy"))


def test_ppi_is_standardised_on_the_training_graphs(raw, build):
    folder = raw.ppi()
    x = build("ppi").x.double()
    train, test = np.load(folder / "train_feats.npy"), np.load(folder / "test_feats.npy")
    assert np.allclose(x[:7].mean(0), 0, atol=1e-6) and np.allclose(x[:7].std(0, correction=0), 1)
    assert np.allclose(x[10:], (test - train.mean(0)) / train.std(0), atol=1e-5)


def test_flickr(raw, build):
    raw.flickr()
    graph = build("flickr", standardize_features=False)
    assert pairs(graph) == [(0, 1), (1, 0), (1, 2), (2, 1)] and graph.y.tolist() == [1, 0, 1, 0]
    assert graph.x.tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert (graph.train.tolist(), graph.val.tolist()) == (
        [True, True, False, False],
        [False, False, True, False],
    )
    standard = build("flickr").x
    assert torch.allclose(standard[:2], torch.tensor([[-1.0] * 3, [1.0] * 3]))


def test_reddit_and_its_processed_copy(raw, build):
    folder = raw.reddit()
    for _ in range(2):
        graph = build("reddit", standardize_features=False)
        assert pairs(graph) == [(0, 1), (1, 0), (1, 2), (2, 1)] and graph.y.tolist() == [0, 1, 2, 1]
        assert graph.test.tolist() == [False, False, False, True]
    np.savez(folder / "reddit_data.npz", feature=np.zeros((4, 3)), label=np.ones(4), node_types=np.arange(4))
    assert build("reddit", standardize_features=False).y.tolist() == [1, 1, 1, 1]  # raw files changed


@pytest.mark.parametrize("name", ["texas", "wisconsin", "cornell", "chameleon", "squirrel"])
def test_geom(raw, build, name):
    raw.geom(name)
    graph = build(name, split_index=3, normalize_features=False)
    assert pairs(graph) == [(0, 1), (1, 2), (3, 3)] and graph.y.tolist() == [0, 1, 0, 1]
    assert graph.x.tolist() == [[i % 2, 1, 0] for i in range(4)]
    part = (np.arange(4) + 3) % 4
    assert graph.split == "geom-3" and graph.train.tolist() == (part < 2).tolist()
    assert graph.val.tolist() == (part == 2).tolist() and graph.test.tolist() == (part == 3).tolist()
    assert pairs(build(name, undirected=True)) == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)]


def test_actor_lists_the_columns_that_are_one(raw, build):
    raw.geom("actor", theirs="film", rows=["0\t0,4\t1", "1\t2\t0", "2\t4\t1", "3\t1,2\t0"])
    graph = build("actor", normalize_features=False)
    assert graph.x.tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 0, 0]]


def test_cora_takes_geom_splits(raw, build):
    raw.geom_splits("cora", "cora", 2708)
    graph = build("cora", split="geom", split_index=9)
    assert graph.split == "geom-9" and graph.train.sum() == 2706 and graph.num_edges == 10556


def test_a_geom_split_of_another_graph_is_refused(raw, build):
    raw.geom_splits("cora", "cora", 5)
    with pytest.raises(ValueError, match="cora_split_0.6_0.2_0.npz cannot be read .* 5 nodes, the graph has 2708"):
        build("cora", split="geom")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coauthor_cs", "ms_academic_cs.npz"),
        ("coauthor_physics", "ms_academic_phy.npz"),
        ("amazon_computers", "amazon_electronics_computers.npz"),
        ("amazon_photo", "amazon_electronics_photo.npz"),
    ],
)
def test_shchur(raw, build, name, file):
    raw.shchur(name, file)
    graph = build(name, train_per_class=1, val_per_class=1, normalize_features=False)
    assert pairs(graph) == [(0, 1), (1, 0), (1, 2), (2, 1)] and set(graph.x.unique().tolist()) == {1}
    assert graph.train.sum() == 3 == graph.val.sum() and graph.y[graph.train].unique().numel() == 3


def planetoid_files(folder):
    """A Planetoid graph of 503 + 4 nodes, one of the test nodes missing from the files, as in Citeseer."""
    import collections
    import pickle

    import scipy.sparse as sp

    draw = np.random.default_rng(0)
    labels, test = np.eye(3, dtype=np.int32)[draw.integers(3, size=507)], [506, 503, 505]
    x = sp.csr_matrix(draw.integers(2, size=(507, 6)).astype(np.float32))
    stored = {
        "x": x[:3], "y": labels[:3], "allx": x[:503], "ally": labels[:503], "tx": x[test], "ty": labels[test],
        "graph": collections.defaultdict(list, {0: [1, 1, 506], 1: [0], 506: [0, 506]}),
    }  # fmt: skip
    for name, value in stored.items():
        (folder / f"ind.citeseer.{name}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.citeseer.test.index").write_text("".join(f"{i}\n" for i in test))
    return x.toarray(), labels


def test_planetoid_reads_its_pickles_once_their_hashes_are_known(raw, build, monkeypatch):
    from deepgnn_cli.data.download import _sha256

    folder = raw.folder("citeseer")
    x, labels = planetoid_files(folder)
    with pytest.raises(ValueError, match="is damaged: its sha256"):
        build("citeseer")
    known = {name: _sha256(folder.parent / name) for name in citation.SHA256["citeseer"]}
    monkeypatch.setitem(citation.SHA256, "citeseer", known)
    graph = build("citeseer", normalize_features=False)
    assert pairs(graph) == [(0, 1), (0, 506), (1, 0), (506, 0)]
    x[504], labels[504] = 0, [1, 0, 0]
    assert np.array_equal(graph.x, x) and np.array_equal(graph.y, labels.argmax(1))
    assert graph.train.nonzero()[:, 0].tolist() == [0, 1, 2] and graph.val.sum() == 500
    assert graph.test.nonzero()[:, 0].tolist() == [503, 505, 506]


def test_a_pickle_with_another_hash_is_never_opened(raw, build, tmp_path):
    folder = raw.folder("pubmed")
    for name in citation.SHA256["pubmed"]:
        (folder.parent / name).write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/owned'\ntR.".encode())
    with pytest.raises(ValueError, match=r"ind.pubmed.x is damaged: .* delete it"):
        build("pubmed")
    assert not (tmp_path / "owned").exists()
