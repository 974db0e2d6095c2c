"""What must hold of training on a GPU: as on a CPU, without waits, captured as eager, resumed as undisturbed.

Needs torch, PyG and deepgnn_cli's `nn`, `data`, `measure` and `training`; no Hydra, no data set.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bench_step
import torch
from gpu_findings import Finding, Machine, Section, below, needs_gpu
from reversible_variants import relative_error
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from deepgnn_cli.data.batches import full
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn import attention, convs, gen, norms, residuals
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.checkpoint import BestWeights, TrainState
from deepgnn_cli.training.cuda_graph import waits_noted
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer

FEATURES, CLASSES = 128, 7
CPU = torch.device("cpu")


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
    waits: int = 0


GCN2 = partial(convs.gcn2, theta=0.5, variant="shared")
GCN = partial(convs.gcn, bias=True)
HEADS: dict[str, Any] = {"heads": 8, "attention_dropout": 0.0, "negative_slope": 0.2, "bias": True}
GAT, GATV2 = partial(attention.gat, **HEADS), partial(attention.gatv2, **HEADS, share_weights=False)
UNIMP = partial(attention.transformer, heads=8, attention_dropout=0.0, beta=True, bias=True)
GEN = partial(
    gen.gen, aggregation="softmax", t=0.1, learn_t=False, stop_gradient=True, p=1.0, learn_p=False, message_norm=False,
    learn_message_scale=False, mlp_layers=1, mlp_norm="batch", expansion=2, bias=True,
)  # fmt: skip
SAGE = partial(convs.sage, aggregation="mean", self_loops=False, normalize=False, bias=True)
GIN = partial(convs.gin, eps=0.0, train_eps=True, mlp_layers=2, mlp_norm="batch")
INITIAL, RES_PLUS = partial(residuals.initial, alpha=0.1), partial(residuals.res_plus, alpha=0.1)
REVERSIBLE = partial(residuals.reversible, groups=2, exact=False, store_activations=False, alpha=0.1, depth_scaling=1.0)
SHARED, OWN = partial(REVERSIBLE, shared_mask=True), partial(REVERSIBLE, shared_mask=False)

GCNII = Case("gcnii", GCN2, INITIAL)
REVGCN = Case("reversible, one mask", GCN, SHARED, norms.layer)
CASES = [
    GCNII,
    replace(GCNII, name="gcnii, no dropout", drop=Drop(0.0, 0.0)),
    replace(GCNII, name="gcnii, AdamW", optimizer=partial(AdamW, fused=True)),
    replace(GCNII, name="gcnii, RMSprop", optimizer=RMSprop),
    replace(GCNII, name="gcnii, SGD with momentum", optimizer=partial(SGD, momentum=0.9)),
    replace(GCNII, name="gcnii, clipped", settings=(("clip_norm", 0.5),)),
    replace(GCNII, name="gcnii, bf16", settings=(("autocast", "bf16"),)),
    replace(GCNII, name="gcnii, learning rate warm-up", settings=(("warmup_epochs", 5),)),
    replace(GCNII, name="gcnii, DropEdge", drop=Drop(0.5, 0.5, 0.2), captured=False, waits=1),
    Case("resgcn+, batch norm", GCN, RES_PLUS, norms.batch),
    Case("deepergcn", GEN, RES_PLUS, norms.batch),
    REVGCN,
    replace(REVGCN, name="reversible, no dropout", drop=Drop(0.0, 0.0)),
    replace(REVGCN, name="reversible, a mask a branch", residual=OWN, captured=False),
    replace(REVGCN, name="reversible, exact", residual=partial(SHARED.func, **SHARED.keywords | {"exact": True})),
    Case("gat", GAT, RES_PLUS, norms.layer),
]
CONVS = {"gcn": GCN, "gcn2": GCN2, "gat": GAT, "gatv2": GATV2, "transformer": UNIMP, "gen": GEN, "sage": SAGE,
         "gin": GIN, "gen, max": partial(GEN.func, **GEN.keywords | {"aggregation": "max"}),
         "gen, power": partial(GEN.func, **GEN.keywords | {"aggregation": "power", "p": 2.0})}  # fmt: skip


def sizes(machine: Machine) -> tuple[int, int, int, int]:
    """Layers, nodes, edges, epochs."""
    return (3, 300, 1_200, 5) if machine.small else (16, 3_000, 12_000, 20)


def random_graph(nodes: int, edges: int) -> Graph:
    """Always the same graph, features, labels and masks."""
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(nodes, (2, edges // 2), generator=draw)
    x, y = torch.randn(nodes, FEATURES, generator=draw), torch.randint(CLASSES, (nodes,), generator=draw)
    masks = [torch.arange(nodes) % 3 == k for k in range(3)]
    return Graph("random", "thirds", x, torch.cat([ends, ends.flip(0)], dim=1), y, CLASSES, *masks)


def trainer_of(case: Case, machine: Machine, device: torch.device, cuda_graph: bool = False) -> Trainer:
    """A trainer of the case, always of the same weights."""
    layers, nodes, edges, epochs = sizes(machine)
    graph = random_graph(nodes, edges)
    torch.manual_seed(0)
    model = deep_gnn(
        Shape(FEATURES, CLASSES), layers=layers, hidden=64, norm=case.norm, residual=case.residual, drop=case.drop,
        conv=case.conv, encoder="linear", decoder="linear", encoder_act="relu", act="relu", identity_mapping=None,
    ).to(device)  # fmt: skip
    settings = replace(Settings(epochs, None, "val_loss", 5, 0, None, "none", cuda_graph, 1e-3), **dict(case.settings))
    loader = InputLoader(graph, full(graph, seed=0, evaluate_on="device"), device)
    torch.manual_seed(1)
    return Trainer(model, loader, case.optimizer(model.parameters(), lr=1e-3), objective("accuracy"), settings)


def as_on_cpu(machine: Machine) -> Section:
    """Loss and gradients of every conv on the GPU are those of the CPU."""
    findings = []
    for name, conv in CONVS.items():
        case, found = Case(name, conv, RES_PLUS, norms.layer, Drop(0.0, 0.0)), []
        for device in (machine.device, CPU):
            trainer = trainer_of(case, machine, device)
            for _ in range(2):  # the second pass of a softmax takes another way
                trainer.model.zero_grad(set_to_none=True)
                (inputs,) = trainer.loader.train(1)
                loss: Tensor = trainer.loss(inputs)
                loss.backward()
                found.append([loss.cpu(), *(p.grad.cpu() for p in trainer.model.parameters() if p.grad is not None)])
        worst = max(relative_error(found[k], found[2 + k]) for k in range(2))
        findings.append(below(f"{name}: loss and gradients against the CPU's", worst, 1e-3))
    return Section(findings)


def waits(machine: Machine) -> Section:
    """A training step makes the CPU wait for nothing, as rehearsed (`scripts/rehearse_gpu.py`)."""
    findings = []
    for case in CASES:
        check, expected = f"{case.name}: waits of a step", str(case.waits)
        if not machine.on_gpu:
            findings.append(needs_gpu(check, expected))
            continue
        trainer, places = trainer_of(case, machine, machine.device), list[str]()
        (inputs,) = trainer.loader.train(1)
        for _ in range(3):
            trainer.train_step(inputs)
        with waits_noted(places):
            trainer.train_step(inputs)
        found = f"{len(places)} {', '.join(sorted(set(places)))}".strip()
        findings.append(Finding(check, found, expected, len(places) == case.waits))
    return Section(findings)


def captured(machine: Machine) -> Section:
    """Training by a captured graph is the same training; cases that cannot be captured train on."""
    rows: list[dict[str, Any]] = []
    findings = []
    for case in CASES:
        losses, numbers, late, seen = [], [], [], False
        for cuda_graph in (False, True):
            trainer = trainer_of(case, machine, machine.device, cuda_graph)
            with told() as reasons:
                epochs = [trainer.epoch(number) for number in range(1, sizes(machine)[3] + 1)]
            losses.append([epoch.train_loss for epoch in epochs])
            numbers.append(float(torch.rand((), device=machine.device)))
            late.append(1e3 * median(epoch.step_seconds or 0.0 for epoch in epochs[-8:]))
            seen = trainer.captured
        worst = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
        # Sums come in any order on a GPU; bf16 rounds coarsely.
        limit = 5e-2 if ("autocast", "bf16") in case.settings else 1e-3
        wanted = case.captured and machine.on_gpu
        text = f"{'captured' if seen else f'eager ({reasons[-1]})'}, losses differ by {worst:.1e}"
        expected = f"{'captured' if wanted else 'eager'}, by less than {limit:g}"
        findings.append(Finding(case.name, text, expected, worst < limit and seen == wanted))
        row = {"case": case.name, "captured": seen, "eager ms": late[0], "captured ms": late[1]}
        rows.append(row | {"random stream": "alike" if numbers[0] == numbers[1] else "not alike"})
    return Section(findings, {"Training steps, eager and captured": rows})


@contextmanager
def told() -> Iterator[list[str]]:
    """Why steps are not captured, instead of the warnings of it."""
    log, reasons = logging.getLogger("deepgnn_cli.training.cuda_graph"), ["never tried"]
    handler = logging.Handler()
    handler.emit = lambda record: reasons.append(str(record.args[-1]))
    log.addHandler(handler)
    log.propagate = False
    try:
        yield reasons
    finally:
        log.removeHandler(handler)
        log.propagate = True


def resume(machine: Machine) -> Section:
    """A run that goes on from its checkpoint is the undisturbed one."""
    findings = []
    for case in (GCNII, REVGCN, replace(GCNII, name="gcnii, RMSprop", optimizer=RMSprop)):
        with tempfile.TemporaryDirectory() as folder, BestWeights() as best:
            path, whole = Path(folder) / "checkpoint.pt", trainer_of(case, machine, machine.device)
            losses = [whole.epoch(number).train_loss for number in (1, 2)]
            checkpoint.save(path, whole.model, whole.optimizer, TrainState(), "")
            losses = [whole.epoch(number).train_loss for number in (3, 4)]
            other = trainer_of(case, machine, machine.device)
            checkpoint.restore(checkpoint.read(path), other.model, other.optimizer, best)
            again = [other.epoch(number).train_loss for number in (3, 4)]
        worst = max(abs(a - b) / abs(a) for a, b in zip(losses, again, strict=True))
        findings.append(below(f"{case.name}: losses after a resumption differ", worst, 1e-4 if machine.on_gpu else 0.0))
    return Section(findings)


def rivals(machine: Machine) -> Section:
    """A step of GCNII against its official code and PyG's layer, at Cora's size and at twenty times it."""
    cora = {"layers": 64, "hidden": 64, "nodes": 2_708, "edges": 10_556, "rounds": 15}
    choices = [cora, cora | {"nodes": 50_000, "edges": 500_000, "rounds": 5}]
    if machine.small:
        choices = [{"layers": 4, "hidden": 16, "nodes": 300, "edges": 1_200, "rounds": 2}]
    rows: list[dict[str, Any]] = []
    findings = []
    for choice in choices:
        found = bench_step.compare(argparse.Namespace(**choice), machine.device)
        rows += [
            {name: row[name] for name in ("variant", "nodes", "layers", "median_ms", "ratio_to_best_rival")}
            for row in found
        ]
        ratio = next(float(str(row["ratio_to_best_rival"])) for row in found if row["variant"] == "ours")
        holds = None if machine.small else ratio <= 1
        findings.append(Finding(f"ours ÷ best rival, {choice['nodes']} nodes", f"{ratio:.2f}", "at most 1", holds))
    return Section(findings, {"A training step of GCNII": rows})
