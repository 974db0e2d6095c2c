"""A trained model again: what `load` gives of a run's folder is what the run scored."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

from deepgnn_cli import experiment, load
from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.runs.trained import TrainedRun
from tests.data.conftest import Raw

SHORT = {"trainer.max_epochs": 3, "trainer.diagnostics": False, "optimizer.lr": 0.05, "device": "cpu"}


def trained(root: Path, **words: Any) -> tuple[Path, dict[str, Any]]:
    """A short run below `root`: its folder, and its row."""
    given = {"dataset": "cora", "layers": 3, "hidden": 8, "output_dir": root / "runs"} | words
    (row,) = experiment(SHORT, **given).to_dict("records")
    (folder,) = (root / "runs").iterdir()
    assert row["status"] == "ok"
    return folder, row


@pytest.fixture(scope="module")
def gcnii(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test writes to."""
    return trained(tmp_path_factory.mktemp("gcnii"), model="gcnii")[0]


def accuracy(run: TrainedRun) -> float:
    graph, found = run.graph, run.predict()
    assert torch.equal(found.classes, found.probabilities.argmax(1)) and found.logits.shape == (2708, 7)
    return float((found.classes[graph.test] == graph.y[graph.test]).float().mean())


def micro_f1(run: TrainedRun) -> float:
    said, true = run.predict().classes[run.graph.test], run.graph.y[run.graph.test] > 0
    return float(2 * (said & true).sum() / (said.sum() + true.sum()))


@pytest.mark.parametrize(
    "words",
    [
        {"model": "gcnii"},
        {"model": "revgcn"},
        {"model": "deepergcn"},
        {"model": "grand"},
        {"model": "jknet"},
        {"model": "gcn", "batch": "parts"},
        {"model": "gcn", "norm": "batch", "seed": 4},
    ],
    ids=lambda words: "-".join(map(str, words.values())),
)
def test_predictions_give_the_test_score_of_the_row(tmp_path: Path, words: dict[str, Any]) -> None:
    folder, row = trained(tmp_path, **words)
    run = load(folder)
    assert accuracy(run) == row["test_score"] == run.row["test_score"] == run.evaluate().test_score
    scores = run.evaluate()
    assert [scores.val_loss, scores.train_score, scores.val_score] == [
        row[name] for name in ("val_loss", "train_score", "val_score")
    ]
    assert run.config["seed"] == row["seed"] and run.row["config_hash"] == row["config_hash"]


@pytest.mark.parametrize("batch", ["graphs", "full"])
def test_so_they_do_of_several_graphs_with_several_labels_a_node(tmp_path: Path, batch: str) -> None:
    Raw(tmp_path).ppi()
    folder, row = trained(tmp_path, dataset="ppi", model="gcnii", batch=batch, data_dir=tmp_path)
    run = load(folder)
    found = run.predict()
    assert found.classes.shape == (12, 7) and torch.equal(found.classes, found.probabilities > 0.5)
    assert micro_f1(run) == row["test_score"] == run.evaluate().test_score


def test_so_they_do_in_parts_with_edge_features_and_112_tasks(tmp_path: Path) -> None:
    Raw(tmp_path).proteins(n=40, edges=300)
    words = {"dataset": "ogbn_proteins", "model": "revgen", "batch": "parts", "data_dir": tmp_path}
    (row,) = experiment(
        SHORT | {"batch.train_parts": 2, "batch.eval_parts": 2, "batch.views": 3},
        layers=2, hidden=8, output_dir=tmp_path / "runs", **words,
    ).to_dict("records")  # fmt: skip
    run = load(next((tmp_path / "runs").iterdir()))
    assert run.evaluate().test_score == row["test_score"]
    assert torch.equal(run.predict(run.graph).logits, run.predict().logits)
    with pytest.raises(ValueError, match="0 columns of edge_attr, and the model was trained on 8"):
        run.predict(replace(run.graph, edge_attr=None))


