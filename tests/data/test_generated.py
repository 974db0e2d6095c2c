import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.csgraph import shortest_path

from deepgnn_cli.data.datasets import csbm as synthetic
from deepgnn_cli.data.relations import between_pairs, within_pairs


def undirected(graph):
    listed = set(map(tuple, graph.edge_index.t().tolist()))
    assert len(listed) == graph.num_edges and {(b, a) for a, b in listed} == listed
    assert all(a != b for a, b in listed)
    return graph.num_edges / 2


@pytest.mark.parametrize("homophily", [0.0, 0.25, 0.8, 1.0])
def test_csbm_has_the_degree_and_the_homophily_asked_for(build, homophily):
    graph = build("csbm", num_nodes=300, num_classes=4, average_degree=7.0, homophily=homophily)
    edges = undirected(graph)
    source, target = graph.y[graph.edge_index]
    assert edges == 300 * 7 / 2
    assert abs(float((source == target).double().mean()) - homophily) <= 0.5 / edges
    assert torch.bincount(graph.y).tolist() == [75] * 4


def test_csbm_can_be_a_complete_graph(build):
    graph = build("csbm", num_nodes=10, num_classes=2, average_degree=9.0, homophily=20 / 45)
    assert undirected(graph) == 45


def test_csbm_features_are_class_means_and_noise(build):
    clean = build("csbm", num_nodes=400, num_classes=2, feature_noise=0.0)
    assert clean.x.unique(dim=0).size(0) == 2 and torch.allclose(clean.x.norm(dim=1), torch.ones(400))
    noisy = build("csbm", num_nodes=4000, num_classes=2, feature_noise=3.0)
    for k in range(2):
        members = noisy.x[noisy.y == k].double()
        assert abs(float(members.std(dim=0).mean()) - 3) < 0.02
        assert abs(float(members.mean(dim=0).norm()) - 1) < 0.3 + 3 * (64 / 2000) ** 0.5


def test_csbm_is_its_graph_seeds(build):
    first, again = (build("csbm", seed=seed) for seed in (0, 1))
    assert torch.equal(first.edge_index, again.edge_index) and torch.equal(first.x, again.x)
    assert not torch.equal(first.train, again.train)
    own = build("csbm", seed=1, graph_seed=None)
    assert not torch.equal(first.edge_index, own.edge_index)


@pytest.mark.parametrize("sizes", [[2, 2], [3, 4, 4], [1, 5]])
def test_numbers_count_every_pair_once(sizes):
    sizes, n = np.array(sizes), sum(sizes)
    label = np.repeat(np.arange(len(sizes)), sizes)
    found = {True: synthetic._within(np.arange(within_pairs(sizes)), sizes)}
    found[False] = synthetic._between(np.arange(between_pairs(sizes)), sizes)
    for same, (a, b) in found.items():
        pairs = {frozenset(pair) for pair in zip(a.tolist(), b.tolist(), strict=True)}
        assert len(pairs) == len(a)
        assert pairs == {frozenset((i, j)) for i in range(n) for j in range(i) if (label[i] == label[j]) == same}


def test_the_triangle_is_exact_far_out():
    i = np.array([2, 3, 94_906_266, 94_906_267, 500_000_000], dtype=np.int64)
    for column in (np.zeros_like(i), i - 1):
        numbers = i * (i - 1) // 2 + column
        row, found = synthetic._within(numbers, np.array([10**9]))
        assert np.array_equal(row, i) and np.array_equal(found, column)


def test_drawn_numbers_are_distinct_and_uniform():
    draw = np.random.default_rng(0)
    for below, count in ((10, 10), (10, 6), (1000, 300)):
        found = synthetic._draw(draw, below, count)
        assert len(set(found.tolist())) == count and found.min() >= 0 and found.max() < below
    counts = np.bincount(np.concatenate([synthetic._draw(draw, 10, 3) for _ in range(4000)]), minlength=10)
    assert abs(counts - 1200).max() < 5 * (1200 * 0.7) ** 0.5


def hops(graph):
    ones = np.ones(graph.num_edges)
    matrix = scipy.sparse.csr_matrix((ones, graph.edge_index.numpy()), shape=(graph.num_nodes,) * 2)
    return shortest_path(matrix, unweighted=True)


def views(graph, radius):
    """What each target can see within `radius` hops: features by distance, sorted."""
    distance = hops(graph)
    targets = (graph.y >= 0).nonzero()[:, 0].tolist()
    for target in targets:
        seen = [(distance[target, i], *graph.x[i].tolist()) for i in np.flatnonzero(distance[target] <= radius)]
        yield int(graph.y[target]), tuple(sorted(seen))


