"""One's own graph from a file: Cora written out scores as `dataset=cora`; odd graphs work or are refused."""

import csv
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.datasets.own import as_graph, store
from deepgnn_cli.data.graph_check import checked


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
        [{"x": torch.ones(3, 1), "edge_index": torch.tensor([[0], [1]]), "y": [1]}] * 3,
        "whole graphs",
    ),
    "adj_t": ({k: v for k, v in ring().items() if k != "edge_index"} | {"adj_t": torch.eye(20).roll(1, 0)}, None),
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


def test_a_graph_in_python_is_kept_by_its_content(tmp_path):
    fields = ring()
    path = store(fields, tmp_path)
    assert store(Data(**fields), tmp_path) == path != store(fields | {"y": 1 - fields["y"]}, tmp_path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], fields["x"])
    with pytest.raises(ValueError, match="dataset is a int"):
        store(3, tmp_path)
