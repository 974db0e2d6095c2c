import hashlib

import numpy as np
import pytest
import torch

from deepgnn_cli.data.datasets.planetoid import cora
from deepgnn_cli.data.prepare import row_normalized

KNOBS = {
    "split": "public",
    "split_index": 0,
    "split_seed": None,
    "train_fraction": 0.6,
    "val_fraction": 0.2,
    "train_per_class": None,
    "val_per_class": 30,
}


def sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def test_packaged_cora_has_the_fingerprints_of_planetoids(tmp_path):
    graph = cora(normalize_features=False, root=tmp_path, seed=0, **KNOBS)
    x = graph.x.numpy().astype(np.uint8)
    masks = torch.stack([graph.train, graph.val, graph.test]).numpy().astype(np.uint8)
    assert x.shape == (2708, 1433) and graph.edge_index.shape == (2, 10556)
    assert sha256(x) == "da7be67add3d2bbe670f71c79bf09847022e89aceda24d614fb12a1fbc98d831"
    assert sha256(graph.y.numpy()) == "d0018d7ffd314eb25a4904973f2c7eb1b7be135d668de42d453714724f8e9d03"
    assert sha256(graph.edge_index.numpy()) == "270ca66d99c4b94fa820c8c5bc715d07d136ccebb85fba1fd49910de947eb626"
    assert sha256(masks) == "6bd8cc27013b1270c884603c41a93723dd92bf413c1e43b55cf5401c9cc13a2e"
    assert (graph.name, graph.split, graph.num_classes, graph.metric) == ("cora", "public", 7, "accuracy")


def test_normalised_rows_sum_to_one_and_empty_rows_stay_empty():
    x = row_normalized(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    assert torch.equal(x, torch.tensor([[0.25, 0.75], [0.0, 0.0]]))


@pytest.mark.parametrize("wrong", [{"split": "publik"}, {"split": "geom", "split_index": 12}])
def test_a_split_that_does_not_exist_is_refused_first(build, tmp_path, wrong):
    with pytest.raises(ValueError, match="dataset.split"):
        build("cora", **wrong)
    assert not list(tmp_path.iterdir())