def test_loading_draws_nothing_from_the_programs_random_numbers(gcnii: Path) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    load(gcnii).predict()
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_embeddings_are_numbered_as_layers_csv_is_and_decode_to_the_logits(gcnii: Path) -> None:
    run = load(gcnii)
    last = run.embeddings(3)
    assert torch.equal(last, run.embeddings()) and torch.equal(run.embeddings(0), run.embeddings(-4))
    assert run.embeddings(0).shape == (2708, 8) and not torch.equal(run.embeddings(0), run.embeddings(1))
    decoder = run.model.decoder
    torch.testing.assert_close(last.relu() @ decoder.weight.t() + decoder.bias, run.predict().logits)
    for layer in (4, -5):
        with pytest.raises(ValueError, match=f"layer={layer}: the representations are numbered 0 to 3"):
            run.embeddings(layer)


def test_embeddings_in_parts_are_the_parts_own(tmp_path: Path) -> None:
    folder, _ = trained(tmp_path, model="gcnii", batch="parts")
    run = load(folder)
    decoder = run.model.decoder
    logits = run.embeddings().relu() @ decoder.weight.t() + decoder.bias
    torch.testing.assert_close(logits, run.predict().logits)


def test_another_graph_is_predicted_whatever_its_form_and_a_wrong_one_is_refused(gcnii: Path) -> None:
    run = load(gcnii)
    graph, wanted = run.graph, run.predict()
    data = Data(x=graph.x, edge_index=graph.edge_index)
    for form in (graph, data, data.to_dict(), {"x": graph.x.double().numpy(), "edge_index": graph.edge_index.int()}):
        assert torch.equal(run.predict(form).logits, wanted.logits)
    twice = run.predict([data, data])
    torch.testing.assert_close(twice.logits, wanted.logits.repeat(2, 1))
    assert torch.equal(run.embeddings(2, data), run.embeddings(2))
    one = run.predict(Data(x=graph.x[:1], edge_index=torch.empty(2, 0, dtype=torch.int64)))
    assert one.classes.shape == (1,)
    wrong = {
        "5 columns of x, and the model was trained on 1433": Data(
            x=torch.rand(3, 5), edge_index=graph.edge_index[:, :0]
        ),
        "edge_index holds node 2708": Data(x=graph.x, edge_index=torch.tensor([[0], [2708]])),
        "is a str; give a PyG Data": "graph.pt",
        "no edge_index": {"x": graph.x},
        "has no x, and num_nodes": {"edge_index": graph.edge_index},
    }
    for line, form in wrong.items():
        with pytest.raises(ValueError, match=line):
            run.predict(form)


def test_a_new_graph_is_rewired_as_the_one_of_the_run_and_added_nodes_are_not_told(tmp_path: Path) -> None:
    ends = torch.arange(30)
    part = {f"{name}_mask": ends % 3 == i for i, name in enumerate(("train", "val", "test"))}
    data = {"x": torch.rand(30, 4), "edge_index": torch.stack([ends, ends.roll(1)]), "y": ends % 2, **part}
    torch.save(data, tmp_path / "mine.pt")
    words = {"dataset": "pyg", "dataset.path": tmp_path / "mine.pt", "data_dir": tmp_path / "data", "model": "gcn"}
    for rewire in ("virtual_node", "expander"):
        folder, _ = trained(tmp_path / rewire, rewire=rewire, **words)
        run = load(folder)
        assert run.graph.num_edges > 30
        new = {name: data[name] for name in ("x", "edge_index")}
        torch.testing.assert_close(run.predict(new).logits, run.predict().logits[:30], rtol=0, atol=0)
        torch.testing.assert_close(run.embeddings(1, new), run.embeddings(1)[:30], rtol=0, atol=0)


def test_the_exported_module_gives_the_same_logits(gcnii: Path) -> None:
    run = load(gcnii)
    torch.testing.assert_close(run.export()(run.graph.x, run.graph.edge_index), run.predict().logits)


