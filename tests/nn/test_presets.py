"""The options of conf/ as a user composes them: presets, swaps, ablations, and options of one's own."""

import sys
from csv import DictReader
from functools import cache

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional

from deepgnn_cli.cli import train as train_command
from deepgnn_cli.config.combinations import DECOUPLED
from deepgnn_cli.config.groups import options
from deepgnn_cli.config.validate import checked
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.layer import beta_of
from deepgnn_cli.nn.model import Drop, Shape
from tests.conftest import N, undirected
from tests.nn.builders import knobs

MODELS = [
    "gcn", "gat", "sage", "gin", "gcnii", "gcnii_star", "jknet", "sgc", "appnp", "grand", "dagnn", "gprgnn",
    "resgcn", "densegcn", "deepergcn", "revgcn", "revgat", "revgen", "revsage",
]  # fmt: skip
LABELS = torch.arange(N) % 3


@cache
def composed(*overrides):
    """Composing takes a while: once for each set of words."""
    return checked(overrides)


def build(*overrides, layers=4):
    values = composed(*overrides).values
    parts = {part: instantiate(values[part], _convert_="all") for part in ("norm", "residual")}
    return instantiate(values["model"], _convert_="all")(
        Shape(6, 3), layers=layers, hidden=values["hidden"], drop=Drop(**values["drop"]), **parts
    )


def test_every_promised_name_is_there_and_described():
    assert set(MODELS) <= set(options("model"))
    promised = {
        "norm": "none batch layer instance graph pair group mean_subtraction node",
        "residual": "none res res_plus dense initial jumping reversible",
        "conv": "gcn gcn2 sage gat gatv2 gin graph gen transformer tag antisymmetric",
    }
    for group, names in promised.items():
        assert set(names.split()) <= set(options(group))
    for group in ("model", "conv", "norm", "residual"):
        assert all(len(line) > 10 for line in options(group).values()), group


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("model", MODELS)
def test_every_preset_trains_and_evaluates(model, layers):
    torch.manual_seed(0)
    x, graph = torch.randn(N, 6), Adjacency(undirected(), N)
    made = build(f"model={model}", "hidden=16", layers=layers)
    if hasattr(made, "loss"):
        loss = made.loss(x, graph, LABELS, torch.ones(N, dtype=torch.bool), functional.cross_entropy)
    else:
        loss = functional.cross_entropy(made(x, graph), LABELS)
    loss.backward()
    missing = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    assert made.eval()(x, graph).shape == (N, 3)


CONVS = [name for name in options("conv") if name != "none"]


@pytest.mark.parametrize(
    "words", [(f"model={name}",) for name in MODELS] + [("model=resgcn", f"conv={name}") for name in CONVS]
)
def test_a_model_knows_whether_the_weights_of_edges_count(words):
    torch.manual_seed(0)
    model, x, edges = build(*words).eval(), torch.rand(N, 6), undirected()
    plain, weighted = (model(x, Adjacency(edges, N, edge_weight=w)) for w in (None, torch.rand(edges.size(1)) + 1))
    said = any(getattr(module, "reads_edge_weight", False) for module in model.modules())
    assert said != torch.equal(plain, weighted)


def test_a_preset_chooses_its_conv_norm_and_residual_and_a_word_chooses_otherwise():
    for words, expected in {
        ("model=gcnii",): ("gcn2", "none", "initial"),
        ("model=gcnii", "conv=gat"): ("gat", "none", "initial"),
        ("conv=gat", "model=gcnii"): ("gat", "none", "initial"),
        ("model=gcnii", "residual=none"): ("gcn2", "none", "none"),
        ("model=revgcn", "conv=sage", "norm=batch"): ("sage", "batch", "reversible"),
        ("model=gcn", "residual=initial", "norm=pair"): ("gcn", "pair", "initial"),
        ("experiment=gcnii_cora",): ("gcn2", "none", "initial"),
        ("experiment=gcnii_cora", "conv=sage"): ("sage", "none", "initial"),
        ("experiment=gcnii_cora", "model=deepergcn"): ("gen", "batch", "res_plus"),
    }.items():
        chosen = composed(*words).choices
        assert (chosen["conv"], chosen["norm"], chosen["residual"]) == expected, words


