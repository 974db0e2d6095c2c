"""Gradient checkpointing: store the input of every k-th layer, evaluate the layers between once more.

With k about the square root of the depth, L layers are trained in the memory of 2 sqrt(L) (Chen et al.,
arXiv:1604.06174), whatever the wiring.

N nodes, C channels, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deepgnn_cli.nn.replay import Evaluation


def run_layers(layers: Sequence[nn.Module], every: int, x: Tensor, *shared: object) -> Tensor:
    """`x = layer(x, *shared)` for each layer, storing activations at the head of each segment of `every` layers only.

    The numbers, gradients and batch statistics are those of the plain loop: random numbers are replayed, and the
    second evaluation leaves buffers alone.

    Args:
        layers: L modules, each called as `layer(x, *shared)`.
        every: k; 1: each layer stands alone, L: one segment, 0: no checkpointing.
        x: [N, C].
        shared: what every layer reads: the graph, x0, a mask.

    Raises:
        ValueError: `every` is negative.
    """
    if every < 0:
        raise ValueError(f"checkpoint every {every} layers: it must be 0 (off) or more")
    if every == 0 or not torch.is_grad_enabled():
        return _run(layers, x, *shared)
    for start in range(0, len(layers), every):
        x = _checkpointed(layers[start : start + every], x, *shared)
    return x


class _Segment:
    """Layers that are evaluated once, and again as they were inside `with segment:`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._evaluations = [Evaluation(layer) for layer in layers]
        self._again = False

    def __enter__(self) -> None:
        self._again = True

    def __exit__(self, *_: object) -> None:
        self._again = False

    def __call__(self, x: Tensor, *shared: object) -> Tensor:
        for evaluation in self._evaluations:
            x = evaluation.again((x, *shared), {}) if self._again else evaluation.first(x, *shared)
        return x


def _checkpointed(layers: Sequence[nn.Module], x: Tensor, *shared: object) -> Tensor:
    segment = _Segment(layers)
    out: Tensor = checkpoint(segment, x, *shared, use_reentrant=False, context_fn=lambda: (nullcontext(), segment))
    return out


def _run(layers: Sequence[nn.Module], x: Tensor, *shared: object) -> Tensor:
    for layer in layers:
        x = layer(x, *shared)
    return x
