"""Checks on a CUDA GPU that training by a captured graph is the same training, and how much faster it is.

    python scripts/check_cuda_graph.py --out cuda_graph.csv

Trains each case twice from the same seed, with `cuda_graph` off and on, and compares the losses of all epochs and the
random stream at the end. Cases that cannot be captured must say so and train on. Needs torch, PyG and this package's
`nn`, `data`, `measure` and `training`; no Hydra, no data set. Exit status: 0 all holds, 1 something does not, 2 no
CUDA device. With `--device cpu` the script itself can be tried out: nothing is captured there.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from deepgnn_cli.data.batches import full
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn import attention, convs, gen, norms, residuals
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer

EPOCHS, FEATURES, CLASSES = 20, 128, 7


@dataclass(frozen=True)
class Case:
    """A training: what is built, and whether its step can be captured."""

    name: str
    conv: Callable[..., nn.Module]
    residual: Callable[..., nn.Module]
    norm: Callable[..., nn.Module | None] = norms.none
    drop: Drop = Drop(0.5, 0.5)
    optimizer: Callable[..., Optimizer] = partial(Adam, fused=True)
    settings: tuple[tuple[str, Any], ...] = ()
    captured: bool = True


GCN2 = partial(convs.gcn2, theta=0.5, variant="shared")
GCN = partial(convs.gcn, bias=True)
GAT = partial(attention.gat, heads=8, attention_dropout=0.0, negative_slope=0.2, bias=True)
GEN = partial(
    gen.gen, aggregation="softmax", t=0.1, learn_t=False, stop_gradient=True, p=1.0, learn_p=False, message_norm=False,
    learn_message_scale=False, mlp_layers=1, mlp_norm="batch", expansion=2, bias=True,
)  # fmt: skip
INITIAL, RES_PLUS = partial(residuals.initial, alpha=0.1), partial(residuals.res_plus, alpha=0.1)
REVERSIBLE = partial(residuals.reversible, groups=2, exact=False, store_activations=False, alpha=0.1, depth_scaling=1.0)

GCNII = Case("gcnii", GCN2, INITIAL)
CASES = [
    GCNII,
    replace(GCNII, name="gcnii, no dropout", drop=Drop(0.0, 0.0)),
    replace(GCNII, name="gcnii, AdamW", optimizer=partial(AdamW, fused=True)),
    replace(GCNII, name="gcnii, RMSprop", optimizer=RMSprop),
    replace(GCNII, name="gcnii, SGD with momentum", optimizer=partial(SGD, momentum=0.9)),
    replace(GCNII, name="gcnii, clipped", settings=(("clip_norm", 0.5),)),
    replace(GCNII, name="gcnii, bf16", settings=(("autocast", "bf16"),)),
    replace(GCNII, name="gcnii, learning rate warm-up", settings=(("warmup_epochs", 5),)),
    Case("resgcn+, batch norm", GCN, RES_PLUS, norms.batch),
    Case("deepergcn", GEN, RES_PLUS, norms.batch),
    Case("reversible, one mask", GCN, partial(REVERSIBLE, shared_mask=True), norms.layer),
    Case("reversible, no dropout", GCN, partial(REVERSIBLE, shared_mask=False), norms.layer, Drop(0.0, 0.0)),
    Case("reversible, a mask a branch", GCN, partial(REVERSIBLE, shared_mask=False), norms.layer, captured=False),
    replace(GCNII, name="gcnii, DropEdge", drop=Drop(0.5, 0.5, 0.2), captured=False),
    Case("gat", GAT, RES_PLUS, norms.layer),
]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--nodes", type=int, default=3_000)
    parser.add_argument("--edges", type=int, default=12_000)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--out", type=Path, default=Path("outputs/cuda_graph.csv"))
    return parser.parse_args()


def main() -> int:
    """Run every case, say what holds, and write the table."""
    args = arguments()
    if args.device.type == "cuda" and not torch.cuda.is_available():
        print("check_cuda_graph: this machine has no CUDA device (or torch is built without CUDA)", file=sys.stderr)
        return 2
    gpu = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "cpu"
    print(f"{gpu}, torch {torch.__version__}, {args.layers} layers, {args.nodes} nodes, {args.edges} edges")
    graph = random_graph(args.nodes, args.edges)
    rows = [compare(case, graph, args.layers, args.device) for case in CASES]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), "device", "version_torch"])
        writer.writeheader()
        writer.writerows(asdict(row) | {"device": gpu, "version_torch": torch.__version__} for row in rows)
    print(f"wrote {args.out}")
    return int(any(row.holds is False for row in rows))


@dataclass(frozen=True)
class Comparison:
    """Both trainings of a case: the largest relative difference of a loss, and the times of a step."""

    case: str
    captured: bool
    loss_difference: float
    same_random_stream: bool
    eager_ms: float
    captured_ms: float
    holds: bool


def compare(case: Case, graph: Graph, layers: int, device: torch.device) -> Comparison:
    """Train a case both ways, say how it went, and give its row."""
    plain, _, before, eager = train(case, graph, layers, device, False)
    losses, captured, after, replayed = train(case, graph, layers, device, True)
    worst = max(abs(a - b) / abs(a) for a, b in zip(plain, losses, strict=True))
    # Sums of the scattering convs come in any order on a GPU; bf16 rounds coarsely.
    close = worst < (5e-2 if ("autocast", "bf16") in case.settings else 1e-3)
    expected = case.captured and device.type == "cuda"
    row = Comparison(
        case.name, captured, worst, before == after, 1000 * eager, 1000 * replayed,
        close and captured == expected,
    )  # fmt: skip
    print(
        f"{'ok  ' if row.holds else 'FAIL'} {row.case:<34} {'captured' if captured else 'eager   '} "
        f"loss differs by {worst:.1e}, random stream {'alike' if row.same_random_stream else 'not alike'}, "
        f"{row.eager_ms:.2f} ms -> {row.captured_ms:.2f} ms",
        flush=True,
    )
    return row


def train(
    case: Case, graph: Graph, layers: int, device: torch.device, cuda_graph: bool
) -> tuple[list[float], bool, float, float]:
    """The loss of each epoch, whether steps were captured, the next random number, and the seconds of a late step."""
    torch.manual_seed(0)
    model = deep_gnn(
        Shape(FEATURES, CLASSES), layers=layers, hidden=64, norm=case.norm, residual=case.residual, drop=case.drop,
        conv=case.conv, encoder="linear", decoder="linear", encoder_act="relu", act="relu", identity_mapping=None,
    ).to(device)  # fmt: skip
    settings = Settings(EPOCHS, None, "val_loss", 5, 0, None, "none", cuda_graph, 1e-3)
    settings = replace(settings, **dict(case.settings))
    loader = InputLoader(graph, full(graph, seed=0, evaluate_on="device"), device)
    trainer = Trainer(model, loader, case.optimizer(model.parameters(), lr=1e-3), objective("accuracy"), settings)
    torch.manual_seed(1)
    epochs = [trainer.epoch(number) for number in range(1, EPOCHS + 1)]
    late = median(epoch.step_seconds for epoch in epochs[-8:])
    return [epoch.train_loss for epoch in epochs], trainer.captured, float(torch.rand((), device=device)), late


def random_graph(nodes: int, edges: int) -> Graph:
    """Always the same graph, features, labels and masks."""
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(nodes, (2, edges // 2), generator=draw)
    x, y = torch.randn(nodes, FEATURES, generator=draw), torch.randint(CLASSES, (nodes,), generator=draw)
    masks = [torch.arange(nodes) % 3 == k for k in range(3)]
    return Graph("random", "thirds", x, torch.cat([ends, ends.flip(0)], dim=1), y, CLASSES, *masks)


if __name__ == "__main__":
    sys.exit(main())