@pytest.mark.parametrize("conv", [name for name in options("conv") if name != "none"])
def test_a_swapped_conv_leaves_no_knob_of_the_old_one(conv):
    values = composed("model=gcnii", f"conv={conv}").values
    assert values["model"]["conv"] == knobs("conv", conv)


def test_ablations_of_gcnii():
    """Identity mapping alone, initial residual alone, neither."""
    both, mapping = build("model=gcnii"), build("model=gcnii", "residual=none")
    initial = build("model=gcnii", "model.conv.theta=null")
    shares = [[layer.alpha for layer in model.stack.layers] for model in (both, mapping, initial)]
    assert shares == [[0.1] * 4, [0.0] * 4, [0.1] * 4]
    betas = [[layer.conv.beta for layer in model.stack.layers] for model in (both, mapping, initial)]
    assert betas == [[beta_of(0.5, number) for number in range(1, 5)]] * 2 + [[None] * 4]


def test_the_published_weight_decays_of_gcnii():
    for model in ("gcnii", "gcnii_star"):
        values = composed(f"model={model}").values
        optimizer = values["optimizer"]
        assert (optimizer["weight_decay"], optimizer["conv_weight_decay"], optimizer["lr"]) == (5e-4, 0.01, 0.01)
    assert values["model"]["conv"]["variant"] == "official"


@pytest.mark.parametrize("model", DECOUPLED)
def test_a_decoupled_model_refuses_a_conv_by_name(model):
    with pytest.raises(ValueError, match=f"model={model} does not combine with conv=gat"):
        checked([f"model={model}", "conv=gat"])


MINE = """
import torch
from torch_geometric.nn import GraphConv

from deepgnn_cli.nn.convs import Conv


def conv(channels, layer, *, aggregation, in_channels=None):
    return Conv(GraphConv(in_channels or channels, channels, aggr=aggregation))


class Half(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, batch=None):
        return self.factor * x


def norm(channels, *, factor):
    return Half(factor)


class Gate(torch.nn.Module):
    def __init__(self, branch, start):
        super().__init__()
        self.branch, self.gate = branch, torch.nn.Parameter(torch.tensor(start))

    def forward(self, x, graph, x0):
        return x + self.gate * self.branch(x, graph, x0)


def residual(branch, channels, layer, *, start):
    return Gate(branch(channels, layer), start)
"""


def test_a_conv_a_norm_and_a_residual_of_ones_own_are_a_function_and_a_yaml_each(tmp_path, monkeypatch):
    (tmp_path / "my_parts.py").write_text(MINE)
    knobs = {
        "conv": ("# @package model.conv\n", "aggregation: add"),
        "norm": ("", "factor: 0.5"),
        "residual": ("", "start: 0.1"),
    }
    for group, (package, knob) in knobs.items():
        (tmp_path / "mine" / group).mkdir(parents=True)
        text = f"{package}# My {group}\n_target_: my_parts.{group}\n_partial_: true\n{knob}\n"
        (tmp_path / "mine" / group / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.set_default_dtype(torch.float32)
    words = ["conv=mine", "norm=mine", "residual=mine", "hidden=8", "trainer.max_epochs=2", "model.encoder=linear"]
    status = train_command.main(
        ["--config-dir", "mine", *words, "model.conv.aggregation=mean", f"output_dir={tmp_path / 'out'}"]
    )
    assert status == 0
    (result,) = (tmp_path / "out").glob("*/result.csv")
    with result.open() as file:
        (row,) = DictReader(file)
    assert (row["status"], row["conv"], row["norm"], row["residual"]) == ("ok", "mine", "mine", "mine")
    sys.modules.pop("my_parts", None)
