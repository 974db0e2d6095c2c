"""A stack of reversible layers whose memory does not grow with depth.

RevGNN (arXiv:2106.07476) splits the channels into G groups x_1 … x_G and couples them, layer by layer:

    y_i = x_i + f_i(y_{i-1})        i = 1 … G, with y_0 = x_2 + … + x_G

which is undone from the last group to the first, x_i = y_i - f_i(y_{i-1}). So the output of the last layer is all
that is kept: the backward pass walks the layers from the end and evaluates every branch f_i once more, with
gradients; that one evaluation gives both the inverse and the gradient. A step costs one branch evaluation more than
with stored activations: 4/3 of its time, if a backward pass costs two forward passes.

N nodes, E edges, C channels, D edge channels, G groups, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.late import LateCheck
from deepgnn_cli.nn.replay import AutocastState, Randomness, draw_seed
from deepgnn_cli.nn.reversible.backward import Observers
from deepgnn_cli.nn.reversible.coupling import Coupling, SharedInputs
from deepgnn_cli.nn.reversible.exact import FloatAddition, GridAddition
from deepgnn_cli.nn.reversible.recompute import recomputed

_TOO_COARSE = (torch.float16, torch.bfloat16)


def check_groups(channels: int, groups: int) -> None:
    """Raise ValueError unless `channels` can be split into `groups` equal parts, at least two."""
    if groups < 2:
        raise ValueError(f"residual.groups={groups}: reversible layers need at least 2 groups; try residual.groups=2")
    if channels < groups or channels % groups:
        remedy = max(channels - channels % groups, groups)
        raise ValueError(f"hidden={channels} is not divisible by residual.groups={groups}; try hidden={remedy}")


class ReversibleStack(nn.Module):
    """L reversible layers in one autograd node: [N, C] -> [N, C].

    Any branch will do. Its random numbers are replayed bit for bit, as long as they come from torch's own
    generators; buffers and attributes that it updates are read again as they were, and batch statistics counted once
    a step; autocast is restored; parameters may be frozen, absent, registered later or shared between branches; the
    same weights may be passed through several times before the backward pass. The inputs are read, never written or
    freed, and the branches' modules stay as they are: several threads may evaluate one stack. With gradients disabled
    the same code runs without keeping anything.

    What a branch must not do is refused: to write to its input (`ReLU(inplace=True)` at its head), to read a tensor
    that wants a gradient by other means than its arguments, parameters and attributes (a closure), to give another
    result for the same input when it is evaluated again (random numbers of numpy's). Its forward hooks run in both
    evaluations.

    Args:
        branches: L G modules `branch(x, adjacency, x0, mask)`, the G of a layer side by side; x, x0, mask and the
            result are [N, C / G].
        groups: G.
        exact: put the input and every branch's result on a fixed grid, where the inversion has no error at all;
            `GridAddition` says what is rounded and how large the stream may get. A branch must give the same bits
            when evaluated twice: sparse products do on every device, scattering convs of PyG's not on CUDA.
        store_activations: the same network and the same numbers by plain autograd, for comparison.
        scale: s, which multiplies every branch: `y_i = x_i + s f_i(y_{i-1})`.
    """

    def __init__(
        self,
        branches: nn.ModuleList,
        groups: int,
        *,
        exact: bool,
        store_activations: bool,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_groups(groups, groups)
        assert len(branches) and len(branches) % groups == 0, "at least one layer, all of equally many groups"
        self.branches, self.groups, self.scale = branches, groups, scale
        self.exact, self.store_activations = exact, store_activations
        self._draws_on_gpu: bool | None = None
        self._range, self._found_again = LateCheck(), LateCheck()

    def forward(self, x: Tensor, adjacency: object, x0: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """All layers, [N, C] -> [N, C].

        Args:
            x: [N, C]; C divisible by G.
            adjacency: handed to every branch. A tensor `adjacency.edge_attr` ([E, D], put back by `with_edge_attr`)
                serves all groups unsplit and gets its gradient.
            x0: the encoder's output [N, C], split over the groups as x is; or None.
            mask: one dropout mask [N, C] for all layers, already scaled, split likewise; or None.

        Raises:
            ValueError: sizes that do not fit; a branch that changes the size or writes to its input, or that waits
                for its first input; a stream in 16 bits, which rounds too coarsely to be inverted. The backward pass
                raises it where a branch cannot be evaluated again (see above).
            FloatingPointError: with `exact`, when the stream leaves the grid's range. On a GPU this and the check that
                the backward pass found its input again are made a pass later, so that no step waits for them.
            RuntimeError: a CUDA graph is being captured, and a branch draws random numbers on the GPU.
        """
        x = self._checked(x, x0, mask)
        coupling = self._coupling(x)
        edge_attr = getattr(adjacency, "edge_attr", None)
        if not torch.is_grad_enabled():
            self._settle()
            out = coupling.untracked(x, SharedInputs(adjacency, self.groups, x0, mask, edge_attr))
        elif self.store_activations:
            out = coupling.tracked(x, SharedInputs(adjacency, self.groups, x0, mask, edge_attr))
        else:
            out = recomputed(coupling, self._found_again, adjacency, {}, x, x0, mask)
        self._draws_on_gpu = bool(self._draws_on_gpu or coupling.randomness.drawn_on_gpu)
        return out

    def states(
        self, x: Tensor, adjacency: object, x0: Tensor | None = None, mask: Tensor | None = None
    ) -> Generator[Tensor, None, Tensor]:
        """Yields the stream after each layer, [N, C], in the memory of one; returns the last, differentiable.

        Where gradients are wanted the layers are then passed through a second time, for that result, and what is
        yielded is a `PassingState`: its gradient can be heard, but is kept no more than the state itself. With
        `store_activations`, plain tensors of one graph are yielded.
        """
        x = self._checked(x, x0, mask)
        wanted = x.requires_grad or any(p.requires_grad for p in self.parameters())
        passing = torch.is_grad_enabled() and wanted and not self.store_activations
        coupling = self._coupling(x, replays=False)
        shared = SharedInputs(adjacency, self.groups, x0, mask, getattr(adjacency, "edge_attr", None))
        parts = [coupling.addition.start(part) for part in x.chunk(self.groups, dim=1)]
        observers: Observers = {}
        for layer in range(coupling.layers):
            with torch.no_grad() if passing else nullcontext():
                coupling.advance(layer, parts, shared, coupling.addition.add)
                state = coupling.addition.finish(torch.cat(parts, dim=1))
            yield cast(Tensor, PassingState(state, observers.setdefault(layer, []))) if passing else state
            # The next layer reads the very state that was handed out, which thus gets a gradient.
            parts = list(state.chunk(self.groups, dim=1))
        if not passing:
            return state
        return recomputed(self._coupling(x), self._found_again, adjacency, observers, x, x0, mask)

    @torch.no_grad()
    def inverse(self, y: Tensor, adjacency: object, x0: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """The input [N, C] whose output is `y`, for branches that draw no random numbers; exact if `exact` is."""
        coupling = self._coupling(self._checked(y, x0, mask), replays=False)
        shared = SharedInputs(adjacency, self.groups, x0, mask, getattr(adjacency, "edge_attr", None))
        return coupling.inverse(y, shared)

    @property
    def layers(self) -> list[list[nn.Module]]:
        """The branches, a list of G for each layer."""
        branches = list(self.branches)
        return [branches[first : first + self.groups] for first in range(0, len(branches), self.groups)]

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer."""
        return [[parameter for branch in layer for parameter in branch.parameters()] for layer in self.layers]

    @property
    def draws_on_gpu(self) -> bool | None:
        """Whether branches draw random numbers on the GPU, which no CUDA graph can replay; None: not yet known."""
        return self._draws_on_gpu

    def extra_repr(self) -> str:
        """The settings, for `print(model)`."""
        return f"groups={self.groups}, exact={self.exact}, store_activations={self.store_activations}"

    def _checked(self, x: Tensor, x0: Tensor | None, mask: Tensor | None) -> Tensor:
        check_groups(x.size(1), self.groups)
        for name, tensor in (("x0", x0), ("mask", mask)):
            if tensor is not None and tensor.shape != x.shape:
                raise ValueError(f"{name} is {list(tensor.shape)} and x is {list(x.shape)}; they must be of one size")
        # An encoder under autocast hands over 16 bits; sums over many layers need 32, whatever the branches compute in.
        widens = x.dtype in _TOO_COARSE and torch.is_autocast_enabled(x.device.type)
        if widens:
            return x.float()
        if x.dtype in _TOO_COARSE and not self.store_activations:
            raise ValueError(
                f"a reversible stream in {x.dtype} cannot be inverted; keep the weights in float32 and use autocast, "
                "or set residual.store_activations=true"
            )
        return x

    def _coupling(self, x: Tensor, *, replays: bool = True) -> Coupling:
        addition = GridAddition(x.dtype, self.scale, self._range) if self.exact else FloatAddition(self.scale)
        randomness = Randomness(x.device, self._seed(x) if replays else None)
        autocast = AutocastState.current(x.device)
        return Coupling(list(self.branches), self.groups, addition, randomness, autocast)

    def _settle(self) -> None:
        """Have the checks of the training passes look now: what follows may be kept."""
        self._range.settle()
        self._found_again.settle()

    def _seed(self, x: Tensor) -> int | None:
        """The seed of this pass; None where nothing is drawn, or nothing can be replayed."""
        training = self.training or (torch.is_grad_enabled() and any(m.training for m in self.modules()))
        if not training:
            return None
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            if self._draws_on_gpu is not False:
                raise RuntimeError(
                    "a CUDA graph cannot replay the random numbers of a branch: run a training step before capturing, "
                    "and use a dropout mask shared by all layers instead of dropout inside the branches"
                )
            return None
        return draw_seed()


class PassingState:
    """A state [N, C] that is not kept: what a tensor offers to one who looks at it and listens for its gradient."""

    requires_grad = True

    def __init__(self, state: Tensor, observers: list[Callable[[Tensor], object]]) -> None:
        self._state, self._observers = state, observers

    def detach(self) -> Tensor:
        """The numbers, [N, C]."""
        return self._state.detach()

    def register_hook(self, hook: Callable[[Tensor], object]) -> None:
        """Have `hook` called with the gradient [N, C] during the backward pass."""
        self._observers.append(hook)
