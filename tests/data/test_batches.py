from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch_geometric.data import Data

from deepgnn_cli.config import validate
from deepgnn_cli.data import neighbor_sampling as sampling
from deepgnn_cli.data.pieces import split_graph, training_nodes


@pytest.fixture
def graph(build):
    drawn = build("csbm", num_nodes=60, num_classes=3, average_degree=6.0, train_fraction=0.3)
    return replace(drawn, edge_attr=torch.arange(2.0 * drawn.num_edges).reshape(-1, 2))


@pytest.fixture
def inductive(raw, build):
    raw.ppi(sizes=((3, 4, 5, 3), (3,), (4, 2)))
    return build("ppi")


def strategy(name, graph, *, seed=0, rank=0, world=1, **overrides):
    config = OmegaConf.merge(OmegaConf.load(Path(__file__).parents[2] / "conf" / "batch" / f"{name}.yaml"), overrides)
    validate.check_node("batch", OmegaConf.to_container(config), {"world": world})
    return instantiate(config)(graph, seed=seed, rank=rank, world=world)


def induced(graph, nodes):
    """The edges within `nodes` with their features, by brute force, numbered as in the whole graph."""
    inside = set(nodes.tolist())
    attr = graph.edge_attr if graph.edge_attr is not None else torch.zeros(graph.num_edges, 1)
    listed = zip(graph.edge_index.t().tolist(), attr.tolist(), strict=True)
    return sorted((a, b, *e) for (a, b), e in listed if a in inside and b in inside)


def edges_of(batch, whole):
    attr = batch.graph.edge_attr if whole.edge_attr is not None else torch.zeros(batch.graph.num_edges, 1)
    ends = batch.nodes[batch.graph.edge_index].t().tolist()
    return sorted((a, b, *e) for (a, b), e in zip(ends, attr.tolist(), strict=True))


def nodes_of(batches):
    return sorted(torch.cat([batch.nodes for batch in batches]).tolist())


def test_full_gives_the_very_same_graph_each_epoch(graph):
    batches = strategy("full", graph)
    first, again, evaluated = (next(iter(b)) for b in (batches.train(0), batches.train(1), batches.evaluate()))
    assert first is again and first.graph is graph and evaluated is first and first.nodes is None


def test_full_trains_on_the_training_graphs_only(inductive):
    (batch,) = strategy("full", inductive).train(0)
    assert batch.nodes.tolist() == list(range(15)) and batch.graph.train.all()
    assert edges_of(batch, inductive) == induced(inductive, batch.nodes)
    assert not (batch.graph.val | batch.graph.test).any()
    (whole,) = strategy("full", inductive).evaluate()
    assert whole.graph is inductive


def test_parts_partition_the_nodes_and_are_induced(graph):
    found = list(strategy("parts", graph, train_parts=7).train(0))
    assert len(found) == 7 and nodes_of(found) == list(range(60))
    assert {batch.nodes.numel() for batch in found} == {8, 9}
    for batch in found:
        assert edges_of(batch, graph) == induced(graph, batch.nodes)
        for key in ("x", "y", "train", "val", "test"):
            assert torch.equal(getattr(batch.graph, key), getattr(graph, key)[batch.nodes])


def test_parts_share_the_training_nodes(graph):
    counts = [int(batch.graph.train.sum()) for batch in strategy("parts", graph, train_parts=18).train(3)]
    assert counts == [1] * 18


def test_parts_are_a_function_of_seed_and_epoch(graph):
    def drawn(seed, epoch):
        return [batch.nodes.tolist() for batch in strategy("parts", graph, seed=seed).train(epoch)]

    torch.manual_seed(0)
    first = drawn(0, 5)
    torch.manual_seed(1)
    assert drawn(0, 5) == first
    assert drawn(0, 6) != first != drawn(1, 5)


def test_evaluation_parts_are_fixed_and_views_differ(graph):
    batches = strategy("parts", graph, eval_parts=4, views=3)
    first, again = list(batches.evaluate()), list(batches.evaluate())
    assert [b.nodes.tolist() for b in first] == [b.nodes.tolist() for b in again]
    views = [first[4 * view : 4 * view + 4] for view in range(3)]
    assert all(nodes_of(view) == list(range(60)) for view in views)
    assert views[0][0].nodes.tolist() != views[1][0].nodes.tolist()
    (whole,) = strategy("parts", graph, eval_parts=1).evaluate()
    assert whole.graph is graph


def test_parts_of_inductive_data_hold_training_graphs_only(inductive):
    batches = strategy("parts", inductive, train_parts=3, eval_parts=2)
    assert nodes_of(batches.train(0)) == list(range(15)) and nodes_of(batches.evaluate()) == list(range(24))


def test_processes_share_the_parts(graph):
    alone = [b.nodes.tolist() for b in strategy("parts", graph, train_parts=6).train(2)]
    for rank in range(3):
        own = strategy("parts", graph, train_parts=6, rank=rank, world=3)
        assert [b.nodes.tolist() for b in own.train(2)] == alone[rank::3]
    shares = [strategy("parts", graph, train_parts=6, eval_parts=4, rank=r, world=3) for r in range(3)]
    assert nodes_of([b for share in shares for b in share.evaluate()]) == list(range(60))
    single = [strategy("parts", graph, train_parts=6, eval_parts=1, rank=r, world=3) for r in range(3)]
    assert [len(list(share.evaluate())) for share in single] == [1, 0, 0]


