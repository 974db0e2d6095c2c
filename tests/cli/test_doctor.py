"""`deepgnn doctor`: says what is there, and notices a reversible engine that is wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from deepgnn_cli.cli import doctor
from deepgnn_cli.cli.doctor import SelfCheck


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(doctor, "_NODES", 30)
    monkeypatch.setattr(doctor, "_EDGES", 100)
    monkeypatch.setattr(doctor, "_LAYERS", 4)


def test_the_report_names_versions_devices_and_errors(small, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPGNN_DATA", str(tmp_path))
    (tmp_path / "ogbn_arxiv").mkdir()
    before = torch.get_rng_state()
    assert doctor.main(["--device", "cpu"]) == 0
    assert torch.equal(before, torch.get_rng_state())
    report = capsys.readouterr().out
    for expected in (
        torch.__version__,
        "torch-geometric",
        "pyg-lib",
        "float64",
        "step time",
        "ogbn_arxiv",
        str(tmp_path),
    ):
        assert expected in report
    assert "verdict                   ok" in report


def test_gradients_are_compared_with_stored_ones(small):
    check = doctor.reversible_selfcheck(torch.device("cpu"))
    assert check.ok and check.inverted and check.exact_error == check.exact_limit == 0
    assert check.float64_error < 1e-12 < check.float32_error < 1e-4
    assert check.step_time_ratio > 0


def test_wrong_gradients_are_a_failure(small, capsys, monkeypatch):
    """An engine whose backward pass scales a gradient by 1 + 1e-6 is found out."""
    from deepgnn_cli.nn.reversible.backward import BackwardPass

    honest = BackwardPass.input_gradient
    monkeypatch.setattr(BackwardPass, "input_gradient", property(lambda self: honest.fget(self) * (1 + 1e-6)))
    assert doctor.main([]) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["float64_error", "float32_error", "exact_error"])
def test_each_error_has_its_limit(field):
    right = SelfCheck(layers=1, float64_error=0.0, float32_error=0.0, exact_error=0.0, step_time_ratio=1.4)
    assert right.ok
    assert not dataclasses.replace(right, **{field: 0.02}).ok
    assert not dataclasses.replace(right, **{field: float("nan")}).ok


def test_a_gpu_may_add_up_exact_gradients_in_another_order_but_must_find_its_input_again():
    check = SelfCheck(1, 0.0, 0.0, exact_error=1e-6, step_time_ratio=1.4, exact_limit=1e-4)
    assert check.ok and not dataclasses.replace(check, inverted=False).ok
    assert not dataclasses.replace(check, exact_limit=0.0).ok


def test_a_stack_that_is_not_inverted_to_the_last_bit_is_a_failure(small, capsys, monkeypatch):
    from deepgnn_cli.nn.reversible.exact import GridAddition

    monkeypatch.setattr(GridAddition, "undo_", lambda self, stream, f: stream.sub_(f))
    assert not doctor._inverted(torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="--device"):
        doctor.main(["--device", name])
