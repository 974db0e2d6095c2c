import os
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest

from deepgnn_cli.analysis.collect import collect
from deepgnn_cli.runfiles.files import read_yaml
from deepgnn_cli.runfiles.record import collect_results
from deepgnn_cli.runfiles.status import live_status
from tests.analysis.fake_runs import fake_row, fake_run, fake_status, write_rows

NOW = datetime.now(UTC)


def told(**values):
    started = datetime.fromtimestamp(psutil.Process().create_time(), UTC) + timedelta(seconds=1)
    default = {"status": "running", "pid": os.getpid(), "host": socket.gethostname()}
    return {**default, "started": started.isoformat(), "updated": NOW.isoformat(), **values}


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_runs_of_folders_and_files_become_one_table(tmp_path):
    fake_run(tmp_path / "a" / "deep" / "run", seed=0)
    fake_run(tmp_path / "b", seed=1)
    elsewhere = write_rows(tmp_path / "c.csv", [fake_row(seed=2), fake_row(seed=3)])
    found = collect([tmp_path / "a", tmp_path / "b", elsewhere])
    assert sorted(found.runs["seed"]) == [0, 1, 2, 3]
    assert not found.skipped


def test_a_run_counts_once_however_often_it_is_found(tmp_path):
    for seed in range(3):
        fake_run(tmp_path / "sweep" / str(seed), seed=seed)
    collect_results(tmp_path / "sweep")
    copy = shutil.copy(tmp_path / "sweep" / "results.csv", tmp_path / "copy.csv")
    (tmp_path / "linked.csv").symlink_to(copy)
    found = collect([tmp_path, tmp_path / "sweep", tmp_path / "sweep" / "1"])
    assert sorted(found.runs["seed"]) == [0, 1, 2]
    assert (found.runs["folder"] != "").all(), "the run's own file wins over the sweep's"


def test_a_run_id_used_for_two_configurations_hides_neither(tmp_path):
    write_rows(tmp_path / "r.csv", [fake_row(run_id="x", layers=2), fake_row(run_id="x", layers=4)])
    assert len(collect([tmp_path]).runs) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"model,layers,seed,test_score\n", "no rows"),
        (b"a,b\n1,2\n", "not a result file"),
        (b"epoch,train_loss,test_score\n1,2,3\n", "not a result file"),
        (b"model;layers;test_score\ngcn;2;0.8\n", "not a result file"),
        (b"model,model,test_score\ngcn,gcn,0.8\n", "twice"),
        (b"model,layers,test_score\ngcn,2,0.8\ngcn,2\n", "line 3 has 2 cells, the header 3"),
        (b"model,layers,test_score\ngcn,2,good\n", "line 2: test_score='good' is not a number"),
        (b"model,layers,test_score\ngcn,2.5,0.8\n", "line 2: layers='2.5'"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"model,layers,test_score\n" + b"x" * 200_000 + b",2,0.8\n", "field larger"),
    ],
)
def test_a_bad_file_is_named_and_skipped(tmp_path, content, reason):
    good = fake_run(tmp_path / "good")
    for bad in (tmp_path / "bad.csv", tmp_path / "run" / "result.csv"):
        bad.parent.mkdir(exist_ok=True)
        bad.write_bytes(content)
        found = collect([good, bad])
        assert len(found.runs) == 1
        assert len(found.skipped) == 1 and str(bad) in found.skipped[0] and reason in found.skipped[0]


def test_a_runs_other_tables_are_no_foreign_files(tmp_path):
    run = fake_run(tmp_path / "run")
    (run / "epochs.csv").write_text("epoch,test_score\n0,0.5\n")
    assert not collect([tmp_path]).skipped


def test_text_that_pandas_takes_for_nothing_stays_text(tmp_path):
    fake_run(tmp_path / "a", norm="None", model="NA", test_score="", status="ok")
    runs = collect([tmp_path]).runs
    assert runs.loc[0, "norm"] == "None" and runs.loc[0, "model"] == "NA"
    assert np.isnan(runs.loc[0, "test_score"])


