"""Everything a training run must carry to go on as if it had never stopped."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deepgnn_cli.runfiles.files import write_atomic

FORMAT = 3
CPU = torch.device("cpu")
_KEYS = {"config_hash", "model", "optimizer", "random", "progress"}
_SEAL = b"sha256:"  # 32 bytes follow, the last of the file; what reads torch's files passes over them


class _CheckedFile(io.RawIOBase):
    """Writes to a file, remembers what the file system refused and, if asked to, the checksum of what it took."""

    def __init__(self, file: IO[bytes], seal: bool) -> None:
        self._file = file
        self.refusal: OSError | None = None
        self.checksum = sha256() if seal else None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.checksum is not None:
            self.checksum.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.refusal = error
            raise


def write(state: Mapping[str, object], file: IO[bytes], seal: bool = False) -> None:
    """`torch.save`, straight to the file; with `seal`, a checksum of it all at the end, which torch's files lack.

    Raises:
        OSError: it could not be written. (torch reports a full disk as a fault of its own zip writer.)
    """
    checked = _CheckedFile(file, seal)
    try:
        torch.save(state, cast(IO[bytes], checked))
    except RuntimeError as error:
        raise checked.refusal or error from None
    if checked.checksum is not None:
        file.write(_SEAL + checked.checksum.digest())


def sealed(path: Path) -> bool:
    """Whether the file is, to the last bit, what `write` has sealed."""
    checksum = sha256()
    length = len(_SEAL) + checksum.digest_size
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - length
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            checksum.update(block)
            left -= len(block)
        return file.read() == _SEAL + checksum.digest()


class BestWeights:
    """The weights of the best epoch so far: in a file without a name and not in memory; gone after the `with` block.

    So a run takes the memory of its parameters, their gradients and the optimiser's state, and not of one copy more.

    Args:
        folder: where the file lies; None: where temporary files do.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def __enter__(self) -> BestWeights:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Keep these instead.

        Raises:
            OSError: they cannot be written; there are none now.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed on leaving)
        try:
            self._file.seek(0)
            self._file.truncate()
            write(weights, self._file, seal=True)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder or tempfile.gettempdir())) from None

    def put(self, path: Path) -> None:
        """Copy the file to `path`, whole or not at all; nothing before the first `keep`.

        Raises:
            OSError: it could not be written.
        """
        if (source := self._file) is not None:
            source.seek(0)
            write_atomic(path, lambda file: shutil.copyfileobj(source, file))

    def read(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The weights, on `device`; none before the first `keep`."""
        if self._file is None:
            return {}
        self._file.seek(0)
        weights: dict[str, Tensor] = torch.load(self._file, map_location=device, weights_only=True)
        return weights


@dataclass(frozen=True)
class Epoch:
    """A row of `epochs.csv`. Scores are fractions; a row without an evaluation has only `train_loss`.

    `step_seconds` is None where no step was timed: the first of a run, which is measured otherwise.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    train_score: float | None
    val_score: float | None
    test_score: float | None
    lr: float
    step_seconds: float | None


EPOCH_COLUMNS = tuple(Epoch.__dataclass_fields__)


@dataclass
class TrainState:
    """How far a run is: the epochs done, and the best of them with its weights."""

    run_id: str = ""
    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_weights: BestWeights = field(default_factory=BestWeights)
    train_seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The number of the last finished epoch, from 1; 0 before the first."""
        return self.epochs[-1].epoch if self.epochs else 0

    def keep_best(self, model: nn.Module, epoch: Epoch, select: str, lower: bool = False) -> None:
        """Remember `epoch` and the weights if it is strictly the best so far; `lower`: scores are errors."""
        value, best = getattr(epoch, select), self.best and getattr(self.best, select)
        if value is None or value != value:
            return
        if best is None or (value < best if lower or select == "val_loss" else value > best):
            self.best = epoch
            self.best_weights.keep(model.state_dict())

    def exhausted(self, max_epochs: int, patience: int | None) -> bool:
        """Whether training is over: all epochs done, or `patience` of them without a better one."""
        if self.epoch >= max_epochs:
            return True
        since = self.epoch - (self.best.epoch if self.best else 0)
        return patience is not None and self.best is not None and since >= patience


def random_state(device: torch.device = CPU) -> dict[str, object]:
    """The state of every generator a run on `device` may draw from, as plain values and tensors."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    state: dict[str, object] = {
        "python": (version, torch.tensor(words, dtype=torch.int64), gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device = CPU) -> None:
    """Undo everything drawn since `random_state`; CUDA's generator is set only for a run that goes on on CUDA."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def save(path: Path, model: nn.Module, optimizer: Optimizer, progress: TrainState, config_hash: str) -> None:
    """Write a checkpoint, whole or not at all; loadable with `weights_only=True`.

    Raises:
        OSError: it could not be written; the previous checkpoint still stands.
    """
    state = {
        "format": FORMAT,
        "config_hash": config_hash,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_state(_device(model)),
        "progress": {
            "run_id": progress.run_id,
            # As text: a number at a time, torch's pickler would take longer for them than for the weights.
            "epochs": json.dumps([list(vars(epoch).values()) for epoch in progress.epochs]),
            "best": asdict(progress.best) if progress.best else None,
            "best_weights": progress.best_weights.read(),
            "train_seconds": progress.train_seconds,
        },
    }
    write_atomic(path, lambda file: write(state, file, seal=True))


def read(path: Path) -> dict[str, object]:
    """The content of a checkpoint.

    Raises:
        ValueError: no checkpoint of this program, or a damaged one.
    """
    state = _whole(path, "checkpoint", "delete it to start anew")
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= _KEYS:
        raise ValueError(f"{path} is not a checkpoint of this version; delete it to start anew")
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a `best.pt`, on the CPU.

    Raises:
        ValueError: it is none, or a damaged one.
    """
    weights: dict[str, Tensor] = _whole(path, "file of weights", "train the run again, or take a copy of it")
    return weights


def _whole(path: Path, what: str, remedy: str) -> Any:
    """What a sealed file holds."""
    try:
        if not sealed(path):
            raise ValueError(f"{path} is no whole {what} of this version (checksum); {remedy}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise ValueError(f"{path} is not a readable {what} ({type(error).__name__}); {remedy}") from None


def restore(state: dict[str, Any], model: nn.Module, optimizer: Optimizer, best: BestWeights) -> TrainState:
    """Put weights, optimiser and generators back as they were, and say how far the run was.

    Args:
        state: from `read`.
        model: gets its weights and buffers.
        optimizer: gets its state.
        best: takes the best epoch's weights.
    """
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for group in optimizer.param_groups:
        if "capturable" in group:  # as a captured step has left it; a CPU has no such steps
            group["capturable"] = False
    done = state["progress"]
    if done["best"]:
        best.keep(done["best_weights"])
    progress = TrainState(
        run_id=done["run_id"],
        epochs=[Epoch(*epoch) for epoch in json.loads(done["epochs"])],
        best=Epoch(**done["best"]) if done["best"] else None,
        best_weights=best,
        train_seconds=done["train_seconds"],
    )
    set_random_state(state["random"], _device(model))
    return progress


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), CPU)
