"""Each rewiring method against its law or its reference."""

import itertools

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import linprog
from torch_geometric.data import Data
from torch_geometric.transforms import GDC, HalfHop, TwoHop, VirtualNode

from deepgnn_cli.data.rewiring import ricci, spectral, transforms
from deepgnn_cli.data.rewiring.piece import Piece
from deepgnn_cli.data.structure import topology
from deepgnn_cli.data.structure.curvature import Neighbours, balanced_forman_of

BARBELL = networkx.barbell_graph(6, 0)
RANDOM = networkx.connected_watts_strogatz_graph(24, 4, 0.2, seed=3)


def piece_of(graph, **more):
    ends = torch.tensor(list(graph.edges)).t()
    edge_index = torch.cat([ends, ends.flip(0)], dim=1)
    return Piece(torch.randn(len(graph), 3), edge_index, **more)


def pairs_of(piece):
    return {tuple(edge) for edge in piece.edge_index.t().tolist()}


def gap_of(piece):
    return topology.spectral_gap(piece.adjacency())


def fosr(piece, iterations):
    return spectral.fosr(piece, iterations=iterations, power_iterations=200, seed=0)


def test_fosr_raises_the_spectral_gap_of_a_barbell_at_every_step():
    piece = piece_of(BARBELL)
    steps = [fosr(piece, iterations) for iterations in range(9)]
    for k, (before, after) in enumerate(itertools.pairwise(steps)):
        assert gap_of(after) > gap_of(before), k
        assert after.edge_index.size(1) == before.edge_index.size(1) + 2
        assert pairs_of(before) < pairs_of(after)


@pytest.mark.parametrize("graph", [BARBELL, RANDOM])
def test_the_edge_that_fosr_adds_is_the_best_to_first_order(graph):
    piece = piece_of(graph)
    matrix = networkx.to_numpy_array(graph)
    degree = matrix.sum(1)
    walk = matrix / np.sqrt(np.outer(degree, degree))
    x = np.linalg.eigh(walk)[1][:, -2]
    products = np.outer(x, x) / np.sqrt(np.outer(1 + degree, 1 + degree))
    products[(matrix > 0) | np.eye(len(graph), dtype=bool)] = np.inf
    made = spectral.fosr(piece, iterations=1, power_iterations=5000, seed=1)
    (new,) = {tuple(sorted(edge)) for edge in pairs_of(made) - pairs_of(piece)}
    assert products[new] == pytest.approx(products.min(), rel=1e-6)


def test_fosr_finds_the_second_eigenvector_where_degrees_differ_widely():
    graph = networkx.lollipop_graph(8, 4)  # degrees from 1 to 8
    graph.add_edge(9, 11)
    whole = networkx.to_numpy_array(graph)
    before = whole.copy()
    before[3, 10] = before[10, 3] = 0
    whole[3, 10] = whole[10, 3] = 1
    degree = whole.sum(axis=1)
    values, vectors = np.linalg.eigh(whole / np.sqrt(np.outer(degree, degree)))
    assert values[-2] - values[-3] > 0.05 and abs(values[-1] - 1) < 1e-12
    x = np.sqrt(degree) + np.random.default_rng(0).random(len(degree))  # most of it along the first
    for _ in range(3000):
        x = spectral._power_step(scipy.sparse.csr_array(before), degree, x, [(3, 10)])
    assert np.allclose(np.abs(x), np.abs(vectors[:, -2]), atol=1e-8)


def test_fosr_stays_in_the_largest_component_and_ends_where_all_are_joined():
    piece = piece_of(networkx.disjoint_union(networkx.path_graph(3), networkx.complete_graph(4)))
    assert pairs_of(fosr(piece, 5)) == pairs_of(piece)
    two = piece_of(networkx.disjoint_union(networkx.path_graph(2), networkx.path_graph(5)))
    assert all(min(u, v) >= 2 for u, v in pairs_of(fosr(two, 2)) - pairs_of(two))


def sdrf(piece, iterations, remove_above=None, tau=1000.0):
    return ricci.sdrf(piece, iterations=iterations, tau=tau, remove_above=remove_above, seed=0)