def test_ring_transfer_hides_the_class_from_shallow_networks(build):
    graph = build("ring_transfer", num_samples=10, distance=4, num_classes=5)
    assert graph.num_nodes == 80 and undirected(graph) == 80
    assert torch.bincount(graph.y[graph.y >= 0]).tolist() == [2] * 5
    assert len({seen for _, seen in views(graph, 3)}) == 1
    answer = dict((seen, label) for label, seen in views(graph, 4))
    assert len(answer) == 5 == len(set(answer.values()))
    source = (graph.x.sum(dim=1) == 1).nonzero()[:, 0]
    target = (graph.y >= 0).nonzero()[:, 0]
    assert [hops(graph)[s, t] for s, t in zip(source, target, strict=True)] == [4] * 10
    assert torch.equal(graph.x[source].argmax(dim=1), graph.y[target])


@pytest.mark.parametrize("name", ["crossed_ring_transfer", "line_transfer", "barbell_transfer"])
@pytest.mark.parametrize("distance", [3, 4, 50])
def test_a_transfer_hides_the_class_from_shallow_networks(build, name, distance):
    graph = build(name, num_samples=5, distance=distance, num_classes=5)
    undirected(graph)
    source = (graph.x.sum(dim=1) == 1).nonzero()[:, 0]
    target = (graph.y >= 0).nonzero()[:, 0]
    far = hops(graph)
    assert [far[s, t] for s, t in zip(source, target, strict=True)] == [distance] * 5
    assert torch.equal(graph.x[source].argmax(dim=1), graph.y[target]) and graph.y[target].unique().numel() == 5
    assert torch.equal(graph.sample_of[source], torch.arange(5)) and len(set(graph.sample_of.tolist())) == 5
    ends = graph.sample_of[graph.edge_index]
    assert torch.equal(ends[0], ends[1])


def test_the_shapes_of_transfer(build):
    crossed = build("crossed_ring_transfer", num_samples=5, num_classes=2, distance=6)
    degree = torch.bincount(crossed.edge_index[0])[:12].tolist()
    assert degree == [2, 3, *[4] * 3, 3, 2, 3, *[4] * 3, 3]
    walks = np.linalg.matrix_power(adjacency_of(crossed)[:12, :12], 6)
    assert walks[0, 6] == 2**5, "shortest paths"
    line = build("line_transfer", num_samples=5, num_classes=2, distance=6)
    assert line.num_nodes == 5 * 7 and line.num_edges == 5 * 2 * 6
    barbell = build("barbell_transfer", num_samples=5, num_classes=2, distance=5, clique_size=4)
    assert barbell.num_nodes == 5 * 10 and barbell.num_edges == 5 * 2 * (2 * 6 + 3)
    assert sorted(torch.bincount(barbell.edge_index[0])[:10].tolist()) == [2, 2, *[3] * 6, 4, 4]


def adjacency_of(graph):
    matrix = np.zeros((graph.num_nodes,) * 2, dtype=int)
    matrix[tuple(graph.edge_index.numpy())] = 1
    return matrix


def test_only_targets_are_in_the_masks_and_each_sample_in_one(build):
    graph = build("ring_transfer", num_samples=50, distance=3)
    masks = torch.stack([graph.train, graph.val, graph.test]).int().sum(dim=0)
    assert torch.equal(masks, (graph.y >= 0).int()) and masks.reshape(50, 6)[:, 0].tolist() == [1] * 50
    assert [int(graph.train.sum()), int(graph.val.sum()), int(graph.test.sum())] == [30, 10, 10]


def test_neighbors_match_asks_for_a_leaf_at_the_bottom(build):
    depth, samples = 3, 20
    graph = build("neighbors_match", num_samples=samples, tree_depth=depth)
    leaves, size = 2**depth, 2 ** (depth + 1) - 1
    assert graph.num_nodes == samples * size and undirected(graph) == samples * (size - 1)
    assert graph.num_classes == leaves and (graph.y >= 0).sum() == samples
    distance, x, places = hops(graph), graph.x, set()
    for root in range(0, graph.num_nodes, size):
        below = np.flatnonzero(distance[root] == depth)
        assert len(below) == leaves and distance[root][np.isfinite(distance[root])].max() == depth
        keys, values = x[below, :leaves], x[below, leaves:]
        assert torch.equal(keys.sum(dim=0), torch.ones(leaves)) and torch.equal(values.sum(dim=0), torch.ones(leaves))
        match = keys.argmax(dim=1) == x[root, :leaves].argmax()
        assert values[match].argmax() == graph.y[root]
        places.add(int(match.int().argmax()))
        inner = np.flatnonzero((distance[root] > 0) & (distance[root] < depth))
        assert x[inner].abs().sum() == 0
    assert len(places) > leaves // 2  # the place of a leaf tells nothing
