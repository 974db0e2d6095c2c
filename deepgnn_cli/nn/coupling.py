"""One pass through reversible layers: forwards, and backwards by inversion.

N nodes, E edges, C channels, D edge channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepgnn_cli.nn.additions import FloatAddition, GridAddition
from deepgnn_cli.nn.recompute import AutocastState, Randomness, buffers_kept

Layers = Sequence[Sequence[nn.Module]]
Slots = Sequence[Sequence[dict[str, int]]]  # [layer][group]: a branch's parameter names and their positions


class SharedInputs:
    """What all branches read: x0 and mask split over the groups, and the graph with its edge features.

    Args:
        graph: any object; if `edge_attr` is given, it must have `with_edge_attr(tensor)`.
        groups: G.
        x0, mask: [N, C] or None.
        edge_attr: [E, D] or None; serves every group unsplit.
    """

    def __init__(
        self, graph: Any, groups: int, x0: Tensor | None, mask: Tensor | None, edge_attr: Tensor | None
    ) -> None:
        self.x0 = _split(x0, groups)
        self.mask = _split(mask, groups)
        self.edge_attr = edge_attr
        self.graph = graph if edge_attr is None else graph.with_edge_attr(edge_attr)

    def leaves(self, group: int) -> list[Tensor]:
        """Those of x0, mask and edge_attr, as read by the branches of `group`, that want gradients."""
        read = (self.x0[group], self.mask[group], self.edge_attr)
        return [tensor for tensor in read if tensor is not None and tensor.requires_grad]

    @classmethod
    def as_leaves(
        cls, graph: Any, groups: int, shared: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> SharedInputs:
        """The same for (x0, mask, edge_attr), cut off from their history; where `wanted`, a gradient is found."""
        inputs = cls(graph, groups, *(None if tensor is None else tensor.detach() for tensor in shared))
        for read, want in zip((inputs.x0, inputs.mask, [inputs.edge_attr]), wanted, strict=True):
            for tensor in read:
                if tensor is not None and want:
                    tensor.requires_grad_()
        return inputs


def _split(tensor: Tensor | None, groups: int) -> list[Tensor | None]:
    if tensor is None:
        return [None] * groups
    return [part.contiguous() for part in tensor.chunk(groups, dim=1)]


@dataclass(frozen=True)
class Coupling:
    """The layers of one pass, and the state in which their branches are evaluated.

    Args:
        layers: L lists of G branches.
        addition: how a branch's result joins the stream.
        randomness: the random numbers of the pass; branch b of layer l draws those of evaluation l G + b.
        autocast: the state in which the pass began.
    """

    layers: Layers
    addition: FloatAddition | GridAddition
    randomness: Randomness
    autocast: AutocastState

    @property
    def groups(self) -> int:
        """G."""
        return len(self.layers[0])

    def tracked(self, x: Tensor, shared: SharedInputs) -> Tensor:
        """All layers by plain autograd, which keeps what it needs of each one: [N, C] -> [N, C]."""
        parts = [self.addition.start(part) for part in x.chunk(self.groups, dim=1)]  # G times [N, C / G]
        with self.randomness:
            for layer in range(len(self.layers)):
                self.advance(layer, parts, shared, self.addition.add)
        return self.addition.finish(torch.cat(parts, dim=1))

    def untracked(self, x: Tensor, shared: SharedInputs) -> Tensor:
        """All layers under `no_grad`, in the memory of one: [N, C] -> [N, C], the same bits as `tracked`."""
        parts = [_own(self.addition.start(part)) for part in x.chunk(self.groups, dim=1)]
        with self.randomness, self.autocast.restore():
            for layer in range(len(self.layers)):
                self.advance(layer, parts, shared, self.addition.add_)
        return self.addition.finish(torch.cat(parts, dim=1))

    def inverse(self, y: Tensor, shared: SharedInputs) -> Tensor:
        """The x [N, C] that `untracked` turns into `y` [N, C]."""
        parts = [_own(part) for part in y.chunk(self.groups, dim=1)]
        with self.randomness, self.autocast.restore():
            for layer in reversed(range(len(self.layers))):
                for group in reversed(range(self.groups)):
                    source = _sum([parts[i] for i in self.sources(group)])
                    self.addition.undo_(parts[group], self.branch(layer, group, source, shared))
        return torch.cat(parts, dim=1)

    def sources(self, group: int) -> list[int]:
        """The groups whose sum the branch of `group` reads."""
        return [group - 1] if group else list(range(1, self.groups))

    def advance(
        self, layer: int, parts: list[Tensor], shared: SharedInputs, add: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """One layer: replace every x_i in `parts` by y_i."""
        for group in range(self.groups):
            source = _sum([parts[i] for i in self.sources(group)])
            parts[group] = add(parts[group], self.branch(layer, group, source, shared))

    def branch(
        self, layer: int, group: int, source: Tensor, shared: SharedInputs, aliases: dict[str, Tensor] | None = None
    ) -> Tensor:
        """f(source), [N, C / G], drawing its own random numbers; `aliases` stand in for parameters."""
        branch = self.layers[layer][group]
        arguments = (source, shared.graph, shared.x0[group], shared.mask[group])
        self.randomness.select(layer * self.groups + group)
        before = _version(source)
        f: Tensor = functional_call(branch, aliases, arguments) if aliases else branch(*arguments)
        if f.shape != source.shape:
            raise ValueError(
                f"layer {layer + 1}, group {group + 1}: the branch turns {list(source.shape)} into {list(f.shape)}; "
                "a reversible branch must keep the size of its input"
            )
        if _version(source) != before:
            raise ValueError(
                f"layer {layer + 1}, group {group + 1}: the branch writes to its input, which cannot be undone; "
                "its first operation must not be in place (inplace=False)"
            )
        return f


class Unwinding:
    """The backward pass: from the output and its gradient to the input and the gradients of everything read.

    Each branch is evaluated once, with gradients; that gives x_i = y_i - f_i as well as the gradient of f_i.

    Args:
        coupling: the pass to be undone.
        shared: its shared inputs, as leaves (`requires_grad` where a gradient is wanted).
        output, gradient: y and its gradient, [N, C]; read only.
        parameters: P parameters that want gradients.
        slots: from `trainable`.
    """

    def __init__(
        self,
        coupling: Coupling,
        shared: SharedInputs,
        output: Tensor,
        gradient: Tensor,
        parameters: Sequence[nn.Parameter],
        slots: Slots,
    ) -> None:
        self._coupling = coupling
        self._shared = shared
        self._parts = [_own(part) for part in output.chunk(coupling.groups, dim=1)]
        self._gradients = [_own(part) for part in gradient.chunk(coupling.groups, dim=1)]
        self._parameters = parameters
        self._slots = slots
        self.parameter_gradients: list[Tensor | None] = [None] * len(parameters)
        self._shared_gradients: dict[Tensor, Tensor] = {}

    def run(self, *, first_layer: int) -> None:
        """Undo the layers from the last to `first_layer`."""
        coupling = self._coupling
        with coupling.randomness, coupling.autocast.restore():
            for layer in reversed(range(first_layer, len(coupling.layers))):
                for group in reversed(range(coupling.groups)):
                    self._undo(layer, group)

    @property
    def input_gradient(self) -> Tensor:
        """[N, C]."""
        return torch.cat(self._gradients, dim=1)

    def joined_gradient(self, parts: Sequence[Tensor | None]) -> Tensor | None:
        """The gradient of the shared input that was split into `parts`; None where none of them was read."""
        found = [None if part is None else self._shared_gradients.get(part) for part in parts]
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
        coupling, branch = self._coupling, self._coupling.layers[layer][group]
        sources = coupling.sources(group)
        source = _sum([self._parts[i] for i in sources]).detach().requires_grad_()
        own = {name: self._parameters[slot] for name, slot in self._slots[layer][group].items()}
        aliases = _aliases(branch, own)
        with torch.enable_grad(), buffers_kept([branch]):
            f = coupling.branch(layer, group, source, self._shared, aliases)
        coupling.addition.undo_(self._parts[group], f.detach())
        if f.requires_grad:
            gradient = self._differentiate(f, source, layer, group, [aliases.get(n, p) for n, p in own.items()])
            if gradient is not None:
                for i in sources:
                    self._gradients[i].add_(gradient)

    def _differentiate(self, f: Tensor, source: Tensor, layer: int, group: int, own: Sequence[Tensor]) -> Tensor | None:
        """The gradient of `source`; those of the branch's `own` parameters and of the shared inputs are added up."""
        shared = self._shared.leaves(group)
        at_f = self._gradients[group]
        found = torch.autograd.grad(f, [source, *own, *shared], at_f.to(f.dtype), allow_unused=True)
        for slot, gradient in zip(self._slots[layer][group].values(), found[1 : 1 + len(own)], strict=True):
            if gradient is not None:
                self._add_to_parameter(slot, gradient, at_f)
        for leaf, gradient in zip(shared, found[1 + len(own) :], strict=True):
            if gradient is not None:
                self._add_to_shared(leaf, gradient)
        return found[0]

    def _add_to_parameter(self, slot: int, gradient: Tensor, at_f: Tensor) -> None:
        earlier = self.parameter_gradients[slot]
        if earlier is not None:
            gradient = earlier + gradient
        elif _same_memory(gradient, at_f):
            gradient = gradient.clone()  # a branch such as x + bias hands on the very tensor that we go on adding to
        self.parameter_gradients[slot] = gradient

    def _add_to_shared(self, leaf: Tensor, gradient: Tensor) -> None:
        if leaf in self._shared_gradients:
            self._shared_gradients[leaf].add_(gradient)
        else:
            self._shared_gradients[leaf] = gradient.clone()


