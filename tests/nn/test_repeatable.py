"""Products that give the same bits every time: right, asked for by exact reversible layers, and by nothing else."""

import threading

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.aggregation import repeatable
from deepgnn_cli.nn.aggregation.repeatable import asked_for, row_sums
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.residuals import reversible
from tests.conftest import N, undirected
from tests.nn.builders import builder
from tests.rehearsal.device import META


@pytest.mark.parametrize("channels_at_a_time", [1, 3, 8])
def test_row_sums_are_the_product_also_of_empty_rows(channels_at_a_time, graph, dense_graph, x, monkeypatch):
    matrix = graph.operator("sum", torch.float64).matrix
    monkeypatch.setattr(repeatable, "_BYTES", channels_at_a_time * 26 * 8)
    assert torch.allclose(row_sums(matrix, x), dense_graph @ x)


def test_they_are_asked_for_inside_by_this_thread_and_never_on_a_cpu():
    seen = []
    assert not asked_for(META)
    with repeatable.repeatable():
        with repeatable.repeatable():
            assert asked_for(META) and not asked_for(torch.device("cpu"))
        assert asked_for(META)
        other = threading.Thread(target=lambda: seen.append(asked_for(META)))
        other.start()
        other.join()
    assert seen == [False] and not asked_for(META)


@pytest.mark.parametrize("conv", ["gcn", "gen", "gat"])
def test_exact_layers_ask_for_them_in_both_evaluations_and_not_for_gradients(conv, x, monkeypatch):
    """As on a GPU: the products of both evaluations are repeatable, those of the backward pass the fast ones."""
    calls = []
    monkeypatch.setattr(repeatable, "asked_for", lambda device: getattr(repeatable._ASKED, "now", False))
    monkeypatch.setattr(repeatable, "row_sums", lambda *args: calls.append(1) or row_sums(*args))
    gradients = {}
    for exact in (False, True):
        for stored in (True, False):
            torch.manual_seed(0)
            made = reversible(
                Branches(builder("conv", conv), builder("norm", "layer"), 4, "relu", 0.2), 8, 3, groups=2, exact=exact,
                store_activations=stored, shared_mask=False, alpha=0.0, depth_scaling=1.0,
            )  # fmt: skip
            graph, leaf = Adjacency(undirected(), N), x.clone().requires_grad_()
            calls.clear()
            out = made(leaf, graph, None).square().sum()
            forward = len(calls)
            gradients[exact, stored] = torch.autograd.grad(out, [leaf, *made.parameters()])
            assert (forward > 0) == exact
            assert len(calls) == forward * (1 if stored else 2)
    for mine, expected in zip(gradients[True, False], gradients[True, True], strict=True):
        assert torch.equal(mine, expected)
