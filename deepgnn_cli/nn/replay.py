"""The second evaluation of a part of the network, with all that the first one read.

A reversible stack and a checkpointed segment evaluate a module once in the forward pass and again in the backward
pass. The second evaluation has to see the random numbers, the buffers and the autocast state of the first, and must
leave no trace: batch statistics are counted once, and the program's own random stream stays where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

_SEED_STEP = 0x9E3779B97F4A7C15  # odd, so that consecutive branches get unlike seeds also in their low 32 bits
_SEED_RANGE = 2**63
_GENERATORS = threading.RLock()  # torch's generators belong to the whole process: one pass at a time replays on them


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

    def restore(self) -> AbstractContextManager[object]:
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
        if self._generators:
            _GENERATORS.acquire()
        self._states = [generator.get_state() for generator in self._generators]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._look()
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_state(state)
        self._states, self._unused = [], None
        if self._generators:
            _GENERATORS.release()

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
    with _GENERATORS:
        return int(torch.randint(_SEED_RANGE - 1, ()).item())


def _generators(device: torch.device) -> list[torch.Generator]:
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators


class Evaluation:
    """One evaluation of a module, which can be repeated as it was, and leaves no trace when it is.

    The module itself is evaluated first. What is repeated is evaluated on a shallow copy, in which every parameter,
    buffer, attribute and training mode is what it was before: so the repetition reads the running statistics that the
    first evaluation read, writes to nothing that others see, and no other thread meets a module that is not whole.
    Kept meanwhile: references, and a copy of each buffer that the first evaluation wrote to.

    Args:
        module: what is evaluated.
    """

    __slots__ = ("_module", "_owners", "_places", "_modes", "_changed_tensors", "_changed_attributes")

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._owners = _owners(module)
        self._places = self._tensors()
        self._modes = [owner.training for owner in self._owners]
        self._changed_tensors: dict[int, Tensor] = {}
        self._changed_attributes: list[dict[str, object]] = []

    @property
    def differentiable(self) -> list[Tensor]:
        """The parameters, and tensors that are attributes, which want gradients."""
        return [tensor for *_, tensor in self._places if tensor.requires_grad]

    def first(self, *arguments: object) -> Any:
        """What the module makes of `arguments`; what that changes in the module is noted."""
        self._places = self._tensors()  # anew: another evaluation of this module may have put others there
        attributes = [vars(owner).copy() for owner in self._owners]
        state = [(tensor, _version(tensor), tensor.clone()) for tensor in self._state()]
        result = self._module(*arguments)
        self._changed_tensors = {id(tensor): copy for tensor, version, copy in state if _version(tensor) != version}
        changed = [_changes(before, vars(owner)) for before, owner in zip(attributes, self._owners, strict=True)]
        self._changed_attributes = changed if any(changed) else []
        return result

    def again(self, arguments: Sequence[object], instead: Mapping[int, Tensor]) -> Any:
        """The same once more, with other tensors in place of those whose `id` is in `instead`.

        Raises:
            ValueError: the copy has written to a buffer of the module itself, which it reaches behind our back.
        """
        copies = {id(owner): _copy(owner) for owner in self._owners}
        made = list(copies.values())
        for copy, mode in zip(made, self._modes, strict=True):
            tables = vars(copy)
            tables["training"] = mode
            tables["_modules"] = {k: v if v is None else copies[id(v)] for k, v in tables["_modules"].items()}
        for copy, changed in zip(made, self._changed_attributes, strict=False):
            for name, value in changed.items():
                if value is _ABSENT:
                    vars(copy).pop(name, None)
                else:
                    vars(copy)[name] = value
        fresh: dict[int, Tensor] = dict(instead)
        for number, table, name, tensor in self._places:
            if table != "_parameters" and not tensor.requires_grad and id(tensor) not in fresh:
                fresh[id(tensor)] = self._changed_tensors.get(id(tensor), tensor).clone()
            holder = vars(made[number])[table] if table else vars(made[number])
            holder[name] = fresh.get(id(tensor), tensor)
        versions = [_version(tensor) for tensor in self._state()]
        result = made[0](*arguments)
        if versions != [_version(tensor) for tensor in self._state()]:
            raise ValueError(
                f"{type(self._module).__name__} writes to a buffer of another module than the one it is called on, so "
                "it cannot be evaluated a second time without a trace; keep activations instead "
                "(residual.store_activations=true, checkpoint_every=0)"
            )
        return result

    def _tensors(self) -> list[tuple[int, str, str, Tensor]]:
        """Every tensor of the module: the number of its owner, the table there that holds it, and its name in it."""
        return [
            (number, table, name, tensor)
            for number, owner in enumerate(self._owners)
            for table, tensors in (("_parameters", owner._parameters), ("_buffers", owner._buffers), ("", vars(owner)))
            for name, tensor in tensors.items()
            if isinstance(tensor, Tensor)
        ]

    def _state(self) -> list[Tensor]:
        """What an evaluation may write to: buffers, and tensors that are attributes."""
        return [t for _, table, _, t in self._places if table != "_parameters" and not t.requires_grad]


_ABSENT = object()


def _owners(module: nn.Module) -> list[nn.Module]:
    """`module` and all below it, each once, itself first."""
    found, waiting = {id(module): module}, [module]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return list(found.values())


def _copy(module: nn.Module) -> nn.Module:
    """A module of the same class with tables of its own and the same contents."""
    copy: nn.Module = type(module).__new__(type(module))
    vars(copy).update(vars(module))
    for table in ("_parameters", "_buffers"):
        vars(copy)[table] = dict(vars(module)[table])
    return copy


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """What `before` held under the names that hold another object now."""
    changed = {name: value for name, value in before.items() if after.get(name, _ABSENT) is not value}
    if len(after) != len(before) or changed:
        changed.update((name, _ABSENT) for name in after if name not in before)
    return changed


def _version(tensor: Tensor) -> int:
    """Counts the writes to a tensor (inference tensors are not counted)."""
    return 0 if tensor.is_inference() else tensor._version
