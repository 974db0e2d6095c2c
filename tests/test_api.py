"""The same runs without a shell: dicts are keys below, graphs and classes are taken as they are."""

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

from deepgnn_cli import experiment
from deepgnn_cli.api import _combinations

SHORT = {"trainer": {"max_epochs": 3, "diagnostics": False}, "hidden": 8, "device": "cpu"}


def test_a_dict_stands_for_the_keys_below_and_a_variants_key_for_the_same_one():
    given = {"model": "gcn", "trainer": {"max_epochs": 3}, "layers": [2, 4]}
    assert list(_combinations(given, {"norm": "pair", "layers": 8})) == [
        ["model='gcn'", "layers=8", "norm='pair'", "trainer.max_epochs=3"]
    ]
    assert [words[1] for words in _combinations(given, {})] == ["layers=2", "layers=4"]


def test_variants_run_once_with_each_combination(tmp_path):
    rows = experiment(
        dataset="csbm", model="gcn", seed=[0, 1], variants=[{}, {"norm": "pair"}], output_dir=str(tmp_path), **SHORT
    )
    assert rows[["norm", "seed"]].to_numpy().tolist() == [["none", 0], ["none", 1], ["pair", 0], ["pair", 1]]
    assert set(rows["status"]) == {"ok"} and set(rows["epochs"]) == {3}


def graph(n=30):
    ends = torch.arange(n)
    edge_index = torch.stack([torch.cat([ends, (ends + 1) % n]), torch.cat([(ends + 1) % n, ends])])
    part = {f"{name}_mask": ends % 3 == k for k, name in enumerate(("train", "val", "test"))}
    return Data(x=torch.randn(n, 4), edge_index=edge_index, y=ends // 2 % 2, **part)


def test_a_graph_is_taken_as_it_is_and_each_form_gives_the_same_run(tmp_path):
    data = graph()
    network = nx.Graph()
    for node in range(data.num_nodes):
        masks = {name: bool(data[name][node]) for name in ("train_mask", "val_mask", "test_mask")}
        network.add_node(node, x=data.x[node].tolist(), y=int(data.y[node]), **masks)
    network.add_edges_from(data.edge_index.t().tolist())
    given = {"model": "gcn", "conv": SAGEConv, "seed": 1, "output_dir": str(tmp_path), **SHORT}
    rows = [experiment(dataset=form, **given).iloc[0] for form in (data, data.to_dict(), network)]
    assert {row["status"] for row in rows} == {"ok"} and {row["conv"] for row in rows} == {"SAGEConv"}
    assert len({(row["train_score"], row["val_score"], row["test_score"]) for row in rows}) == 1


def test_what_is_no_graph_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dataset is a float"):
        experiment(dataset=0.5, output_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_options_of_ones_own_are_found_in_config_dir(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder / "dataset").mkdir(parents=True)
        (tmp_path / folder / "dataset" / f"mine_{folder}.yaml").write_text(
            "defaults: [csbm]\nnum_nodes: 30\nnum_features: 4\naverage_degree: 3.0\n"
        )
    known = {"model": "gcn", "layers": 2, "hidden": 4, "trainer": {"max_epochs": 1}, "output_dir": tmp_path / "runs"}
    one = experiment(dataset="mine_one", config_dir=str(tmp_path / "one"), **known)
    both = experiment(dataset=["mine_one", "mine_two"], config_dir=[tmp_path / "one", tmp_path / "two"], **known)
    assert list(one.status) == ["ok"] and list(both.dataset) == ["mine_one", "mine_two"]
    with pytest.raises(ValueError, match="mine_one"):
        experiment(dataset="mine_one", **known)
    with pytest.raises(ValueError, match="config_dir='.*absent': there is no such folder"):
        experiment(dataset="mine_one", config_dir=tmp_path / "absent", **known)
