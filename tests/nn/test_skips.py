"""The learned skips against their formulas, with branches that can be computed by hand."""

import pytest
import torch
from torch import nn

from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.nn.sparse_features import SparseFeatures
from deepgnn_cli.nn.stack import build_stack
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


def pre(branch, h, normalised):
    return convolve(branch.conv, branch.norm(h).relu(), normalised)


def post(branch, h, normalised):
    return branch.norm(convolve(branch.conv, h, normalised)).relu()


def randomised(stack):
    """With random scales, so that a wiring that forgets them is found out."""
    for name, parameter in stack.named_parameters():
        if name.endswith("scale"):
            nn.init.normal_(parameter)
    return stack


@pytest.mark.parametrize("residual", ["rezero", "layer_scale"])
def test_a_learned_scale_of_what_is_added(graph, normalised, x, residual):
    stack = randomised(stack_of(residual))
    h = x
    for layer in stack.layers:
        h = h + layer.scale * pre(layer.branch, h, normalised)
    assert torch.allclose(stack(x, graph, x), h)
    assert stack.layers[0].scale.shape == ((C,) if residual == "layer_scale" else ())


def test_where_learned_scales_start(graph, x):
    assert torch.equal(stack_of("rezero")(x, graph, x), x)
    assert all((layer.scale == 1e-5).all() for layer in stack_of("layer_scale", start=1e-5).layers)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_scale_by_depth(graph, normalised, x, beta):
    stack, h = stack_of("scaled", depth_scaling=beta), x
    for layer in stack.layers:
        h = h + L**-beta * pre(layer.branch, h, normalised)
    assert torch.allclose(stack(x, graph, x), h)


def test_state_space(graph, normalised, x):
    stack, h = stack_of("state_space", memory=0.9, entry=0.3), x
    for layer in stack.layers:
        h = 0.9 * h + 0.3 * post(layer.branch, h, normalised)
    assert torch.allclose(stack(x, graph, x), h)


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_ordered_gates(graph, normalised, x, chunk):
    stack, h = stack_of("ordered", norm="none", chunk=chunk), x
    gates = torch.zeros(N, C // chunk)
    for layer in stack.layers:
        m = convolve(layer.branch.conv, h, normalised)
        weights = affine(layer.gate, torch.cat([h, m], 1)).exp()
        for p in range(C // chunk):
            share = weights[:, : p + 1].sum(1) / weights.sum(1)
            gates = gates.clone()
            gates[:, p] = gates[:, p] + (1 - gates[:, p]) * share
        wide = torch.stack([gates[:, c // chunk] for c in range(C)], 1)
        mixed = wide * h + (1 - wide) * m
        h = (mixed - mixed.mean(1, keepdim=True)) / (mixed.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(stack(x, graph, x), h)
    assert torch.allclose(gates[:, -1], torch.ones(N))  # the last chunk keeps what the encoder gave


def test_a_chunk_that_does_not_divide_the_channels_is_refused():
    with pytest.raises(ValueError, match="channels=8 is not divisible by chunk=3; use 6"):
        stack_of("ordered", chunk=3)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_deep_norm(graph, normalised, x, norm):
    torch.manual_seed(1)
    stack, h = stack_of("deep_norm", norm=norm), x
    for layer in stack.layers:
        z = L**0.25 * h + convolve(layer.conv, h, normalised).relu()
        dim = 0 if norm == "batch" else 1  # the paper's layer normalisation in place of none
        h = (z - z.mean(dim, keepdim=True)) / (z.var(dim, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(stack(x, graph, x), h)
    torch.manual_seed(1)
    usual = stack_of("none", norm="none").layers[0].conv.linear.weight
    assert torch.allclose(stack.layers[0].conv.linear.weight, (4 * L) ** -0.25 * usual)


def test_highway(graph, normalised, x):
    stack, h = stack_of("highway", start=-2.0), x
    for layer in stack.layers:
        assert (layer.gate.bias == -2).all()
        gate = affine(layer.gate, h).sigmoid()
        h = gate * post(layer.branch, h, normalised) + (1 - gate) * h
    assert torch.allclose(stack(x, graph, x), h)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("own", [True, False])
def test_gradient_gating(graph, normalised, dense_graph, x, p, own):
    stack, h = stack_of("gradient_gating", p=p, own_conv=own), x
    for layer in stack.layers:
        new = post(layer.branch, h, normalised)
        y = convolve(layer.gate, h, normalised).relu() if own else new
        tau = torch.zeros(N, C)
        for i, neighbours in enumerate(row.nonzero().flatten() for row in dense_graph):
            if len(neighbours):
                tau[i] = ((y[neighbours] - y[i]).abs() ** p).mean(0).tanh()
        h = (1 - tau) * h + tau * new
    assert torch.allclose(stack(x, graph, x), h)
    assert torch.equal(stack(x, graph, x)[11], x[11])  # a node without neighbours


@pytest.mark.parametrize("residual", ["pre_norm", "post_norm"])
def test_a_layer_of_a_transformer(graph, normalised, x, residual):
    stack, h = stack_of(residual, expansion=3), x
    for layer in stack.layers:
        assert layer.widen.weight.shape == (3 * C, C)

        def feed(z, layer=layer):
            return affine(layer.narrow, affine(layer.widen, z).relu())

        if residual == "pre_norm":
            h = h + convolve(layer.conv, layer.first(h), normalised)
            h = h + feed(layer.second(h))
        else:
            h = layer.first(h + convolve(layer.conv, h, normalised))
            h = layer.second(h + feed(h))
    assert torch.allclose(stack(x, graph, x), h)


@pytest.mark.parametrize("residual", ["deep_norm", "pre_norm", "post_norm"])
def test_dropout_falls_on_what_a_layer_adds(graph, x, residual):
    """At a rate near 1 nothing is added: the stream is only normalised."""
    stack = stack_of(residual, layers=1, rate=1 - 1e-9, norm="layer")
    torch.manual_seed(0)
    out = stack(x, graph, x)
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(out, x if residual == "pre_norm" else normed, atol=1e-4)
