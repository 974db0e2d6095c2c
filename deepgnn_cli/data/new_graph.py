"""A graph that a trained model is to look at: its labels, if it has any, are not read.

N nodes, K classes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import GlobalStorage

from deepgnn_cli.data.datasets.own import from_object
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked_inputs
from deepgnn_cli.data.splits import Split

_GIVEN = Split("public", 0, 0.6, 0.2, per_class=False)


def read_graph(path: Path) -> Any:
    """What `torch.save` wrote to a file: a PyG `Data`, a list of them, or a dict of tensors.

    Raises:
        ValueError: there is no such file, or reading it would run code from it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give what torch.save wrote")
    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            return torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read without running code from it ({type(error).__name__}); "
            "save a plain dict instead: torch.save(data.to_dict(), PATH)"
        ) from None


def new_graph(value: Any, trained_on: Graph, *, reads_edges: bool, features: str) -> Graph:
    """The graph of a PyG `Data`, a list of them, or a dict of tensors, in the form of the one a model was trained on.

    Its labels are zeros, and every node is in each of its masks.

    Args:
        value: as `dataset=pyg` takes it; `y` and the masks may be missing.
        trained_on: what the widths are to be.
        reads_edges: whether the model reads `edge_attr`; otherwise it may be there or not.
        features: of a graph without `x`, as `dataset.features`.

    Raises:
        ValueError: it is no such thing, a field is wrong, or its features are not those that the model reads.
    """
    if not isinstance(value, Graph):
        value = _from_object(value, features)
    graph = checked_inputs(value)
    _same_width("x", graph.num_features, trained_on.num_features)
    if reads_edges:
        _same_width("edge_attr", _width(graph), _width(trained_on))
    n, everyone = graph.num_nodes, torch.ones(graph.num_nodes, dtype=torch.bool)
    y = torch.zeros(n, trained_on.num_classes) if trained_on.multi_label else torch.zeros(n, dtype=torch.int64)
    classes, metric = trained_on.num_classes, trained_on.metric
    return replace(graph, y=y, num_classes=classes, metric=metric, train=everyone, val=everyone, test=everyone)


def _from_object(value: Any, features: str) -> Graph:
    if isinstance(value, list | tuple) and value and all(isinstance(each, Data) for each in value):
        value = Batch.from_data_list(list(value))
    if not isinstance(value, Data | Mapping):
        raise ValueError(f"the new graph is a {type(value).__name__}; give a PyG Data, a list of them, or a dict")
    fields = dict(value.to_dict() if isinstance(value, Data) else value)
    n = _count(fields)
    everyone = torch.ones(n, dtype=torch.bool)
    fields |= {"y": torch.zeros(n, dtype=torch.int64)} | dict.fromkeys(
        ("train_mask", "val_mask", "test_mask"), everyone
    )
    graph = from_object(fields, name="the new graph", split=_GIVEN, features=features)
    return graph if graph.part_of is not None else replace(graph, part_of=fields.get("batch"))


def _count(fields: Mapping[str, Any]) -> int:
    for name in ("x", "y", "batch"):
        if fields.get(name) is not None:
            return len(fields[name])
    if fields.get("num_nodes") is not None:
        return int(fields["num_nodes"])
    raise ValueError("the new graph has no x, and num_nodes does not say how many nodes there are")


def _width(graph: Graph) -> int:
    return 0 if graph.edge_attr is None else graph.edge_attr.size(1)


def _same_width(field: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise ValueError(f"the new graph has {given} columns of {field}, and the model was trained on {wanted}")
