"""Connectivity against closed forms and networkx."""

import math

import networkx
import numpy as np
import pytest

from deepgnn_cli.data.structure import topology
from deepgnn_cli.data.structure.curvature import balanced_forman, sampled_edges
from deepgnn_cli.data.structure.homophily import homophily

GRAPHS = {
    "ring": networkx.cycle_graph(12),
    "path": networkx.path_graph(9),
    "complete": networkx.complete_graph(6),
    "barbell": networkx.barbell_graph(6, 2),
    "grid": networkx.convert_node_labels_to_integers(networkx.grid_2d_graph(4, 5)),
    "random": networkx.gnp_random_graph(24, 0.25, seed=1),
}


@pytest.fixture(params=GRAPHS)
def pair(request):
    graph = GRAPHS[request.param]
    return graph, matrix_of(graph)


def matrix_of(graph):
    return topology.simple(np.array(graph.edges).T.reshape(2, -1), len(graph))


def test_direction_loops_and_repetition_do_not_count():
    edges = np.array([[0, 1, 1, 2, 2, 0], [1, 0, 1, 1, 1, 3]])
    want = [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert topology.simple(edges, 4).toarray().tolist() == want


def test_the_spectral_gap_is_the_second_eigenvalue_of_the_normalised_laplacian(pair, monkeypatch):
    graph, matrix = pair
    want = networkx.normalized_laplacian_spectrum(graph)[1]
    assert topology.spectral_gap(matrix) == pytest.approx(want)
    monkeypatch.setattr(topology, "_DENSE", 1)
    if len(graph) > 2:
        monkeypatch.setattr(topology, "eigsh", lambda m, **given: EIGSH(m, **(given | {"ncv": None})))
        assert topology.spectral_gap(matrix) == pytest.approx(want, abs=1e-5)


EIGSH = topology.eigsh


def test_the_gap_of_a_long_graph_is_found_by_the_inverse():
    for n in (400, 3000):
        ring = matrix_of(networkx.cycle_graph(n))
        assert topology.spectral_gap(ring) == pytest.approx(1 - math.cos(2 * math.pi / n), rel=1e-3)


def test_resistance_is_that_of_the_pseudo_inverse(pair):
    graph, matrix = pair
    inverse = np.linalg.pinv(networkx.laplacian_matrix(graph).toarray().astype(float))
    pairs = np.array([(u, v) for u in graph for v in graph if u < v]).T
    want = [inverse[u, u] + inverse[v, v] - 2 * inverse[u, v] for u, v in pairs.T]
    assert topology.effective_resistance(matrix, pairs) == pytest.approx(want, rel=1e-4)


def test_pairs_are_of_different_nodes_and_fewer_in_large_graphs(monkeypatch):
    matrix = matrix_of(networkx.cycle_graph(7))
    u, v = topology.sampled_pairs(matrix, 50, np.random.default_rng(0))
    assert len(u) == 50 and (u != v).all() and set(u) == set(v) == set(range(7))
    monkeypatch.setattr(topology, "_RESISTANCE_WORK", 20)
    assert topology.sampled_pairs(matrix, 50, np.random.default_rng(0)).shape == (2, 4)


def test_the_diameter_is_never_more_than_there_is(pair):
    graph, matrix = pair
    assert topology.diameter(matrix) == networkx.diameter(graph)


def test_the_largest_piece_is_measured():
    graph = networkx.disjoint_union_all([networkx.path_graph(3), networkx.cycle_graph(5), networkx.path_graph(1)])
    matrix = matrix_of(graph)
    assert topology.pieces(matrix).tolist() == [1] * 3 + [0] * 5 + [2]
    assert (topology.largest(matrix).toarray() == matrix_of(networkx.cycle_graph(5)).toarray()).all()
    nothing = topology.simple(np.empty((2, 0), dtype=np.int64), 2)
    assert topology.spectral_gap(topology.largest(nothing)) is None and topology.diameter(nothing[:1][:, :1]) == 0


def forman_by_sets(graph, i, j):
    """The definition, with sets."""
    of = {v: set(graph[v]) for v in graph}
    if min(len(of[i]), len(of[j])) == 1:
        return 0
    triangles = of[i] & of[j]
    square_i = {k for k in of[i] - of[j] - {j} if (of[k] & of[j]) - of[i] - {i}}
    square_j = {k for k in of[j] - of[i] - {i} if (of[k] & of[i]) - of[j] - {j}}
    through = [len((of[k] & of[j]) - of[i] - {i}) for k in square_i]
    through += [len((of[k] & of[i]) - of[j] - {j}) for k in square_j]
    few, many = sorted((len(of[i]), len(of[j])))
    value = 2 / few + 2 / many - 2 + 2 * len(triangles) / many + len(triangles) / few
    return value + ((len(square_i) + len(square_j)) / max(through) / many if through else 0)


def test_curvature_is_what_the_definition_says(pair):
    graph, matrix = pair
    edges = np.array(graph.edges).T
    assert balanced_forman(matrix, edges) == pytest.approx([forman_by_sets(graph, i, j) for i, j in edges.T])


def test_curvature_of_known_edges():
    """Topping et al., table 1: cycles of 3, 4 and 5 and more nodes, complete graphs, the grid."""
    for n, want in ((3, 1.5), (4, 1.0), (5, 0.0), (9, 0.0)):
        assert balanced_forman(matrix_of(networkx.cycle_graph(n)), np.array([[0], [1]])) == pytest.approx(want)
    assert balanced_forman(matrix_of(networkx.complete_graph(6)), np.array([[0], [1]])) == pytest.approx(6 / 5)
    torus = networkx.convert_node_labels_to_integers(networkx.grid_2d_graph(5, 5, periodic=True))
    edge = np.array(list(torus.edges)[:1]).T
    assert balanced_forman(matrix_of(torus), edge) == pytest.approx(0)
    bridge = balanced_forman(matrix_of(networkx.barbell_graph(5, 0)), np.array([[4], [5]]))
    assert bridge == pytest.approx(2 * 2 / 5 - 2)


def test_sampled_edges_are_edges_once_each():
    graph = GRAPHS["random"]
    matrix = matrix_of(graph)
    all_edges = {tuple(edge) for edge in sampled_edges(matrix, 10**6, np.random.default_rng(0)).T.tolist()}
    assert all_edges == {tuple(sorted(edge)) for edge in graph.edges}
    some = [tuple(edge) for edge in sampled_edges(matrix, 10, np.random.default_rng(0)).T.tolist()]
    assert len(set(some)) == 10 and set(some) <= all_edges


def test_homophily():
    edges = np.array([[0, 1, 1, 2, 2, 0, 3, 0, 4, 4], [1, 0, 2, 1, 0, 2, 0, 3, 4, 0]])
    y = np.array([0, 0, 1, 1, -1])
    found = homophily(edges, y)  # 0-1, 1-2, 0-2, 0-3; the loop at 4 and its edge do not count
    assert found["edge"] == pytest.approx(1 / 4)
    assert found["node"] == pytest.approx((1 / 3 + 1 / 2 + 0 + 0) / 4)
    chance = (5 / 8) ** 2 + (3 / 8) ** 2
    assert found["adjusted"] == pytest.approx((1 / 4 - chance) / (1 - chance))
    assert homophily(edges, np.full(5, -1)) is None
    assert math.isnan(homophily(edges, np.zeros(5, dtype=int))["adjusted"])