def test_a_file_with_few_columns_is_enough(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffmodel,layers,seed,test_score,dropout\ngcn,2.0,7,0.8,0.5\ngcn,4,8,,0.5\n", encoding="utf-8")
    runs = collect([path]).runs
    assert list(runs["layers"]) == [2, 4] and list(runs["seed"]) == [7, 8]
    assert list(runs["status"]) == ["ok", "failed"], "no status and no score: nothing finished"
    assert list(runs["dropout"]) == ["0.5", "0.5"]


def test_scores_in_percent_are_pointed_out(tmp_path):
    fake_run(tmp_path / "a", test_score=81.5)
    assert "percent" in collect([tmp_path]).warnings[0]


def test_a_missing_path_is_the_users_mistake(tmp_path):
    with pytest.raises(ValueError, match="nope: no such file or folder"):
        collect([tmp_path / "nope"])


def test_a_killed_run_is_shown_as_killed_and_a_live_one_as_running(tmp_path):
    fake_status(tmp_path / "killed", **told(pid=dead_pid(), epoch=7))
    fake_status(tmp_path / "live", **told())
    (tmp_path / "killed" / "config.yaml").write_text(
        "dataset: {_target_: deepgnn_cli.data.datasets.planetoid.cora}\nmodel: {_target_: m.deep_gnn, name: gcnii}\n"
        "norm: {_target_: deepgnn_cli.nn.norms.pair}\nlayers: 64\nhidden: 32\nseed: 5\n"
    )
    runs = collect([tmp_path]).runs.set_index("run_id")
    assert runs["status"].to_dict() == {"killed": "killed", "live": "running"}
    killed = runs.loc["killed"]
    assert (killed["dataset"], killed["model"], killed["norm"]) == ("cora", "gcnii", "pair")
    assert (killed["layers"], killed["hidden"], killed["seed"]) == (64, 32, 5)
    assert "epoch 7" in killed["error"]


def test_a_status_that_names_its_run_is_believed_before_the_configuration(tmp_path):
    run = {"run_id": "r1", "model": "gcn", "norm": "pair", "layers": 8, "seed": 3, "split": None}
    folder = fake_status(tmp_path / "0", **told(pid=dead_pid(), run=run))
    (folder / "config.yaml").write_text("model: gat\nlayers: 2\n")
    row = collect([tmp_path]).runs.loc[0]
    assert (row["run_id"], row["model"], row["norm"], row["layers"], row["seed"]) == ("r1", "gcn", "pair", 8, 3)
    assert row["split"] == "" and row["status"] == "killed"


def test_a_resumed_run_that_was_killed_is_not_merely_interrupted(tmp_path):
    run = fake_run(tmp_path / "a", status="interrupted", test_score="")
    fake_status(run, **told(pid=dead_pid()))
    done = fake_run(tmp_path / "b", seed=1)
    fake_status(done, **told(pid=dead_pid()))
    assert sorted(collect([tmp_path]).runs["status"]) == ["killed", "ok"]


def test_a_torn_status_is_named_and_an_ok_without_result_too(tmp_path):
    fake_status(tmp_path / "torn").joinpath("status.json").write_text('{"status": "runn')
    fake_status(tmp_path / "lost", status="ok")
    found = collect([tmp_path])
    assert found.runs.empty
    assert len(found.skipped) == 2
    assert any("torn" in line for line in found.skipped) and any("lost" in line for line in found.skipped)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "running"),
        ({"pid": 2**22 + 1}, "killed"),
        ({"pid": 10**30}, "killed"),
        ({"started": "2001-01-01T00:00:00+00:00"}, "killed"),
        ({"host": "elsewhere", "pid": 1}, "running"),
        ({"host": "elsewhere", "updated": (NOW - timedelta(hours=2)).isoformat()}, "killed"),
        ({"host": "elsewhere", "updated": "yesterday", "started": None}, "killed"),
        ({"status": "diverged", "pid": 2**22 + 1}, "diverged"),
    ],
)
def test_running_is_believed_only_of_a_process_that_is_there(values, expected):
    assert live_status(told(**values), NOW) == expected


def test_a_zombie_runs_no_more():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    try:
        assert live_status(told(pid=process.pid, started=datetime.now(UTC).isoformat()), NOW) == "killed"
    finally:
        process.stdout.close()
        process.wait()


def test_a_configuration_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: " + "[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_yaml(path)
