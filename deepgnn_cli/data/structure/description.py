"""`graph.json`: what a graph is like, in a few numbers; kept by content, so that a graph is looked at once."""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.structure import curvature, topology
from deepgnn_cli.data.structure.homophily import homophily
from deepgnn_cli.runfiles.files import write_json

VERSION = 2  # of what is computed: a number that changes its meaning must not come from an old file
CURVATURE_EDGES, RESISTANCE_PAIRS = 1000, 64
_QUANTILES = {"minimum": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "maximum": 1.0}
_WORTH_KEEPING = 0.2  # seconds

Description = dict[str, Any]


def describe(graph: Graph) -> Description:
    """What the graph is like; None for what does not apply. The same graph gives the same numbers.

    Connectivity is that of the largest component of the simple undirected graph. Curvature is that of at most 1,000
    edges, resistance that of at most 64 pairs of nodes (4 in a graph of millions of edges).
    """
    edge_index, n = graph.edge_index.cpu().numpy(), graph.num_nodes
    adjacency = topology.simple(edge_index, n)
    piece = topology.pieces(adjacency)
    main = topology.largest(adjacency)
    draw = np.random.default_rng(0)
    edges = curvature.sampled_edges(adjacency, CURVATURE_EDGES, draw)
    ricci = curvature.balanced_forman(adjacency, edges)
    pairs = topology.sampled_pairs(main, RESISTANCE_PAIRS, draw)
    resistance = topology.effective_resistance(main, pairs)
    found: Description = {
        "graphs": graph.num_graphs,
        "nodes": n,
        "edges": graph.num_edges,
        "undirected_edges": adjacency.nnz // 2,
        "components": int(piece.max()) + 1 if n else 0,
        "largest_component": main.shape[0],
        "degree": _quantiles(topology.degrees(adjacency)),
        "diameter_at_least": topology.diameter(main) if n else None,
        "spectral_gap": topology.spectral_gap(main),
        "effective_resistance": {"pairs": pairs.shape[1], **_quantiles(resistance[np.isfinite(resistance)])},
        "forman_curvature": {
            "sampled_edges": len(ricci),
            "negative_share": float((ricci < 0).mean()) if len(ricci) else None,
            **_quantiles(ricci),
        },
        "homophily": homophily(edge_index, graph.y.cpu().numpy()) if _has_classes(graph) else None,
    }
    return {key: _plain(value) for key, value in found.items()}


def described(graph: Graph, folder: Path) -> Description:
    """`describe`, from `folder` where it was done before. What cannot be kept there is computed again.

    Raises:
        ValueError, RuntimeError: the graph is too strange, or too large.
    """
    path = folder / f"{fingerprint(graph)}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, dict):
            return kept
    except (OSError, ValueError):
        pass
    began = time.monotonic()
    found = describe(graph)
    if time.monotonic() - began > _WORTH_KEEPING:
        with suppress(OSError):  # a full disk costs the copy only
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, found)
    return found


def fingerprint(graph: Graph) -> str:
    """The hash of all that a description depends on."""
    said = f"{VERSION} {graph.num_graphs} {graph.num_nodes} {_has_classes(graph)}"
    hashed = hashlib.blake2b(said.encode(), digest_size=16)
    hashed.update(graph.edge_index.cpu().contiguous().numpy().tobytes())
    if _has_classes(graph):
        hashed.update(graph.y.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def lines(found: Description) -> list[str]:
    """The description in words."""
    degree, resistance, curved = (found[key] for key in ("degree", "effective_resistance", "forman_curvature"))
    several = f"{found['graphs']} graphs: " if found["graphs"] > 1 else ""
    said = [
        f"{several}{found['nodes']} nodes, {found['edges']} directed edges, {found['components']} components"
        f" (the largest: {found['largest_component']} nodes)",
        f"degree: mean {_digits(degree['mean'])}, median {_digits(degree['median'])}, 95 % {_digits(degree['q95'])},"
        f" maximum {_digits(degree['maximum'])}",
        f"diameter: at least {found['diameter_at_least']}",
        f"spectral gap: {_digits(found['spectral_gap'])} (near 0: one narrow cut parts the graph)",
    ]
    if resistance["mean"] is not None:
        said.append(
            f"effective resistance: mean {_digits(resistance['mean'])}, maximum {_digits(resistance['maximum'])} of"
            f" {resistance['pairs']} pairs (high: few and long paths join two nodes)"
        )
    if curved["mean"] is not None:
        said.append(
            f"balanced Forman curvature: minimum {_digits(curved['minimum'])}, {100 * curved['negative_share']:.0f} %"
            f" of {curved['sampled_edges']} edges negative (the narrow doors)"
        )
    if (alike := found["homophily"]) is not None:
        said.append(
            f"homophily: edge {_digits(alike['edge'])}, node {_digits(alike['node'])}, adjusted"
            f" {_digits(alike['adjusted'])} (0: edges know nothing of the classes)"
        )
    return said


def _digits(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _has_classes(graph: Graph) -> bool:
    return graph.level == "node" and graph.y.dim() == 1 and not graph.y.is_floating_point()


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return dict.fromkeys(("mean", *_QUANTILES))
    at = np.quantile(values, list(_QUANTILES.values()))
    return {"mean": float(values.mean()), **dict(zip(_QUANTILES, map(float, at), strict=True))}


def _plain(value: object) -> object:
    """Without the NaN that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
