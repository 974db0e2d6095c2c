"""What the tests of the reversible engine share: a small graph, every branch there is, and one measured pass."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import deepgnn_cli.nn
from deepgnn_cli.nn import norms
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.reversible.stack import ReversibleStack

NODES, WIDTH, EDGE_CHANNELS = 12, 4, 3

# A value for every knob of every conv and norm; a knob that is missing here fails its test by name.
KNOBS = {
    "aggregation": "max",
    "act": "tanh",
    "affine": True,
    "attention_dropout": 0.4,
    "beta": True,
    "bias": True,
    "edge_dim": EDGE_CHANNELS,
    "eps": 0.1,
    "epsilon": 0.1,
    "expansion": 2,
    "gamma": 0.1,
    "groups": 2,
    "heads": 2,
    "hops": 2,
    "individually": True,
    "iterations": 2,
    "lamda": 0.01,
    "learn_message_scale": True,
    "learn_p": True,
    "learn_t": True,
    "message_norm": True,
    "mlp_layers": 2,
    "mlp_norm": "batch",
    "negative_slope": 0.2,
    "normalize": True,
    "p": 1.0,
    "power": 2.0,
    "scale": 1.0,
    "self_loops": True,
    "share_weights": False,
    "stop_gradient": False,
    "t": 0.5,
    "step": 0.3,
    "temperature": 0.7,
    "terms": 6,
    "theta": 0.5,
    "train_eps": True,
    "variant": "official",
}
EXPLICIT = {"edge_dim"}  # knobs with a default that the cases set all the same


def with_knobs(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    named = inspect.signature(builder).parameters.values()
    wanted = [p for p in named if p.kind is p.KEYWORD_ONLY and (p.default is p.empty or p.name in EXPLICIT)]
    return partial(builder, **{p.name: KNOBS[p.name] for p in wanted})


def discovered(first: list[str], modules: list[str]) -> dict[str, Callable[..., nn.Module]]:
    """The public builders of `modules` whose positional parameters are `first`."""
    found = {}
    for name in modules:
        module = importlib.import_module(f"deepgnn_cli.nn.{name}")
        for builder_name, builder in inspect.getmembers(module, inspect.isfunction):
            own = builder.__module__ == module.__name__ and not builder_name.startswith("_")
            parameters = inspect.signature(builder).parameters.values()
            positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            if own and positional == first:
                found[builder_name] = builder
    return found


ROOMS = [module.name for module in pkgutil.iter_modules(deepgnn_cli.nn.__path__)]
CONVS = discovered(["channels", "layer"], ROOMS)
NORMS = {name: norm for name, norm in discovered(["channels"], ["norms"]).items() if name != "none"} | {"none": None}
assert {"gcn", "gcn2", "gat", "gen", "sage"} <= set(CONVS) and {"batch", "layer", "group"} <= set(NORMS)
assert norms.none(1) is None


def small_graph(dtype: torch.dtype = torch.float64, seed: int = 0) -> Adjacency:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, NODES, (2, 40), generator=generator)
    ring = torch.arange(NODES)
    edge_index = torch.cat([ends[:, ends[0] != ends[1]], torch.stack([ring, (ring + 1) % NODES])], dim=1)
    edge_attr = torch.randn(edge_index.size(1), EDGE_CHANNELS, generator=generator, dtype=dtype)
    return Adjacency(edge_index, NODES, edge_attr)


def branches(conv: str, norm: str, rate: float = 0.3, alpha: float = 0.2) -> Iterator[nn.Module]:
    builder = NORMS[norm]
    make = Branches(with_knobs(CONVS[conv]), builder and with_knobs(builder), WIDTH, "relu", rate)
    layer = 0
    while True:
        layer += 1
        yield make(WIDTH, layer, alpha=alpha)


def stack_of(
    source: Iterator[nn.Module] | Callable[[], nn.Module],
    *,
    layers: int,
    groups: int = 2,
    scale: float = 1.0,
    exact: bool = False,
    store_activations: bool = False,
    dtype: torch.dtype = torch.float64,
) -> ReversibleStack:
    """A stack of what `source` makes."""
    torch.manual_seed(1)
    make = source if callable(source) else partial(next, source)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype != torch.bfloat16 else torch.float32)
    made = [make() for _ in range(layers * groups)]
    torch.set_default_dtype(default)
    return ReversibleStack(
        nn.ModuleList(made), groups, scale=scale, exact=exact, store_activations=store_activations
    ).to(dtype)


def stored(stack: ReversibleStack) -> ReversibleStack:
    """The same weights, buffers and mode, by plain autograd."""
    twin = copy.deepcopy(stack)
    twin.store_activations = True
    return twin


@dataclass(frozen=True)
class Pass:
    """All that one forward and backward pass leaves behind."""

    output: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    drawn_after: Tensor


def reads_edges(conv: str) -> bool:
    return "edge_dim" in inspect.signature(CONVS[conv]).parameters


def one_pass(
    stack: ReversibleStack, *, masked: bool = True, edges: bool = True, dtype: torch.dtype = torch.float64
) -> Pass:
    """Forward and backward with x, x0, mask and edge_attr all wanting gradients, from one seed."""
    width = stack.groups * WIDTH
    generator = torch.Generator().manual_seed(7)
    inputs = {name: torch.randn(NODES, width, generator=generator, dtype=dtype) for name in ("x", "x0", "mask", "at")}
    graph = small_graph(dtype)
    leaves = {"x": inputs["x"], "x0": inputs["x0"]}
    if edges:
        leaves["edge_attr"] = graph.edge_attr.clone()
    if masked:
        leaves["mask"] = (inputs["mask"] > -0.5).to(dtype) * 1.5
    for leaf in leaves.values():
        leaf.requires_grad_()
    torch.manual_seed(11)
    graph = graph.with_edge_attr(leaves.get("edge_attr"))
    output = stack(leaves["x"], graph, leaves["x0"], leaves.get("mask"))
    (output * inputs["at"]).sum().backward()
    named = leaves | dict(stack.named_parameters())
    return Pass(
        output.detach(),
        {name: leaf.grad for name, leaf in named.items()},
        {name: buffer.clone() for name, buffer in stack.named_buffers()},
        torch.rand(4),
    )


def relative_error(a: Pass, b: Pass) -> float:
    """The largest difference of any gradient, relative to the largest entry of that gradient."""
    worst = 0.0
    largest = max(gradient.abs().max().item() for gradient in b.gradients.values() if gradient is not None)
    for name, expected in b.gradients.items():
        found = a.gradients[name]
        # A gradient that nothing contributed to may be zero or absent, depending on how autograd got there.
        if expected is None or found is None:
            assert (expected is None or not expected.any()) and (found is None or not found.any()), name
            continue
        # Some vanish but for rounding (a bias in front of a norm); those are held against the others.
        scale = max(expected.abs().max().item(), 1e-5 * largest)
        worst = max(worst, (found - expected).abs().max().item() / scale)
    return worst
