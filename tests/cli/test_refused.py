"""Mistakes that are found before anything is loaded or written: exit 2, one line."""

from pathlib import Path

import pytest

from deepgnn_cli.cli.main import run_command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+reported.value=abc", "+reported.source=x"], "reported.value"),
        (["reported={value:85.5,source:x}"], "fraction"),
        (["reported={value:[1],source:x}"], "reported.value"),
        (["reported={value:nan,source:x}"], "reported.value"),
        (["model._target_=null"], "model._target_"),
        (["model.conv._target_=5"], "model.conv._target_"),
        (["logger._target_=string.digits"], "logger._target_"),
        (["norm._target_=subprocess.run"], "norm._target_"),
        (["--config-dir"], "--config-dir"),
        (["output_dir=FILE/below"], "not a folder"),
        (["--config-dir", "OPTIONS", "model=tagged"], "cannot be read"),
        (["--config-dir", "OPTIONS", "model=broken"], "cannot be read"),
    ],
)
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_mistake_is_one_line_and_leaves_nothing(words, said, sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("OPTIONS/model").mkdir(parents=True)
    Path("OPTIONS/model/tagged.yaml").write_text('a: !!python/object/apply:os.system ["touch executed"]\n')
    Path("OPTIONS/model/broken.yaml").write_text("a: [1\n b: }\n")
    assert run_command(["train", *sweep, *words]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("deepgnn: ") and told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "OPTIONS"]


def test_ls_refuses_a_folder_that_is_not_there(capsys):
    assert run_command(["ls", "--config-dir", "/no/such"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
