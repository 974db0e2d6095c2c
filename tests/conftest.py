"""The small graph that the laws are tested on: 12 nodes, float64."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

from deepgnn_cli.nn.adjacency import Adjacency

# A ring of 10 with two chords, a pendant node, and a node without edges.
EDGES = [(i, (i + 1) % 10) for i in range(10)] + [(0, 5), (2, 7), (3, 10)]
N = 12


def undirected(pairs=EDGES):
    source, target = torch.tensor(pairs).t()
    return torch.stack([torch.cat([source, target]), torch.cat([target, source])])


@pytest.fixture(autouse=True)
def _float64(request):
    """Laws of layers and measures hold to the last digits in double precision; one seed makes every test repeatable."""
    before = torch.get_default_dtype()
    if {"nn", "measure"} & set(request.path.relative_to(Path(__file__).parent).parts):
        torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def within_a_minute():
    """What waits for ever (a pipe that nobody writes to) fails, and does not hold up the others."""

    def over(*_):
        pytest.fail("still waiting after a minute")  # no OSError, which the code under test may catch

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def graph():
    """12 nodes, 26 directed edges; node 11 has none."""
    return Adjacency(undirected(), N)


@pytest.fixture
def dense_graph(graph):
    """`A` [N, N] with A[target, source] = 1."""
    adjacency = torch.zeros(N, N)
    adjacency[graph.edge_index[1], graph.edge_index[0]] = 1
    return adjacency


@pytest.fixture
def normalised(dense_graph):
    """D^-1/2 (A + I) D^-1/2, [N, N]."""
    looped = dense_graph + torch.eye(N)
    root = looped.sum(1).rsqrt()
    return root[:, None] * looped * root


@pytest.fixture
def x():
    """[12, 8]."""
    return torch.randn(N, 8)
