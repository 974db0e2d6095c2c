"""A study handed on and repeated, and what two runs differ in; as a user meets them."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from deepgnn_cli.cli.main import run_command

TINY = ["dataset=csbm", "dataset.num_nodes=60", "device=cpu", "hidden=8", "trainer.max_epochs=4"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two runs that differ in the seed, and one in a graph of its own."""
    here = tmp_path_factory.mktemp("study")
    runs = here / "runs"
    for seed in (0, 1):
        assert run_command(["train", *TINY, f"seed={seed}", f"output_dir={runs}"]) == 0
    graph = {"x": torch.eye(12), "edge_index": torch.arange(24).view(2, 12) % 12, "y": torch.arange(12) % 2}
    torch.save(graph, here / "mine.pt")
    own = ["dataset=pyg", f"dataset.path={here / 'mine.pt'}", "trainer.max_epochs=2", f"output_dir={here / 'own'}"]
    assert run_command(["train", *own]) == 0
    return here


def bundle(study: Path, name: str, tmp_path: Path) -> Path:
    out = tmp_path / "study.zip"
    assert run_command(["bundle", str(study / name), "--out", str(out)]) == 0
    return out


def changed(bundle: Path, change) -> Path:
    """A copy of the bundle in which `change(name, content)` has made each file anew, checksums as they were."""
    copy = bundle.with_name("changed.zip")
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return copy


def test_a_study_comes_back_to_the_last_bit_and_goes_on_where_it_was_stopped(study, tmp_path, capsys):
    file = bundle(study, "runs", tmp_path)
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        assert {"manifest.json", "results.csv", "constraints.txt", "commands.sh", "runs/0002/config.yaml"} <= names
        assert "torch==" in archive.read("constraints.txt").decode()
        assert archive.read("commands.sh").decode().startswith("deepgnn train dataset=csbm dataset.num_nodes=60")
    words = ["rerun", str(file), "--out", str(tmp_path / "again")]
    assert run_command(words) == 0
    said = capsys.readouterr().out
    assert said.count("the same to the last bit") == 2 and "2 of 2 rows are the same" in said
    folders = sorted(path.name for path in (tmp_path / "again").iterdir())
    shutil.rmtree(tmp_path / "again" / folders[1])
    assert run_command(words) == 0
    after = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert len(after) == 2 and folders[0] in after


def test_ones_own_graph_travels_along(study, tmp_path, capsys):
    file = bundle(study, "own", tmp_path)
    (study / "mine.pt").rename(study / "elsewhere.pt")
    try:
        assert run_command(["rerun", str(file), "--out", str(tmp_path / "again")]) == 0
    finally:
        (study / "elsewhere.pt").rename(study / "mine.pt")
    assert "the same to the last bit" in capsys.readouterr().out


def other_row(manifest: bytes, machine: dict, shift: float) -> bytes:
    content = json.loads(manifest)
    for run in content["runs"]:
        run["machine"] |= machine
        run["row"]["test_score"] = str(float(run["row"]["test_score"]) + shift)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("machine", "shift", "status"),
    [({}, 0.01, 1), ({"cpu": "another"}, 0.01, 0), ({"cpu": "another"}, 0.03, 1), ({"cpu": "another"}, -0.03, 1)],
)
def test_another_row_is_told(machine, shift, status, study, tmp_path, capsys):
    file = changed(
        bundle(study, "runs", tmp_path),
        lambda name, content: other_row(content, machine, shift) if name == "manifest.json" else content,
    )
    assert run_command(["rerun", str(file), "--out", str(tmp_path / "again")]) == status
    said = capsys.readouterr().out
    assert said.count("ANOTHER" if status else "within the tolerance") == 2 and "test_score" in said


def test_a_changed_bundle_and_others_code_are_refused(study, tmp_path, capsys):
    file = bundle(study, "runs", tmp_path)
    damaged = changed(file, lambda name, content: content.replace(b"60", b"61") if "config" in name else content)
    assert run_command(["rerun", str(damaged), "--out", str(tmp_path / "a")]) == 2
    assert "is not the file that was bundled" in capsys.readouterr().err
    for run in (study / "runs").iterdir():
        shutil.copytree(run, tmp_path / "evil" / run.name)
        config = tmp_path / "evil" / run.name / "config.yaml"
        config.write_text(config.read_text().replace("deepgnn_cli.nn.norms.none", "os.system"))
    assert run_command(["bundle", str(tmp_path / "evil"), "--out", str(tmp_path / "evil.zip")]) == 0
    assert run_command(["rerun", str(tmp_path / "evil.zip"), "--out", str(tmp_path / "a")]) == 2
    assert "os.system" in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_a_name_outside_the_bundle_is_refused(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"format": 1, "runs": [], "sha256": {"../evil": "0"}}))
    assert run_command(["rerun", str(tmp_path / "x.zip")]) == 2
    assert "outside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bundle", "nowhere", "--out", "a.zip"], "no such file"),
        (["bundle", ".", "--out", "a.zip"], "there is no run"),
        (["bundle", ".", "--out", "a.tar"], ".zip"),
        (["rerun", "a.zip"], "no such file"),
        (["rerun", "text"], "not a bundle"),
        (["rerun", "text", "--tolerance", "2"], "--tolerance"),
        (["diff", "."], "RUN"),
        (["diff", ".", "nowhere"], "no such folder"),
        (["diff", ".", "."], "there is no config.yaml"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no zip")
    assert run_command(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_diff_names_the_first_epoch_at_which_curves_part(study, tmp_path, capsys):
    first, second = sorted((study / "runs").iterdir(), key=lambda path: path.name.rpartition("_s")[2])
    assert run_command(["diff", str(first), str(second), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(change["name"], change["first"], change["second"]) for change in found["config"]] == [("seed", "0", "1")]
    assert found["partings"][0]["epoch"] == 1 and found["shared_epochs"] == 4 and not found["environment"]
    copy = shutil.copytree(first, tmp_path / "copy")
    lines = (copy / "epochs.csv").read_text().splitlines()
    header, cells = lines[0].split(","), lines[3].split(",")
    cells[header.index("val_loss")] = "9.5"
    (copy / "epochs.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    assert run_command(["diff", str(first), str(copy)]) == 0
    said = capsys.readouterr().out
    assert "curves part at epoch 3 of 4" in said and "val_loss (epoch 3)" in said and "configuration: the same" in said
    assert run_command(["diff", str(first), str(first / "result.csv")]) == 0
    assert "the same to the last bit, 4 epochs" in capsys.readouterr().out


def test_diff_and_bundle_need_no_torch(study, tmp_path):
    code = (
        "import sys; from deepgnn_cli.cli.main import run_command\n"
        f"a, b = {[str(path) for path in (study / 'runs').iterdir()]!r}\n"
        f"assert run_command(['diff', a, b]) == run_command(['bundle', a, '--out', {str(tmp_path / 'b.zip')!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
