"""One pass through reversible layers, and its inverse.

N nodes, E edges, C channels, D edge channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.replay import AutocastState, Evaluation, Randomness
from deepgnn_cli.nn.reversible.exact import FloatAddition, GridAddition


class SharedInputs:
    """What all branches read: x0 and mask split over the groups, and the graph with its edge features.

    Args:
        adjacency: any object; if `edge_attr` is given, it must have `with_edge_attr(tensor)`.
        groups: G.
        x0, mask: [N, C] or None.
        edge_attr: [E, D] or None; serves every group unsplit.
    """

    def __init__(
        self, adjacency: Any, groups: int, x0: Tensor | None, mask: Tensor | None, edge_attr: Tensor | None
    ) -> None:
        self.x0 = _split(x0, groups)
        self.mask = _split(mask, groups)
        self.edge_attr = edge_attr
        self.adjacency = adjacency if edge_attr is None else adjacency.with_edge_attr(edge_attr)

    def leaves(self, group: int) -> list[Tensor]:
        """Those of x0, mask and edge_attr, as read by the branches of `group`, that want gradients."""
        read = (self.x0[group], self.mask[group], self.edge_attr)
        return [tensor for tensor in read if tensor is not None and tensor.requires_grad]

    @classmethod
    def as_leaves(
        cls, adjacency: object, groups: int, shared: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> SharedInputs:
        """The same for (x0, mask, edge_attr), cut off from their history; where `wanted`, a gradient is found."""
        inputs = cls(adjacency, groups, *(None if tensor is None else tensor.detach() for tensor in shared))
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
        branches: L G branches, those of a layer side by side.
        groups: G.
        addition: how a branch's result joins the stream.
        randomness: the random numbers of the pass; branch b of layer l draws those of evaluation l G + b.
        autocast: the state in which the pass began.
        evaluations: of each branch, where the pass is to be repeated; None: it is not.
    """

    branches: Sequence[nn.Module]
    groups: int
    addition: FloatAddition | GridAddition
    randomness: Randomness
    autocast: AutocastState
    evaluations: Sequence[Evaluation] | None = None

    @property
    def layers(self) -> int:
        """L."""
        return len(self.branches) // self.groups

    def tracked(self, x: Tensor, shared: SharedInputs) -> Tensor:
        """All layers by plain autograd, which keeps what it needs of each one: [N, C] -> [N, C]."""
        parts = [self.addition.start(part) for part in x.chunk(self.groups, dim=1)]  # G times [N, C / G]
        with self.randomness:
            for layer in range(self.layers):
                self.advance(layer, parts, shared, self.addition.add)
        return self.addition.finish(torch.cat(parts, dim=1))

    def untracked(self, x: Tensor, shared: SharedInputs) -> Tensor:
        """All layers under `no_grad`, in the memory of one: [N, C] -> [N, C], the same bits as `tracked`."""
        parts = [own_copy(self.addition.start(part)) for part in x.chunk(self.groups, dim=1)]
        with self.randomness, self.autocast.restore():
            for layer in range(self.layers):
                self.advance(layer, parts, shared, self.addition.add_)
        return self.addition.finish(torch.cat(parts, dim=1))

    def inverse(self, y: Tensor, shared: SharedInputs) -> Tensor:
        """The x [N, C] that `untracked` turns into `y` [N, C]."""
        parts = [own_copy(part) for part in y.chunk(self.groups, dim=1)]
        with self.randomness, self.autocast.restore():
            for layer in reversed(range(self.layers)):
                for group in reversed(range(self.groups)):
                    source = add_up([parts[i] for i in self.sources(group)])
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
            source = add_up([parts[i] for i in self.sources(group)])
            parts[group] = add(parts[group], self.branch(layer, group, source, shared))

    def branch(
        self, layer: int, group: int, source: Tensor, shared: SharedInputs, leaves: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """f(source), [N, C / G], drawing its own random numbers; with `leaves` for parameters, a second time."""
        index = layer * self.groups + group
        arguments = (source, shared.adjacency, shared.x0[group], shared.mask[group])
        self.randomness.select(index)
        before = _version(source)
        f: Tensor
        with self.addition.evaluation():
            if self.evaluations is None:
                f = self.branches[index](*arguments)
            elif leaves is None:
                f = self.evaluations[index].first(*arguments)
            else:
                f = self.evaluations[index].again(arguments, leaves)
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


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """The sum; the very tensor, if there is one only."""
    return reduce(torch.add, parts)


def own_copy(part: Tensor) -> Tensor:
    """A contiguous copy that may be written to."""
    return part.clone(memory_format=torch.contiguous_format)


def _version(tensor: Tensor) -> int:
    """Counts the writes to a tensor (inference tensors are not counted)."""
    return 0 if tensor.is_inference() else tensor._version
