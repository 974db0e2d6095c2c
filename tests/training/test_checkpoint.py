"""Laws of what is written: whole and equal, or an error that says why."""

from __future__ import annotations

import errno
import io
import os
import random
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deepgnn_cli.training import optimizers
from deepgnn_cli.training.checkpoint import (
    BestWeights,
    Epoch,
    TrainState,
    random_state,
    read,
    restore,
    save,
    set_random_state,
    write,
)
from deepgnn_cli.training.cuda_graph import set_capturable
from tests.training.small import Noisy, fit, problem, trainer


def weights(value: float, size: int = 3) -> dict[str, torch.Tensor]:
    return {"a": torch.full((size, 2), value), "count": torch.tensor(int(value))}


def epoch(number: int, val_loss: float | None) -> Epoch:
    return Epoch(number, 1.0, val_loss, 0.5, 0.5, 0.5, 0.01, 0.1)


def test_the_last_weights_kept_are_the_ones_read(tmp_path):
    with BestWeights(tmp_path) as best:
        assert best.read() == {}
        for value, size in ((1.0, 100), (2.0, 3), (3.0, 50)):  # a shorter one leaves nothing of a longer one
            kept = weights(value, size)
            best.keep(kept)
            kept["a"].zero_()
            for _ in range(2):
                assert all(torch.equal(best.read()[name], tensor) for name, tensor in weights(value, size).items())


def test_the_file_has_no_name_and_is_gone_after_the_block(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with BestWeights(tmp_path) as best:
        best.keep(weights(1.0))
        assert list(tmp_path.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_strictly_better_epoch_replaces_the_weights_and_no_other(tmp_path):
    model = nn.Linear(2, 2, bias=False)
    expected = None
    with BestWeights(tmp_path) as best:
        progress = TrainState(best_weights=best)
        for number, loss in enumerate([None, 3.0, float("nan"), 2.0, 2.0, 2.5, 1.0], 1):
            nn.init.constant_(model.weight, number)
            progress.keep_best(model, epoch(number, loss), "val_loss")
            expected = {2: 2, 4: 4, 7: 7}.get(number, expected)
            found = progress.best_weights.read()
            assert (progress.best and progress.best.epoch) == expected
            assert (found["weight"] == expected).all() if expected else found == {}


@pytest.mark.parametrize("size", [1, 200_000])
def test_a_full_disk_is_an_os_error(size):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write({"a": torch.zeros(size)}, Full())
    assert caught.value.errno == errno.ENOSPC


def test_best_weights_that_find_no_room_say_where(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: Full())
    with BestWeights(tmp_path) as best, pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        best.keep(weights(1.0))


OPTIMIZERS = {
    "adam": {"betas": [0.9, 0.99], "eps": 1e-8},
    "adamw": {"betas": [0.9, 0.99], "eps": 1e-8},
    "rmsprop": {"rho": 0.9, "momentum": 0.5},
    "sgd": {"momentum": 0.9},
}


def noisy(name, max_epochs):
    """Dropout, batch statistics, a warm-up and an optimiser's state: all that a run carries."""
    model = Noisy()
    build = getattr(optimizers, name)
    optimizer = build(model, lr=0.1, weight_decay=0.01, conv_weight_decay=0.1, **OPTIMIZERS[name])
    return trainer(problem(), model, optimizer, max_epochs=max_epochs, warmup_epochs=5)


def numbers(progress):
    """What is the same in every run of one seed: all but the time."""
    return [replace(epoch, step_seconds=0.0) for epoch in progress.epochs]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_goes_on_from_its_checkpoint_is_the_undisturbed_one(name, tmp_path):
    torch.manual_seed(1)
    whole = noisy(name, 8)
    expected, best_weights = fit(whole)

    torch.manual_seed(1)
    first = noisy(name, 3)
    with BestWeights() as best:
        progress = TrainState(run_id="r", best_weights=best, train_seconds=2.5)
        first.fit(progress, lambda progress: None)
        save(tmp_path / "checkpoint.pt", first.model, first.optimizer, progress, "hash")

    torch.manual_seed(2)  # another network, other masks: all of it must come from the file
    second = noisy(name, 8)
    with BestWeights() as best:
        state = read(tmp_path / "checkpoint.pt")
        progress = restore(state, second.model, second.optimizer, best)
        assert (state["config_hash"], progress.run_id, progress.train_seconds) == ("hash", "r", 2.5)
        assert progress.epoch == 3
        second.fit(progress, lambda progress: None)
        found = best.read()
    assert numbers(progress) == numbers(expected)
    assert progress.best and replace(progress.best, step_seconds=0) == replace(expected.best, step_seconds=0)
    for weights, others in ((whole.model.state_dict(), second.model.state_dict()), (best_weights, found)):
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[key], others[key]) for key in weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_was_captured_in_a_graph_goes_on_on_a_cpu(name, tmp_path):
    """A capture leaves its optimiser `capturable`, which RMSprop refuses on a CPU."""
    first, second = noisy(name, 3), noisy(name, 5)
    with BestWeights() as best:
        progress = TrainState(best_weights=best)
        first.fit(progress, lambda progress: None)
        set_capturable(first.optimizer, True)
        save(tmp_path / "checkpoint.pt", first.model, first.optimizer, progress, "")
        progress = restore(read(tmp_path / "checkpoint.pt"), second.model, second.optimizer, best)
        second.fit(progress, lambda progress: None)
    assert progress.epoch == 5


def test_every_generator_goes_on_where_it_was():
    state = random_state()
    first = random.random(), np.random.rand(), float(torch.rand(()))
    set_random_state(state)
    assert first == (random.random(), np.random.rand(), float(torch.rand(())))


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """400 of them, anywhere in the file: each is noticed."""
    path, draw = tmp_path / "checkpoint.pt", random.Random(0)
    trained = noisy("adam", 3)
    with BestWeights() as best:
        progress = TrainState(best_weights=best)
        trained.fit(progress, lambda progress: None)
        save(path, trained.model, trained.optimizer, progress, "hash")
    whole = path.read_bytes()
    assert read(path)["config_hash"] == "hash"
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{path} is no.*; delete it to start anew$"):
            read(path)


@pytest.mark.parametrize("length", [0, 1, 38, 39, 40, 1000, -1, -39])
def test_a_torn_checkpoint_is_refused(length, tmp_path):
    path, trained = tmp_path / "checkpoint.pt", noisy("sgd", 1)
    with BestWeights() as best:
        save(path, trained.model, trained.optimizer, TrainState(best_weights=best), "hash")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="delete it to start anew"):
        read(path)


@pytest.mark.parametrize("key", ["model", "optimizer", "progress", "random", "config_hash"])
def test_a_checkpoint_that_lacks_something_is_refused(key, tmp_path):
    path, trained = tmp_path / "checkpoint.pt", noisy("sgd", 1)
    with BestWeights() as best:
        save(path, trained.model, trained.optimizer, TrainState(best_weights=best), "hash")
    state = torch.load(path, weights_only=True)
    del state[key]
    torch.save(state, path)
    with pytest.raises(ValueError, match="checkpoint"):
        read(path)


def test_only_the_runs_own_gpu_has_a_random_state_and_only_on_cuda(monkeypatch):
    asked, put = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(4))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.append(device))
    state = random_state()
    set_random_state(state)
    assert "cuda" not in state and asked == put == []
    second = torch.device("cuda:1")
    state = random_state(second)
    assert asked == [second]
    set_random_state(state)  # it goes on on a CPU
    assert put == []
    set_random_state(state, second)
    assert put == [second]