def curvatures(piece):
    of = Neighbours.of_all(piece.adjacency())
    return {(u, v): balanced_forman_of(of, u, v) for u in of for v in of[u] if u < v}


def test_sdrf_takes_the_most_negative_curvature_off_the_bridge():
    piece = piece_of(BARBELL)
    before = curvatures(piece)
    bridge = min(before, key=before.get)
    assert bridge == (5, 6) and before[bridge] < -1
    values = [curvatures(sdrf(piece, iterations))[bridge] for iterations in range(5)]
    assert values == sorted(values) and values[-1] > values[0] + 1
    after = curvatures(sdrf(piece, 12))
    assert min(after.values()) > before[bridge] + 1 and len(after) <= len(before) + 12


def test_sdrf_adds_the_edge_that_raises_the_curvature_most():
    piece = piece_of(BARBELL)
    ((u, v),) = {tuple(sorted(edge)) for edge in pairs_of(sdrf(piece, 1)) - pairs_of(piece)}
    graph = BARBELL.copy()

    def bridge_with(k, m):
        graph.add_edge(k, m)
        value = balanced_forman_of(Neighbours.of_all(piece_of(graph).adjacency()), 5, 6)
        graph.remove_edge(k, m)
        return value

    all_gains = {(k, m): bridge_with(k, m) for k in range(6) for m in range(6, 12) if (k, m) != (5, 6)}
    assert all_gains[u, v] == pytest.approx(max(all_gains.values()))


def test_sdrf_removes_edges_of_high_curvature():
    piece = piece_of(networkx.complete_graph(6))
    assert len(pairs_of(sdrf(piece, 1, remove_above=0.5))) == 30 - 2
    assert pairs_of(sdrf(piece, 1, remove_above=1.21)) == pairs_of(piece), "none is above"
    assert pairs_of(sdrf(piece, 3)) == pairs_of(piece), "nothing to add, nothing to remove"


@pytest.mark.parametrize("seed", range(4))
def test_the_curvatures_that_sdrf_keeps_are_those_of_the_graph_as_it_is(seed):
    draw = np.random.default_rng(seed)
    of = Neighbours.of_all(piece_of(networkx.gnp_random_graph(16, 0.3, seed=seed)).adjacency())
    kept = {(u, v): balanced_forman_of(of, u, v) for u in of for v in of[u] if u < v}
    for _ in range(12):
        u, v = sorted(draw.choice(16, 2, replace=False).tolist())
        if v in of[u]:
            touched = list(ricci._touched(of, u, v))
            of.part(u, v)
        else:
            of.join(u, v)
            touched = list(ricci._touched(of, u, v))
        ricci._update(kept, of, touched)
        assert kept == {(a, b): pytest.approx(balanced_forman_of(of, a, b)) for a in of for b in of[a] if a < b}


def test_ollivier_ricci_transport_is_the_linear_program():
    of = Neighbours.of_all(piece_of(RANDOM).adjacency())
    hops = dict(networkx.all_pairs_shortest_path_length(RANDOM))
    for u, v in list(RANDOM.edges)[:10]:
        sources, targets = sorted(of[u]), sorted(of[v])
        cost = np.array([[hops[p][q] for q in targets] for p in sources])
        rows = np.kron(np.eye(len(sources)), np.ones(len(targets)))
        columns = np.kron(np.ones(len(sources)), np.eye(len(targets)))
        want = linprog(
            cost.ravel(),
            A_eq=np.concatenate([rows, columns]),
            b_eq=[1 / len(sources)] * len(sources) + [1 / len(targets)] * len(targets),
        ).fun
        assert ricci.transport(of, u, v)[0] == pytest.approx(want)


def test_borf_supports_the_bridge_and_thins_the_cliques():
    piece = piece_of(BARBELL)
    made = ricci.borf(piece, batches=1, add=1, remove=2)
    new, gone = pairs_of(made) - pairs_of(piece), pairs_of(piece) - pairs_of(made)
    (edge,) = {tuple(sorted(e)) for e in new}
    assert edge[0] < 6 <= edge[1], "from one clique to the other"
    assert len(gone) == 4 and all((u < 6) == (v < 6) for u, v in gone)
    assert gap_of(made) > gap_of(piece)


