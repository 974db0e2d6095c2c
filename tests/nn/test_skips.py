"""The learned skips against their formulas, with branches that can be computed by hand."""

import pytest
import torch
from torch import nn

from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.nn.residuals import build_stack
from deepgnn_cli.nn.sparse_features import SparseFeatures
from tests.conftest import N
from tests.nn.builders import builder

C, L = 8, 3


def stack_of(residual, *, layers=L, rate=0.0, norm="layer", **knobs):
    branch = Branches(builder("conv", "gcn"), builder("norm", norm), C, "relu", rate)
    return build_stack(builder("residual", residual, **knobs), branch, C, layers)


def convolve(conv, h, normalised):
    return normalised @ h @ conv.linear.weight.t()


def affine(linear, h):
    return h @ linear.weight.t() + linear.bias


def test_a_linear_skip_stands_in_front_of_the_norm(graph, normalised, x):
    stack = stack_of("linear")
    z = x
    for number, layer in enumerate(stack.layers):
        h = z if number == 0 else layer.norm(z).relu()
        z = convolve(layer.conv.conv, h, normalised) + affine(layer.conv.skip, h)
    assert torch.allclose(stack(x, graph, x), z)
    assert stack.layers[0].norm is None and stack.tail == "norm-act-drop"


def test_or_behind_norm_and_activation(graph, normalised, x):
    stack = stack_of("linear", place="after")
    h = x
    for layer in stack.layers:
        h = layer.branch.norm(convolve(layer.branch.conv, h, normalised)).relu() + affine(layer.skip, h)
    assert torch.allclose(stack(x, graph, x), h)
    assert stack.tail == "none"


@pytest.mark.parametrize("place", ["before", "after"])
def test_dropout_of_a_linear_skip(graph, normalised, x, place):
    stack = stack_of("linear", layers=1, rate=0.5, place=place)
    torch.manual_seed(5)
    mask, keep = keep_mask((N, C), 0.5, x.device)
    torch.manual_seed(5)
    out = stack(x, graph, x)
    (layer,), kept = stack.eval().layers, mask / keep
    want = stack(x * kept, graph, x) if place == "before" else kept * layer.branch(x, graph) + affine(layer.skip, x)
    assert torch.allclose(out, want)


def network(encoder, place, layers=L, rate=0.0):
    return deep_gnn(
        Shape(6, 3),
        layers=layers,
        hidden=C,
        norm=builder("norm", "batch"),
        residual=builder("residual", "linear", place=place),
        drop=Drop(rate, 0.0),
        conv=builder("conv", "gcn_biased"),
        encoder=encoder,
        decoder="linear",
        encoder_act="none",
        act="relu",
        identity_mapping=None,
    )


def test_the_block_of_the_tuned_classic_gnns(graph, normalised):
    """x ← drop(relu(bn(conv(x) + lin(x)))), `layers` times from the input's width, then a linear classifier."""
    model, features = network("conv", "before"), torch.randn(N, 6)
    convs = [model.encoder, *model.stack.layers]
    norms = [*(layer.norm for layer in model.stack.layers), model.norm]
    assert len(convs) == L and convs[0].conv.skip.weight.shape == (C, 6)
    h = features
    for layer, norm in zip(convs, norms, strict=True):
        nn.init.normal_(layer.conv.conv.bias)
        z = convolve(layer.conv.conv, h, normalised) + layer.conv.conv.bias + affine(layer.conv.skip, h)
        h = ((z - z.mean(0)) / (z.var(0, correction=0) + norm.eps).sqrt()).relu()
    assert torch.allclose(model(features, graph), affine(model.decoder, h))
    assert torch.allclose(model(SparseFeatures.of(features), graph), affine(model.decoder, h))


def test_behind_the_activation_the_first_layer_skips_from_the_input_too(graph, normalised):
    model, h = network("conv", "after"), torch.randn(N, 6)
    logits = model(h, graph)
    for layer in [model.encoder, *model.stack.layers]:
        z = convolve(layer.branch.conv, h, normalised)
        h = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()).relu() + affine(layer.skip, h)
    assert torch.allclose(logits, affine(model.decoder, h))


def test_behind_a_linear_encoder_its_output_is_dropped_but_not_activated(graph, normalised):
    model, features = network("linear", "before", rate=0.5), torch.randn(N, 6)
    assert len(model.stack.layers) == L and model.stack.layers[0].order == "drop"
    model.eval()
    h = affine(model.encoder, features)
    first = model.stack.layers[0]
    want = convolve(first.conv.conv, h, normalised) + affine(first.conv.skip, h)
    assert torch.allclose(next(iter(model.stack.states(h, graph, h))), want)
