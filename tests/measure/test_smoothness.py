"""Measures of over-smoothing against dense algebra."""

import math

import pytest
import torch

from deepgnn_cli.measure import smoothness
from deepgnn_cli.measure.smoothness import (
    dirichlet_energy,
    effective_rank,
    feature_norm,
    mad_all,
    mad_neighbours,
    measured,
    numerical_rank,
    rayleigh_quotient,
)
from tests.conftest import N


@pytest.fixture(params=[1 << 24, 10], ids=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(smoothness, "_BLOCK_ELEMENTS", request.param)


@pytest.mark.usefixtures("_blocks")
def test_dirichlet_energy_is_the_quadratic_form_of_the_normalised_laplacian(graph, normalised, x):
    laplacian = torch.eye(N) - normalised
    assert dirichlet_energy(x, graph.edge_index) == pytest.approx(torch.trace(x.t() @ laplacian @ x).item())


def test_dirichlet_energy_of_a_directed_graph_is_that_of_its_symmetric_part(x):
    edges = torch.tensor([[0, 1, 2, 5, 5], [1, 2, 0, 6, 7]])
    a = torch.zeros(N, N)
    a[edges[1], edges[0]] = 1
    a = (a + a.t()) / 2 + torch.eye(N)
    root = a.sum(1).rsqrt()
    laplacian = torch.eye(N) - root[:, None] * a * root
    assert dirichlet_energy(x, edges) == pytest.approx(torch.trace(x.t() @ laplacian @ x).item())


def test_self_loops_change_nothing(graph, x):
    looped = torch.cat([graph.edge_index, torch.tensor([[3, 4], [3, 4]])], 1)
    assert dirichlet_energy(x, looped) == dirichlet_energy(x, graph.edge_index)
    assert mad_neighbours(x, looped) == mad_neighbours(x, graph.edge_index)


def test_dirichlet_energy_vanishes_where_propagation_leads(graph, dense_graph, normalised, x):
    limit = (dense_graph.sum(1, keepdim=True) + 1).sqrt() * torch.randn(1, 8)
    assert dirichlet_energy(limit, graph.edge_index) == pytest.approx(0, abs=1e-25)
    smoothed = torch.linalg.matrix_power(normalised, 400) @ x
    assert dirichlet_energy(smoothed, graph.edge_index) < 1e-6 * dirichlet_energy(x, graph.edge_index)


def test_a_small_energy_of_single_precision_features_is_not_lost(graph, dense_graph):
    limit = (dense_graph.sum(1, keepdim=True) + 1).sqrt() * torch.ones(1, 8)
    nearly = limit.clone()
    nearly[0] += 1e-5
    exact = dirichlet_energy(nearly, graph.edge_index)
    assert exact == pytest.approx(dirichlet_energy(nearly.float(), graph.edge_index), rel=0.1)


def cosine_distances(x):
    return 1 - torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)


@pytest.mark.usefixtures("_blocks")
def test_mad_neighbours(graph, dense_graph, x):
    distance = cosine_distances(x) * dense_graph
    degree = dense_graph.sum(1)
    reached = degree > 0
    want = (distance.sum(1)[reached] / degree[reached]).mean().item()
    assert mad_neighbours(x, graph.edge_index) == pytest.approx(want)


def test_mad_all_is_the_mean_over_all_pairs(x):
    want = cosine_distances(x).sum().item() / (N * (N - 1))
    assert mad_all(x) == pytest.approx(want)
    assert mad_all(x * torch.rand(N, 1)) == pytest.approx(want), "lengths do not matter"


@pytest.mark.parametrize("measure", [mad_all, lambda h: mad_neighbours(h, torch.tensor([[0, 1, 2], [1, 2, 0]]))])
def test_mad_of_what_is_alike_opposite_or_zero(measure):
    direction = torch.randn(1, 4)
    assert measure(direction.repeat(3, 1) * torch.tensor([[1.0], [2], [5]])) == pytest.approx(0, abs=1e-12)
    assert measure(torch.zeros(3, 4)) == 0
    one_zero = direction.repeat(3, 1)
    one_zero[0] = 0
    assert measure(one_zero) == pytest.approx(2 / 3)


def test_mad_of_orthogonal_and_opposite_pairs():
    assert mad_all(torch.eye(5)) == pytest.approx(1)
    assert mad_all(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(2)


def test_graphs_too_small_to_have_pairs():
    nothing = torch.empty(2, 0, dtype=torch.long)
    one = torch.ones(1, 4)
    assert mad_all(one) == mad_neighbours(one, nothing) == dirichlet_energy(one, nothing) == 0
    assert effective_rank(one) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7)])
