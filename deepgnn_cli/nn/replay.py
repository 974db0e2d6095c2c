"""What must be put back before a part of the network is evaluated a second time.

A reversible stack and a checkpointed segment evaluate a module once in the forward pass and again in the backward
pass. The second evaluation has to see the random numbers and the autocast state of the first, and must leave no
trace: batch statistics are counted once, and the program's own random stream stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

BufferPlace = tuple[nn.Module, str]  # the module that owns a buffer, and its name there

_SEED_STEP = 0x9E3779B97F4A7C15  # odd, so that consecutive branches get unlike seeds also in their low 32 bits
_SEED_RANGE = 2**63


@dataclass(frozen=True)
class AutocastState:
    """Whether, and in which type, `torch.autocast` was active on a device type."""

    device_type: str
    dtype: torch.dtype
    enabled: bool

    @classmethod
    def current(cls, device: torch.device) -> AutocastState:
        """The state of the calling thread, for the type of `device`."""
        kind = device.type
        return cls(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def restore(self) -> AbstractContextManager[Any]:
        """A context in which the state holds again, for evaluations only: autograd's own work belongs outside.

        Without autocast's weight cache: a weight cast under `no_grad` carries no gradient, and would be found in
        the cache by the evaluation that needs one.
        """
        if not self.enabled and not torch.is_autocast_enabled(self.device_type):
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.enabled, cache_enabled=False)


class Randomness:
    """Random numbers of its own for each of many evaluations, replayed from one number.

    `with Randomness(device, seed) as random:` and, before evaluation i, `random.select(i)`. The i-th evaluation
    draws the same numbers from torch's generators (the CPU's and, on CUDA, that device's) whenever the seed is the
    same. What is kept for the replay does not grow with the number of evaluations (a generator's state takes 5 KB).
    On leaving, the generators stand where they stood, so nothing outside sees a difference. `drawn_on_gpu` says
    afterwards whether an evaluation used the GPU's generator.

    Args:
        device: where the evaluations run.
        seed: from `draw_seed`; None: draw from the generators as they are, and replay nothing.
    """

    def __init__(self, device: torch.device, seed: int | None) -> None:
        self._seed = seed
        self._generators = _generators(device) if seed is not None else []
        self._states: list[Tensor] = []
        self._unused: Tensor | None = None
        self.drawn_on_gpu = False

    def __enter__(self) -> Randomness:
        self._states = [generator.get_state() for generator in self._generators]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._look()
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_state(state)
        self._states, self._unused = [], None

    def select(self, index: int) -> None:
        """Begin the numbers of evaluation `index`."""
        if self._seed is None:
            return
        self._look()
        seed = (self._seed + index * _SEED_STEP) % _SEED_RANGE
        for generator in self._generators:
            generator.manual_seed(seed)
        if len(self._generators) > 1:
            self._unused = self._generators[-1].get_state()

    def _look(self) -> None:
        """Notice whether the last evaluation drew from the GPU's generator (its state lies on the CPU)."""
        if self._unused is not None and not self.drawn_on_gpu:
            self.drawn_on_gpu = not torch.equal(self._unused, self._generators[-1].get_state())


def draw_seed() -> int:
    """A seed for `Randomness`, from torch's CPU generator (so that `torch.manual_seed` decides it)."""
    return int(torch.randint(_SEED_RANGE - 1, ()).item())


def _generators(device: torch.device) -> list[torch.Generator]:
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators


def buffers_of(module: nn.Module) -> list[BufferPlace]:
    """Where the buffers of `module` and its children are."""
    return [(owner, name) for owner in module.modules() for name, b in owner._buffers.items() if b is not None]


class BuffersKept:
    """Let modules write to copies of their buffers, and give them the originals back at the end; may be used again.

    An evaluation inside uses batch statistics as usual but leaves `running_mean`, `num_batches_tracked` and every
    other buffer as they were. The originals are not written to at all, so no graph that saved one is disturbed.

    Args:
        places: from `buffers_of`.
    """

    def __init__(self, places: Sequence[BufferPlace]) -> None:
        self._places = places
        self._originals: list[Tensor] = []

    def __enter__(self) -> None:
        self._originals = [getattr(owner, name) for owner, name in self._places]
        for (owner, name), buffer in zip(self._places, self._originals, strict=True):
            setattr(owner, name, buffer.clone())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (owner, name), buffer in zip(self._places, self._originals, strict=True):
            setattr(owner, name, buffer)
        self._originals = []
