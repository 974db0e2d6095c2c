"""What a run is made of, from its configuration: device, graph, model, trainer."""

from __future__ import annotations

import inspect
import json
import sys
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import cast

import torch
from hydra.utils import get_object
from torch import nn
from torch_geometric import seed_everything

from deepgnn_cli.config.compose import make
from deepgnn_cli.config.schema import Root
from deepgnn_cli.data.datasets.own import as_graph
from deepgnn_cli.data.download import default_root
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked
from deepgnn_cli.data.rewiring.apply import rewired
from deepgnn_cli.data.splits import NUMBERED
from deepgnn_cli.nn.graph_level import graph_model
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.nn.readouts import none as no_readout
from deepgnn_cli.training.distributed import ALONE, Ranks, join, place
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer


def pick_device(name: str) -> tuple[torch.device, Ranks]:
    """This process's device (`auto`: CUDA where there is one), and its place among those of the run."""
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    ranks = join(device.type == "cuda")
    device = ranks.device(device)
    if device.index is not None:
        torch.cuda.set_device(device)  # events, counters and streams go to the current one
    return device, ranks


def load_inputs(values: Root, device: torch.device, ranks: Ranks = ALONE) -> InputLoader:
    """The run's data on its device; the jobs of one process share the package's own data where they can."""
    seed_everything(values["seed"])
    dataset, batch, seed = values["dataset"], values["batch"], values["seed"]
    ours = str(dataset["_target_"]).startswith("deepgnn_cli.") and "path" not in dataset
    if ours and dataset.get("split") in ("public", *NUMBERED) and str(batch["_target_"]).endswith(".full"):
        seed = 0  # a published split on the whole graph is the same for every seed
    # A data set of the user's own may have changed since the last run.
    load = _load if ours else _load.__wrapped__
    encoding = values["encoding"]
    nodes = (json.dumps(node, sort_keys=True) for node in (dataset, encoding, rewiring(values), batch))
    return load(*nodes, seed, values["data_dir"], device, ranks)


def rewiring(values: Root) -> dict[str, object]:
    """The node that says how graphs are rewired, with the seed that draws."""
    none = {"_target_": "deepgnn_cli.data.rewiring.transforms.none", "_partial_": True}
    node = dict(values.get("rewire") or none)  # a configuration from before there was a choice has none
    if "seed" in node and node["seed"] is None:
        node["seed"] = values["seed"]
    return node


@lru_cache(maxsize=1)
def _load(
    dataset: str,
    encoding: str,
    rewire: str,
    batch: str,
    seed: int,
    data_dir: str | None,
    device: torch.device,
    ranks: Ranks,
) -> InputLoader:
    root = Path(data_dir) if data_dir else default_root()
    config = json.loads(dataset)
    # A user's function need not take what it does not use.
    takes = inspect.signature(get_object(config["_target_"])).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    wanted = {"root": root, "seed": seed}
    given = make(config, **{key: value for key, value in wanted.items() if anything or key in takes})
    graph = as_graph(given, name=config["_target_"].rpartition(".")[2], seed=seed)
    graph = checked(graph, split_index=config.get("split_index") or 0)
    graph = make(json.loads(encoding))(graph)
    changed = rewired(graph, make(json.loads(rewire)), rewire, root / "rewired")
    graph = changed.graph
    strategy = make(json.loads(batch))
    if ranks.world == 1:
        return InputLoader(graph, strategy(graph, seed=seed), device, changed=changed)
    own = strategy(graph, seed=seed, rank=ranks.rank, world=ranks.world)
    return InputLoader(graph, own, device, evaluation=strategy(graph, seed=seed), changed=changed)


def build_trainer(values: Root, loader: InputLoader, ranks: Ranks = ALONE) -> Trainer:
    """The network and what trains it, from the run's seed on."""
    seed_everything(values["seed"])
    recipe = values["trainer"]
    model = build_model(values, loader)
    optimizer = make(values["optimizer"])(model)
    task = objective(loader.whole.metric, recipe["label_smoothing"], loader.whole.loss)
    return Trainer(model, loader, optimizer, task, Settings.of(recipe, cast(float, values["optimizer"]["lr"])), ranks)


def build_model(values: Root, loader: InputLoader) -> nn.Module:
    """The network the configuration describes, for the data at hand, on its device."""
    graph = loader.whole
    shape = Shape(graph.num_features, graph.num_classes, graph.num_edge_features)
    builder, readout = make(values["model"]), make(values["readout"])
    if graph.level == "graph":
        builder = partial(graph_model, builder, readout=readout)
    elif getattr(readout, "func", readout) is not no_readout:
        raise ValueError(f"{graph.name} labels nodes, which are not read out; leave readout=none")
    every = values["trainer"]["gradient_checkpointing"]
    model: nn.Module = builder(
        shape,
        **({"checkpoint_every": every} if every else {}),
        layers=values["layers"],
        hidden=values["hidden"],
        norm=make(values["norm"]),
        residual=make(values["residual"]),
        drop=Drop(**values["drop"]),
    )
    if place().leads:
        _say_what_is_not_read(graph, model)
        _say_that_nothing_is_wired(values, model)
    return model.to(loader.device)


def _say_what_is_not_read(graph: Graph, model: nn.Module) -> None:
    reads_weights = any(getattr(module, "reads_edge_weight", False) for module in model.modules())
    if graph.edge_attr is not None and getattr(model, "edge_encoder", None) is None:
        _say_once(f"{graph.name}: this model reads no edge features, edge_attr is not used (weights: edge_weight)")
    if graph.edge_weight is not None and not reads_weights:
        _say_once(
            f"{graph.name}: this model reads no edge weights, edge_weight is not used (gcn, gcnii, sage, tag, appnp do)"
        )


def _say_that_nothing_is_wired(values: Root, model: nn.Module) -> None:
    """A skip stands around the layers between encoder and decoder, of which a shallow network of convs has none."""
    name = str(values["residual"]["_target_"]).rpartition(".")[2]
    stack, encoder = getattr(model, "stack", None), getattr(model, "encoder", None)
    first = getattr(encoder, "order", "") or hasattr(encoder, "skip")  # a residual may wire the encoder as well
    if name == "none" or first or stack is None or len(stack.layers):
        return
    _say_once(
        f"residual={name} plays no part: the first and the last of {values['layers']} layers are convs that change the "
        "width; more layers, or model.encoder=linear or model.decoder=linear"
    )


@cache
def _say_once(line: str) -> None:
    print(f"deepgnn: {line}", file=sys.stderr)
