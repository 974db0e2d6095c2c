"""`deepgnn plan` as a user meets it."""

import csv
import io
import json

import pytest

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.cli.plan import COLUMNS

TINY = ["dataset=csbm", "dataset.num_nodes=60", "device=cpu", "hidden=8", "drop.input=0", "trainer.max_epochs=7"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def test_a_row_for_each_configuration_and_seeds_are_counted(capsys):
    words = ["-m", *TINY, "model=gcn,gcnii", "layers=2,3", "seed=0,1", "--format", "json"]
    assert run_command(["plan", *words]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["layers"], row["runs"]) for row in rows] == [
        ("gcn", 2, 2), ("gcn", 3, 2), ("gcnii", 2, 2), ("gcnii", 3, 2)
    ]  # fmt: skip
    for row in rows:
        assert tuple(row) == COLUMNS and row["measured"]
        assert row["peak_memory_mib"] > row["base_mib"] > 0
        assert row["whole_seconds"] == pytest.approx(7 * row["epoch_seconds"])


def test_csv_has_the_same_columns_and_text_says_the_total(capsys):
    assert run_command(["plan", *TINY, "layers=2", "--format=csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(row) == COLUMNS
    assert run_command(["plan", *TINY, "layers=2"]) == 0
    assert "1 runs, one after the other: at most" in capsys.readouterr().out


def test_time_that_a_few_batches_tell_is_said_to_be_so(capsys):
    some = [f"dataset.{name}_graphs={count}" for name, count in (("train", 30), ("val", 3), ("test", 3))]
    words = ["plan", "dataset=diameter", *some, "batch.graphs_per_batch=1", "device=cpu", "hidden=8", "layers=2"]
    assert run_command(words) == 0
    assert "s/epoch is drawn out from 10 of an epoch's 30 batches" in capsys.readouterr().out
    assert run_command([*words, "batch.graphs_per_batch=3", "--format=json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert tuple(row) == COLUMNS and row["batches"] == row["timed_batches"] == 10


def test_fits_names_the_deepest_and_the_widest(capsys):
    assert run_command(["plan", *TINY, "--fits", "2GiB", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["layers"] > 64 and row["peak_memory_mib"] <= 2048
    wide = [*TINY, "layers=2", "model=revgcn", "residual.groups=4", "--fits", "2GiB", "--vary", "hidden"]
    assert run_command(["plan", *wide, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["hidden"] > 64 and row["hidden"] % 4 == 0 and row["layers"] == 2
    assert run_command(["plan", *TINY, "layers=2", "--fits", "1MiB"]) == 0
    assert "none fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fits", "much"], "'much' is no size"),
        (["--fits", "0GiB"], "no size"),
        (["modle=gcn"], "did you mean 'model'"),
        (["layers=2,4"], "add -m"),
        (["layers=0"], "layers=0"),
        (["-m", "layers=0,-1"], "layers="),
        (["--fit", "16GiB"], "--fit"),
        (["--vary", "seed"], "--vary"),
        (["batch=parts", "trainer.processes=2"], "trainer.processes"),
    ],
)
def test_a_mistake_is_one_line(words, said, capsys):
    assert run_command(["plan", *TINY, *words]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert said in told and told.startswith("deepgnn: ")


def test_a_combination_that_cannot_be_is_left_out_and_named(capsys):
    words = ["-m", *TINY, "model=revgcn", "hidden=8,7", "layers=2", "--format", "json"]
    assert run_command(["plan", *words]) == 0
    told = capsys.readouterr()
    assert [row["hidden"] for row in json.loads(told.out)] == [8] and "left out: " in told.err
