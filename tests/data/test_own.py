"""One's own graph from a file: Cora written out scores as `dataset=cora`; odd graphs work or are refused."""

import csv
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.datasets.own import as_graph
from deepgnn_cli.data.graph_check import checked
from deepgnn_cli.data.graph_file import read_graph
from deepgnn_cli.data.live_graph import store
from deepgnn_cli.data.objects import from_object
from deepgnn_cli.data.splits import Split
from deepgnn_cli.runs.trained import load


def train(tmp_path, *words):
    out = tmp_path / "out"
    status = run_command(["train", *words, "trainer.max_epochs=3", "hidden=8", f"output_dir={out}"])
    rows = [next(csv.DictReader(file.read_text().splitlines())) for file in out.glob("*/result.csv")]
    return status, rows


@pytest.mark.parametrize("form", ["data", "dict"])
def test_cora_as_a_file_scores_as_cora(build, tmp_path, form):
    cora = build("cora")
    masks = {f"{name}_mask": getattr(cora, name) for name in ("train", "val", "test")}
    data = Data(x=cora.x, edge_index=cora.edge_index, y=3 * cora.y + 5, **masks)  # ids of classes with gaps
    torch.save(data if form == "data" else data.to_dict(), tmp_path / "mine.pt")
    _, (own,) = train(tmp_path / "a", "dataset=pyg", f"dataset.path={tmp_path / 'mine.pt'}", "seed=1")
    _, (ours,) = train(tmp_path / "b", "dataset=cora", "seed=1")
    assert own["status"] == "ok" and own["split"] == "own"
    assert [own[f"{part}_score"] for part in ("train", "val", "test")] == [
        ours[f"{part}_score"] for part in ("train", "val", "test")
    ]


def ring(n=20, **fields):
    ends = torch.arange(n)
    both = torch.stack([torch.cat([ends, (ends + 1) % n]), torch.cat([(ends + 1) % n, ends])])
    part = [0] * (n // 2) + [1] * (n // 4) + [2] * (n - n // 2 - n // 4)
    masks = {f"{name}_mask": torch.tensor(part) == i for i, name in enumerate(("train", "val", "test"))}
    return {"x": torch.randn(n, 3), "edge_index": both, "y": ends % 2, **masks} | fields


MASKLESS = {f"{name}_mask": None for name in ("train", "val", "test")}
ODD = {
    "isolated nodes": (ring(edge_index=torch.tensor([[0], [1]])), None),
    "no edge": (ring(edge_index=torch.empty(2, 0, dtype=torch.int64)), None),
    "self-loops": (ring(edge_index=torch.arange(20).expand(2, 20)), None),
    "duplicates": (ring(edge_index=torch.tensor([[0, 0, 0], [1, 1, 1]])), None),
    "directed": (ring(edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]])), None),
    "no masks": (ring(**MASKLESS), None),
    "no features": (ring(x=None), None),
    "weighted": (ring(edge_weight=torch.rand(40)), None),
    "class absent from train": (ring(y=(torch.arange(20) >= 10).long()), None),
    "one node": (
        {"x": torch.ones(1, 2), "edge_index": torch.empty(2, 0), "y": torch.tensor([0])},
        "leaves 1/0/0 of 1 labelled nodes",
    ),
    "id out of range": (ring(edge_index=torch.tensor([[0], [20]])), "edge_index holds node 20"),
    "nan features": (ring(x=torch.full((20, 3), torch.nan)), "x holds nan"),
    "empty split": (ring(val_mask=torch.zeros(20, dtype=torch.bool)), "val is empty"),
    "no labels": ({"x": torch.ones(3, 1), "edge_index": torch.tensor([[0], [1]])}, "has no y"),
    "a list of numbers": ([1, 2], "give one PyG Data"),
    "labels of whole graphs": (
        [{"x": torch.ones(3, 1), "edge_index": torch.tensor([[0], [1]]), "y": [1]}] * 9,
        "readout=none, but whole graphs are labelled",
    ),
    "a label of the whole graph alone": (
        {"x": torch.ones(3, 1), "edge_index": torch.tensor([[0], [1]]), "y": [1]},
        "in a list of them",
    ),
    "numbers": (ring(y=torch.randn(20)), None),
    "adj_t": ({k: v for k, v in ring().items() if k != "edge_index"} | {"adj_t": torch.eye(20).roll(1, 0)}, None),
    "masks [k, N]": (ring(train_mask=torch.zeros(2, 20, dtype=torch.bool)), "it must be [N, splits]=[20]; try its"),
    "a label without a dimension": (
        [{"x": torch.ones(3, 1), "edge_index": torch.tensor([[0], [1]]), "y": torch.tensor(1)}] * 3,
        "leaves 2/1/0 of 3 labelled",
    ),
    "names of classes": (ring(y=["cat", "dog"] * 10), None),
    "numpy arrays": (ring(x=np.ones((20, 2))), "save a dict of tensors instead"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_graph_works_or_is_refused_in_one_line(tmp_path, capsys, odd):
    stored, line = ODD[odd]
    torch.save(stored, tmp_path / "odd.pt")
    status, rows = train(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / 'odd.pt'}", "model=gcn")
    said = capsys.readouterr().err
    if line is None:
        assert status == 0 and rows[0]["status"] == "ok", said
    else:
        assert status == 2 and line in said and len(said.strip().splitlines()) == 1, said
        assert not (tmp_path / "out").exists()


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/owned'\ntR.".encode())
    status, _ = train(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / 'bad.pt'}")
    assert status == 2 and "data.to_dict()" in capsys.readouterr().err and not (tmp_path / "owned").exists()


def test_a_file_that_is_taken_for_a_data_set_is_told_where_it_goes(tmp_path, capsys):
    status, rows = train(tmp_path, "dataset=mygraph.pt")
    assert status == 2 and "your own graph is dataset=pyg dataset.path=mygraph.pt" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"source,target\n0,1\n", b"PK\x03\x04 torn", b"\x80\x02}q\x00."])
