"""The backward pass of reversible layers: each branch is evaluated once more, for its inverse and its gradient.

N nodes, C channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.coupling import Coupling, Layers, SharedInputs, add_up, own_copy
from deepgnn_cli.nn.recompute import BufferPlace, BuffersKept, buffers_of


@dataclass(frozen=True, slots=True)
class OwnParameter:
    """A parameter of a branch: its path there, its owner and its name in it, its number in the whole stack."""

    path: str
    owner: nn.Module
    name: str
    slot: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a branch finds its parameters that want gradients, and its buffers."""

    own: Sequence[OwnParameter]
    buffers: Sequence[BufferPlace]


Places = Sequence[Sequence[Place]]  # [layer][group]
Observers = dict[int, list[Callable[[Tensor], object]]]  # what to call with the gradient [N, C] of a layer's output


class Unwinding:
    """The backward pass: from the output and its gradient to the input and the gradients of everything read.

    Each branch is evaluated once, with gradients; that gives x_i = y_i - f_i as well as the gradient of f_i.

    Args:
        coupling: the pass to be undone.
        shared: its shared inputs, as leaves (`requires_grad` where a gradient is wanted).
        output, gradient: y and its gradient, [N, C]; read only.
        parameters: P parameters that want gradients.
        places: from `trainable`.
    """

    def __init__(
        self,
        coupling: Coupling,
        shared: SharedInputs,
        output: Tensor,
        gradient: Tensor,
        parameters: Sequence[nn.Parameter],
        places: Places,
    ) -> None:
        self._coupling = coupling
        self._shared = shared
        self._parts = [own_copy(part) for part in output.chunk(coupling.groups, dim=1)]
        self._gradients = [own_copy(part) for part in gradient.chunk(coupling.groups, dim=1)]
        self._parameters = parameters
        self._places = places
        # Taken before the walk: small lasting arrays between large fleeting ones would splinter a CPU's heap, which
        # then grows with depth. (A copy is needed anyway: a branch may hand on the very gradient it was given.)
        self._room = [torch.empty_like(p) for p in parameters]
        self.parameter_gradients: list[Tensor | None] = [None] * len(parameters)
        self._shared_gradients: dict[int, Tensor] = {}

    def run(self, first_layer: int, observers: Observers) -> None:
        """Undo the layers from the last to `first_layer`; `observers` hear the gradient of what each one gives."""
        coupling = self._coupling
        with coupling.randomness:
            for layer in reversed(range(first_layer, len(coupling.layers))):
                for observe in observers.get(layer, ()):
                    observe(self.input_gradient)
                for group in reversed(range(coupling.groups)):
                    self._undo(layer, group)

    @property
    def input_gradient(self) -> Tensor:
        """[N, C]."""
        return torch.cat(self._gradients, dim=1)

    def joined_gradient(self, parts: Sequence[Tensor | None]) -> Tensor | None:
        """The gradient of the shared input that was split into `parts`; None where none of them was read."""
        found = [None if part is None else self._shared_gradients.get(id(part)) for part in parts]
        if all(gradient is None for gradient in found):
            return None
        whole = [
            torch.zeros_like(part) if gradient is None else gradient
            for part, gradient in zip(parts, found, strict=True)
            if part is not None
        ]
        return whole[0] if len(whole) == 1 else torch.cat(whole, dim=1)

    def _undo(self, layer: int, group: int) -> None:
        """x_group from y_group in `_parts`; from the gradient of y_group, those of all that f_group reads."""
        coupling = self._coupling
        sources = coupling.sources(group)
        source = add_up([self._parts[i] for i in sources]).detach().requires_grad_()
        place = self._places[layer][group]
        aliases = _aliases(place.own, self._parameters)
        with torch.enable_grad(), coupling.autocast.restore(), BuffersKept(place.buffers):
            f = coupling.branch(layer, group, source, self._shared, aliases)
        coupling.addition.undo_(self._parts[group], f.detach())
        if f.requires_grad:
            own = [aliases.get(at.path, self._parameters[at.slot]) for at in place.own]
            gradient = self._differentiate(f, source, group, own, [at.slot for at in place.own])
            if gradient is not None:
                for i in sources:
                    self._gradients[i].add_(gradient)

    def _differentiate(
        self, f: Tensor, source: Tensor, group: int, own: Sequence[Tensor], slots: Sequence[int]
    ) -> Tensor | None:
        """The gradient of `source`; those of `own` (parameters numbered `slots`) and of shared inputs are added up."""
        shared = self._shared.leaves(group)
        at_f = self._gradients[group]
        found = torch.autograd.grad(f, [source, *own, *shared], at_f.to(f.dtype), allow_unused=True)
        for slot, gradient in zip(slots, found[1 : 1 + len(own)], strict=True):
            if gradient is not None:
                self._add_to_parameter(slot, gradient)
        for leaf, gradient in zip(shared, found[1 + len(own) :], strict=True):
            if gradient is not None:
                self._add_to_shared(leaf, gradient)
        return found[0]

    def _add_to_parameter(self, slot: int, gradient: Tensor) -> None:
        earlier = self.parameter_gradients[slot]
        if earlier is not None:
            self.parameter_gradients[slot] = earlier.add_(gradient) if not earlier.is_sparse else earlier + gradient
        elif gradient.layout == torch.strided:
            self.parameter_gradients[slot] = self._room[slot].copy_(gradient)
        else:
            self.parameter_gradients[slot] = gradient

    def _add_to_shared(self, leaf: Tensor, gradient: Tensor) -> None:
        if id(leaf) in self._shared_gradients:
            self._shared_gradients[id(leaf)].add_(gradient)
        else:
            self._shared_gradients[id(leaf)] = gradient.clone()


def trainable(layers: Layers) -> tuple[list[nn.Parameter], Places]:
    """The parameters that want gradients, each once, and where every branch finds its own."""
    found: dict[int, tuple[int, nn.Parameter]] = {}
    places = [[_place(branch, found) for branch in layer] for layer in layers]
    return [p for _, p in found.values()], places


def _place(branch: nn.Module, found: dict[int, tuple[int, nn.Parameter]]) -> Place:
    own: dict[int, OwnParameter] = {}
    for prefix, owner in branch.named_modules():
        for name, p in owner._parameters.items():
            if p is not None and p.requires_grad and id(p) not in own:
                slot, _ = found.setdefault(id(p), (len(found), p))
                own[id(p)] = OwnParameter(f"{prefix}.{name}" if prefix else name, owner, name, slot)
    return Place(list(own.values()), buffers_of(branch))


def _aliases(own: Sequence[OwnParameter], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Stand-ins for those of a branch's parameters that the second evaluation must not touch as they are.

    A hook on a parameter belongs to its final gradient, which autograd hands it later; and a parameter may have been
    replaced or frozen since the forward pass (`torch.func.functional_call` puts the old ones back).
    """
    return {
        at.path: p.detach().requires_grad_()
        for at in own
        if (p := parameters[at.slot])._backward_hooks
        or at.owner._parameters.get(at.name) is not p
        or not p.requires_grad
    }
