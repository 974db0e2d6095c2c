"""Builds data sets as a run does: yaml, check, instantiate; and their raw files, in the true form, but small."""

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deepgnn_cli.config.validate import check_node
from deepgnn_cli.data import download as sources
from deepgnn_cli.data import transfer
from deepgnn_cli.data.datasets import ogb_files
from deepgnn_cli.data.datasets.ogbg import ATOMS, BENCHMARKS, BONDS

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def build(tmp_path):
    """`build(name, key=value…)`: the graph that `dataset=name dataset.key=value…` gives below `tmp_path`."""

    def built(name, /, *, root=tmp_path, seed=0, **overrides):
        config = OmegaConf.load(CONF / "dataset" / f"{name}.yaml")
        config = OmegaConf.merge(config.get("dataset", config), overrides)  # one that sets other groups is global
        check_node("dataset", OmegaConf.to_container(config), {"seed": seed})
        try:
            return instantiate(config, root=root, seed=seed)
        except InstantiationException as error:
            raise error.__cause__ from None

    return built


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches the network, whatever the machine could."""

    def refuse(*args, **kwargs):
        raise transfer.Unreachable("no network in tests")

    monkeypatch.setattr(sources, "_pip_download", refuse)
    download = sources.download
    monkeypatch.setattr(sources, "download", lambda url, to: (download if url.startswith("file:") else refuse)(url, to))


@pytest.fixture
def raw(tmp_path):
    """Writers of raw files below `tmp_path`."""
    return Raw(tmp_path)


class Raw:
    def __init__(self, root):
        self.root = root

    def folder(self, name, sub="raw"):
        folder = self.root / name / sub
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def csv(self, folder, name, rows):
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("".join(",".join(str(value) for value in np.atleast_1d(row)) + "\n" for row in rows))

    def ogbn(self, name, split, edges, labels, *, node_feat=None, edge_feat=None, parts=((0, 1), (2,), (3,))):
        n = len(labels)
        folder = self.folder(name)
        (folder.parent / "RELEASE_v1.txt").write_text("")
        self.csv(folder, "edge", edges)
        self.csv(folder, "num-node-list", [n])
        self.csv(folder, "num-edge-list", [len(edges)])
        self.csv(folder, "node-label", labels)
        if node_feat is not None:
            self.csv(folder, "node-feat", node_feat)
        if edge_feat is not None:
            self.csv(folder, "edge-feat", edge_feat)
        for part, nodes in zip(("train", "valid", "test"), parts, strict=True):
            self.csv(self.folder(name, f"split/{split}"), part, nodes)
        return folder

    def ogbg(self, name, graphs=24, seed=0, changed=None):
        """Random small graphs in the raw files of ogb: `changed` is given the tables, by name, and may alter them."""
        draw, molecules = np.random.default_rng(seed), name != "ogbg_ppa"
        sizes = draw.integers(2, 7, graphs)
        pairs = [[(a, b) for a in range(n) for b in range(a) if b == a - 1 or draw.random() < 0.3] for n in sizes]
        pairs[3] = []  # a graph without an edge
        edges, nodes = sum(map(len, pairs)), int(sizes.sum())
        tables = {
            "edge": [pair for each in pairs for pair in each],
            "edge-feat": np.stack([draw.integers(size, size=edges) for size in BONDS], axis=1).tolist(),
            "num-node-list": sizes.tolist(),
            "num-edge-list": [len(each) for each in pairs],
            "graph-label": [[i % 2] for i in range(graphs)],
        }
        if molecules:
            tables["node-feat"] = np.stack([draw.integers(size, size=nodes) for size in ATOMS], axis=1).tolist()
        else:
            tables["edge-feat"] = draw.random((edges, 7)).round(3).tolist()
            tables["graph-label"] = [[i % 37] for i in range(graphs)]
        if name == "ogbg_molpcba":
            known = draw.random((graphs, 128)) < 0.7
            tables["graph-label"] = np.where(known, draw.integers(2, size=(graphs, 128)).astype(str), "").tolist()
        dealt = np.array_split(draw.permutation(graphs), [graphs // 2, 3 * graphs // 4])
        tables |= dict(zip(("train", "valid", "test"), dealt, strict=True))
        if changed is not None:
            changed(tables)
        folder, split = self.folder(name), "scaffold" if molecules else "species"
        (folder.parent / "RELEASE_v1.txt").write_text("")
        (self.folder(name, "mapping") / "README.md").write_text("What the numbers of graphs stand for.")
        for table, rows in tables.items():
            self.csv(
                self.folder(name, f"split/{split}") if table in ("train", "valid", "test") else folder, table, rows
            )
        return folder

    def zipped_ogbg(self, name, monkeypatch):
        """Put the files of `ogbg` back into the zip that is published, where the loader looks for it."""
        folder, archive = self.root / name, self.root / "home" / "graphproppred" / f"{BENCHMARKS[name].archive}.zip"
        archive.parent.mkdir(parents=True)
        with zipfile.ZipFile(archive, "w") as opened:
            for file in folder.rglob("*"):
                if file.is_file() and "processed" not in file.parts:
                    opened.write(file, f"{archive.stem}/{file.relative_to(folder)}")
        shutil.rmtree(folder)
        monkeypatch.setattr(ogb_files, "HOME", (self.root / "home").as_uri())

    def proteins(self, n=12, edges=30, seed=0):
        draw = np.random.default_rng(seed)
        pairs = np.array([(i, j) for i in range(n) for j in range(i)])
        ends = pairs[draw.permutation(len(pairs))[:edges]]
        feat = draw.random((edges, 8)).round(3)
        labels = draw.integers(2, size=(n, 112))
        parts = (range(n // 2), range(n // 2, n - 3), range(n - 3, n))
        return (
            self.ogbn("ogbn_proteins", "species", ends, labels, edge_feat=feat, parts=parts),
            ends,
            feat,
            labels,
        )

    def ppi(self, sizes=((3, 4), (3,), (2,)), directed=True):
        folder = self.folder("ppi")
        draw = np.random.default_rng(0)
        number = 0
        for part, graphs in zip(("train", "valid", "test"), sizes, strict=True):
            n, ids, links, first = sum(graphs), [], [], 0
            for size in graphs:
                number += 1
                ids += [number] * size
                ring = [(first + i, first + (i + 1) % size) for i in range(size)] + [(first, first)]
                links += ring + [(b, a) for a, b in ring] if directed else ring
                first += size
            np.save(folder / f"{part}_feats.npy", draw.standard_normal((n, 5)))
            np.save(folder / f"{part}_labels.npy", draw.integers(2, size=(n, 7)))
            np.save(folder / f"{part}_graph_id.npy", np.array(ids))
            stored = {
                "directed": directed,
                "multigraph": False,
                "graph": {},
                "nodes": [{"id": i} for i in range(n)],
            }
            stored["links"] = [{"source": a, "target": b} for a, b in links]
            (folder / f"{part}_graph.json").write_text(json.dumps(stored))
        return folder

    def flickr(self):
        folder = self.folder("flickr")
        adj = scipy.sparse.csr_matrix((np.ones(4), ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(4, 4))
        np.savez(folder / "adj_full.npz", data=adj.data, indices=adj.indices, indptr=adj.indptr, shape=adj.shape)
        np.save(folder / "feats.npy", np.arange(12.0).reshape(4, 3))
        (folder / "class_map.json").write_text(json.dumps({"0": 1, "1": 0, "2": 1, "3": 0}))
        (folder / "role.json").write_text(json.dumps({"tr": [0, 1], "va": [2], "te": [3]}))
        return folder

    def reddit(self):
        folder = self.folder("reddit")
        np.savez(
            folder / "reddit_data.npz",
            feature=np.arange(12.0).reshape(4, 3),
            label=np.array([0, 1, 2, 1]),
            node_types=np.array([1, 1, 2, 3]),
        )
        adj = scipy.sparse.coo_matrix((np.ones(4), ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(4, 4))
        scipy.sparse.save_npz(folder / "reddit_graph.npz", adj)
        return folder

    def geom(self, name, *, theirs=None, rows=None, edges=((0, 1), (1, 2), (1, 2), (3, 3)), n=4):
        folder, theirs = self.folder(name), theirs or name
        rows = rows or [f"{i}\t{i % 2},1,0\t{i % 2}" for i in reversed(range(n))]
        (folder / "out1_node_feature_label.txt").write_text("\n".join(["node_id\tfeature\tlabel", *rows]) + "\n")
        lines = ["node_id\tnode_id", *(f"{a}\t{b}" for a, b in edges)]
        (folder / "out1_graph_edges.txt").write_text("\n".join(lines) + "\n")
        self.geom_splits(name, theirs, n)
        return folder

    def geom_splits(self, name, theirs, n):
        for i in range(10):
            part = (np.arange(n) + i) % n
            np.savez(
                self.folder(name) / f"{theirs}_split_0.6_0.2_{i}.npz",
                train_mask=(part < n - 2).astype(np.uint8),
                val_mask=(part == n - 2).astype(np.uint8),
                test_mask=(part == n - 1).astype(np.uint8),
            )

    def shchur(self, name, file, n=9):
        x = scipy.sparse.csr_matrix(np.eye(n, 4, dtype=np.float32) * 3 + np.ones((n, 4), dtype=np.float32))
        adj = scipy.sparse.csr_matrix((np.ones(3), ([0, 1, 2], [1, 2, 2])), shape=(n, n))
        folder = self.folder(name)
        np.savez(
            folder / file,
            **{f"adj_{key}": getattr(adj, key) for key in ("data", "indices", "indptr", "shape")},
            **{f"attr_{key}": getattr(x, key) for key in ("data", "indices", "indptr", "shape")},
            labels=np.arange(n) % 3,
        )
        return folder / file

    def heterophilous(self, name, labels, *, edges=((0, 1), (1, 2), (3, 4)), splits=10):
        """The published file's arrays; split s is a rotation by s."""
        n, folder = len(labels), self.folder(name)
        part = (np.arange(n) + np.arange(splits)[:, None]) % n
        np.savez(
            folder / f"{name}.npz",
            node_features=np.arange(3 * n, dtype=np.float32).reshape(n, 3),
            node_labels=np.array(labels),
            edges=np.array(edges),
            train_masks=part < n - 2,
            val_masks=part == n - 2,
            test_masks=part == n - 1,
        )
        return folder / f"{name}.npz"

    def wikics(self, n=6):
        rotated = [np.roll(np.arange(n) < 2, s).tolist() for s in range(20)]
        stored = {
            "features": [[float(i), 1.0] for i in range(n)],
            "labels": [i % 3 for i in range(n)],
            "links": [[1, 2], [2], [], [3], [], []],
            "train_masks": rotated,
            "val_masks": [np.roll(mask, 2).tolist() for mask in rotated],
            "stopping_masks": [[False] * n] * 20,
            "test_mask": [False] * (n - 1) + [True],
        }
        (self.folder("wikics") / "data.json").write_text(json.dumps(stored))

    def tu(self, name, graphs=10, *, attributes=0, labels=True, unpacked=False, wrong=None):
        """Random graphs of 2 to 5 nodes in the collection's files: a zip, or a folder of them."""
        draw = np.random.default_rng(1)
        sizes = draw.integers(2, 6, graphs)
        indicator = np.repeat(np.arange(graphs), sizes) + 1
        first = np.cumsum(sizes) - sizes
        pairs = [(a, b) for start, size in zip(first, sizes, strict=True)
                 for a in range(start, start + size) for b in range(start, a) if draw.random() < 0.7]  # fmt: skip
        pairs += [(0, 0)]  # a self-loop, which is dropped
        rows = [(a + 1, b + 1) for a, b in pairs] + [(b + 1, a + 1) for a, b in pairs[:-1]]
        parts = {
            "A": [f"{a}, {b}" for a, b in rows],
            "graph_indicator": indicator.tolist(),
            "graph_labels": [(-1, 1, 2)[i % 3] for i in range(graphs)],
            "edge_labels": [(a + b) % 3 for a, b in rows],
        }
        if labels:
            parts["node_labels"] = [int(i % 4) + 1 for i in range(len(indicator))]
        if attributes:
            numbers = draw.random((len(indicator), attributes)).round(4)
            parts["node_attributes"] = [", ".join(map(str, row)) for row in numbers.tolist()]
        if wrong:
            parts[wrong] = parts[wrong][:-1]
        folder = self.root / "tu" / name if unpacked else self.root / "unzipped" / name
        folder.mkdir(parents=True, exist_ok=True)
        for part, lines in parts.items():
            (folder / f"{name}_{part}.txt").write_text("".join(f"{line}\n" for line in lines))
        if not unpacked:
            (self.root / "tu").mkdir(exist_ok=True)
            with zipfile.ZipFile(self.root / "tu" / f"{name}.zip", "w") as archive:
                for file in folder.iterdir():
                    archive.write(file, f"{name}/{file.name}")
        return folder