def test_what_torch_did_not_write_is_one_line(tmp_path, capsys, content):
    (tmp_path / "edges.csv").write_bytes(content)
    status, rows = train(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / 'edges.csv'}")
    said = capsys.readouterr().err
    assert status == 2 and "no whole file of torch.save" in said and "dataset=table" in said and not rows
    assert said.count("\n") == 1


PARTS = {"train": torch.arange(8), "val": torch.arange(8, 14), "test": torch.arange(14, 20)}
SPLITS = {
    "node numbers": {f"{name}_idx": nodes for name, nodes in PARTS.items()},
    "node numbers as masks": {f"{name}_mask": nodes for name, nodes in PARTS.items()},
    "split_idx of OGB": {"split_idx": {"train": PARTS["train"], "valid": PARTS["val"], "test": PARTS["test"]}},
    "valid": {"train_index": PARTS["train"], "valid_index": PARTS["val"], "test_index": PARTS["test"]},
    "0 and 1": {f"{name}_mask": torch.isin(torch.arange(20), nodes).long() for name, nodes in PARTS.items()},
}


@pytest.mark.parametrize("form", SPLITS)
def test_a_split_is_taken_however_it_is_written(form):
    graph = checked(as_graph(ring(**MASKLESS) | SPLITS[form], name="mine", seed=0))
    assert graph.split == "own"
    assert all(torch.equal(getattr(graph, name).nonzero()[:, 0], nodes) for name, nodes in PARTS.items())


def test_node_numbers_in_several_graphs_are_of_each():
    each = ring(**MASKLESS) | SPLITS["node numbers"]
    graph = checked(as_graph([each, each], name="mine", seed=0))
    assert graph.val.nonzero()[:, 0].tolist() == [*range(8, 14), *range(28, 34)]


