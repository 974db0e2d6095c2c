"""The layers of a reversible stack as one node of the autograd graph, which computes its backward pass from the output.

N nodes, E edges, C channels, D edge channels, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deepgnn_cli.nn.autograd import Context
from deepgnn_cli.nn.late import LateCheck
from deepgnn_cli.nn.replay import Evaluation
from deepgnn_cli.nn.reversible.backward import BackwardPass, Observers
from deepgnn_cli.nn.reversible.coupling import Coupling, SharedInputs

_SAMPLED = 1000


def recomputed(
    coupling: Coupling,
    check: LateCheck,
    adjacency: Any,
    observers: Observers,
    x: Tensor,
    x0: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """All layers, [N, C] -> [N, C], as one node of the autograd graph: only the output and the shared inputs are kept.

    Arguments as for `ReversibleStack`; `check` looks whether the backward pass finds its input again, `observers` hear
    the gradients of the layers' outputs.

    Raises:
        ValueError: a branch has parameters that wait for their first input.
    """
    edge_attr = getattr(adjacency, "edge_attr", None)
    bare = adjacency if edge_attr is None else adjacency.with_edge_attr(None)
    evaluations = [Evaluation(branch) for branch in coupling.branches]
    parameters = list({id(p): p for evaluation in evaluations for p in evaluation.differentiable}.values())
    if any(nn.parameter.is_lazy(parameter) for parameter in parameters):
        raise ValueError(
            "a lazy conv, whose parameters wait for their first input, cannot be reversible: say its input channels, "
            "as in GCNConv(channels, channels) instead of GCNConv(-1, channels)"
        )
    recorded = replace(coupling, evaluations=evaluations)
    out: Tensor = _Reversible.apply(recorded, check, bare, observers, x, x0, mask, edge_attr, *parameters)
    return out


class _ReversibleContext(Context):
    coupling: Coupling
    check: LateCheck
    adjacency: Any
    observers: Observers
    sums: dict[Kind, Tensor] | None
    sample: Tensor
    read: tuple[Tensor, ...]


class _Reversible(torch.autograd.Function):
    """The whole stack as one node: keeps the output and the shared inputs."""

    @staticmethod
    def forward(
        ctx: _ReversibleContext,
        coupling: Coupling,
        check: LateCheck,
        adjacency: Any,
        observers: Observers,
        x: Tensor,
        x0: Tensor | None,
        mask: Tensor | None,
        edge_attr: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.coupling, ctx.check, ctx.adjacency, ctx.observers = coupling, check, adjacency, observers
        # Made before anything else: lasting arrays between fleeting ones would splinter a CPU's heap.
        ctx.sums = _zeros(parameters)
        ctx.sample = _sample(x).clone()
        out = coupling.untracked(x, SharedInputs(adjacency, coupling.groups, x0, mask, edge_attr))
        # The parameters too: saving them makes autograd notice an optimiser's step before the backward pass.
        ctx.save_for_backward(out, x0, mask, edge_attr, *parameters)
        ctx.read = parameters
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: _ReversibleContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, x0, mask, edge_attr, *_ = ctx.saved_tensors
        _, _, _, _, wants_x, *wants_shared = ctx.needs_input_grad[:8]
        inputs = SharedInputs.as_leaves(ctx.adjacency, ctx.coupling.groups, (x0, mask, edge_attr), wants_shared)
        zeros, ctx.sums = _zeros(ctx.read) if ctx.sums is None else ctx.sums, None
        sums = [flat.view(parameter.shape) for flat, parameter in zip(_apart(zeros, ctx.read), ctx.read, strict=True)]
        backward = BackwardPass(ctx.coupling, inputs, output, gradient, ctx.read, sums)
        to_the_bottom = wants_x or any(wants_shared) or ctx.observers
        first_layer = 0 if to_the_bottom else _lowest_trained(ctx.coupling)
        backward.run(first_layer, ctx.observers)
        if first_layer == 0:
            backward.check_input(ctx.sample, _sample, ctx.check)
        return (
            None,
            None,
            None,
            None,
            backward.input_gradient if wants_x else None,
            backward.joined_gradient(inputs.x0),
            backward.joined_gradient(inputs.mask),
            backward.joined_gradient([inputs.edge_attr]),
            *backward.parameter_gradients,
        )


def _lowest_trained(coupling: Coupling) -> int:
    evaluations = coupling.evaluations or ()
    trained = (index // coupling.groups for index, each in enumerate(evaluations) if each.differentiable)
    return next(trained, coupling.layers)


Kind = tuple[torch.dtype, torch.device]


def _zeros(tensors: Sequence[Tensor]) -> dict[Kind, Tensor]:
    """Zeros for as many numbers as the tensors of each kind hold, in one array: a thousand small ones cost more."""
    sizes: dict[Kind, int] = {}
    for tensor in tensors:
        kind = (tensor.dtype, tensor.device)
        sizes[kind] = sizes.get(kind, 0) + tensor.numel()
    return {(dtype, device): torch.zeros(size, dtype=dtype, device=device) for (dtype, device), size in sizes.items()}


def _apart(flat: dict[Kind, Tensor], tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """The stretches of `flat` that belong to each of `tensors`."""
    starts = dict.fromkeys(flat, 0)
    for tensor in tensors:
        kind = (tensor.dtype, tensor.device)
        yield flat[kind].narrow(0, starts[kind], tensor.numel())
        starts[kind] += tensor.numel()


def _sample(x: Tensor) -> Tensor:
    """Some thousand numbers of [N, C], spread evenly: enough to tell whether the input was found again."""
    flat = x.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLED)]
