"""Tables: Cora written out scores as `dataset=cora`; what is wrong is said with file, line and column."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
import torch

from deepgnn_cli.cli.main import run_command


def train(out, *words):
    status = run_command(["train", *words, "trainer.max_epochs=3", "hidden=8", f"output_dir={out}"])
    rows = [next(csv.DictReader(file.read_text().splitlines())) for file in out.glob("*/result.csv")]
    return status, rows


def tables(graph, undirected):
    names = np.array([f"paper {17 * i % 10007}" for i in range(graph.num_nodes)])
    part = np.full(graph.num_nodes, "", dtype=object)
    for name in ("train", "val", "test"):
        part[getattr(graph, name).numpy()] = name
    ends = graph.edge_index if not undirected else graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    nodes = pd.DataFrame(graph.x.numpy(), columns=[f"word{i}" for i in range(graph.num_features)])
    # Not a row order of its own: ids are what counts.
    nodes = pd.concat([pd.DataFrame({"id": names, "label": graph.y.numpy(), "split": part}), nodes], axis=1)
    return nodes, pd.DataFrame({"source": names[ends[0]], "target": names[ends[1]]})


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_cora_as_tables_scores_as_cora(build, tmp_path, form):
    cora = build("cora")
    folder = tmp_path / "mine"
    folder.mkdir()
    words = ["dataset=table", f"dataset.path={folder}"]
    if form == "npz":
        masks = {f"{name}_masks": getattr(cora, name).numpy()[None].repeat(2, 0) for name in ("train", "val", "test")}
        arrays = {"node_features": cora.x, "node_labels": cora.y, "edges": cora.edge_index.t()}
        np.savez(folder / "g.npz", **{name: array.numpy() for name, array in arrays.items()}, **masks)
        words = ["dataset=table", f"dataset.path={folder / 'g.npz'}", "dataset.split_index=1"]
    else:
        nodes, edges = tables(cora, undirected=form == "csv")
        if form == "csv":
            nodes.to_csv(folder / "nodes.csv", index=False)
            edges.to_csv(folder / "edges.csv", index=False)
            words.append("dataset.undirected=true")
        else:
            nodes.to_parquet(folder / "nodes.parquet")
            edges.to_parquet(folder / "edges.parquet")
    _, (own,) = train(tmp_path / "a", *words, "seed=1")
    _, (ours,) = train(tmp_path / "b", "dataset=cora", "seed=1")
    assert own["status"] == "ok" and own["split"] == "own"
    assert [own[f"{part}_score"] for part in ("train", "val", "test")] == [
        ours[f"{part}_score"] for part in ("train", "val", "test")
    ]


NODES = "id,label,split,a,b\n" + "".join(
    f"n{i},{'xy'[i % 2]},{['train', 'val', 'test'][i % 3]},{i},0.5\n" for i in range(12)
)
EDGES = "source,target,w\n" + "".join(f"n{i},n{(i + 1) % 12},{i + 1}\n" for i in range(12))


@pytest.fixture
def folder(tmp_path):
    def written(nodes=NODES, edges=EDGES):
        place = tmp_path / "mine"
        place.mkdir(exist_ok=True)
        for name, text in (("nodes", nodes), ("edges", edges)):
            if text is not None:
                (place / f"{name}.csv").write_text(text)
        return place

    return written


def test_columns_have_any_names_weights_are_weights_and_other_columns_edge_features(folder, tmp_path):
    place = folder(NODES.replace("id,label", "who,kind"), EDGES.replace("source,target,w", "von,nach,w"))
    words = ["dataset=table", f"dataset.path={place}", "dataset.id=who", "dataset.label=kind", "dataset.source=von"]
    status, (row,) = train(tmp_path / "o", *words, "dataset.target=nach", "dataset.weight=w", "seed=0")
    assert status == 0 and row["status"] == "ok" and row["split"] == "own"


def test_a_table_becomes_the_graph_it_says(build, folder):
    graph = build("table", path=str(folder()), weight="w", undirected=True)
    assert graph.num_nodes == 12 and graph.num_classes == 2 and graph.edge_index.shape == (2, 24)
    assert graph.y.tolist() == [0, 1] * 6 and graph.x[:, 0].tolist() == list(range(12))
    assert torch.equal(graph.edge_weight, torch.arange(1.0, 13).repeat(2))
    assert graph.edge_index[:, 12:].tolist() == graph.edge_index[:, :12].flip(0).tolist()
    features = build("table", path=str(folder()))
    assert features.edge_attr[:, 0].tolist() == list(range(1, 13)) and features.edge_weight is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"edges": EDGES + "n0,n77,1\n"}, r"edges.csv, line 14, column target: 'n77' is no id of nodes.csv"),
        ({"nodes": NODES.replace("n3,", "n2,")}, r"nodes.csv, line 5, column id: 'n2' stands there twice"),
        ({"nodes": NODES.replace(",4,0.5", ",four,0.5")}, r"nodes.csv, line 6, column a: 'four' is no finite number"),
        ({"nodes": NODES.replace("train,0", "traim,0")}, r"line 2, column split: 'traim' is none of train, val, test"),
        ({"nodes": NODES.replace("label", "lable")}, r"has no column 'label' \(dataset.label\); it has: id, lable"),
        ({"edges": None}, r"neither edges.csv nor edges.parquet"),
        ({"edges": "source,target\nn0,n1,n2\n"}, r"edges.csv, line 2: the row has more fields than the header"),
        ({"edges": ""}, r"edges.csv cannot be read as a table"),
        ({"edges": EDGES.replace("w\n", "w\n", 1) + "n0,n1,nan\n"}, r"line 14, column w: 'nan' is no finite number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(folder, tmp_path, capsys, changes, line):
    place = folder(**changes)
    status, rows = train(tmp_path / "o", "dataset=table", f"dataset.path={place}")
    said = capsys.readouterr().err
    assert status == 2 and re.search(line, said) and said.count("\n") == 1, said
    assert not rows and not (tmp_path / "o").exists()


def test_a_column_weight_is_the_weight_and_truths_are_numbers(build, folder):
    place = folder(NODES.replace(",0.5\n", ",True\n"), EDGES.replace("source,target,w", "source, target, weight"))
    graph = build("table", path=str(place))
    assert graph.edge_weight.tolist() == list(range(1, 13)) and graph.edge_attr is None
    assert graph.x[:, 1].tolist() == [1.0] * 12
    assert build("table", path=str(place), weight=None).edge_attr.shape == (12, 1)


@pytest.mark.parametrize(("key", "column"), [("weight", "strength"), ("split_column", "part")])
def test_a_column_that_is_named_must_be_there(folder, tmp_path, capsys, key, column):
    status, _ = train(tmp_path / "o", "dataset=table", f"dataset.path={folder()}", f"dataset.{key}={column}")
    assert status == 2 and f"has no column '{column}' (dataset.{key})" in capsys.readouterr().err


def test_cells_of_parquet_that_are_no_numbers_are_said_with_their_place(folder, tmp_path, capsys):
    place = folder(nodes=None)
    nodes = pd.DataFrame({"id": [f"n{i}" for i in range(12)], "label": [0, 1] * 6, "a": [[1.0, 2.0]] * 12})
    nodes.to_parquet(place / "nodes.parquet")
    status, _ = train(tmp_path / "o", "dataset=table", f"dataset.path={place}")
    assert status == 2 and "nodes.parquet, line 2, column a: '[1. 2.]' is no finite" in capsys.readouterr().err
