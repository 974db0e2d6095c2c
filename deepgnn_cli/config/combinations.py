"""The combinations that cannot work: all of them, each with the reason and the remedy.

Whatever is not refused here composes. The check reads a configuration's plain values and knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import psutil

DECOUPLED = ("sgc", "appnp", "dagnn", "gprgnn", "grand")
_PARTS = ("conv", "norm", "residual")
# The convs that multiply by a sparse matrix; the others weigh each edge by what stands at its ends.
_MULTIPLY = ("gcn", "gcn2", "gcn_separate", "sage", "graph", "gin", "tag", "antisymmetric", "graff", "mean", "unitary")
_LAYER_BYTES = 10_000  # a layer's modules, whatever its width


def refuse(values: Mapping[str, object], chosen: Mapping[str, str]) -> None:
    """Raise ValueError for a combination that cannot work.

    Args:
        values: the resolved configuration: plain values, nested by group.
        chosen: the option of each group, e.g. `{"model": "gcnii", "norm": "none", …}`.
    """
    reasons = (
        _weightless_layers(values, chosen),
        _no_convolution(values, chosen),
        _uneven_groups(values),
        _uneven_chunks(values),
        _messages_of_weighed_edges(values, chosen),
        _states_not_kept(values),
        _stopped_temperature(values),
        _nothing_to_checkpoint(values, chosen),
        _too_large(values),
    )
    for reason in reasons:
        if reason is not None:
            raise ValueError(reason)


def _weightless_layers(values: Mapping[str, object], chosen: Mapping[str, str]) -> str | None:
    """The layers of a decoupled model are propagation steps: there is no weight, norm or skip to choose."""
    if _name(values.get("model")) not in DECOUPLED:
        return None
    for part in _PARTS:
        node = _part(values, "model").get("conv") if part == "conv" else values.get(part)
        if _name(node) not in (None, "none"):
            return _refusal(chosen.get("model", _name(values["model"])), part, chosen.get(part) or str(_name(node)))
    return None


def _no_convolution(values: Mapping[str, object], chosen: Mapping[str, str]) -> str | None:
    """A stack of layers is a stack of convolutions."""
    if _name(values.get("model")) != "deep_gnn" or _name(_part(values, "model").get("conv")) is not None:
        return None
    return f"model={chosen.get('model')} is made of convolutions and conv=none; try conv=gcn, or model=sgc"


def _nothing_to_checkpoint(values: Mapping[str, object], chosen: Mapping[str, str]) -> str | None:
    """Gradient checkpointing is for layers that keep activations: reversible and decoupled ones keep none."""
    every = _part(values, "trainer").get("gradient_checkpointing")
    keeps_none = _name(values.get("residual")) == "reversible" or _name(values.get("model")) in DECOUPLED
    if not every or not keeps_none:
        return None
    return (
        f"trainer.gradient_checkpointing={every} has nothing to save with model={chosen.get('model')} "
        f"residual={chosen.get('residual')}; set it to 0"
    )


def _uneven_groups(values: Mapping[str, object]) -> str | None:
    """A reversible layer splits the hidden channels into equal groups."""
    residual, hidden = values.get("residual"), values.get("hidden")
    if _name(residual) != "reversible" or not isinstance(residual, Mapping) or not isinstance(hidden, int):
        return None
    groups = residual.get("groups")
    if not isinstance(groups, int) or groups < 2 or (hidden >= groups and hidden % groups == 0):
        return None
    remedy = max(hidden - hidden % groups, groups)
    return f"hidden={hidden} is not divisible by residual.groups={groups}; try hidden={remedy}"


def _uneven_chunks(values: Mapping[str, object]) -> str | None:
    """Ordered gates cover equal chunks of the hidden channels."""
    residual, hidden = values.get("residual"), values.get("hidden")
    if _name(residual) != "ordered" or not isinstance(residual, Mapping) or not isinstance(hidden, int):
        return None
    chunk = residual.get("chunk")
    if not isinstance(chunk, int) or chunk < 1 or hidden % chunk == 0:
        return None
    return (
        f"hidden={hidden} is not divisible by residual.chunk={chunk}; try hidden={max(hidden - hidden % chunk, chunk)}"
    )


def _messages_of_weighed_edges(values: Mapping[str, object], chosen: Mapping[str, str]) -> str | None:
    """DropMessage is made for aggregations that are a product with a matrix."""
    rate = _part(values, "drop").get("message")
    conv = _part(values, "model").get("conv")
    if not rate or not isinstance(conv, Mapping) or _name(conv) is None:
        return None
    multiplies = _name(conv) in _MULTIPLY and str(conv["_target_"]).startswith("deepgnn_cli.")
    if multiplies and conv.get("aggregation") != "max":
        return None
    how = " with aggregation=max" if multiplies else ""
    return (
        f"drop.message={rate} applies to convs that multiply by a matrix, and conv={chosen.get('conv') or _name(conv)}"
        f"{how} does not; set it to 0, or try conv=gcn or conv=sage"
    )


def _states_not_kept(values: Mapping[str, object]) -> str | None:
    """A readout of all layers trains through states that a reversible stack does not keep."""
    residual = _part(values, "residual")
    reads = _name(values.get("readout")) == "jumping" and _name(residual) == "reversible"
    if not reads or residual.get("store_activations") is True:
        return None
    return (
        "readout=jumping reads the states of all layers, which residual=reversible does not keep; "
        "use residual.store_activations=true, or another readout"
    )


def _stopped_temperature(values: Mapping[str, object]) -> str | None:
    """The temperature of a softmax aggregation learns through the gradient that `stop_gradient` stops."""
    conv = _part(values, "model").get("conv")
    if not isinstance(conv, Mapping) or not (conv.get("learn_t") and conv.get("stop_gradient")):
        return None
    return "model.conv.learn_t=true needs the gradient that model.conv.stop_gradient=true stops; set one to false"


def _too_large(values: Mapping[str, object]) -> str | None:
    """The weights alone, their gradients and Adam's two moments must fit in memory; no run is planned by this."""
    model, residual = values.get("model"), _part(values, "residual")
    layers, hidden = values.get("layers"), values.get("hidden")
    if not isinstance(layers, int) or not isinstance(hidden, int) or not isinstance(model, Mapping):
        return None
    weights, stacked = hidden, 0  # propagation steps have no weights
    if _name(model) == "deep_gnn" and isinstance(conv := model.get("conv"), Mapping):
        groups = residual.get("groups") if _name(residual) == "reversible" else 1
        heads = conv.get("heads")
        widened = heads if isinstance(heads, int) and hidden % max(heads, 1) else 1  # averaged heads are C wide each
        stacked = layers
        weights += layers * hidden * hidden * widened // (groups if isinstance(groups, int) and groups > 0 else 1)
    needed = 16 * weights + _LAYER_BYTES * stacked
    there = psutil.virtual_memory().total if values.get("device") in ("auto", "cpu") else 2**40
    if needed <= there:
        return None
    return (
        f"layers={layers} hidden={hidden}: the weights, their gradients and the optimiser's state take at "
        f"least {needed / 2**30:.4g} GiB, and {there / 2**30:.4g} GiB are there; choose fewer or narrower layers"
    )


def _refusal(model: object, part: str, name: str) -> str:
    return (
        f"model={model} does not combine with {part}={name}: its layers are propagation steps without a {part}; "
        f"use {part}=none, or a model made of convolutions such as model=gcn"
    )


def _part(values: Mapping[str, object], group: str) -> Mapping[str, object]:
    """A group's own keys; of one that is null, none."""
    node = values.get(group)
    return node if isinstance(node, Mapping) else {}


def _name(node: object) -> str | None:
    """The last word of a config node's `_target_`."""
    return str(node["_target_"]).rpartition(".")[2] if isinstance(node, Mapping) and "_target_" in node else None
