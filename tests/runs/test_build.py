"""What is said of a network that does not use all that was chosen."""

import pytest
import torch

from deepgnn_cli.config.validate import checked
from deepgnn_cli.runs.build import build_model, load_inputs

SMALL = ["dataset=csbm", "dataset.num_nodes=60", "hidden=4", "device=cpu"]


def said(capsys, *words):
    values = checked([*SMALL, *words]).values
    build_model(values, load_inputs(values, torch.device("cpu")))
    return capsys.readouterr().err


@pytest.mark.parametrize("residual", ["res", "initial", "rezero"])
def test_a_residual_without_a_layer_to_stand_around_is_told(capsys, residual):
    err = said(capsys, "model=gcn", "layers=2", f"residual={residual}")
    assert err.startswith(f"deepgnn: residual={residual} plays no part: the first and the last of 2 layers are convs")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["model=gcn", "residual=none", "layers=2"],
        ["model=gcn", "residual=res", "layers=3"],
        ["model=gcn", "residual=res", "layers=2", "model.decoder=linear"],
        ["model=gcn", "residual=linear", "layers=2"],
        ["model=gcn", "residual=linear", "residual.place=after", "layers=2"],
        ["model=resgcn", "layers=1"],
        ["model=appnp", "layers=1"],
        ["model=revgcn", "layers=1"],
    ],
)
def test_nothing_is_said_where_it_plays_one(capsys, words):
    assert said(capsys, *words) == ""
