"""From raw files in their true format, through the command, to a result row and a clear line."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
from ogb.graphproppred import Evaluator

from deepgnn_cli.cli.main import run_command


@pytest.fixture
def trained(tmp_path, capsys):
    """`trained(word, …)`: the row that two epochs leave."""

    def run(*words):
        out = tmp_path / "outputs"
        words = [*words, "trainer.max_epochs=2", "hidden=8", f"data_dir={tmp_path}", f"output_dir={out}"]
        assert run_command(["train", *words]) == 0, capsys.readouterr().err
        (result,) = out.glob("*/result.csv")
        with result.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["status"] == "ok" and row["epochs"] == "2"
        for score in ("train_score", "val_score", "test_score"):
            assert 0 <= float(row[score]) <= 1
        assert (result.parent / "layers.csv").exists() and (result.parent / "influence.csv").exists()
        return row

    return run


@pytest.mark.parametrize("batch", ["batch=full", "batch=parts"])
@pytest.mark.parametrize("model", ["deepergcn", "revgen"])
def test_proteins_with_its_edge_features_and_112_tasks(raw, trained, batch, model):
    raw.proteins(n=40, edges=300)
    small = ["batch.train_parts=2", "batch.eval_parts=2"] if batch == "batch=parts" else []
    row = trained("dataset=ogbn_proteins", f"model={model}", "layers=3", batch, *small)
    assert row["metric"] == "roc_auc" and row["conv"].startswith("gen")


def test_the_other_formats(raw, trained, tmp_path):
    cases = {
        "ppi": (raw.ppi, "micro_f1", ["batch=graphs", "model=gcnii", "layers=3"]),
        "flickr": (raw.flickr, "accuracy", ["model=sage"]),
        "reddit": (raw.reddit, "accuracy", ["model=sage"]),
    }
    for name, (write, metric, words) in cases.items():
        write()
        row = trained(f"dataset={name}", *words)
        assert (row["dataset"], row["metric"]) == (name, metric)
        for folder in (tmp_path / "outputs").iterdir():
            folder.rename(tmp_path / f"done_{name}")


def test_a_geom_split_is_a_number_of_the_row(raw, trained):
    raw.geom("texas")
    row = trained("dataset=texas", "dataset.split_index=3", "model=gcnii", "layers=2")
    assert row["split"].endswith("3") and not math.isnan(float(row["test_score"]))


def test_arxiv(raw, trained):
    draw = np.random.default_rng(0)
    edges = draw.integers(20, size=(60, 2))
    features = draw.standard_normal((20, 128)).round(3)
    parts = (range(12), range(12, 16), range(16, 20))
    raw.ogbn("ogbn_arxiv", "time", edges, draw.integers(40, size=20), node_feat=features, parts=parts)
    assert trained("dataset=ogbn_arxiv", "model=gcnii", "layers=3")["metric"] == "accuracy"


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_file_is_one_line_and_nothing_is_written(raw, tmp_path, capsys, damage):
    raw.proteins()
    file = raw.folder("ogbn_proteins") / "edge.csv.gz"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        file.unlink()
    words = ["dataset=ogbn_proteins", "model=deepergcn", "layers=2", f"data_dir={tmp_path}"]
    assert run_command(["train", *words, f"output_dir={tmp_path / 'outputs'}"]) == 2
    said = capsys.readouterr()
    assert "edge.csv.gz" in said.err and "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["model=gin", "layers=3"],
        ["model=deepergcn", "layers=3", "readout=attention"],
        ["model=gcn", "layers=2", "batch=full", "readout=jumping"],
        ["model=revgcn", "layers=4", "readout=set2set", "batch.nodes_per_batch=20"],
        ["model=appnp", "layers=3", "readout=virtual_node"],
        ["model=deepergcn", "layers=2", "encoding=random_walk"],
        ["model=deepergcn", "layers=2", "rewire=two_hop"],
    ],
)
def test_whole_graphs(raw, trained, words):
    raw.tu("PROTEINS", graphs=24)
    row = trained("dataset=tu", *words)
    assert (row["metric"], row["split"], row["direction"]) == ("accuracy", "fold-0", "higher")
    assert float(row["range_hops"]) > 0


@pytest.mark.parametrize("batch", ["batch=small_graphs", "batch=full"])
def test_the_nodes_of_a_labelled_graph_are_shown_with_its_class(raw, build, trained, tmp_path, batch):
    raw.tu("PROTEINS", graphs=24)
    trained("dataset=tu", "model=gin", "layers=2", batch)
    (file,) = tmp_path.glob("outputs/*/embeddings.csv")
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    graph = build("tu")
    nodes = [int(row["node"]) for row in rows]
    assert len(set(nodes)) > graph.num_graphs
    assert [int(row["label"]) for row in rows] == graph.y[graph.part_of[nodes]].tolist()
    description = json.loads(file.with_name("graph.json").read_text())
    assert (description["graphs"], description["homophily"]) == (24, None)


OGB_WORDS = {
    "ogbg_molhiv": (
        ["model=deepergcn", "layers=3", "model.conv.learn_t=true", "model.conv.stop_gradient=false"],
        "roc_auc",
    ),
    "ogbg_molpcba": (["model=revgen", "layers=4", "readout=virtual_node"], "average_precision"),
    "ogbg_ppa": (["model=deepergcn", "layers=2", "norm=layer", "batch.graphs_per_batch=5"], "accuracy"),
}


@pytest.mark.parametrize("name", OGB_WORDS)
def test_graphs_of_ogb_from_their_zip_to_a_row_and_their_predictions(raw, build, trained, tmp_path, monkeypatch, name):
    """The score of the table of predictions by OGB's own evaluator is that of the row."""
    words, metric = OGB_WORDS[name]
    raw.ogbg(name, graphs=60)
    raw.zipped_ogbg(name, monkeypatch)
    row = trained(f"dataset={name}", *words)
    assert (row["dataset"], row["metric"], row["direction"]) == (name, metric, "higher")
    (folder,) = (tmp_path / "outputs").iterdir()
    assert run_command(["evaluate", str(folder)]) == 0
    assert run_command(["predict", str(folder), "--split", "test", "--out", str(tmp_path / "said.csv")]) == 0
    said, graph = pd.read_csv(tmp_path / "said.csv"), build(name)
    assert said["graph"].tolist() == graph.test.nonzero()[:, 0].tolist()
    evaluator = Evaluator(name.replace("_", "-"))
    y = graph.y[graph.test].reshape(len(said), -1).numpy()
    given = said[["class"]] if metric == "accuracy" else said.filter(like="probability_")
    (score,) = evaluator.eval({"y_true": y, "y_pred": given.to_numpy()}).values()
    assert score == pytest.approx(float(row["test_score"]), abs=1e-6)


