"""A builder's signature, read from its source, is the one it has when it is imported."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepgnn_cli.rules.signatures import signature_of

CONF = Path(__file__).parents[2] / "conf"


def nodes(content, path=""):
    if isinstance(content, dict):
        if "_target_" in content:
            yield content
        for value in content.values():
            yield from nodes(value)


NODES = {
    node["_target_"]: node for path in sorted(CONF.rglob("*.yaml")) for node in nodes(yaml.safe_load(path.read_text()))
}
# What a builder is given by others than a configuration; everything else says what it may be.
SILENT = {"root", "drop", "norm", "residual", "conv"}


@pytest.mark.parametrize("target", sorted(NODES))
def test_every_key_of_an_option_is_a_parameter_that_says_what_it_may_be(target):
    parameters = signature_of(target).parameters
    assert {key for key in NODES[target] if not key.startswith("_")} <= set(parameters)
    assert {name for name, parameter in parameters.items() if parameter.hint is Any} <= SILENT


@pytest.mark.parametrize("target", sorted(NODES))
def test_the_source_says_what_the_imported_function_takes(target):
    module, _, name = target.rpartition(".")
    imported = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    keywords = {p.name: p.default is p.empty for p in imported if p.kind is p.KEYWORD_ONLY}
    found = {name: parameter.required for name, parameter in signature_of(target).parameters.items()}
    assert keywords.items() <= found.items()
    assert set(found) == set(keywords) or any(p.kind is p.VAR_KEYWORD for p in imported)


def test_a_function_that_is_not_there_is_said():
    for target in ("deepgnn_cli.nn.convs.nope", "deepgnn_cli.nn.nope.gcn", "deepgnn_cli.nn.convs._GCNConv"):
        with pytest.raises(LookupError):
            signature_of(target)


def test_functions_of_others_are_imported():
    parameters = signature_of("torch_geometric.nn.GATConv").parameters
    assert {"in_channels", "heads", "concat"} <= set(parameters)


def test_what_a_class_hands_on_is_what_those_it_derives_from_take():
    signature = signature_of("torch_geometric.nn.GATConv")
    assert not signature.takes_any and {"aggr", "node_dim"} <= set(signature.parameters)
    assert signature_of("torch.nn.Identity").takes_any


@pytest.mark.parametrize(
    "words", ["layers=0", "modle=gcnii", "dataset=nope", "optimizer.lr=-1", "model=revgcn hidden=63"]
)
def test_a_wrong_word_is_refused_without_torch(words, tmp_path):
    code = (
        "import sys; from deepgnn_cli.cli.main import run_command\n"
        f"status = run_command(['train', *{words.split()}])\n"
        "print(status, sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "2 []"