def test_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values(shape):
    x = torch.randn(shape)
    singular = torch.linalg.svdvals(x)
    p = singular / singular.sum()
    assert effective_rank(x) == pytest.approx(math.exp(-(p * p.log()).sum().item()))
    assert effective_rank(1e-30 * x) == pytest.approx(effective_rank(x))


def test_effective_rank_counts_dimensions():
    q, _ = torch.linalg.qr(torch.randn(20, 6))
    assert effective_rank(q) == pytest.approx(6)
    assert effective_rank(torch.randn(20, 1) @ torch.randn(1, 6)) == pytest.approx(1)
    assert effective_rank(torch.zeros(4, 3)) == 0


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_numerical_rank_is_the_ratio_of_the_frobenius_and_the_spectral_norm(shape):
    x = torch.randn(shape)
    want = (torch.linalg.matrix_norm(x) / torch.linalg.matrix_norm(x, 2)).item() ** 2
    assert numerical_rank(x) == pytest.approx(want)
    assert numerical_rank(1e30 * x) == pytest.approx(want)
    assert numerical_rank(torch.eye(6)) == pytest.approx(6)
    assert numerical_rank(torch.zeros(4, 3)) == 0


def test_rayleigh_quotient_is_the_eigenvalue_at_an_eigenvector(graph, normalised, x):
    values, vectors = torch.linalg.eigh(torch.eye(N) - normalised)
    for k in (0, 3, N - 1):
        assert rayleigh_quotient(1e3 * vectors[:, [k]], graph.edge_index) == pytest.approx(values[k].item(), abs=1e-12)
    assert rayleigh_quotient(x, graph.edge_index) == pytest.approx(rayleigh_quotient(-50 * x, graph.edge_index))
    assert rayleigh_quotient(torch.zeros(N, 2), graph.edge_index) == 0


def test_a_growing_norm_hides_a_collapse_from_the_energy_and_from_nothing_else(graph, normalised, x):
    """As an eight-layer GCN on PubMed: the energy rises from 20 to 609 while all nodes become alike."""
    h, layers = x, []
    weight = 3 * torch.rand(8, 8)
    for _ in range(9):
        layers.append(measured(h, graph.edge_index))
        h = torch.relu(normalised @ h @ weight)
    first, last = layers[0], layers[-1]
    assert last.dirichlet_energy > 10 * first.dirichlet_energy and last.feature_norm > 10 * first.feature_norm
    assert first.effective_rank > 4 and last.effective_rank < 1.1
    assert first.numerical_rank > 2 and last.numerical_rank < 1.1
    assert last.mad_all < 0.3 * first.mad_all and last.mad_neighbours < 0.3 * first.mad_neighbours
    assert last.rayleigh_quotient < 0.3 * first.rayleigh_quotient


def test_what_two_measures_share_is_computed_once_and_right(graph, x):
    together = measured(x, graph.edge_index)
    assert together.rayleigh_quotient == rayleigh_quotient(x, graph.edge_index)
    assert together.numerical_rank == numerical_rank(x) and together.effective_rank == effective_rank(x)
    assert together.dirichlet_energy == dirichlet_energy(x, graph.edge_index)
    assert (together.mad_neighbours, together.mad_all) == (mad_neighbours(x, graph.edge_index), mad_all(x))
    assert together.feature_norm == feature_norm(x)


def test_feature_norm(x):
    assert feature_norm(x) == pytest.approx(sum(math.sqrt(sum(v * v for v in row)) for row in x.tolist()) / N)


def test_what_is_no_number_gives_no_number(graph, x):
    for bad in (math.nan, math.inf):
        x[0, 0] = bad
        measured = (
            dirichlet_energy(x, graph.edge_index), mad_neighbours(x, graph.edge_index),
            mad_all(x), effective_rank(x), numerical_rank(x), rayleigh_quotient(x, graph.edge_index),
        )  # fmt: skip
        assert all(math.isnan(value) or math.isinf(value) for value in measured)


def test_no_random_numbers_and_no_gradients_are_spent(graph, x):
    state = torch.get_rng_state()
    x.requires_grad_()
    for value in (dirichlet_energy(x, graph.edge_index), mad_all(x), effective_rank(x), feature_norm(x)):
        assert isinstance(value, float)
    assert torch.equal(torch.get_rng_state(), state)
