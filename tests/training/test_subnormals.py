"""Training computes with zeros in place of subnormal numbers, and leaves the arithmetic as it was."""

import pytest
import torch

from deepgnn_cli import experiment
from deepgnn_cli.training.subnormals import subnormals_are_zeros
from deepgnn_cli.training.trainer import Trainer


def smallest(dtype=torch.float32):
    """What a subnormal number times 1 is."""
    tiny = torch.finfo(dtype).tiny
    return (torch.full((), tiny, dtype=dtype) * 0.25).item()


@pytest.fixture(autouse=True)
def gradual():
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inside_they_are_zeros_and_afterwards_what_they_were(dtype):
    before = smallest(dtype)
    assert before > 0
    with pytest.raises(RuntimeError), subnormals_are_zeros():
        assert smallest(dtype) == 0 and torch.finfo(dtype).tiny > 0
        raise RuntimeError
    assert smallest(dtype) == before


def test_who_has_asked_for_it_keeps_it():
    torch.set_flush_denormal(True)
    with subnormals_are_zeros():
        assert smallest() == 0
    assert smallest() == 0


def test_a_run_trains_so(monkeypatch, tmp_path):
    seen, step = [], Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", lambda *given, **known: seen.append(smallest()) or step(*given, **known))
    experiment(
        dataset="csbm",
        model="gcn",
        layers=2,
        output_dir=str(tmp_path),
        **{"dataset.num_nodes": 60, "trainer.max_epochs": 2},
    )
    assert seen == [0, 0] and smallest() > 0
