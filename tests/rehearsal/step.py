"""A training step, optimiser included, and an evaluation of any configuration, on the rehearsed device."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from deepgnn_cli.config.compose import compose, make, resolved
from deepgnn_cli.config.groups import options
from deepgnn_cli.data.batches import full, parts
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn.aggregation import edges
from deepgnn_cli.runs.build import build_trainer
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.trainer import Trainer
from tests.rehearsal.device import META, Notes, on_meta, rehearsal

NODES, EDGES, FEATURES, CLASSES = 60, 240, 32, 7


@dataclass(frozen=True)
class Case:
    """What is rehearsed: the words of a configuration, and the kind of data."""

    name: str
    words: str
    metric: str = "accuracy"
    edge_features: bool = False
    several_graphs: bool = False
    by_parts: bool = False
    self_loops: bool = False
    block_bytes: int = 128 << 20
    layers: int = 4
    hidden: int = 16


def cases() -> list[Case]:
    """Every model, norm, residual and optimiser, and what changes the course of a step."""
    decoupled = ("appnp", "dagnn", "gprgnn", "grand", "sgc")
    found = [Case(f"model {name}", f"model={name}") for name in options("model")]
    found += [Case(f"norm {name}", f"model=gcn norm={name}") for name in options("norm")]
    found += [Case(f"residual {name}", f"model=gcn residual={name}") for name in options("residual")]
    found += [Case(f"conv {name}", f"model=resgcn conv={name}") for name in options("conv") if name != "none"]
    found += [Case(f"optimiser {name}", f"model=gcn optimizer={name}") for name in options("optimizer")]
    found += [
        Case("jumping lstm", "model=jknet residual.mode=lstm"),
        Case("reversible exact", "model=revgcn residual.exact=true"),
        Case("reversible, a mask a branch", "model=revgcn residual.shared_mask=false"),
        Case("reversible stored", "model=revgcn residual.store_activations=true"),
        Case("revgat exact", "model=revgat residual.exact=true"),
        Case("gradient checkpointing", "model=gcnii trainer.gradient_checkpointing=2"),
        Case("clipped gradients", "model=gcn trainer.clip_norm=1"),
        Case("attention dropout", "model=gat model.conv.attention_dropout=0.5"),
        Case("softmax, learned t", "model=deepergcn model.conv.learn_t=true model.conv.stop_gradient=false"),
        Case("power, learned p", "model=deepergcn model.conv.aggregation=power model.conv.learn_p=true"),
        Case("multi-label, ROC-AUC", "model=revgen", "roc_auc", edge_features=True),
        Case("multi-label, micro F1", "model=gcnii", "micro_f1"),
        Case("DropEdge", "model=gcn drop.edge=0.2"),
        Case("DropNode", "model=gcn drop.node=0.2"),
        Case("DropMessage", "model=gcn drop=dropmessage"),
        Case("DropEdge with attention", "model=gat drop.edge=0.2"),
        Case("DropEdge with attention and self-loops", "model=gat drop.edge=0.2", self_loops=True),
    ]
    several = ("instance", "graph", "pair", "mean_subtraction", "batch")
    found += [Case(f"norm {name}, several graphs", f"model=gcn norm={name}", several_graphs=True) for name in several]
    cut = ("gcn", "gcnii", "gat", "deepergcn", "revgen", "sage")
    found += [Case(f"parts, {name}", f"model={name}", by_parts=True) for name in cut]
    found += [
        Case("parts, edge features", "model=revgen", "roc_auc", edge_features=True, by_parts=True),
        Case("parts, larger than a block", "model=gat conv=gatv2", by_parts=True, block_bytes=1 << 12),
    ]
    return [case for case in found if not any(f"model={m} norm" in case.words for m in decoupled)]


@dataclass(frozen=True)
class Waits:
    """So many waits in a step and in an evaluation, and why."""

    step: int
    evaluation: int
    reason: str


_EDGES = "how many edges are left is a size, which the CPU must know"
_LOOPS = "the same, and how many of them are self-loops, which attention replaces"
_BLOCKS = "where to cut the edges of each of the two parts is read once; a part below 128 MiB an edge tensor is not cut"
EXCEPTIONS = {
    "DropEdge": Waits(1, 0, _EDGES),
    "DropNode": Waits(1, 0, _EDGES),
    "DropEdge with attention": Waits(1, 0, _EDGES),
    "DropEdge with attention and self-loops": Waits(2, 0, _LOOPS),
    "parts, larger than a block": Waits(2, 0, _BLOCKS),
}
"""The cases that wait, all of them."""


def random_graph(case: Case) -> Graph:
    """An undirected graph with dense features; always the same."""
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, EDGES), generator=draw)
    if not case.self_loops:
        ends[1] = torch.where(ends[0] == ends[1], (ends[1] + 1) % NODES, ends[1])
    several = case.metric != "accuracy"
    y = torch.randint(2, (NODES, CLASSES), generator=draw).float() if several else torch.arange(NODES) % CLASSES
    return Graph(
        "random", "thirds", torch.randn(NODES, FEATURES, generator=draw), torch.cat([ends, ends.flip(0)], 1), y,
        CLASSES, *(torch.arange(NODES) % 3 == k for k in range(3)), metric=case.metric,
        edge_attr=torch.rand(2 * EDGES, 8, generator=draw) if case.edge_features else None,
        part_of=torch.arange(NODES) % 3 if case.several_graphs else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Rehearsed:
    """What a step and an evaluation after it would wait for, and where devices meet."""

    step: Notes
    evaluation: Notes


def prepared(case: Case, *, on_device: bool = True) -> Trainer:
    """A trainer on the rehearsed device or a CPU; the graph's matrices, orders of edges and blocks are worked out."""
    values, graph = _values(case), random_graph(case)
    loader = InputLoader(graph, full(graph, seed=0, evaluate_on="device"), torch.device("cpu"))
    trainer = build_trainer(values, loader)
    (inputs,) = loader.train(1)
    with mock.patch.dict(edges._BLOCK_BYTES, cpu=edges._BLOCK_BYTES["cuda"]):  # blocks as a GPU has them
        trainer.train_step(inputs)
        trainer.evaluate()
    if not on_device:
        return trainer
    known: dict[int, object] = {}
    trainer.model.to(META)
    for batch, inputs in list(loader._prepared.items()):
        loader._prepared[batch] = on_meta(inputs, known)
    loader._evaluated = on_meta(loader._evaluated, known)
    loader.targets = on_meta(loader.targets, known)
    loader.device = loader.evaluates_on = META
    trainer.optimizer = make(values["optimizer"])(trainer.model)
    return trainer


