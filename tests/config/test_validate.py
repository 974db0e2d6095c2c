"""Wrong input: one line with the value, the rule and the remedy, exit status 2, and nothing written."""

from pathlib import Path

import pytest

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.explain import did_you_mean
from deepgnn_cli.config.groups import options
from deepgnn_cli.config.validate import checked

WRONG = [
    ("modle=gcnii", "did you mean 'model'"),
    ("layers=0", "at least 1"),
    ("layers=-3", "at least 1"),
    ("layers=abc", "whole number"),
    ("layers=2.5", "whole number"),
    ("layers=null", "whole number"),
    ("+layer=64", "did you mean 'layers'"),
    ("layer=64", "did you mean 'layers'"),
    ("dataset=nope", "there is no such dataset"),
    ("model=gcnni", "did you mean 'gcnii'"),
    ("optimizer.lr=nan", "above 0"),
    ("optimizer.lr=inf", "above 0"),
    ("optimizer.lr=0", "above 0"),
    ("optimizer.lr=fast", "above 0"),
    ("lr=0.1", "did you mean 'optimizer.lr'"),
    ("+optimizer.nesterov=true", "unknown key 'optimizer.nesterov'"),
    ("trainer.patience=0", "at least 1"),
    ("trainer.patiance=5", "did you mean 'trainer.patience'"),
    ("+drop.feature=0.5", "unknown key 'drop.feature'"),
    ("drop.dropout=1", "below 1"),
    ("hidden=-1", "at least 1"),
    ("seed=-1", "at least 0"),
    ("device=gpu", "auto, cpu, cuda"),
    ("device=cuda:99", "CUDA device"),
    ("trainer.select=accuracy", "val_loss, val_score"),
    ("dataset.split=publik", "public"),
    ("dataset.split_index=12", "split_index"),
    ("model=revgcn hidden=65", "hidden=64"),
    ("model=appnp norm=pair", "norm=none"),
    ("model.conv._target_=nowhere.conv", "cannot be imported"),
    ("layers", "neither key=value nor a flag"),
    ("--layers=3", "neither key=value nor a flag"),
    ("layers=[1", "cannot be read"),
    ("model=revgcn residual.exact=maybe", "residual.exact=maybe: residual.exact must be true or false"),
    ("model=revgcn residual.store_activations=3", "residual.store_activations must be true or false"),
    ("model=gcn model.conv.bias=abc", "model.conv.bias must be true or false"),
    ("model=gcn norm=pair norm.scale=0", "norm.scale must be a number above 0"),
    ("model=gcn norm=group norm.groups=0", "norm.groups must be a whole number of at least 1"),
    ("model=gcn norm=group norm.lamda=abc", "norm.lamda must be a number"),
    ("model=deepergcn model.conv.t=abc", "model.conv.t must be a number"),
    ("model=gin model.conv.mlp_layers=1.5", "model.conv.mlp_layers must be a whole number"),
    ("epochs=10", "did you mean 'trainer.max_epochs'"),
    ("max_epochs=10", "did you mean 'trainer.max_epochs'"),
    ("dropout=.5", "did you mean 'drop.dropout'"),
    ("hidden_channels=64", "did you mean 'hidden'"),
    ("layers=2,4", "add -m"),
    ("layers=range(3)", "add -m"),
    ("layers=1000000000", "the weights, their gradients"),
    ("hidden=100000000000000000000", "GiB are there"),
    ("dataset=csbm dataset.num_nodes=10000000000", "choose a smaller one"),
    ("model.encoder=foo", "model.encoder must be one of linear, conv"),
    ("model.decoder=5", "model.decoder must be one of linear, conv"),
    ("model.encoder_act=foo", "model.encoder_act must be one of relu"),
    ("model=jknet residual.mode=foo", "residual.mode must be one of cat, max, lstm"),
    ("model=appnp model.alpha=5", "model.alpha must be a number of at least 0 and at most 1"),
    ("model=gprgnn model.alpha=-3", "model.alpha must be a number of at least 0"),
    ("model=gcn conv=tag model.conv.hops=-1", "model.conv.hops must be a whole number of at least 1"),
    ("norm=node norm.power=0", "norm.power must be a number above 0"),
    ("model=jknet residual.mode=sum", "residual.mode must be one of"),
    ("model=grand model.views=0", "model.views must be a whole number of at least 1"),
    ("model=grand model.drop_node=1.0", "model.drop_node must be a number of at least 0 and below 1"),
    ("model=grand model.temperature=0", "model.temperature must be a number above 0"),
    ("trainer.warmup_epochs=1000000", "trainer.warmup_epochs must be a whole number of at least 0 and at most 100000"),
    ("norm=group norm.lamda=-1", "norm.lamda must be a number of at least 0"),
    ("model=gat model.conv.heads=2000", "model.conv.heads must be a whole number of at least 1 and at most 1024"),
    ("optimizer.betas=5", "optimizer.betas must be a list"),
    ("optimizer.betas=[0.9]", "2 of them"),
    ("optimizer.betas=[a,b]", "optimizer.betas must be a list"),
    ("optimizer=rmsprop optimizer.rho=5", "optimizer.rho must be a number of at least 0 and below 1"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_words_get_one_line_exit_2_and_leave_nothing(
    words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["train", *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("deepgnn: ") and said.err.count("\n") == 1 and hint in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["trian", "compar", "layers=3"])
def test_an_unknown_command_is_answered_with_a_near_one(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([word]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    "group", ["model", "dataset", "norm", "residual", "conv", "depth", "drop", "optimizer", "trainer"]
)
def test_every_option_of_a_group_has_a_line_and_makes_a_valid_configuration(group: str, tmp_path: Path) -> None:
    for name in ("nodes.csv", "edges.csv"):
        (tmp_path / name).touch()
    for name, line in options(group).items():
        assert line, f"{group}/{name}.yaml has no first comment line"
        words = [f"{group}={name}"]
        if group in ("conv",) and name == "none":
            words.append("model=appnp")
        own = {"pyg": __file__, "table": tmp_path}  # what only the user can give
        if group == "dataset" and name in own:
            words.append(f"dataset.path='{own[name]}'")
        checked(words)


def test_every_experiment_is_valid_and_a_reported_score_is_a_fraction_with_its_source() -> None:
    for name in options("experiment"):
        config = checked([f"experiment={name}"])
        values, chosen = config.values, config.choices
        assert chosen["experiment"] == name
        if values["reported"] is not None:
            assert 0 < values["reported"]["value"] < 1 and values["reported"]["source"]


TUNED = (
    *("minesweeper", "roman_empire", "amazon_ratings", "questions", "squirrel", "chameleon", "photo", "computers"),
    *("cs", "physics", "wikics", "cora", "citeseer", "pubmed"),
)


def test_each_tuned_recipe_is_there_selects_over_all_epochs_and_drops_nothing_of_the_input() -> None:
    wanted = [f"tuned_{conv}_{data}" for conv in ("gcn", "sage", "gat") for data in TUNED]
    assert sorted(wanted) == [name for name in options("experiment") if name.startswith("tuned_")]
    for name in wanted:
        values, chosen = (config := checked([f"experiment={name}"])).values, config.choices
        trainer, conv = values["trainer"], values["model"]["conv"]
        assert (trainer["patience"], trainer["select"], values["drop"]["input"]) == (None, "val_score", 0.0), name
        assert (values["model"]["decoder"], values["model"]["act"]) == ("linear", "relu"), name
        assert chosen["conv"] == "gcn_biased" or conv.get("self_loops") or conv["heads"] == 1, name
        assert values["reported"] and "arXiv:2406.08993" in values["reported"]["source"], name
        ends = "linear" if "roman" in name or "questions" in name else "conv"
        assert values["model"]["encoder"] == ends, name


def test_layers_is_the_one_truth_about_depth() -> None:
    def layers(*words: str) -> int:
        return int(checked(words).values["layers"])

    assert layers() == 2
    assert layers("experiment=gcnii_cora") == 64
    assert layers("experiment=gcnii_cora", "depth=l8") == 8
    assert layers("experiment=gcnii_cora", "depth=l8", "layers=3") == 3
    assert layers("layers=3", "depth=l8", "experiment=gcnii_cora") == 3


def test_what_the_command_line_names_beats_the_model_and_the_experiment() -> None:
    chosen = checked(["experiment=gcnii_cora", "residual=none", "norm=pair", "drop=none"]).choices
    assert (chosen["residual"], chosen["norm"]) == ("none", "pair")
    values = checked(["model=gcnii", "conv=gcn"]).values
    assert values["model"]["conv"] == {"_target_": "deepgnn_cli.nn.convs.gcn", "_partial_": True, "bias": False}
    values = checked(["model=gcnii", "drop=none"]).values
    assert set(values["drop"].values()) == {0.0}
    assert values["optimizer"]["conv_weight_decay"] == 0.01


def test_a_forgotten_prefix_is_guessed() -> None:
    assert "optimizer.lr" in did_you_mean("lr", ["layers", "optimizer.lr"])
    assert did_you_mean("zzz", ["layers"]) == ""
