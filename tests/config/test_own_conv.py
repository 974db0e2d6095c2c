"""A conv of one's own by words: three spellings, one configuration, nothing left of the conv it replaces."""

import csv

import pytest

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.own_conv import with_own_conv
from deepgnn_cli.config.validate import checked

GAT = "torch_geometric.nn.GATConv"


@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "gat", "deepergcn"])
@pytest.mark.parametrize(
    "words",
    [
        [f"model.conv._target_={GAT}", "model.conv.heads=4"],
        [f"conv._target_={GAT}", "+conv.heads=4"],
        [f"conv={GAT}", "conv.heads=4"],
        [f"conv='{GAT}'", "++model.conv.heads=4", "~model.conv"],
    ],
)
def test_the_spellings_say_the_same(model, words):
    config = checked(with_own_conv([f"model={model}", *words]))
    assert config.values["model"]["conv"] == {"_target_": GAT, "_partial_": True, "heads": 4}
    assert config.choices["conv"] == "GATConv"
    assert with_own_conv(with_own_conv(words)) == with_own_conv(words)


def test_other_words_are_left_alone():
    words = ["conv=gat", "model.conv.heads=2", "output_dir=a.b.c", "dataset=pyg", "dataset.path=conv._target_=x"]
    assert with_own_conv(words) == words
    assert with_own_conv(["conv.heads=2", "+conv.x=1"]) == ["model.conv.heads=2", "+model.conv.x=1"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([f"conv={GAT}", "conv.hedas=3"], "unknown key 'model.conv.hedas'; did you mean 'model.conv.heads'?"),
        ([f"conv={GAT}", "conv.heads=abc"], "model.conv.heads must be a whole number"),
        (["conv=torch_geometric.nn.Gat"], "has no attribute 'Gat'"),
        (["conv=__main__.Own"], "define it in a module, which others can import"),
        (["conv=torch_geometric.nn.PNAConv"], "a histogram of degrees, depends on the data"),
        (["conv=torch_geometric.nn.ChebConv"], "conv=ChebConv needs K, which no default gives; set model.conv.K="),
        (["model=appnp", f"conv={GAT}"], "propagation steps without a conv; use a model made of"),
        (["conv=torch.nn.Linear"], "constructor begins with in_features"),
    ],
)
def test_what_cannot_be_a_conv_is_one_line_before_anything_is_written(words, line, tmp_path, capsys):
    assert run_command(["train", *words, f"output_dir={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_sweep_over_classes_names_them_in_its_rows(tmp_path):
    short = ["trainer.max_epochs=1", "trainer.diagnostics=false", "hidden=8", f"output_dir={tmp_path}"]
    assert run_command(["train", "-m", f"conv={GAT},torch_geometric.nn.GATv2Conv", "conv.heads=2", *short]) == 0
    (results,) = tmp_path.glob("*/results.csv")
    with results.open(newline="") as file:
        assert sorted(row["conv"] for row in csv.DictReader(file)) == ["GATConv", "GATv2Conv"]
