"""The backward pass of reversible layers: each branch is evaluated once more, for its inverse and its gradient.

N nodes, C channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepgnn_cli.nn.reversible.coupling import Coupling, SharedInputs, add_up, own_copy
from deepgnn_cli.nn.reversible.evaluators import NumberedPart

Observers = dict[int, list[Callable[[Tensor], object]]]  # what to call with the gradient [N, C] of a layer's output


class Unwinding:
    """The backward pass: from the output and its gradient to the input and the gradients of everything read.

    Each branch is evaluated once, with gradients; that gives x_i = y_i - f_i as well as the gradient of f_i.

    Args:
        coupling: the pass to be undone.
        shared: its shared inputs, as leaves (`requires_grad` where a gradient is wanted).
        output, gradient: y and its gradient, [N, C]; read only.
        parameters: the P parameters of `coupling.branches`.
        sums: zeros in the size of each, which become their gradients. (A copy is needed anyway: a branch may hand on
            the very gradient it was given.)
    """

    def __init__(
        self,
        coupling: Coupling,
        shared: SharedInputs,
        output: Tensor,
        gradient: Tensor,
        parameters: Sequence[Tensor],
        sums: Sequence[Tensor],
    ) -> None:
        self._coupling = coupling
        self._shared = shared
        self._parts = [own_copy(part) for part in output.chunk(coupling.groups, dim=1)]
        self._gradients = [own_copy(part) for part in gradient.chunk(coupling.groups, dim=1)]
        self._parameters = [parameter.detach() for parameter in parameters]
        self._sums = sums
        self._read = [False] * len(parameters)
        self._shared_gradients: dict[int, Tensor] = {}

    def run(self, first_layer: int, observers: Observers) -> None:
        """Undo the layers from the last to `first_layer`; `observers` hear the gradient of what each one gives."""
        coupling = self._coupling
        with coupling.randomness:
            for layer in reversed(range(first_layer, coupling.layers)):
                for observe in observers.get(layer, ()):
                    observe(self.input_gradient)
                for group in reversed(range(coupling.groups)):
                    self._undo(layer, group)

    @property
    def input_gradient(self) -> Tensor:
        """[N, C]."""
        return torch.cat(self._gradients, dim=1)

    @property
    def parameter_gradients(self) -> list[Tensor | None]:
        """Of each parameter; None where none has read it."""
        return [total if read else None for total, read in zip(self._sums, self._read, strict=True)]

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
        parts = coupling.branches.parts(layer * coupling.groups + group)
        leaves = [self._parameters[number][which].requires_grad_() for number, which in parts]
        with torch.enable_grad(), coupling.autocast.restore():
            f = coupling.branch(layer, group, source, self._shared, leaves)
        coupling.addition.undo_(self._parts[group], f.detach())
        if f.requires_grad:
            gradient = self._differentiate(f, source, group, leaves, parts)
            if gradient is not None:
                for i in sources:
                    self._gradients[i].add_(gradient)

    def _differentiate(
        self, f: Tensor, source: Tensor, group: int, leaves: Sequence[Tensor], parts: Sequence[NumberedPart]
    ) -> Tensor | None:
        """The gradient of `source`; those of `leaves` (`parts` of the parameters) and of shared inputs are added up."""
        shared = self._shared.leaves(group)
        at_f = self._coupling.addition.gradient(self._gradients[group])
        found = torch.autograd.grad(f, [source, *leaves, *shared], at_f.to(f.dtype), allow_unused=True)
        for (number, which), gradient in zip(parts, found[1 : 1 + len(leaves)], strict=True):
            if gradient is not None:
                self._sums[number][which].add_(gradient)
                self._read[number] = True
        for leaf, gradient in zip(shared, found[1 + len(leaves) :], strict=True):
            if gradient is not None:
                self._add_to_shared(leaf, gradient)
        return found[0]

    def _add_to_shared(self, leaf: Tensor, gradient: Tensor) -> None:
        if id(leaf) in self._shared_gradients:
            self._shared_gradients[id(leaf)].add_(gradient)
        else:
            self._shared_gradients[id(leaf)] = gradient.clone()
