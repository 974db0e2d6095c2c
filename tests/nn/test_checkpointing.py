"""Checkpointed layers give the plain loop's numbers, and keep less."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepgnn_cli.measure.memory import SavedTensors
from deepgnn_cli.nn.checkpointing import run_layers
from tests.nn.reversible_cases import NODES, WIDTH, branches, small_graph


def layers_of(conv: str, norm: str, count: int) -> nn.ModuleList:
    torch.manual_seed(1)
    source = branches(conv, norm)
    return nn.ModuleList(next(source) for _ in range(count)).double()


def step(layers: nn.ModuleList, every: int) -> list[torch.Tensor]:
    torch.manual_seed(2)
    x = torch.randn(NODES, WIDTH, dtype=torch.float64, requires_grad=True)
    graph = small_graph()
    out = run_layers(layers, every, x, graph, x)
    out.square().sum().backward(retain_graph=True)
    found = [out.detach(), x.grad, *(p.grad for p in layers.parameters()), *layers.buffers(), torch.rand(2)]
    return [tensor.clone() for tensor in found if tensor is not None]


@pytest.mark.parametrize("every", [1, 2, 5, 100])
@pytest.mark.parametrize(("conv", "norm"), [("gat", "batch"), ("gen", "layer"), ("gcn2", "group")])
def test_numbers_are_those_of_the_plain_loop(conv, norm, every):
    layers = layers_of(conv, norm, 5)
    twin = copy.deepcopy(layers)
    for found, expected in zip(step(layers, every), step(twin, 0), strict=True):
        assert torch.equal(found, expected)


def test_the_backward_pass_may_run_twice():
    layers = layers_of("gcn", "batch", 4)
    x = torch.randn(NODES, WIDTH, dtype=torch.float64, requires_grad=True)
    out = run_layers(layers, 2, x, small_graph(), x)
    first = torch.autograd.grad(out.sum(), x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out.sum(), x)[0])


def test_only_the_heads_of_segments_are_kept():
    layers = layers_of("gcn", "layer", 12)
    x, graph = torch.randn(NODES, WIDTH, dtype=torch.float64, requires_grad=True), small_graph()
    kept = {}
    for every in (0, 1, 4):
        with SavedTensors() as saved:
            out = run_layers(layers, every, x, graph, x)
        kept[every] = saved.mib * 2**20
        del out
    stream = NODES * WIDTH * 8
    # x itself was there before: a segment's input counts for all segments but the first.
    assert kept[1] == 11 * stream and kept[4] == 2 * stream and kept[0] > 24 * stream


def test_nothing_is_stored_or_drawn_when_evaluating():
    layers = layers_of("gat", "batch", 3).eval()
    x = torch.randn(NODES, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(run_layers(layers, 1, x, small_graph(), x), run_layers(layers, 0, x, small_graph(), x))


def test_a_negative_distance_is_refused():
    with pytest.raises(ValueError, match="-1"):
        run_layers([], -1, torch.zeros(1))