def test_what_a_data_set_of_pygs_keeps_is_read(tmp_path):
    graphs = [Data(**ring(n)) for n in (8, 12)]
    data, slices = InMemoryDataset.collate(graphs)
    torch.save((data.to_dict(), slices, Data), tmp_path / "data.pt")
    found = read_graph(tmp_path / "data.pt", "it")
    assert [one.num_nodes for one in found] == [8, 12]
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found, graphs, strict=True) for key in a.to_dict())
    torch.save((graphs[0].to_dict(), None, Data), tmp_path / "data.pt")
    assert torch.equal(read_graph(tmp_path / "data.pt", "it").x, graphs[0].x)


@pytest.mark.parametrize(("model", "reads"), [("gcn", True), ("gat", False)])
def test_weights_that_are_not_read_are_said(tmp_path, capsys, model, reads):
    torch.save(ring(edge_weight=torch.rand(40)), tmp_path / f"{model}_weights.pt")
    status, _ = train(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / f'{model}_weights.pt'}", f"model={model}")
    assert status == 0 and ("edge_weight is not used" in capsys.readouterr().err) != reads


def test_a_function_may_return_data():
    graph = checked(as_graph(Data(**ring()), name="mine", seed=0))
    assert (graph.name, graph.num_classes, graph.num_nodes) == ("mine", 2, 20)


def test_the_documented_graph_trains(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})
    words = next(line for line in text.splitlines() if line.startswith("    deepgnn train")).split()[2:]
    status, (row,) = train(tmp_path, *words)
    assert status == 0 and row["status"] == "ok" and row["split"] == "random-0"


def test_several_graphs_are_one_union_with_classes_of_all_and_whole_graphs_dealt_out():
    graphs = [
        {"x": torch.randn(n, 2), "edge_index": torch.tensor([[0, 1], [1, 0]]), "y": torch.full((n,), 10 * k)}
        for k, n in enumerate((3, 4, 5, 2, 6))
    ]
    graph = checked(as_graph(graphs, name="mine", seed=0))
    assert (
        graph.num_nodes == 20
        and graph.num_classes == 5
        and graph.part_of.tolist() == sum(([k] * len(g["y"]) for k, g in enumerate(graphs)), [])
    )
    assert torch.equal(graph.y, graph.part_of)  # one class a graph here: numbered over all of them
    start = [0, 3, 7, 12, 14]
    assert graph.edge_index[:, ::2].tolist() == [start, [first + 1 for first in start]]
    for mask in (graph.train, graph.val, graph.test):
        assert all(mask[graph.part_of == k].float().mean() in (0, 1) for k in range(5)) and mask.any()


def test_graphs_that_do_not_fit_together_are_refused():
    one = {"x": torch.randn(3, 2), "edge_index": torch.tensor([[0], [1]]), "y": torch.zeros(3)}
    with pytest.raises(ValueError, match="x is of different widths"):
        as_graph([one, one | {"x": torch.randn(3, 4)}], name="mine", seed=0)
    with pytest.raises(ValueError, match="some of the 2 graphs have train_mask"):
        as_graph([one, one | {"train_mask": torch.ones(3, dtype=torch.bool)}], name="mine", seed=0)


def test_weights_of_adj_t_are_edge_weights():
    adjacency = torch.zeros(20, 20)
    adjacency[3, 4] = 0.5  # to node 3 from node 4
    fields = {key: value for key, value in ring().items() if key != "edge_index"} | {"adj_t": adjacency}
    graph = checked(as_graph(fields, name="mine", seed=0))
    assert graph.edge_index.tolist() == [[4], [3]] and graph.edge_weight.tolist() == [0.5]


