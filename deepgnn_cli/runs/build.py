"""From a checked configuration to what trains: the device, the data, the network, its optimiser and trainer."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch_geometric import seed_everything

from deepgnn_cli.data.download import default_root
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.checkpoint import BestWeights, TrainState
from deepgnn_cli.training.distributed import ALONE, Ranks, join
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer


def make(node: dict[str, Any], **arguments: Any) -> Any:
    """The object that a config node (`_target_`) describes; an error is its own, not Hydra's note of where it arose."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise error.__cause__ or error from None


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@lru_cache(maxsize=1)
def _feed(dataset: str, batch: str, seed: int, data_dir: str | None, device: torch.device, ranks: Ranks) -> InputLoader:
    """The graph, loaded and normalised; kept for the next job of a sweep that asks for the same."""
    root = Path(data_dir) if data_dir else default_root()
    graph = make(json.loads(dataset), root=root, seed=seed)
    strategy = make(json.loads(batch))
    if ranks.world == 1:
        return InputLoader(graph, strategy(graph, seed=seed), device)
    mine = strategy(graph, seed=seed, rank=ranks.rank, world=ranks.world)
    return InputLoader(graph, mine, device, evaluation=strategy(graph, seed=seed))


def load(values: dict[str, Any], device: torch.device, ranks: Ranks = ALONE) -> InputLoader:
    """The run's data on its device; the jobs of one process share it where they can."""
    dataset, batch = values["dataset"], values["batch"]
    # A published split on the whole graph is the same for every seed.
    shared = dataset.get("split") in ("public", "geom") and batch["_target_"].endswith(".full")
    return _feed(
        json.dumps(dataset, sort_keys=True),
        json.dumps(batch, sort_keys=True),
        0 if shared else values["seed"],
        values["data_dir"],
        device,
        ranks,
    )


def build_model(values: dict[str, Any], loader: InputLoader) -> nn.Module:
    """The network the configuration describes, for the data at hand, on its device."""
    graph = loader.whole
    shape = Shape(graph.num_features, graph.num_classes, None if graph.edge_attr is None else graph.edge_attr.size(1))
    builder = make(values["model"])
    knobs = {"checkpoint_every": every} if (every := values["trainer"]["gradient_checkpointing"]) else {}
    model: nn.Module = builder(
        shape,
        **knobs,
        layers=values["layers"],
        hidden=values["hidden"],
        norm=make(values["norm"]),
        residual=make(values["residual"]),
        drop=Drop(**values["drop"]),
    )
    return model.to(loader.device)


def prepare(
    values: dict[str, Any], run_id: str, resume: Path | None, facts: dict[str, Any], best: BestWeights
) -> tuple[Trainer, TrainState]:
    """Seed, graph, model, optimiser: everything that trains, as far as the run has come before.

    Args:
        values: the checked configuration.
        run_id: of a new run; a resumed one has its own.
        resume: the checkpoint to go on from.
        facts: gets the row's columns that are known now.
        best: keeps the best epoch's weights.

    Raises:
        ValueError: the data or the model cannot be had as configured.
    """
    recipe = values["trainer"]
    device = pick_device(values["device"])
    ranks = join(device.type == "cuda")
    device = ranks.device(device)
    facts["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    seed_everything(values["seed"])
    loader = load(values, device, ranks)
    graph = loader.whole
    seed_everything(values["seed"])
    model = build_model(values, loader)
    facts.update(split=graph.split, metric=graph.metric, parameters=sum(p.numel() for p in model.parameters()))
    optimizer = make(values["optimizer"])(model)
    task = objective(graph.metric, recipe["label_smoothing"])
    trainer = Trainer(model, loader, optimizer, task, Settings.of(recipe, values["optimizer"]["lr"]), ranks)
    progress = TrainState(run_id=run_id, best_weights=best)
    if resume is not None:
        progress = checkpoint.restore(checkpoint.read(resume), model, optimizer, best)
        facts["run_id"] = progress.run_id
    return trainer, progress
