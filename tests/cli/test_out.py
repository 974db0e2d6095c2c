"""`--out` writes to what is there and never takes its place: links, modes, pipes and devices stay what they are."""

import os
import stat
import threading
from pathlib import Path

import pytest

from deepgnn_cli.cli.main import run_command
from tests.analysis.fake_runs import fake_run

COMMANDS = {"compare": ["compare", "--format", "csv"], "report": ["report"]}


@pytest.fixture(params=COMMANDS)
def write(request, tmp_path, within_a_minute):
    """`write(path)`: the exit status of a command that writes there."""
    runs = fake_run(tmp_path / "runs" / "0").parent
    name = {"report": "out.html"}.get(request.param, "out.csv")

    def run(path: Path) -> int:
        return run_command([*COMMANDS[request.param], str(runs), "--out", str(path)])

    run.name = name
    return run


def test_a_link_stays_and_its_target_gets_the_text(write, tmp_path):
    target, link = tmp_path / f"target-{write.name}", tmp_path / write.name
    target.write_text("old")
    link.symlink_to(target.name)
    assert write(link) == 0
    assert link.is_symlink() and os.readlink(link) == target.name
    assert "gcn" in target.read_text()


def test_a_file_keeps_its_mode(write, tmp_path):
    path = tmp_path / write.name
    path.write_text("old")
    path.chmod(0o600)
    assert write(path) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "gcn" in path.read_text()


def test_a_pipe_is_written_through_or_refused(write, tmp_path, capsys):
    path, read = tmp_path / write.name, []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    status = write(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    if status == 0:
        reader.join(10)
        assert "gcn" in read[0]
    else:
        assert status == 2 and str(path) in capsys.readouterr().err
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # lets the reader go


def test_an_open_descriptor_is_written_through_or_refused(write, tmp_path, capsys):
    (tmp_path / "got").touch()
    ours, theirs = os.pipe()
    status = write(Path(f"/dev/fd/{theirs}"))
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        text = pipe.read()
    assert (status == 0 and "gcn" in text) or (status == 2 and "Traceback" not in capsys.readouterr().err)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
def test_a_device_stays_a_device(write, tmp_path):
    path = tmp_path / write.name
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("no devices here")
    assert write(path) in (0, 2)
    assert stat.S_ISCHR(path.stat().st_mode)