def test_a_data_set_class_of_pyg_is_called_with_its_arguments(tmp_path, monkeypatch):
    words = [
        "dataset=pyg",
        "dataset.target=FakeDataset",
        "dataset.arguments={num_graphs:1,avg_num_nodes:60,num_channels:4,num_classes:3,task:node}",
    ]
    status, (row,) = train(tmp_path, *words, f"data_dir={tmp_path / 'data'}")
    assert status == 0 and row["status"] == "ok"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dataset.target=NoSuchSet"], "dataset.target=NoSuchSet cannot be imported"),
        (["dataset.target=Planetoid", "dataset.arguments={nope:1}"], "nope"),
        (["dataset.target=FakeDataset", "dataset.path=/dev/null"], "give one of them"),
        ([], "dataset.path is missing"),
    ],
)
def test_a_wrong_source_is_one_line(tmp_path, capsys, words, line):
    status, rows = train(tmp_path, "dataset=pyg", *words, f"data_dir={tmp_path / 'data'}")
    said = capsys.readouterr().err
    assert status == 2 and line in said and said.count("\n") == 1 and not rows


def test_a_graph_of_networkx_has_its_names_and_weights(tmp_path):
    graph = networkx.Graph()
    for number, name in enumerate("abcdef"):
        graph.add_node(name, features=[float(number), 1.0], label=["cat", "dog"][number % 2])
    graph.add_edge("a", "c", weight=0.5)
    found = checked(as_graph(read_graph(store(graph, tmp_path), "it"), name="mine", seed=0))
    assert found.node_names == tuple("abcdef") and found.class_names == ("cat", "dog")
    assert found.y.tolist() == [0, 1, 0, 1, 0, 1] and found.x[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert sorted(found.edge_index.t().tolist()) == [[0, 2], [2, 0]] and found.edge_weight.tolist() == [0.5, 0.5]


def test_a_graph_of_dgl_is_read_by_its_names_of_fields(tmp_path):
    class Dgl:  # what is read of a `dgl.DGLGraph`
        ndata = {"feat": torch.rand(3, 2), "label": torch.tensor([0, 1, 0]), "train_mask": torch.ones(3).bool()}
        edata = {"w": torch.tensor([0.5, 2.0])}

        def edges(self):
            return torch.tensor([0, 1]), torch.tensor([1, 2])

    found = read_graph(store(Dgl(), tmp_path), "it")
    assert torch.equal(found["x"], Dgl.ndata["feat"]) and found["y"].tolist() == [0, 1, 0]
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]] and found["edge_weight"].tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="dataset has no y; its fields are: edge_index, x"):
        store({"edge_index": torch.empty(2, 0), "x": torch.ones(2, 1)}, tmp_path)


def test_a_graph_in_python_is_kept_by_its_content(tmp_path):
    fields = ring()
    path = store(fields, tmp_path)
    assert store(Data(**fields), tmp_path) == path != store(fields | {"y": 1 - fields["y"]}, tmp_path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], fields["x"])
    with pytest.raises(ValueError, match="dataset is a int"):
        store(3, tmp_path)


def labelled_graphs(count=20, y=lambda number: torch.tensor([number % 2]), **fields):
    """Rings of 2 to 6 nodes, each with a label of its own."""
    made = []
    for number in range(count):
        n = 2 + number % 5
        ends = torch.arange(n)
        once = torch.stack([ends, (ends + 1) % n])
        made.append({"x": torch.randn(n, 3), "edge_index": torch.cat([once, once.flip(0)], 1), "y": y(number)} | fields)
    return made


