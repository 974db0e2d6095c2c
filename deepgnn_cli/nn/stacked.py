"""Layers that differ in nothing but their tensors, kept as one module whose tensors are those of all, stacked.

A thousand layers as a thousand modules cost more memory in Python objects and small arrays than their weights take,
and an optimiser, a checkpoint and a gradient check must walk through all of them. Stacked, they are one module and a
few large tensors.

n modules.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.inspector import Inspector

Part = tuple[nn.Parameter, Any]  # a parameter, and what is meant of it: an index, or ... for all
Place = tuple[dict[str, Any], str]  # a module's table of parameters or of buffers, and a name in it

# What a module keeps in tables of its own, and what is compared table by table.
_TABLES = ("_parameters", "_buffers", "_modules")

_ATOMS = (str, int, float, bytes)

# Pairs under comparison, by their ids; held, so that no id is given to another object meanwhile.
_Compared = dict[tuple[int, int], tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter or buffer of a module, and every place in it that holds it (several: tied weights)."""

    tensor: Tensor
    places: list[Place]
    is_buffer: bool

    def put(self, tensor: Tensor) -> None:
        """Let all places hold `tensor`."""
        for table, name in self.places:
            table[name] = tensor

    @property
    def now(self) -> Any:
        """What they hold at present."""
        table, name = self.places[0]
        return table[name]


def held_by(module: nn.Module) -> list[Held]:
    """Every tensor that `module` and its children have registered, each once."""
    found: dict[int, Held] = {}
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    held = found.setdefault(id(tensor), Held(tensor, [], table is owner._buffers))
                    held.places.append((table, name))
    return list(found.values())


def parts_of(module: nn.Module) -> list[Part]:
    """All of its parameters."""
    return [(parameter, ...) for parameter in module.parameters()]


@contextmanager
def holding(held: Sequence[Held], tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let a module hold `tensors` instead, for an evaluation.

    As `torch.func.functional_call` does, which looks up every name anew each time; here that is half of a layer's
    time.
    """
    before = [each.now for each in held]
    for each, tensor in zip(held, tensors, strict=True):
        each.put(tensor)
    try:
        yield
    finally:
        for each, tensor in zip(held, before, strict=True):
            each.put(tensor)


class StackedModules(nn.Module):
    """n modules in the shape of one, `template`, whose every parameter and buffer `t` is now the stack [n, *t.shape].

    The template cannot be called as it is: what wants to evaluate module i puts the i-th tensors in its places
    (`held_by`, `holding`). `module(i)` is one to look at.

    Args:
        modules: `alike`, and without a tensor in common. The first becomes the template.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        of_all = [held_by(module) for module in modules]
        for same in zip(*of_all, strict=True):
            first = same[0]
            together = torch.stack([each.tensor.detach() for each in same])
            if not first.is_buffer:
                together = nn.Parameter(together, requires_grad=first.tensor.requires_grad)
            first.put(together)
        self.template, self._count = modules[0], len(modules)

    def __len__(self) -> int:
        return self._count

    def module(self, index: int) -> nn.Module:
        """A module of its own that shares the memory of the tensors number `index`, but not their gradients."""
        rows: dict[int, Any] = {}
        for held in held_by(self.template):
            row = held.tensor.detach()[index]
            rows[id(held.tensor)] = row if held.is_buffer else nn.Parameter(row, held.tensor.requires_grad)
        return copy.deepcopy(self.template, rows)

    def extra_repr(self) -> str:
        """How many they are, for `print(model)`."""
        return f"{self._count} modules, their tensors stacked"


def stack_alike(modules: Sequence[nn.Module]) -> StackedModules | nn.ModuleList:
    """`modules` as one, if they differ in nothing but their tensors and share none; as a list, if they do."""
    counts = Counter(id(held.tensor) for module in modules for held in held_by(module))
    shared = any(count > 1 for count in counts.values())
    if len(modules) > 1 and not shared and all(alike(modules[0], other) for other in modules[1:]):
        return StackedModules(modules)
    return nn.ModuleList(modules)


def alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules compute the same but for the numbers in their parameters and buffers.

    Anything that cannot be compared (a lambda made anew for each, an open file) counts as different.
    """
    return _same(a, b, {}) and _pattern(a) == _pattern(b)


def _pattern(module: nn.Module) -> list[tuple[Any, ...]]:
    """What must agree of tensors that are stacked: type, size, and which places share one."""
    return [
        (type(held.tensor), held.tensor.shape, held.tensor.dtype, held.tensor.device, held.tensor.requires_grad)
        + tuple(name for _, name in held.places)
        for held in held_by(module)
    ]


def _same(a: Any, b: Any, compared: _Compared) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, _ATOMS):
        return bool(a == b)
    if isinstance(a, dict) and not a:
        return not b
    if (id(a), id(b)) in compared:
        return True
    compared[id(a), id(b)] = (a, b)
    if isinstance(a, nn.Module):
        return _same_module(a, b, compared)
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Inspector):  # what PyG has looked up of a class so far; the first operator of a class knows more
        return a._cls is b._cls
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key], compared) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y, compared) for x, y in zip(a, b, strict=True))
    if type(a).__eq__ is not object.__eq__:
        return bool(a == b)
    try:
        # All that a copy would be made of: also what is not in __dict__.
        return _same(a.__reduce_ex__(4), b.__reduce_ex__(4), compared)
    except TypeError:
        return False


def _same_module(a: nn.Module, b: nn.Module, compared: _Compared) -> bool:
    if any(list(getattr(a, table)) != list(getattr(b, table)) for table in _TABLES):
        return False
    absent = [[name for name, tensor in (m._parameters | m._buffers).items() if tensor is None] for m in (a, b)]
    rest = [{key: value for key, value in vars(m).items() if key not in _TABLES[:2]} for m in (a, b)]
    return absent[0] == absent[1] and _same(rest[0], rest[1], compared)
