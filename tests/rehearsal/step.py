"""A training step, optimiser included, and an evaluation of any configuration, on the rehearsed device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import torch

from deepgnn_cli.config.compose import compose, make, resolved
from deepgnn_cli.config.groups import options
from deepgnn_cli.data.batches import full
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.nn.aggregation import edges
from deepgnn_cli.runs.run import build_trainer
from deepgnn_cli.training.inputs import InputLoader
from tests.rehearsal.device import META, Notes, on_meta, rehearsal

NODES, EDGES, FEATURES, CLASSES = 60, 240, 32, 7


@dataclass(frozen=True)
class Case:
    """What is rehearsed: the words of a configuration, and the kind of data."""

    name: str
    words: str
    metric: str = "accuracy"
    edge_features: bool = False


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
        Case("DropEdge with attention", "model=gat drop.edge=0.2"),
    ]
    return [case for case in found if not any(f"model={m} norm" in case.words for m in decoupled)]


@dataclass(frozen=True)
class Waits:
    """So many waits in a step and in an evaluation, and why."""

    step: int
    evaluation: int
    reason: str


_EDGES = "edges are dropped, and matrices of another size are built, in every step"
EXCEPTIONS = {
    "DropEdge": Waits(11, 0, _EDGES),
    "DropNode": Waits(11, 0, _EDGES),
    "DropEdge with attention": Waits(5, 0, _EDGES),
}
"""The cases that wait, all of them."""


def random_graph(metric: str, edge_features: bool) -> Graph:
    """An undirected graph with dense features; always the same."""
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, EDGES), generator=draw)
    several = metric != "accuracy"
    y = torch.randint(2, (NODES, CLASSES), generator=draw).float() if several else torch.arange(NODES) % CLASSES
    return Graph(
        "random", "thirds", torch.randn(NODES, FEATURES, generator=draw), torch.cat([ends, ends.flip(0)], 1), y,
        CLASSES, *(torch.arange(NODES) % 3 == k for k in range(3)), metric=metric,
        edge_attr=torch.rand(2 * EDGES, 8, generator=draw) if edge_features else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Rehearsed:
    """What a step and an evaluation after it would wait for, and where devices meet."""

    step: Notes
    evaluation: Notes


def rehearse(case: Case) -> Rehearsed:
    """The third training step, when all that is worked out once is there, and the evaluation after it."""
    values = resolved(compose([*case.words.split(), "layers=4", "hidden=16", "device=cpu"]))
    graph = random_graph(case.metric, case.edge_features)
    loader = InputLoader(graph, full(graph, seed=0, evaluate_on="device"), torch.device("cpu"))
    trainer = build_trainer(values, loader)
    (inputs,) = loader.train(1)
    with mock.patch.dict(edges._BLOCK_BYTES, cpu=edges._BLOCK_BYTES["cuda"]):  # blocks as a GPU has them
        trainer.train_step(inputs)  # works out the normalised matrices, the orders of edges, the blocks
        trainer.evaluate()
    known: dict[int, object] = {}
    trainer.model.to(META)
    loader._prepared = {batch: on_meta(prepared, known) for batch, prepared in loader._prepared.items()}  # type: ignore[assignment]
    loader.targets = on_meta(loader.targets, known)
    loader.device = loader.evaluates_on = META
    trainer.optimizer = make(values["optimizer"])(trainer.model)
    (inputs,) = loader.train(2)
    with rehearsal() as first:
        trainer.train_step(inputs)
    with rehearsal() as step:
        trainer.train_step(inputs)
    with rehearsal() as evaluation:
        trainer.evaluate()
    step.mixed = [*first.mixed, *step.mixed]
    return Rehearsed(step, evaluation)


def table(rows: Sequence[tuple[Case, Rehearsed]]) -> str:
    """One line a case: waits in a step, in an evaluation, mixed devices, and the places."""
    lines = ["| case | waits a step | waits an evaluation | mixed devices | where |", "|---|---|---|---|---|"]
    for case, seen in rows:
        places = sorted({*seen.step.waits, *seen.evaluation.waits, *seen.step.mixed, *seen.evaluation.mixed})
        mixed = len(seen.step.mixed) + len(seen.evaluation.mixed)
        counts = f"{len(seen.step.waits)} | {len(seen.evaluation.waits)} | {mixed}"
        lines.append(f"| {case.name} | {counts} | {'; '.join(places)} |")
    return "\n".join(lines)