def test_gdc_is_pygs():
    piece = piece_of(RANDOM)
    given = {"diffusion_kwargs": {"method": "ppr", "alpha": 0.2}}
    given |= {"sparsification_kwargs": {"method": "threshold", "avg_degree": 7}, "normalization_out": "col"}
    want = GDC(**given)(Data(x=piece.x, edge_index=piece.edge_index))
    made = transforms.gdc(piece, alpha=0.2, average_degree=7, normalization="col")
    assert torch.equal(made.edge_index, want.edge_index) and torch.equal(made.edge_weight, want.edge_attr)
    with pytest.raises(ValueError, match="weights already"):
        transforms.gdc(piece_of(RANDOM, edge_weight=torch.ones(96)), alpha=0.2, average_degree=7, normalization=None)


def test_two_hop_virtual_node_and_half_hop_are_pygs():
    piece = piece_of(RANDOM)
    data = Data(x=piece.x, edge_index=piece.edge_index, num_nodes=24)
    made = transforms.two_hop(piece)
    assert pairs_of(made) == {tuple(e) for e in TwoHop()(data.clone()).edge_index.t().tolist()}
    assert torch.equal(made.edge_index[:, : piece.edge_index.size(1)], piece.edge_index), "the old edges come first"
    made, want = transforms.virtual_node(piece), VirtualNode()(data.clone())
    assert torch.equal(made.edge_index, want.edge_index) and torch.equal(made.x, want.x)
    torch.manual_seed(5)
    want = HalfHop(alpha=0.3, p=0.6)(data.clone())
    made = transforms.half_hop(piece, alpha=0.3, probability=0.6, seed=5)
    assert torch.equal(made.edge_index, want.edge_index) and torch.equal(made.x, want.x)


@pytest.mark.parametrize("n", range(2, 9))
def test_the_expander_is_the_cayley_graph(n):
    elements = [m for m in itertools.product(range(n), repeat=4) if (m[0] * m[3] - m[1] * m[2]) % n == 1 % n]
    assert spectral.group_order(n) == len(elements)
    if n > 2:
        graph = networkx.Graph(spectral.cayley(len(elements)).T.tolist())
        assert len(graph) == len(elements) and networkx.is_connected(graph)
        assert {degree for _, degree in graph.degree} == {4}
        assert networkx.diameter(graph) <= 4 * np.log2(len(elements))


def test_the_first_nodes_of_a_larger_expander_are_connected_and_join_distant_nodes():
    for n in (1, 2, 3, 10, 100):
        edges = spectral.cayley(n)
        assert n < 2 or networkx.is_connected(networkx.Graph(edges.T.tolist()))
        assert (edges[0] < edges[1]).all() and edges.max(initial=-1) == n - 1 or n == 1
    ring = piece_of(networkx.cycle_graph(100))
    made = spectral.expander(ring)
    assert gap_of(made) > 20 * gap_of(ring) and pairs_of(ring) <= pairs_of(made)
    assert topology.diameter(made.adjacency()) <= 12


def test_new_edges_have_weight_one_and_no_features():
    edges = 2 * BARBELL.number_of_edges()
    piece = piece_of(BARBELL, edge_attr=torch.randn(edges, 2), edge_weight=torch.rand(edges))
    made = fosr(piece, 2)
    assert torch.equal(made.edge_attr[:edges], piece.edge_attr) and not made.edge_attr[edges:].any()
    assert torch.equal(made.edge_weight[:edges], piece.edge_weight) and (made.edge_weight[edges:] == 1).all()
    thinned = sdrf(piece, 2, remove_above=0.5)
    kept = pairs_of(piece) & pairs_of(thinned)
    weight = dict(zip(map(tuple, piece.edge_index.t().tolist()), piece.edge_weight.tolist(), strict=True))
    for edge, value in zip(map(tuple, thinned.edge_index.t().tolist()), thinned.edge_weight.tolist(), strict=True):
        assert value == (weight[edge] if edge in kept else 1)
