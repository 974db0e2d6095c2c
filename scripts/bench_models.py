"""Time a training step of the deeper models: ours against PyG's own convolutions in the same wiring, in turn.

    python scripts/bench_models.py --out bench_models.csv

DeeperGCN with each aggregation, the attention models and the reversible ones: the same network twice, once through
`nn.aggregation`, once with PyG's operators run as they are. Medians and ratios are what to believe.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from bench_step import Step, alternate, device_name, random_graph, training_step
from torch import nn
from torch_geometric.nn import GCNConv

from deepgnn_cli.nn import attention, convs, gen, norms, residuals
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn

GEN = partial(
    gen.gen, aggregation="softmax", t=0.1, learn_t=False, stop_gradient=False, p=2.0, learn_p=False, message_norm=False,
    learn_message_scale=False, mlp_layers=1, mlp_norm="batch", expansion=2, bias=True,
)  # fmt: skip
HEADS: dict[str, Any] = {"heads": 4, "attention_dropout": 0.0, "bias": True}
RES_PLUS = partial(residuals.res_plus, alpha=0.0)
REVERSIBLE = partial(
    residuals.reversible, groups=2, exact=False, store_activations=False, shared_mask=True, alpha=0.0, depth_scaling=1.0
)
# Convolution, residual, and what stands in for the convolution on PyG's side where it is not the same operator.
MODELS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], Callable[..., nn.Module] | None]] = {
    "deepergcn, softmax": (GEN, RES_PLUS, None),
    "deepergcn, learned t": (partial(GEN, learn_t=True), RES_PLUS, None),
    "deepergcn, power": (partial(GEN, aggregation="power"), RES_PLUS, None),
    "deepergcn, max": (partial(GEN, aggregation="max"), RES_PLUS, None),
    "gat": (partial(attention.gat, negative_slope=0.2, **HEADS), RES_PLUS, None),
    "gatv2": (partial(attention.gatv2, negative_slope=0.2, share_weights=False, **HEADS), RES_PLUS, None),
    "transformer": (partial(attention.transformer, beta=False, **HEADS), RES_PLUS, None),
    "revgen": (partial(GEN, aggregation="max"), REVERSIBLE, None),
    "revgat": (partial(attention.gat, negative_slope=0.2, **HEADS), REVERSIBLE, None),
    "revgcn": (partial(convs.gcn, bias=True), REVERSIBLE, convs.wrap(lambda channels: GCNConv(channels, channels))),
}


def in_wiring(conv: Callable[..., nn.Module], residual: Callable[..., nn.Module], data: tuple[Any, ...]) -> Step:
    """A training step of a model with batch (reversible: layer) normalisation in front of each convolution."""
    x, adjacency, y, layers, hidden = data
    normalised = norms.layer if residual is REVERSIBLE else norms.batch
    model = deep_gnn(
        Shape(x.size(1), 7), layers=layers, hidden=hidden, norm=normalised, residual=residual, drop=Drop(0.5, 0.0),
        conv=conv, encoder="linear", decoder="linear", encoder_act="none", act="relu", identity_mapping=None,
    ).to(x.device)  # fmt: skip
    return training_step(model, x, adjacency, y, fused=True)


def as_pyg(step: Step) -> Step:
    """The same step with PyG's operators run as they are."""

    def run() -> None:
        found, convs.twin = convs.twin, lambda operator, edge_attr: None
        try:
            step()
        finally:
            convs.twin = found

    return run


def models(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, object]]:
    """Each of `MODELS`, in turn with PyG's convolutions in the same wiring."""
    edge_index, x, y = (t.to(device) for t in random_graph(arguments.nodes, arguments.edges, 128, 1.0))
    adjacency = Adjacency(edge_index, arguments.nodes)
    rows: list[dict[str, object]] = []
    for name, (conv, residual, plain) in MODELS.items():
        data = (x, adjacency, y, arguments.layers, arguments.hidden)
        ours_, theirs = in_wiring(conv, residual, data), in_wiring(plain or conv, residual, data)
        times = alternate({"ours": ours_, "pyg": as_pyg(theirs)}, arguments.rounds, device)
        best = median(times["pyg"])
        for variant, taken in times.items():
            rows.append({
                "table": "models", "model": name, "variant": variant, "layers": arguments.layers,
                "hidden": arguments.hidden, "nodes": arguments.nodes, "edges": arguments.edges,
                "median_ms": 1e3 * median(taken), "min_ms": 1e3 * min(taken),
                "ratio_to_best_rival": median(taken) / best, "device": device_name(device),
            })  # fmt: skip
    return rows


def main() -> int:
    """Run the table, print it, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--edges", type=int, default=70_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", metavar="FILE.csv")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = models(arguments, torch.device(arguments.device))
    for row in rows:
        cells = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items())
        print("  ".join(cells))
    if arguments.out:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