@pytest.mark.parametrize(
    "y, words, metric",
    [
        (lambda number: torch.tensor([number % 3]), [], "accuracy"),
        (lambda number: torch.tensor([[0.5 * number, float("nan")], [1.0, 2.0]])[:1], [], "mae"),
        (lambda number: torch.tensor(float(number)), ["dataset.metric=mse"], "mse"),
        (lambda number: torch.tensor([[1.0, number % 2, 1.0 if number else float("nan")]]), [], "micro_f1"),
        (lambda number: torch.tensor([[float(number % 2)]]), ["dataset.metric=average_precision"], "average_precision"),
    ],
)
def test_a_list_of_labelled_graphs_trains_and_predicts(tmp_path, y, words, metric):
    torch.save(labelled_graphs(y=y), tmp_path / "many.pt")
    words = [*words, "batch=small_graphs", "batch.graphs_per_batch=4", "readout=sum", "model=gin"]
    status, rows = train(tmp_path, "dataset=pyg", f"dataset.path={tmp_path / 'many.pt'}", *words)
    assert status == 0 and rows[0]["metric"] == metric
    assert rows[0]["direction"] == ("lower" if metric in ("mae", "mse") else "higher")
    (folder,) = (tmp_path / "out").iterdir()
    run = load(folder)
    said = run.predict()
    assert said.logits.size(0) == 20
    assert run.evaluate().test_score == pytest.approx(float(rows[0]["test_score"]), nan_ok=True)
    new = [Data(x=graph["x"], edge_index=graph["edge_index"]) for graph in labelled_graphs(7)]
    together = run.predict(new).logits
    assert together.shape == (7, said.logits.size(1))
    torch.testing.assert_close(run.predict(new[3]).logits[0], together[3])


def test_masks_of_labelled_graphs_are_of_graphs():
    graphs = labelled_graphs(6)
    for number, graph in enumerate(graphs):
        graph |= {
            f"{name}_mask": torch.tensor(number % 3 == part) for part, name in enumerate(("train", "val", "test"))
        }
    graph = checked(
        from_object(graphs, name="many", split=Split("public", 0, 0.6, 0.2, per_class=False), features="degree")
    )
    assert graph.level == "graph" and graph.split == "own"
    assert graph.test.tolist() == [False, False, True] * 2 and graph.num_nodes == sum(len(g["x"]) for g in graphs)


def made_of(graphs, **knobs):
    split = Split("public", 0, 0.6, 0.2, per_class=False)
    return from_object(graphs, **{"name": "many", "split": split, "features": "degree"} | knobs)


@pytest.mark.parametrize(
    ("number", "fields", "said"),
    [
        (7, {"x": torch.empty(0, 3), "edge_index": torch.empty(2, 0).long()}, "graph 7 of the list has no node"),
        (19, {"x": torch.empty(0, 3), "edge_index": torch.empty(2, 0).long()}, "graph 19 of the list has no node"),
        (4, {"y": torch.zeros(6)}, "y of graph 0 of the list has 1 rows, and the graph 2 nodes; .* or every graph"),
        (2, {"train_mask": torch.ones(4).bool()}, "train_mask has 4 entries .* graphs are labelled, and not nodes"),
    ],
)
def test_a_graph_that_does_not_fit_is_named(number, fields, said):
    graphs = labelled_graphs(20)
    graphs[number] |= fields
    with pytest.raises(ValueError, match=said):
        made_of(graphs)


def test_a_split_of_graphs_that_cannot_be_drawn_counts_graphs():
    with pytest.raises(ValueError, match="of 2 labelled graphs to train/validate/test"):
        made_of(labelled_graphs(2))
    ring = {"x": torch.randn(3, 2), "edge_index": torch.tensor([[0], [1]]), "y": torch.zeros(3)}
    with pytest.raises(ValueError, match="of 2 labelled graphs to train/validate/test"):
        made_of([ring, ring])
    with pytest.raises(ValueError, match="of 3 labelled nodes to train/validate/test"):
        made_of(ring | {"x": torch.randn(3, 2)}, split=Split("public", 0, 0.9, 0.05, per_class=False))


def test_a_task_that_no_graph_is_labelled_of_is_no_class():
    graphs = labelled_graphs(20, y=lambda number: torch.tensor([[float(number % 2), float("nan")]]))
    graph = made_of(graphs)
    assert graph.metric == "micro_f1" and checked(graph).y.shape == (20, 2)
    hot = labelled_graphs(20, y=lambda number: torch.tensor([[float("nan")] * 2 if number == 3 else [1.0, 0.0]]))
    assert made_of(hot).metric == "accuracy"