def damaged(folder: Path, to: Path, name: str, change: Any) -> Path:
    """A copy of a run with another `name`; None: without it."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    content = change((to / name).read_bytes())
    (to / name).unlink() if content is None else (to / name).write_bytes(content)
    return to


def torn(content: bytes) -> bytes:
    return content[:-100]


def flipped(content: bytes) -> bytes:
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


def other_width(content: bytes) -> bytes:
    return content.replace(b"hidden: 8", b"hidden: 16")


def no_trainer(content: bytes) -> bytes:
    return content[: content.index(b"trainer:")]


CASES = {
    "best.pt is not there": ("best.pt", lambda content: None),
    "no whole file of weights": ("best.pt", torn),
    "checksum": ("best.pt", flipped),
    "has no config.yaml": ("config.yaml", lambda content: None),
    "it has no result.csv": ("result.csv", lambda content: None),
    "is not the row of one run": ("result.csv", lambda content: content + content.splitlines(True)[1]),
    "result.csv is not the row": ("result.csv", lambda content: b""),
    "it has no trainer": ("config.yaml", no_trainer),
    "not a config.yaml": ("config.yaml", lambda content: b"[]"),
    "best.pt does not fit the model": ("config.yaml", other_width),
    "unknown key 'dataset.splti'": ("config.yaml", lambda content: content.replace(b"  split:", b"  splti:")),
}


@pytest.mark.parametrize("line", CASES)
def test_what_is_no_whole_run_is_refused_in_a_line(gcnii: Path, tmp_path: Path, line: str) -> None:
    folder = damaged(gcnii, tmp_path / "run", *CASES[line])
    with pytest.raises(ValueError, match=line) as refusal:
        load(folder)
    assert str(folder) in str(refusal.value)


def test_a_folder_of_runs_and_none_are_refused(gcnii: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"name a run below it, such as {gcnii}"):
        load(gcnii.parent)
    with pytest.raises(ValueError, match="is no finished run's folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("field", ["x", "edge_index", "y", "test_mask"])
def test_data_that_has_changed_is_refused(tmp_path: Path, field: str) -> None:
    ends = torch.arange(30)
    part = {f"{name}_mask": ends % 3 == i for i, name in enumerate(("train", "val", "test"))}
    data = {"x": torch.rand(30, 4), "edge_index": torch.stack([ends, ends.roll(1)]), "y": ends % 2, **part}
    torch.save(data, tmp_path / "mine.pt")
    (row,) = experiment(
        SHORT | {"dataset.path": tmp_path / "mine.pt"},
        dataset="pyg",
        model="gcn",
        layers=2,
        output_dir=tmp_path / "runs",
    ).to_dict("records")  # fmt: skip
    folder = next((tmp_path / "runs").iterdir())
    assert load(folder).evaluate().test_score == row["test_score"]
    changed = data[field].clone()
    changed[..., 2] = ~changed[2] if field == "test_mask" else changed[..., 3]
    torch.save(data | {field: changed}, tmp_path / "mine.pt")
    with pytest.raises(ValueError, match="its data has changed since it was trained"):
        load(folder)
    (tmp_path / "mine.pt").unlink()
    with pytest.raises(ValueError, match="there is no such file"):
        load(folder)


def test_a_sweep_that_did_not_repeat_a_run_has_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["dataset=csbm", "dataset.num_nodes=60", "model=gcn", "hidden=8", "layers=2", "trainer.max_epochs=2"]
    assert run_command(["train", *words]) == 0
    assert run_command(["train", "-m", *words]) == 0
    (adopted,) = (tmp_path / "outputs").glob("*/0")
    assert not (adopted / "best.pt").exists()
    run = load(adopted)
    assert run.evaluate().test_score == run.row["test_score"]


def test_a_graphs_digest_is_of_every_tensor_and_of_nothing_else(gcnii: Path) -> None:
    graph = load(gcnii).graph
    digests = {graph.digest}
    for name in ("x", "edge_index", "y", "train", "val", "test"):
        value = getattr(graph, name)
        digests.add(replace(graph, **{name: value.roll(1, -1)}).digest)
    digests.add(replace(graph, edge_weight=torch.ones(graph.num_edges)).digest)
    assert len(digests) == 8
    assert replace(graph, name="other", split="other").digest == graph.digest == graph.to(torch.device("cpu")).digest
    assert isinstance(graph, Graph) and pd.notna(load(gcnii).row["data_hash"])