def trainable(layers: Layers) -> tuple[list[nn.Parameter], Slots]:
    """The parameters that want gradients, each once, and where every branch's own stand among them."""
    positions: dict[nn.Parameter, int] = {}
    slots = [
        [
            {name: positions.setdefault(p, len(positions)) for name, p in branch.named_parameters() if p.requires_grad}
            for branch in layer
        ]
        for layer in layers
    ]
    return list(positions), slots


def _aliases(branch: nn.Module, own: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Stand-ins for those of a branch's parameters that the second evaluation must not touch as they are.

    A hook on a parameter belongs to its final gradient, which autograd hands it later; and a parameter may have been
    replaced or frozen since the forward pass (`torch.func.functional_call` puts the old ones back).
    """
    current = dict(branch.named_parameters())
    return {
        name: p.detach().requires_grad_()
        for name, p in own.items()
        if p._backward_hooks or p is not current.get(name) or not p.requires_grad
    }


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def _own(part: Tensor) -> Tensor:
    """A contiguous copy that may be written to."""
    return part.clone(memory_format=torch.contiguous_format)


def _version(tensor: Tensor) -> int:
    """Counts the writes to a tensor (inference tensors are not counted)."""
    return 0 if tensor.is_inference() else tensor._version


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.layout == torch.strided and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
