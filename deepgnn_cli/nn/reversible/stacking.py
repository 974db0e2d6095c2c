"""Layers that differ in nothing but their tensors, kept as one module whose tensors are those of all, stacked.

A thousand layers as a thousand modules cost more memory in Python objects and small arrays than their weights take,
and an optimiser, a checkpoint and a gradient check must walk through all of them. Stacked, they are one module and a
few large tensors.

n modules.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch_geometric.inspector import Inspector

Part = tuple[nn.Parameter, Any]  # a parameter, and what is meant of it: an index, or ... for all
Place = tuple[dict[str, Any], str]  # a module's table of parameters or of buffers, and a name in it

_TABLES = ("_parameters", "_buffers")  # where a module keeps its tensors
_ATOMS = (str, int, float, bytes)

# Pairs under comparison, by their ids; held, so that no id is given to another object meanwhile.
_Compared = dict[tuple[int, int], tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter or buffer of a module, and every place in it that holds it (several: tied weights)."""

    tensor: Tensor
    places: list[Place]
    is_buffer: bool

    def like(self, tensor: Tensor) -> Tensor:
        """`tensor` as a parameter, frozen or not, if this is one."""
        return tensor if self.is_buffer else nn.Parameter(tensor, self.tensor.requires_grad)

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


class Holding:
    """Let a module hold other tensors, for an evaluation.

    What `torch.func.functional_call` does, in a tenth of its time: it looks up every name anew.

    Args:
        held: from `held_by`.
        tensors: one in place of each.
    """

    def __init__(self, held: Sequence[Held], tensors: Sequence[Tensor]) -> None:
        self._held, self._tensors = held, tensors

    def __enter__(self) -> None:
        self._before = [each.now for each in self._held]
        for each, tensor in zip(self._held, self._tensors, strict=True):
            each.put(tensor)

    def __exit__(self, *_: object) -> None:
        for each, tensor in zip(self._held, self._before, strict=True):
            each.put(tensor)


class StackedModules(nn.Module):
    """n modules in the shape of one, `template`, whose every parameter and buffer `t` is the stack [n, *t.shape].

    The template cannot be called as it is: what wants to evaluate module i puts the i-th tensors in its places
    (`held_by`, `Holding`). `module(i)` is one to look at. `stack_alike` makes it.
    """

    def __init__(self, template: nn.Module, count: int) -> None:
        super().__init__()
        self.template, self._count = template, count

    def __len__(self) -> int:
        return self._count

    def module(self, index: int) -> nn.Module:
        """A module of its own that shares the memory of the tensors number `index`, but not their gradients."""
        held = held_by(self.template)
        return _twin(self.template, [each.like(each.tensor.detach()[index]) for each in held])

    def extra_repr(self) -> str:
        """How many they are, for `print(model)`."""
        return f"{self._count} modules, their tensors stacked"


def stack_alike(modules: Iterable[nn.Module], count: int) -> StackedModules | nn.ModuleList:
    """`count` modules as one, if they differ in nothing but their tensors and share none; as a list, if they do.

    They are best made one by one, while they are taken: then no more than two of them exist at a time.
    """
    coming = iter(modules)
    pile = _Pile(next(coming), count)
    for module in coming:
        if not pile.takes(module):
            return nn.ModuleList([*pile.apart(), module, *coming])
    return pile.stacked()


class _Pile:
    """The tensors of modules that came so far, row on row; `first` keeps its own until the end."""

    def __init__(self, first: nn.Module, count: int) -> None:
        self._first, self._held = first, held_by(first)
        self._stacks = (
            [] if _special(first) else [each.tensor.new_empty(count, *each.tensor.shape) for each in self._held]
        )
        self._count, self._taken = count, 0
        # What someone else has kept of the modules taken: by id, for a tensor that is met again belongs to several
        # modules, and by row and place.
        self._met: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self._kept: WeakValueDictionary[tuple[int, int], Tensor] = WeakValueDictionary()
        self._take(self._held)

    def takes(self, module: nn.Module) -> bool:
        """Whether `module` could be put on top."""
        held = held_by(module)
        shares = any(self._met.get(id(each.tensor)) is each.tensor for each in held)
        if shares or _special(self._first) or not alike(self._first, module):
            return False
        self._take(held)
        return True

    def apart(self) -> Iterator[nn.Module]:
        """The modules again; a tensor that someone else has kept is that very tensor."""
        yield self._first
        for row in range(1, self._taken):
            copies = [each.like(stack[row].clone()) for each, stack in zip(self._held, self._stacks, strict=True)]
            yield _twin(self._first, [self._kept.get((row, place), copied) for place, copied in enumerate(copies)])

    def stacked(self) -> StackedModules:
        """All in one."""
        assert self._taken == self._count
        for held, stack in zip(self._held, self._stacks, strict=True):
            held.put(held.like(stack))
        return StackedModules(self._first, self._count)

    def _take(self, held: Sequence[Held]) -> None:
        for place, (each, stack) in enumerate(zip(held, self._stacks, strict=False)):
            stack[self._taken].copy_(each.tensor.detach())
            self._met[id(each.tensor)] = self._kept[self._taken, place] = each.tensor
        self._taken += 1


def _twin(module: nn.Module, tensors: Sequence[Tensor]) -> nn.Module:
    """A copy of `module` that holds `tensors`."""
    return copy.deepcopy(module, {id(held.tensor): t for held, t in zip(held_by(module), tensors, strict=True)})


def _special(module: nn.Module) -> bool:
    """Whether a tensor of `module` is more than numbers: not yet there, of another class, marked or hooked."""
    tensors = [held.tensor for held in held_by(module)]
    return any(type(t) not in (Tensor, nn.Parameter) or vars(t) or t._backward_hooks for t in tensors)


def alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules compute the same but for the numbers in their parameters and buffers.

    Anything that cannot be compared (a lambda made anew for each, an open file) counts as different. What a module
    remembers otherwise than in a buffer it would, stacked, share with the others.
    """
    return not _special(a) and not _special(b) and _same(a, b, {}) and _pattern(a) == _pattern(b)


def _pattern(module: nn.Module) -> list[tuple[Any, ...]]:
    """What must agree of tensors that are stacked: size, type, and which places share one."""
    tensors = [t for owner in module.modules() for table in _TABLES for t in getattr(owner, table).values()]
    numbers = {id(t): number for number, t in reversed(list(enumerate(tensors)))}
    return [(numbers[id(t)], t.shape, t.dtype, t.device, t.requires_grad) for t in tensors if t is not None]


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
    equality: Any = type(a).__eq__
    try:
        if equality is not object.__eq__:
            return bool(a == b)
        # All that a copy would be made of: also what is not in __dict__.
        return _same(a.__reduce_ex__(4), b.__reduce_ex__(4), compared)
    except (TypeError, ValueError):
        return False


def _same_module(a: nn.Module, b: nn.Module, compared: _Compared) -> bool:
    names = [[(name, t is None) for table in _TABLES for name, t in getattr(m, table).items()] for m in (a, b)]
    rest = [{key: value for key, value in vars(m).items() if key not in _TABLES} for m in (a, b)]
    return names[0] == names[1] and _same(rest[0], rest[1], compared)
