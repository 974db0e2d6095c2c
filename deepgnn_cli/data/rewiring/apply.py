"""A data set with other edges: rewired graph by graph, once, and kept by content.

N nodes, E directed edges, K classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deepgnn_cli.data.download import locked
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import spelled_out
from deepgnn_cli.data.rewiring.piece import Piece
from deepgnn_cli.data.rewiring.transforms import half_hop, none
from deepgnn_cli.data.structure import topology
from deepgnn_cli.runfiles.files import write_atomic

VERSION = 1  # of the methods: a kept result of an older one must not be read
Method = Callable[[Piece], Piece]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Rewired:
    """The graph with its new edges, and what it was like before.

    `edges_before`: the data's own [2, E]. `spectral_gap`: of the largest component; None: unknown. `untouched`: nothing
    was done, and nothing measured. `added_nodes`: how many stand behind the data's own.
    """

    graph: Graph
    edges_before: Tensor
    spectral_gap_before: float | None
    spectral_gap: float | None
    untouched: bool = False
    added_nodes: int = 0


def rewired(graph: Graph, method: Method, settings: str, folder: Path) -> Rewired:
    """Apply a method to each graph of the data, or take what it gave the last time.

    Nodes that the method adds stand behind all others and are in no mask: labels and splits stay as they are.

    Args:
        graph: as the data set gives it, before any normalisation.
        method: of this package.
        settings: all that decides what the method does; part of the key under which the result is kept.
        folder: where results are kept, if it can be written.

    Raises:
        ValueError: the method does not apply to this graph.
    """
    if getattr(method, "func", method) is none:
        return Rewired(graph, graph.edge_index, None, None, untouched=True)
    graph = spelled_out(graph)
    path = folder / f"{_key(graph, settings, _reads_features(method))}.pt"
    kept = _read(path)
    if kept is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(path):  # of several processes that ask for the same, one works
                kept = _read(path) or _rewire(graph, method)
                content = kept
                write_atomic(path, lambda file: torch.save(content, file))
        except OSError:  # cannot be kept
            kept = kept or _rewire(graph, method)
    gap_before, gap = (None if math.isnan(value) else value for value in kept["gaps"].tolist())
    return Rewired(_with(graph, kept), graph.edge_index, gap_before, gap, added_nodes=kept["owner"].numel())


def _read(path: Path) -> Tensors | None:
    with suppress(OSError, RuntimeError, ValueError, EOFError, KeyError):  # damaged: made again
        stored = torch.load(path, weights_only=True)
        if isinstance(stored, dict):
            return stored
    return None


def _reads_features(method: Method) -> bool:
    """Whether the features decide; of a method from elsewhere that is not known. They are the most there is to hash."""
    function = getattr(method, "func", method)
    return function is half_hop or not function.__module__.startswith("deepgnn_cli.")


def _key(graph: Graph, settings: str, features: bool) -> str:
    hashed = hashlib.blake2b(f"{VERSION} {settings} {graph.x.shape} {graph.x.dtype}".encode(), digest_size=16)
    x = graph.x if features else None
    for tensor in (x, graph.edge_index, graph.edge_attr, graph.edge_weight, _which_graph(graph)):
        hashed.update(b"-" if tensor is None else str(tensor.shape).encode())
        if tensor is not None:
            hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _which_graph(graph: Graph) -> Tensor | None:
    return graph.part_of if graph.sample_of is None else graph.sample_of


def _rewire(graph: Graph, method: Method) -> Tensors:
    """The new edges of all pieces, and the features and owners of the nodes that are added."""
    total = graph.num_nodes
    ends, attrs, weights, rows, owners = [], [], [], [], []
    for number, (nodes, piece) in enumerate(_pieces(graph)):
        made = method(piece)
        grown = made.num_nodes - piece.num_nodes
        assert grown >= 0, "a method keeps every node"
        place = torch.cat([nodes, torch.arange(total, total + grown)])
        total += grown
        ends.append(place[made.edge_index])
        attrs.append(made.edge_attr)
        weights.append(made.edge_weight)
        rows.append(made.x[piece.num_nodes :])
        owners.append(torch.full((grown,), number))
    found = {"edge_index": torch.cat(ends, dim=1), "x": torch.cat(rows), "owner": torch.cat(owners)}
    for name, parts in (("edge_attr", attrs), ("edge_weight", weights)):
        there = [part for part in parts if part is not None]
        assert len(there) in (0, len(parts)), "all graphs have it, or none"
        if there:
            found[name] = torch.cat(there)
    gaps = [_gap(graph.edge_index, graph.num_nodes), _gap(found["edge_index"], total)]
    found["gaps"] = torch.tensor([math.nan if gap is None else gap for gap in gaps], dtype=torch.float64)
    return found


def _pieces(graph: Graph) -> Iterator[tuple[Tensor, Piece]]:
    """Each graph of the union and the numbers of its nodes."""
    owner = _which_graph(graph)
    if owner is None:
        yield torch.arange(graph.num_nodes), Piece(graph.x, graph.edge_index, graph.edge_attr, graph.edge_weight)
        return
    _, owner = torch.unique(owner, return_inverse=True)
    of_edge = owner[graph.edge_index[0]]
    nodes = torch.argsort(owner, stable=True).split(torch.bincount(owner).tolist())
    edges = torch.argsort(of_edge, stable=True).split(torch.bincount(of_edge, minlength=len(nodes)).tolist())
    place = torch.empty(graph.num_nodes, dtype=torch.int64)
    for own, e in zip(nodes, edges, strict=True):
        place[own] = torch.arange(own.numel())
        attr = None if graph.edge_attr is None else graph.edge_attr[e]
        weight = None if graph.edge_weight is None else graph.edge_weight[e]
        yield own, Piece(graph.x[own], place[graph.edge_index[:, e]], attr, weight)


def _gap(edge_index: Tensor, num_nodes: int) -> float | None:
    return topology.spectral_gap(topology.largest(topology.simple(edge_index.numpy(), num_nodes)))


def _with(graph: Graph, made: Tensors) -> Graph:
    """The graph with what was made: added nodes have no label."""
    new, y = made["owner"].numel(), graph.y
    unlabelled = y.new_full((new, *y.shape[1:]), math.nan if y.is_floating_point() else -1)
    outside = graph.train.new_zeros(new)

    def longer(owner: Tensor | None) -> Tensor | None:
        return None if owner is None else torch.cat([owner, torch.unique(owner)[made["owner"]]])

    if new and graph.level == "graph":
        raise ValueError(
            f"this rewiring adds nodes, and {graph.name} labels whole graphs; use readout=virtual_node, or one that "
            "adds edges alone"
        )
    graph = replace(
        graph,
        x=torch.cat([graph.x, made["x"]]) if new else graph.x,  # the largest of all: no copy without need
        edge_index=made["edge_index"],
        edge_attr=made.get("edge_attr"),
        edge_weight=made.get("edge_weight"),
        part_of=longer(graph.part_of),
        sample_of=longer(graph.sample_of),
    )
    if graph.level == "graph":
        return graph
    return replace(
        graph,
        y=torch.cat([y, unlabelled]),
        train=torch.cat([graph.train, outside]),
        val=torch.cat([graph.val, outside]),
        test=torch.cat([graph.test, outside]),
    )