def _values(case: Case) -> dict[str, Any]:
    words = [*case.words.split(), f"layers={case.layers}", f"hidden={case.hidden}", "device=cpu"]
    return resolved(compose(words))


def rehearse(case: Case) -> Rehearsed:
    """The second training step on the device and the evaluation after it; of parts, both steps of an epoch."""
    if case.by_parts:
        with mock.patch.dict(edges._BLOCK_BYTES, meta=case.block_bytes):
            return _by_parts(_values(case), random_graph(case))
    trainer = prepared(case)
    (inputs,) = trainer.loader.train(2)
    with rehearsal() as first:
        trainer.train_step(inputs)
    with rehearsal() as step:
        trainer.train_step(inputs)
    with rehearsal() as evaluation:
        trainer.evaluate()
    step.mixed = [*first.mixed, *step.mixed]
    return Rehearsed(step, evaluation)


def _by_parts(values: dict[str, Any], graph: Graph) -> Rehearsed:
    """An epoch of two steps, each on a part of the graph that is cut, uploaded and normalised for it alone."""
    batches = parts(graph, seed=0, train_parts=2, eval_parts=2, views=2, evaluate_on="device")
    loader = InputLoader(graph, batches, torch.device("cpu"))
    trainer = build_trainer(values, loader)
    trainer.model.to(META)
    trainer.optimizer = make(values["optimizer"])(trainer.model)
    loader.device = loader.evaluates_on = META
    loader.targets = on_meta(loader.targets)
    with rehearsal() as step:
        for inputs in loader.train(1):
            trainer.train_step(inputs)
    with rehearsal():
        trainer.evaluate()
    with rehearsal() as evaluation:
        trainer.evaluate()
    return Rehearsed(step, evaluation)


COLUMNS = ("step", "evaluation", "mixed")
BEFORE = Path(__file__).with_name("before.csv")
"""The same counts of the package as it was before any wait had been looked for; a case added since is not there."""


def counts(seen: Rehearsed) -> dict[str, int]:
    """Waits in a step, waits in an evaluation, and operations that mix devices."""
    mixed = len(seen.step.mixed) + len(seen.evaluation.mixed)
    return dict(zip(COLUMNS, (len(seen.step.waits), len(seen.evaluation.waits), mixed), strict=True))


def table(rows: Sequence[tuple[Case, Rehearsed]]) -> str:
    """One line a case: waits in a step, in an evaluation, mixed devices, before → now, and the places now."""
    with BEFORE.open(newline="") as file:
        before = {row["case"]: row for row in csv.DictReader(file)}
    lines = ["| case | waits a step | waits an evaluation | mixed devices | where |", "|---|---|---|---|---|"]
    for case, seen in rows:
        places = sorted({*seen.step.waits, *seen.evaluation.waits, *seen.step.mixed, *seen.evaluation.mixed})
        known, now = before.get(case.name, {}), counts(seen)
        cells = " | ".join(f"{known.get(name, '–')} → {now[name]}" for name in COLUMNS)
        lines.append(f"| {case.name} | {cells} | {'; '.join(places)} |")
    return "\n".join(lines)


def as_expected(case: Case, seen: Rehearsed) -> bool:
    """Whether a case mixes no devices, and waits as often as `EXCEPTIONS` says."""
    allowed = EXCEPTIONS.get(case.name, Waits(0, 0, ""))
    return counts(seen) == {"step": allowed.step, "evaluation": allowed.evaluation, "mixed": 0}
