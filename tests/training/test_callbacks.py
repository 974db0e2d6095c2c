"""What happens beside the training steps."""

import sys
from types import ModuleType

import pytest

from deepgnn_cli.training.callbacks import ProgressBar
from deepgnn_cli.training.checkpoint import Epoch


@pytest.mark.parametrize(
    ("notebook", "quiet", "shown"), [(False, False, False), (True, False, True), (True, True, False)]
)
def test_a_notebook_has_a_progress_bar_and_a_pipe_has_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], notebook: bool, quiet: bool, shown: bool
) -> None:
    monkeypatch.delenv("DEEPGNN_QUIET", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # another test may have run a notebook
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    if quiet:
        monkeypatch.setenv("DEEPGNN_QUIET", "1")
    bar = ProgressBar(3, 0, "gcn cora L2 s0")
    bar.epoch(Epoch(1, 0.5, None, None, 0.25, None, 0.01, None))
    assert ("gcn cora L2 s0" in capsys.readouterr().err) == shown
