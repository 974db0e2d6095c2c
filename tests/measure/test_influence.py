"""Influence by hop: against PyG's, against closed forms, and a reversible network's against its stored twin's."""

import networkx
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN
from torch_geometric.utils import influence as pyg_influence
from torch_geometric.utils import total_influence

from deepgnn_cli.measure.influence import hops_to, influence
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop
from deepgnn_cli.nn.sparse_features import Linear, Listening, SparseFeatures
from tests.conftest import N
from tests.measure.test_layer_diagnostics import L, model_of
from tests.nn.test_decoupled import MAKERS, made

ALL = torch.arange(N)


class OnEdges(nn.Module):
    """A model of PyG's, called with our graph."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, adjacency):
        return self.model(x, adjacency.edge_index)


class Propagation(nn.Module):
    """`Â^k X Wᵀ`."""

    def __init__(self, k):
        super().__init__()
        self.linear, self.k = Linear(8, 3), k

    def forward(self, x, adjacency):
        h = self.linear(x)
        for _ in range(self.k):
            h = adjacency.operator("sym", torch.float64)(h)
        return h


def test_it_is_what_pyg_computes_on_one_subgraph_after_the_other(graph, x, monkeypatch):
    breadth_of = pyg_influence.influence_weighted_receptive_field  # takes single precision only
    monkeypatch.setattr(pyg_influence, "influence_weighted_receptive_field", lambda table: breadth_of(table.float()))
    model = GCN(8, 16, num_layers=3, out_channels=4).eval()
    x, graph = x[:-1], Adjacency(graph.edge_index, N - 1)  # PyG counts the nodes by their edges: the last has none
    data = Data(x=x, edge_index=graph.edge_index)
    totals, breadth = total_influence(model, data, max_hops=N, normalize=False)
    ours = influence(OnEdges(model), x, graph, ALL[:-1])
    assert ours.totals == pytest.approx(totals[: len(ours.totals)].tolist(), rel=1e-9)
    assert not totals[len(ours.totals) :].any() and len(ours.totals) == 4
    assert ours.range_hops == pytest.approx(breadth, rel=1e-5)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_of_a_linear_gcn_it_is_the_rows_of_the_power_of_the_adjacency(graph, dense_graph, normalised, x, k):
    model = Propagation(k)
    power = torch.linalg.matrix_power(normalised, k)
    paths = networkx.from_numpy_array(dense_graph.numpy())
    distance = dict(networkx.all_pairs_shortest_path_length(paths))
    ours = influence(model, x, graph, ALL)
    for hop in range(len(ours.totals)):
        at = torch.tensor([[distance[v].get(u) == hop for u in range(N)] for v in range(N)])
        want = model.linear.weight.abs().sum() * (power.abs() * at).sum() / N
        assert ours.totals[hop] == pytest.approx(want.item())
        assert ours.nodes[hop] == pytest.approx(at.sum().item() / N)
        assert ours.shares[hop] == pytest.approx(((power * at).sum(1) / power.sum(1)).mean().item())
    assert len(ours.totals) == 1 + min(k, max(max(d.values()) for d in distance.values()))
    assert ours.range_hops == pytest.approx(sum(hop * share for hop, share in enumerate(ours.shares)))
    assert ours.beyond(k / 2) == pytest.approx(sum(ours.shares[hop] for hop in range(len(ours.shares)) if hop > k / 2))


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_reversible_network_hears_what_its_stored_twin_hears(graph, x, norm):
    model = model_of("reversible", norm=norm)
    recomputed = influence(model, x, graph, ALL)
    model.stack.engine.store_activations = True
    stored = influence(model, x, graph, ALL)
    assert recomputed.totals == pytest.approx(stored.totals) and recomputed.shares == pytest.approx(stored.shares)
    assert L + 1 < len(stored.totals) <= 2 * L + 1, "the second group of a layer hears what the first has heard"


def test_one_output_drawn_at_random_estimates_the_sum_over_all(graph, x):
    model = model_of()
    exact = influence(model, x, graph, ALL)
    single = [influence(model, x, graph, ALL, torch.full((N, 1), output)) for output in range(3)]
    for hop in range(L + 1):
        assert sum(each.totals[hop] for each in single) / 3 == pytest.approx(exact.totals[hop])
    assert influence(model, x, graph, ALL, torch.arange(3).repeat(N, 1)).totals == pytest.approx(exact.totals)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("make", [*MAKERS, "none", "reversible", "jumping", "dense", "sage"])
def test_features_that_listen_give_the_norms_of_the_gradient_that_is_never_made(graph, x, make, form):
    if make in MAKERS:
        model = made(make, Drop(0.5, 0.5))
    elif make == "dense":
        pyg = GCN(8, 4, num_layers=2, out_channels=3)
        model = OnEdges(lambda x, edges: pyg(x if isinstance(x, torch.Tensor) else x.dense(), edges))
    else:
        model = model_of("none", "sage") if make == "sage" else model_of(make)
    x = x * (torch.rand_like(x) < 0.3)
    listening = Listening(x if form == "dense" else SparseFeatures.of(x))
    plain, heard = influence(model, x, graph, ALL), influence(model, listening, graph, ALL)
    assert heard.totals == pytest.approx(plain.totals) and heard.shares == pytest.approx(plain.shares)
    assert sum(plain.totals[1:]) > 0


def test_hops_follow_the_edges_backwards():
    edges = torch.tensor([[0, 1, 2, 3, 5], [1, 2, 3, 0, 2]])
    assert hops_to(2, edges, 6).tolist() == [2, 1, 0, 3, -1, 1]


def test_a_model_that_does_not_listen_hears_nothing(graph, x):
    model = OnEdges(nn.Identity())
    model.forward = lambda x, adjacency: torch.ones(N, 3)
    deaf = influence(model, Listening(x), graph, ALL)
    assert deaf.range_hops is None and deaf.beyond(1) is None and deaf.totals == (0,)
    alone = influence(Propagation(0), x, graph, ALL)
    assert alone.range_hops == 0 and alone.beyond(0) == 0 and alone.shares == pytest.approx((1,))


def test_what_has_no_output_for_each_node_is_refused(graph, x):
    model = OnEdges(nn.Identity())
    model.forward = lambda x, adjacency: x.mean(0, keepdim=True)
    with pytest.raises(ValueError, match="no output of each node"):
        influence(model, x, graph, ALL)


@pytest.mark.parametrize("residual", ["none", "reversible"])
def test_no_trace_is_left(residual, graph, x):
    model = model_of(residual, norm="batch").train()
    model.encoder.requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first, again = influence(model, x, graph, ALL), influence(model, x, graph, ALL)
    assert first == again
    assert torch.equal(torch.get_rng_state(), random) and not x.requires_grad and model.training
    assert [p.requires_grad for p in model.parameters()] == wanted and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_progress_is_told_node_by_node(graph, x):
    told = []
    influence(model_of(), x, graph, ALL[:3], after_node=told.append)
    assert told == [0, 1, 2]
