"""Batches of labelled graphs: each graph once an epoch, as it is, in an order that the seed draws."""

from dataclasses import replace

import pytest
import torch

from deepgnn_cli.data.batches import full, graphs, parts
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked
from deepgnn_cli.data.pieces import GraphCutter

SIZES = [3, 1, 5, 2, 4, 2, 3]


def several(sizes=SIZES, seed=0):
    """Graphs with random edges; a node's features say which it is."""
    draw = torch.Generator().manual_seed(seed)
    count, n = len(sizes), sum(sizes)
    part_of = torch.repeat_interleave(torch.arange(count), torch.tensor(sizes))
    ends = torch.randint(n, (2, 40), generator=draw)
    ends = ends[:, part_of[ends[0]] == part_of[ends[1]]]
    split = torch.arange(count) % 4
    graph = Graph(
        "several",
        "own",
        torch.arange(float(n))[:, None],
        ends,
        torch.arange(count) % 2,
        2,
        train=split < 2,
        val=split == 2,
        test=split == 3,
        level="graph",
        part_of=part_of,
        edge_attr=torch.arange(float(ends.size(1)))[:, None],
        edge_weight=torch.arange(1.0, 1 + ends.size(1)),
    )
    return checked(graph)


def triples(graph):
    """The edges by what they join and carry, whatever their numbers."""
    ends = graph.x[:, 0][graph.edge_index]
    return sorted(zip(*ends.tolist(), graph.edge_attr[:, 0].tolist(), graph.edge_weight.tolist(), strict=True))


def strategy(graph, size=2, nodes=None, seed=0, **more):
    return graphs(graph, seed=seed, graphs_per_batch=size, nodes_per_batch=nodes, evaluate_on="device", **more)


def test_what_is_cut_out_is_the_graphs_as_they_are():
    graph = several()
    numbers = torch.tensor([4, 0, 6])
    batch = GraphCutter(graph).cut(numbers)
    cut = batch.graph
    assert torch.equal(batch.graphs, numbers) and torch.equal(cut.x, graph.x[batch.nodes])
    assert torch.equal(graph.part_of[batch.nodes], numbers[cut.part_of])
    assert cut.part_of.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    for name in ("y", "train", "val", "test"):
        assert torch.equal(getattr(cut, name), getattr(graph, name)[numbers])
    inside = torch.isin(graph.part_of[graph.edge_index[0]], numbers)
    kept = {"edge_index": graph.edge_index[:, inside], "edge_attr": graph.edge_attr[inside]}
    assert triples(cut) == triples(replace(graph, edge_weight=graph.edge_weight[inside], **kept))
    assert len(triples(cut)) > 3


@pytest.mark.parametrize("size, nodes", [(1, None), (2, None), (3, None), (99, None), (1, 5), (1, 9), (1, 1)])
def test_an_epoch_trains_on_every_training_graph_once_and_evaluation_sees_all(size, nodes):
    graph = several()
    batches = strategy(graph, size, nodes)
    for epoch in (1, 2):
        seen = list(batches.train(epoch))
        numbers = torch.cat([batch.graphs for batch in seen])
        assert sorted(numbers.tolist()) == graph.train.nonzero()[:, 0].tolist()
        for batch in seen:
            assert batch.graph.train.all()
            if nodes is None:
                assert len(batch.graphs) <= size
            else:
                assert batch.graph.num_nodes <= nodes or len(batch.graphs) == 1
    assert sorted(torch.cat([batch.graphs for batch in batches.evaluate()]).tolist()) == list(range(len(SIZES)))


def test_a_batch_of_nodes_is_as_full_as_it_can_be():
    graph = several([2] * 12)
    sizes = [batch.graph.num_nodes for batch in strategy(graph, nodes=5).evaluate()]
    assert sizes == [4] * 6


def test_the_order_is_drawn_by_seed_and_epoch():
    graph = several([2] * 40)

    def order(seed, epoch):
        return torch.cat([batch.graphs for batch in strategy(graph, seed=seed).train(epoch)]).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_full_trains_on_the_union_of_the_training_graphs():
    graph = several()
    batches = full(graph, seed=0, evaluate_on="device")
    (first,), (again,) = batches.train(1), batches.train(2)
    assert first is again and torch.equal(first.graphs, graph.train.nonzero()[:, 0]) and first.graph.train.all()
    (whole,) = batches.evaluate()
    assert whole.graph is graph and whole.graphs is None


def test_processes_share_the_batches():
    graph = several([2] * 16)
    shares = [[batch.graphs.tolist() for batch in strategy(graph, 2, rank=rank, world=2).train(1)] for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    assert sorted(sum(shares[0] + shares[1], [])) == graph.train.nonzero()[:, 0].tolist()
    with pytest.raises(ValueError, match="nodes_per_batch"):
        strategy(graph, nodes=4, world=2)


def test_what_would_cut_graphs_apart_is_refused():
    with pytest.raises(ValueError, match="batch=parts cuts graphs apart"):
        parts(several(), seed=0, train_parts=2, eval_parts=1, views=1, evaluate_on="device")


def test_edges_are_put_in_the_order_of_graphs_with_what_they_carry():
    graph = several()
    order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    mixed = {name: getattr(graph, name)[order] for name in ("edge_attr", "edge_weight")}
    again = checked(replace(graph, edge_index=graph.edge_index[:, order], **mixed))
    of_edge = again.part_of[again.edge_index[0]]
    assert (of_edge.diff() >= 0).all() and triples(again) == triples(graph)


@pytest.mark.parametrize(
    "damage, said",
    [
        ({"part_of": None}, "part_of does not say"),
        ({"y": torch.zeros(sum(SIZES))}, "there are G=7 graphs: a label a graph"),
        ({"train": torch.ones(3, dtype=torch.bool)}, "train has 3 entries, but there are G=7 graphs"),
        ({"val": torch.zeros(7, dtype=torch.bool)}, "need a graph each"),
        ({"y": torch.tensor([0, 1, -1, 1, 0, 1, 0])}, "no label for 1 graphs of val"),
        ({"categories": (2,)}, "x holds category 19 in column 0, and there are 2"),
        ({"categories": (20, 2)}, "x has 1 columns, and categories of 2"),
        ({"edge_categories": (3,)}, "edge_attr holds category"),
    ],
)
def test_wrong_graphs_are_refused_by_field(damage, said):
    with pytest.raises(ValueError, match=said):
        checked(replace(several(), **damage))


def test_nodes_that_do_not_stand_graph_by_graph_are_refused():
    graph = several([2, 2, 2, 2])
    mixed = torch.tensor([0, 1, 0, 1, 2, 2, 3, 3])
    with pytest.raises(ValueError, match="sort the nodes by graph"):
        checked(replace(graph, part_of=mixed, edge_index=torch.empty(2, 0), edge_attr=None, edge_weight=None))
