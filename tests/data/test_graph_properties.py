"""Distances in random graphs, against networkx."""

import networkx
import numpy as np
import pytest
import torch

from deepgnn_cli.data.datasets.graph_properties import FAMILIES

SMALL = {"train_graphs": 30, "val_graphs": 8, "test_graphs": 8, "min_nodes": 6, "max_nodes": 12}


def pieces(graph):
    """Each graph as networkx has it, by the numbers of its nodes."""
    for number in range(graph.num_graphs):
        nodes = (graph.part_of == number).nonzero()[:, 0].tolist()
        made = networkx.Graph()
        made.add_nodes_from(nodes)
        inside = graph.part_of[graph.edge_index[0]] == number
        made.add_edges_from(graph.edge_index[:, inside].t().tolist())
        yield number, nodes, made


def test_distances_are_networkxs(build):
    sssp, eccentricity, diameter = (build(name, **SMALL) for name in ("sssp", "eccentricity", "diameter"))
    assert (sssp.level, eccentricity.level, diameter.level) == ("node", "node", "graph")
    found = {"sssp": [], "eccentricity": [], "diameter": []}
    for _, nodes, made in pieces(sssp):
        assert networkx.is_connected(made)
        (source,) = [node for node in nodes if sssp.x[node, 0] == 1]
        far = networkx.single_source_shortest_path_length(made, source)
        found["sssp"] += [far[node] for node in nodes]
        found["eccentricity"] += [networkx.eccentricity(made, node) for node in nodes]
        found["diameter"].append(networkx.diameter(made))
    for graph in (sssp, eccentricity, diameter):
        expected = torch.tensor(found[graph.name], dtype=torch.float32)
        torch.testing.assert_close(graph.y[:, 0], expected / expected[graph.train].max())
        assert graph.task.kind == "regression" and graph.metric == "log10_mse" and graph.task.minimised == "mse"


def test_sizes_and_seeds_are_kept(build):
    graph = build("sssp", **SMALL)
    sizes = torch.bincount(graph.part_of)
    assert len(sizes) == 46 and sizes.min() >= 5 and sizes.max() <= 12  # a ladder has an even number of nodes
    for name, count in (("train", 30), ("val", 8), ("test", 8)):
        assert len(graph.part_of[getattr(graph, name)].unique()) == count
    assert build("sssp", seed=5, **SMALL).digest == graph.digest
    assert build("sssp", graph_seed=1, **SMALL).digest != graph.digest
    with pytest.raises(ValueError, match="min_nodes=30 is more than max_nodes=12"):
        build("sssp", **SMALL | {"min_nodes": 30})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [4, 9, 12, 25])
def test_every_family_is_simple_and_of_n_nodes(family, n):
    for seed in range(5):
        pairs = family(n, np.random.default_rng(seed))
        assert all(a != b for a, b in pairs)
        nodes = {node for pair in pairs for node in pair}
        assert max(nodes) == n - 1 or family.__name__ in ("ladder", "erdos_renyi")


def test_a_regression_is_trained_by_a_model_deep_enough(tmp_path):
    from deepgnn_cli import experiment

    rows = experiment(
        {f"dataset.{key}": value for key, value in SMALL.items()} | {"trainer.max_epochs": 3},
        dataset=["sssp", "diameter"], model="gcnii", layers=3, hidden=8, output_dir=str(tmp_path),
        variants=[{"trainer.select": "val_score"}],
    )  # fmt: skip
    assert set(rows["status"]) == {"ok"} and set(rows["direction"]) == {"lower"}
    assert (rows["test_score"] < 3).all()
    for _, row in rows.iterrows():
        (epochs,) = tmp_path.glob(f"{row['run_id']}/epochs.csv")
        table = np.genfromtxt(epochs, delimiter=",", names=True)
        assert table["val_score"].argmin() + 1 == row["best_epoch"]