@pytest.mark.parametrize("damage", ["truncated", "beyond"])
def test_a_wrong_file_of_graphs_is_one_line_and_nothing_is_written(raw, tmp_path, capsys, damage):
    folder = raw.ogbg("ogbg_molhiv")
    if damage == "truncated":
        file = folder / "node-feat.csv.gz"
        file.write_bytes(file.read_bytes()[:-20])
    else:
        raw.ogbg("ogbg_molhiv", changed=lambda tables: tables["edge"].__setitem__(0, (99, 0)))
    words = ["dataset=ogbg_molhiv", "model=gin", "layers=2", f"data_dir={tmp_path}"]
    assert run_command(["train", *words, f"output_dir={tmp_path / 'outputs'}"]) == 2
    said = capsys.readouterr()
    named = "node-feat.csv.gz" if damage == "truncated" else "edge.csv.gz"
    assert named in said.err and "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_whole_graphs_want_a_readout_and_nodes_none(raw, tmp_path, capsys):
    raw.tu("PROTEINS", graphs=24)
    words = [f"data_dir={tmp_path}", f"output_dir={tmp_path / 'outputs'}"]
    for wrong, said in (
        (["dataset=tu", "readout=none"], "readout=none, but whole graphs are labelled"),
        (["dataset=cora", "readout=mean"], "cora labels nodes, which are not read out"),
        (["dataset=tu", "batch=parts"], "batch=parts cuts graphs apart"),
        (["dataset=tu", "rewire=virtual_node"], "use readout=virtual_node"),
        (["dataset=tu", "model=grand"], "model=grand asks views of nodes to agree"),
        (["dataset=tu", "readout=jumping", "model=revgcn"], "residual=reversible does not keep"),
    ):
        assert run_command(["train", *wrong, *words]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
