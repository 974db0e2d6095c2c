"""How a pass evaluates its modules: each with tensors of its own, or all of them stacked into one.

n modules, P parameters that want gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor, nn

from deepgnn_cli.nn.reversible.stacking import Held, Holding, StackedModules, held_by

NumberedPart = tuple[int, Any]  # the number of a parameter, and which part of it: an index, or ... for all of it


class Evaluator(Protocol):
    """n modules for the length of a pass; what they hold when it begins is what they hold throughout."""

    def __len__(self) -> int:
        """How many they are."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The P parameters that want gradients, each once."""

    def parts(self, index: int) -> Sequence[NumberedPart]:
        """Those that module `index` reads."""

    def evaluate(self, index: int, arguments: Sequence[Any]) -> Tensor:
        """What module `index` makes of `arguments`, counted in its buffers."""

    def again(self, index: int, leaves: Sequence[Tensor], arguments: Sequence[Any]) -> Tensor:
        """The same, leaving no trace: with `leaves` in place of `parts(index)`, and copies of the buffers.

        The parameters themselves are not touched: a hook on one belongs to its final gradient.
        """


def evaluator(modules: nn.ModuleList | StackedModules, tracked: bool) -> Evaluator:
    """The right one for `modules`; `tracked`: gradients shall flow through `evaluate`."""
    return Stacked(modules, tracked) if isinstance(modules, StackedModules) else Separate(list(modules))


class Separate:
    """Modules with tensors of their own, some of which they may share."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules

    def __len__(self) -> int:
        return len(self._modules)

    @cached_property
    def _held(self) -> list[list[Held]]:
        return [held_by(module) for module in self._modules]

    @cached_property
    def _slots(self) -> dict[int, tuple[int, Tensor]]:
        slots: dict[int, tuple[int, Tensor]] = {}
        for held in (each for module in self._held for each in module if each.tensor.requires_grad):
            slots.setdefault(id(held.tensor), (len(slots), held.tensor))
        return slots

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The P parameters that want gradients, each once."""
        return [parameter for _, parameter in self._slots.values()]

    def parts(self, index: int) -> Sequence[NumberedPart]:
        """Those that module `index` reads."""
        places = (self._slots.get(id(held.tensor)) for held in self._held[index])
        return [(place[0], ...) for place in places if place is not None]

    def evaluate(self, index: int, arguments: Sequence[Any]) -> Tensor:
        """What module `index` makes of `arguments`, counted in its buffers."""
        result: Tensor = self._modules[index](*arguments)
        return result

    def again(self, index: int, leaves: Sequence[Tensor], arguments: Sequence[Any]) -> Tensor:
        """The same, leaving no trace."""
        held = self._held[index]
        wanted = iter(leaves)
        tensors = [next(wanted) if id(each.tensor) in self._slots else _own(each, each.tensor) for each in held]
        with Holding(held, tensors):
            result: Tensor = self._modules[index](*arguments)
        return result


class Stacked:
    """Modules stacked into one; with `tracked`, gradients flow to the stacked tensors."""

    def __init__(self, modules: StackedModules, tracked: bool) -> None:
        self._count, self._module = len(modules), modules.template
        self._held = held_by(modules.template)
        # Unbound, the backward pass joins the gradients of all rows once; indexed, it would fill a whole stack a row.
        self._rows: list[Sequence[Tensor] | Tensor] = [
            each.tensor.unbind() if tracked and each.tensor.requires_grad else each.tensor.detach()
            for each in self._held
        ]
        self._trained = [each.tensor.requires_grad for each in self._held]
        self._buffers = [number for number, each in enumerate(self._held) if each.is_buffer]

    def __len__(self) -> int:
        return self._count

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The P parameters that want gradients, each once."""
        return [held.tensor for held, trained in zip(self._held, self._trained, strict=True) if trained]

    def parts(self, index: int) -> Sequence[NumberedPart]:
        """Those that module `index` reads."""
        return [(number, index) for number in range(sum(self._trained))]

    def evaluate(self, index: int, arguments: Sequence[Any]) -> Tensor:
        """What module `index` makes of `arguments`, counted in its buffers."""
        with Holding(self._held, self._tensors(index)):
            result: Tensor = self._module(*arguments)
            for number in self._buffers:
                self._rows[number][index].copy_(self._held[number].now.detach())
        return result

    def again(self, index: int, leaves: Sequence[Tensor], arguments: Sequence[Any]) -> Tensor:
        """The same, leaving no trace."""
        wanted = iter(leaves)
        rows = zip(self._tensors(index), self._trained, strict=True)
        with Holding(self._held, [next(wanted) if trained else row for row, trained in rows]):
            result: Tensor = self._module(*arguments)
        return result

    def _tensors(self, index: int) -> list[Tensor]:
        return [_own(held, rows[index]) for held, rows in zip(self._held, self._rows, strict=True)]


def _own(held: Held, tensor: Tensor) -> Tensor:
    """A copy of a buffer: what is written to it must not disturb a graph that has saved its neighbours in the stack."""
    return tensor.clone() if held.is_buffer else tensor