def test_whole_graphs(inductive):
    batches = strategy("graphs", inductive, graphs_per_batch=2)
    found = list(batches.train(0))
    assert len(found) == 2 and nodes_of(found) == list(range(15))
    for batch in found:
        assert batch.graph.part_of.unique().numel() == 2
        assert edges_of(batch, inductive) == induced(inductive, batch.nodes)
    orders = {tuple(tuple(b.nodes.tolist()) for b in batches.train(epoch)) for epoch in range(8)}
    assert len(orders) > 1
    assert nodes_of(batches.evaluate()) == list(range(24))


def test_groups_need_not_cover_the_graph(graph):
    groups = [torch.tensor([5, 3]), torch.empty(0, dtype=torch.int64), torch.tensor([59])]
    found = list(split_graph(graph, groups))
    assert [edges_of(b, graph) for b in found] == [induced(graph, nodes) for nodes in groups]
    assert torch.equal(training_nodes(graph), torch.arange(60))


class Loader:
    """Stands in for PyG's loader, which needs pyg-lib: one hop, all neighbours, in its output format."""

    def __init__(self, data, neighbours, seeds, *, batch_size, sampler):
        self.data, self.seeds, self.size, self.sampler = data, seeds, batch_size, sampler

    def __len__(self):
        return -(-len(self.sampler) // self.size)

    def __iter__(self):
        for places in torch.tensor(self.sampler).split(self.size):
            seeds = self.seeds[places]
            e_id = torch.isin(self.data.edge_index[1], seeds).nonzero()[:, 0]
            others = self.data.edge_index[0, e_id].unique()
            n_id = torch.cat([seeds, others[~torch.isin(others, seeds)]])
            local = torch.full((self.data.num_nodes,), -1)
            local[n_id] = torch.arange(n_id.numel())
            drawn = torch.rand(1)
            ends = local[self.data.edge_index[:, e_id]]
            yield Data(edge_index=ends, n_id=n_id, e_id=e_id, batch_size=seeds.numel(), drawn=drawn)


@pytest.fixture
def pyg_lib(monkeypatch):
    find = validate.importlib.util.find_spec
    monkeypatch.setattr(validate.importlib.util, "find_spec", lambda name: name == "pyg_lib" or find(name))
    monkeypatch.setattr(sampling, "NeighborLoader", Loader)


def test_sampled_batches_keep_seeds_and_edges(graph, pyg_lib):
    batches = strategy("neighbour", graph, seeds_per_batch=5, neighbours=[-1])
    before = torch.get_rng_state()
    found = list(batches.train(0))
    assert torch.equal(torch.get_rng_state(), before)  # the model's dropout is not touched
    seeds = torch.cat([batch.nodes[batch.seeds] for batch in found])
    assert sorted(seeds.tolist()) == graph.train.nonzero()[:, 0].tolist()
    for batch in found:
        assert set(edges_of(batch, graph)) <= set(induced(graph, batch.nodes))
        assert torch.equal(batch.graph.x, graph.x[batch.nodes])
    again, other = ([b.nodes.tolist() for b in batches.train(epoch)] for epoch in (0, 1))
    assert again == [b.nodes.tolist() for b in found] != other
    (whole,) = batches.evaluate()
    assert whole.graph is graph


def test_processes_share_the_seeds(graph, pyg_lib):
    shares = [strategy("neighbour", graph, seeds_per_batch=4, rank=rank, world=4) for rank in range(4)]
    seeds = [torch.cat([b.nodes[b.seeds] for b in share.train(0)]).tolist() for share in shares]
    assert [len(own) for own in seeds] == [4] * 4 and len({node for own in seeds for node in own}) == 16


@pytest.mark.parametrize(
    ("name", "wrong", "line"),
    [
        ("parts", {"train_parts": 0}, "batch.train_parts must be a whole number of at least 1"),
        ("parts", {"train_parts": 19}, "train_parts=19, but only 18 nodes train"),
        ("parts", {"train_parts": 2.5}, "batch.train_parts must be a whole number"),
        ("parts", {"views": 2, "eval_parts": 1}, "views=2 needs parts to differ"),
        ("parts", {"evaluate_on": "gpu"}, "batch.evaluate_on must be one of device, cpu"),
        ("parts", {"world": 3}, "train_parts=10 cannot be shared equally by 3 processes; try 12"),
        ("full", {"world": 2}, "batch=full gives each of 2 processes the same graph"),
        ("full", {"evaluate_on": "nowhere"}, "evaluate_on=nowhere"),
        ("full", {"train_parts": 2}, "unknown key 'batch.train_parts'"),
        ("parts", {"train_part": 2}, r"did you mean 'batch\.train_parts'"),
        ("graphs", {}, "batch=graphs needs data of several graphs, but csbm is one"),
        ("graphs", {"graphs_per_batch": 0}, "batch.graphs_per_batch must be a whole number of at least 1"),
        ("neighbour", {"neighbours": [10, 0]}, r"neighbours=\[10, 0\] must hold a number for each hop"),
        ("neighbour", {}, "batch needs the package pyg_lib, which is not installed"),
    ],
)
def test_what_cannot_work_is_refused(graph, name, wrong, line):
    if name == "neighbour" and validate.importlib.util.find_spec("pyg_lib"):
        pytest.skip("pyg-lib is installed here")
    with pytest.raises((ValueError, InstantiationException), match=line):
        strategy(name, graph, **wrong)


def test_graphs_that_processes_cannot_share_equally(inductive):
    with pytest.raises(ValueError, match="gives 4 batches an epoch, which 3 processes cannot share"):
        strategy("graphs", inductive, world=3)
