"""The backward pass of reversible layers: each branch is evaluated once more, for its inverse and its gradient.

N nodes, C channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node

from deepgnn_cli.nn.late import LateCheck
from deepgnn_cli.nn.reversible.coupling import Coupling, SharedInputs, add_up, own_copy

_LEAF = "torch::autograd::AccumulateGrad"
Observers = dict[int, list[Callable[[Tensor], object]]]  # what to call with the gradient [N, C] of a layer's output


class BackwardPass:
    """The backward pass: from the output and its gradient to the input and the gradients of everything read.

    Each branch is evaluated once, with gradients; that gives x_i = y_i - f_i as well as the gradient of f_i.

    Args:
        coupling: the pass to be undone.
        shared: its shared inputs, as leaves (`requires_grad` where a gradient is wanted).
        output, gradient: y and its gradient, [N, C]; read only.
        parameters: the P tensors with gradients that the branches read.
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
        self._numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
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

    def check_input(self, expected: Tensor, sample: Callable[[Tensor], Tensor], check: LateCheck) -> None:
        """Hold the input that was found again against what `sample` of it was; `check` looks, on a GPU a pass later.

        NaN passes: it spoils the loss, where it is looked for. While a CUDA graph is captured nothing can be raised.

        Raises:
            ValueError: they differ by more than rounding (on a GPU, in the pass before); then the gradients are wrong.
        """
        addition = self._coupling.addition
        if not expected.numel() or (expected.is_cuda and torch.cuda.is_current_stream_capturing()):
            return
        wanted = addition.start(expected)
        size = wanted.abs().max().clamp(min=1)
        error = (sample(torch.cat(self._parts, dim=1)) - wanted).abs().max() / size
        check.look(error, partial(_judge, addition.tolerance(wanted.dtype, self._coupling.autocast.enabled)))

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
        assert coupling.evaluations is not None
        sources = coupling.sources(group)
        source = add_up([self._parts[i] for i in sources]).detach().requires_grad_()
        read = coupling.evaluations[layer * coupling.groups + group].differentiable
        # Not the parameters themselves: a hook on one belongs to its final gradient.
        leaves = {id(parameter): parameter.detach().requires_grad_() for parameter in read}
        with torch.enable_grad(), coupling.autocast.restore():
            f = coupling.branch(layer, group, source, self._shared, leaves)
        coupling.addition.undo_(self._parts[group], f.detach())
        if f.requires_grad:
            gradient = self._differentiate(f, source, group, leaves)
            if gradient is not None:
                for i in sources:
                    self._gradients[i].add_(gradient)

    def _differentiate(self, f: Tensor, source: Tensor, group: int, leaves: Mapping[int, Tensor]) -> Tensor | None:
        """The gradient of `source`; those of `leaves` and of shared inputs are added up."""
        shared = self._shared.leaves(group)
        numbers = [self._numbers[parameter] for parameter in leaves]
        behind = self._reached_otherwise(f, {id(tensor) for tensor in (source, *leaves.values(), *shared)})
        numbers += [self._numbers[id(parameter)] for parameter in behind]
        wanted = [*leaves.values(), *behind]
        at_f = self._coupling.addition.gradient(self._gradients[group]).to(f.dtype)
        found = torch.autograd.grad(f, [source, *wanted, *shared], at_f, allow_unused=True)
        for number, gradient in zip(numbers, found[1 : 1 + len(wanted)], strict=True):
            if gradient is not None:
                self._sums[number].add_(gradient)
                self._read[number] = True
        for leaf, gradient in zip(shared, found[1 + len(wanted) :], strict=True):
            if gradient is not None:
                self._add_to_shared(leaf, gradient)
        return found[0]

    def _reached_otherwise(self, f: Tensor, known: set[int]) -> list[Tensor]:
        """Parameters that f reads by another way than their place in the module, as an LSTM reads its weights.

        Raises:
            ValueError: f reads a tensor that wants a gradient and that is no parameter; it would get none.
        """
        others = [leaf for leaf in _leaves(f) if id(leaf) not in known]
        for leaf in others:
            if id(leaf) not in self._numbers or leaf._backward_hooks:
                raise ValueError(
                    f"a branch of a reversible layer reads a tensor {list(leaf.shape)} that wants a gradient and is "
                    "neither an argument nor a parameter of it, so its gradient would be lost; register it as a "
                    "parameter, or set residual.store_activations=true"
                )
        return others

    def _add_to_shared(self, leaf: Tensor, gradient: Tensor) -> None:
        if id(leaf) in self._shared_gradients:
            self._shared_gradients[id(leaf)].add_(gradient)
        else:
            self._shared_gradients[id(leaf)] = gradient.clone()


def _judge(tolerance: float, error: float) -> None:
    if error > tolerance:
        remedy = _ROUNDING if tolerance else _ORDER
        raise ValueError(
            f"reversible layers: evaluated backwards they do not find their input again (off by {error:.1g} of its "
            f"size), so gradients would be wrong. A branch must give the same result when evaluated again; {remedy}"
        )


_ROUNDING = "set residual.exact=true if it is rounding that adds up, or residual.store_activations=true"
_ORDER = (
    "with residual.exact=true to the last bit, which a conv that scatters on a GPU does not (it adds up in any order): "
    "choose one of `deepgnn ls conv`, or residual.exact=false"
)


def _leaves(f: Tensor) -> list[Tensor]:
    """The leaves of the autograd graph that ends in `f`."""
    found: list[Tensor] = []
    seen: set[Node] = set()
    waiting = [f.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == _LEAF:
            found.append(node.variable)  # type: ignore[attr-defined]
        else:
            waiting.extend(before for before, _ in node.next_functions)
    return found
