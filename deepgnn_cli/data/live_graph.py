"""A graph that lives in Python, kept as the file that `dataset=pyg` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import from_networkx

from deepgnn_cli.data.fields import FIELDS, fields_of
from deepgnn_cli.data.tensors import tensor
from deepgnn_cli.runfiles.files import write_atomic

# What these fields are called elsewhere.
_OF_NODES = {"feat": "x", "features": "x", "label": "y", "labels": "y"}
_OF_EDGES = {"weight": "edge_weight", "w": "edge_weight", "feat": "edge_attr"}
_TEXTS = ("class_names", "node_names")


def store(value: object, folder: Path) -> Path:
    """Write a graph that lives in Python where `pyg` reads it again; the file is named by what is in it.

    Args:
        value: a PyG `Data`, a dict of tensors, a list of them, a NetworkX graph (`x`, `y`, `train_mask`, … on its
            nodes, `weight` on its edges) or a DGL graph (`feat`, `label`, … in `ndata`, `weight` in `edata`).
        folder: where.

    Raises:
        ValueError: it is none of these.
    """
    plain = _plain(value)
    digest = hashlib.sha256()
    for fields in plain if isinstance(plain, list) else [plain]:
        for name in sorted(fields):
            found = fields[name]
            if isinstance(found, Tensor):
                digest.update(f"{name} {found.dtype} {list(found.shape)}".encode())
                digest.update(found.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            else:
                digest.update(f"{name} {found}".encode())
    path = folder / f"{digest.hexdigest()[:12]}.pt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: torch.save(plain, file))
    return path


def _plain(value: object) -> Any:
    """The graph as a dict of dense tensors and names, or a list of such."""
    if isinstance(value, list | tuple) and value:
        return [_plain(each) for each in value]
    if hasattr(value, "nodes") and hasattr(value, "is_directed") and not hasattr(value, "ndata"):
        value = _networkx(value)
    elif hasattr(value, "ndata") and hasattr(value, "edges"):
        value = _dgl(value)
    if not isinstance(value, Mapping | Data):
        raise ValueError(
            f"dataset is a {type(value).__name__}; give a name, a PyG Data, a dict of tensors, a NetworkX or DGL graph"
        )
    fields = fields_of(value, "dataset")
    for name in ("edge_index", "y"):
        if fields.get(name) is None:
            raise ValueError(f"dataset has no {name}; its fields are: {', '.join(map(str, fields)) or 'none'}")
    plain = {name: tensor(fields[name], name) for name in FIELDS if fields.get(name) is not None}
    return plain | {name: [str(each) for each in fields[name]] for name in _TEXTS if fields.get(name) is not None}


def _networkx(graph: Any) -> dict[str, object]:
    names = list(graph.nodes)
    fields = _renamed(from_networkx(graph).to_dict(), _OF_NODES | {"weight": "edge_weight"})
    return fields if names == list(range(len(names))) else fields | {"node_names": names}


def _dgl(graph: Any) -> dict[str, object]:
    ends = torch.stack(list(graph.edges())).long()
    return {"edge_index": ends} | _renamed(graph.ndata, _OF_NODES) | _renamed(graph.edata, _OF_EDGES)


def _renamed(fields: Mapping[str, object], called: Mapping[str, str]) -> dict[str, object]:
    """By our names, where they are not taken."""
    return {called.get(name, name): found for name, found in fields.items() if called.get(name) not in fields}
