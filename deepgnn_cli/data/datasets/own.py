"""A graph of one's own: PyG's `Data` or a dict of tensors, from a file or from Python.

N nodes, E edges, F input features, K classes, S splits.
"""

from __future__ import annotations

import http.client
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

from deepgnn_cli.data.download import DataError, locked
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_file import read_graph
from deepgnn_cli.data.objects import from_object
from deepgnn_cli.data.relations import own_source, own_split
from deepgnn_cli.data.splits import Split, SplitKnobs, check_split
from deepgnn_cli.rules.signatures import related


@related(own_split, own_source)
def pyg(
    *,
    path: str | None,
    target: str | None,
    arguments: dict[str, object] | None,
    metric: Literal[
        "accuracy", "macro_f1", "micro_f1", "roc_auc", "average_precision", "mae", "mse", "rmse", "log10_mse", "r2"
    ]
    | None,
    features: Literal["degree", "one_hot", "constant"],
    split: Literal["public", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """The graph in a file that `torch.save` wrote, or one of PyG's data sets.

    A file holds a PyG `Data`, a dict of its fields, or a list of them: several graphs, seen as one union (inductive).
    Where each graph of a list has one `y`, [1] or [1, K], graphs are labelled, and masks are of graphs.

    Fields: `x` [N, F], `edge_index` [2, E] or `adj_t`, `y` (-1 or NaN where unknown; whole numbers name classes, others
    are to be predicted), `train_mask`, `val_mask`, `test_mask` ([N], [N, S] or node numbers; without them the split is
    random), `edge_weight`, `edge_attr`.

    Args:
        path: the file.
        target: in place of it, a PyG data set class: its dotted name, or its name in `torch_geometric.datasets`.
        arguments: what the class is called with; `root` is the data folder.
        metric: what the labels are scored by; null: accuracy of classes, micro F1 of several labels, MAE of numbers.
        features: of a graph without `x`: `degree`, `one_hot` (a column a node) or `constant`.
        split: `public` takes the graph's own masks where it has some; or `random`.
        root: folder of all data.
        seed: the run's seed, for a random split.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the file cannot be read, or its graph is wrong.
        DataError: the class cannot load its data.
    """
    wanted = check_split(seed=seed, split=split, **knobs | {"split_index": 0})
    if wanted.kind == "public":
        wanted = replace(wanted, number=seed if knobs["split_seed"] is None else knobs["split_seed"])
    own_source(path=path, target=target, arguments=arguments)
    if path is None:
        assert target is not None
        stored, name = _data_set(target, arguments or {}, Path(root)), target.rpartition(".")[2]
    else:
        file = Path(path).expanduser()
        stored, name = read_graph(file, f"dataset.path={file}"), file.stem
    return from_object(stored, name=name, split=wanted, features=features, metric=metric)


def _data_set(target: str, arguments: Mapping[str, object], root: Path) -> object:
    """The graph, or the list of graphs, of a PyG data set class; its files lie below `root`."""
    module, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module or "torch_geometric.datasets"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"dataset.target={target} cannot be imported ({error})") from None
    folder = root / "pyg" / "_".join([name, *(re.sub(r"\W+", "-", str(value)) for value in arguments.values())])
    given = {"root": str(folder)} if "root" in inspect.signature(made).parameters else {}
    try:
        with locked(folder):
            loaded = made(**given, **arguments)
    except TypeError as error:
        raise ValueError(f"dataset.target={target} with dataset.arguments={dict(arguments)}: {error}") from None
    except (OSError, RuntimeError, ImportError, http.client.HTTPException) as error:
        raise DataError(f"dataset.target={target} cannot load its data below {folder}: {error}") from None
    return loaded[0] if len(loaded) == 1 else list(loaded)


def as_graph(value: object, *, name: str, seed: int) -> Graph:
    """What a data set's function returns: a `Graph` as it is, or a PyG `Data` with its masks or a random split.

    Raises:
        ValueError: see `from_object`.
    """
    if isinstance(value, Graph):
        return value
    return from_object(value, name=name, split=Split("public", seed, 0.6, 0.2, per_class=False), features="degree")
