"""docs/your-parts.md: its code runs, and a conv of one's own is what it is said to be."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch_geometric.nn import GATConv

from deepgnn_cli import experiment
from deepgnn_cli.config.own_conv import with_own_conv
from deepgnn_cli.config.validate import checked

PAGE = (Path(__file__).parents[1] / "docs" / "your-parts.md").read_text()
SHORT = {"trainer.max_epochs": 1}


@pytest.fixture(autouse=True)
def _float32(_float64):
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.S))
def test_its_code_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace('trainer="quick"', "overrides={'trainer.max_epochs': 1}"), "your-parts.md", "exec"), {})


def test_the_command_and_the_option_give_the_class_its_keywords(tmp_path):
    words = re.search(r"deepgnn train (model=resgcn .*)", PAGE)[1].split()
    config = checked(with_own_conv(words))
    assert config.values["model"]["conv"] | {"_partial_": True} == config.values["model"]["conv"]
    assert config.values["model"]["conv"]["_target_"].endswith("GATConv") and config.choices["conv"] == "GATConv"


def test_a_class_with_keywords_is_the_conv_of_the_row(tmp_path):
    row = experiment(SHORT, conv=partial(GATConv, heads=4), model="gcn", layers=2, output_dir=str(tmp_path)).iloc[0]
    assert (row["conv"], row["status"], row["error"] or "") == ("GATConv", "ok", "")


def test_what_has_no_name_is_refused():
    with pytest.raises(ValueError, match="needs a name that can be imported"):
        experiment(conv=lambda c: GATConv(c, c), model="gcn", layers=2)
