"""The rows of layers.csv: right numbers, and no trace left."""

import copy
import weakref
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch.nn import functional

from deepgnn_cli.measure.layer_diagnostics import layer_diagnostics
from deepgnn_cli.measure.smoothness import measured
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from tests.conftest import N
from tests.nn.builders import builder, options
from tests.nn.test_decoupled import MAKERS, made

LABELS = torch.arange(N) % 3
TRAIN = torch.arange(N) % 2 == 0
LOSS = functional.cross_entropy
L = 4


def model_of(residual="none", conv="gcn", norm="none", layers=L, rate=0.5):
    return deep_gnn(
        Shape(8, 3),
        layers=layers,
        hidden=8,
        norm=builder("norm", norm),
        residual=builder("residual", residual),
        drop=Drop(rate, rate),
        conv=builder("conv", conv),
        encoder="linear",
        decoder="linear",
        encoder_act="none",  # whole rows of zeros would put the norms behind them at ReLU's kink
        act="relu",
        identity_mapping=None,
    )


def diagnose(model, x, graph):
    return layer_diagnostics(model, x, graph, LABELS[TRAIN], TRAIN, LOSS)


@pytest.mark.parametrize("residual", options("residual"))
def test_the_gradients_are_those_of_the_loss(residual, graph, x):
    """Those of the parameters; `test_the_output_gradient_…` is about those of the outputs."""
    model = model_of(residual, norm="layer")
    rows = diagnose(model, x, graph)
    assert [row.layer for row in rows] == list(range(L + 1))
    model.eval()
    parameters = model.layer_parameters()
    loss = LOSS(model(x, graph)[TRAIN], LABELS[TRAIN])
    flat = list(dict.fromkeys(p for layer in parameters for p in layer))
    gradients = dict(zip(flat, torch.autograd.grad(loss, flat), strict=True))
    for row, layer in zip(rows, parameters, strict=True):
        want = torch.cat([gradients[p].flatten() for p in layer]).norm().item()
        assert row.parameter_gradient_norm == pytest.approx(want)


def loss_with(model, x, graph, layer, push):
    """The loss when the output of `layer` is pushed by `push`."""
    states = model.states(x, graph)
    number = 0
    try:
        while True:
            state = next(states)
            if number == layer:
                state.data += push
            number += 1
    except StopIteration as end:
        return LOSS(end.value[TRAIN], LABELS[TRAIN]).item()


@pytest.mark.parametrize("residual", ["none", "reversible"])
def test_the_output_gradient_is_how_the_loss_answers_a_push(residual, graph, x):
    model = model_of(residual).eval()
    rows = diagnose(model, x, graph)
    with torch.no_grad():
        for layer in (1, L):
            gradient = torch.zeros(N, 8)
            for i in range(N):
                for c in range(8):
                    push = torch.zeros(N, 8)
                    push[i, c] = 1e-6
                    above, below = (loss_with(model, x, graph, layer, s * push) for s in (1, -1))
                    gradient[i, c] = (above - below) / 2e-6
            assert rows[layer].output_gradient_norm == pytest.approx(gradient.norm().item(), rel=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_reversible_stack_is_seen_as_with_stored_activations(graph, x, frozen):
    model = model_of("reversible")
    if frozen:
        for part in (model.encoder, *model.stack.layers[0], *model.stack.layers[1]):
            part.requires_grad_(False)
    seen = []
    for store in (False, True):
        model.stack.engine.store_activations = store
        seen.append(diagnose(model, x, graph))
    for ours, stored in zip(*seen, strict=True):
        for name, value in asdict(ours).items():
            assert value == (None if (expected := getattr(stored, name)) is None else pytest.approx(expected)), name


def test_no_state_of_a_reversible_stack_outlives_its_turn(graph, x):
    states = model_of("reversible").states(x, graph)
    next(states)  # the encoder's output
    seen = [weakref.ref(next(states)._state) for _ in range(L)]
    assert [state() is None for state in seen] == [True] * (L - 1) + [False]  # the last one is the stream itself


def test_the_smoothness_is_that_of_each_state_in_evaluation(graph, x):
    model = model_of("res_plus", norm="batch")
    rows = diagnose(model, x, graph)
    model.eval()
    with torch.no_grad():
        for row, h in zip(rows, model.states(x, graph), strict=True):
            for name, value in asdict(measured(h, graph.edge_index)).items():
                assert getattr(row, name) == pytest.approx(value), name


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("conv", ["gcn", "gat"])
@pytest.mark.parametrize("residual", ["none", "reversible"])
def test_no_trace_is_left(norm, conv, residual, graph, x):
    model = model_of(residual, conv, norm).train()
    model.stack.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    random = torch.get_rng_state()
    diagnose(model, x, graph)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert [m.training for m in model.modules()] == modes
    assert not x.requires_grad


def test_cudnn_whose_lstm_has_no_backward_pass_in_evaluation_stays_out(graph, x):
    model, seen = model_of(residual="jumping"), []
    model.encoder.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    layer_diagnostics(model, x, graph, LABELS[TRAIN], TRAIN, LOSS)
    assert seen == [False] and torch.backends.cudnn.enabled


def test_the_mode_is_put_back_even_after_an_error(graph, x):
    model = model_of().train()
    with pytest.raises(IndexError):
        layer_diagnostics(model, x, graph, LABELS, torch.tensor([99]), LOSS)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("name", MAKERS)
def test_decoupled_models_have_a_row_for_every_step(name, graph, x):
    rows = diagnose(made(name, Drop(0.5, 0.5)), x, graph)
    assert len(rows) == 5 and not x.requires_grad
    assert all(row.output_gradient_norm > 0 for row in rows)
    assert all(row.parameter_gradient_norm is None for row in rows[1:])
    assert (rows[0].parameter_gradient_norm is None) == (name == "grand")


def test_frozen_layers_have_no_parameter_gradient(graph, x):
    model = model_of()
    model.stack.layers[1].requires_grad_(False)
    rows = diagnose(model, x, graph)
    assert rows[2].parameter_gradient_norm is None and rows[2].output_gradient_norm > 0
    model.requires_grad_(False)
    frozen = diagnose(model, x, graph)
    assert [row.output_gradient_norm for row in frozen] == [pytest.approx(r.output_gradient_norm) for r in rows]


def test_every_layer_can_be_looked_at(graph, x):
    seen = {}
    model = model_of()
    layer_diagnostics(model, x, graph, LABELS[TRAIN], TRAIN, LOSS, seen.__setitem__)
    assert list(seen) == list(range(L + 1)) and not any(state.requires_grad for state in seen.values())
    for layer, state in enumerate(model.eval().states(x, graph)):
        torch.testing.assert_close(seen[layer], state.detach())


def test_it_works_without_gradients_around_it(graph, x):
    model = model_of()
    with torch.no_grad():
        assert diagnose(model, x, graph) == diagnose(model, x, graph)


def test_over_smoothing_shows_and_gcnii_does_not_smooth(graph):
    """What layers.csv is for, on an untrained net of 64 layers."""
    x = torch.randn(N, 8)
    energy = {}
    for name, make in {"gcn": partial(model_of), "gcnii": partial(model_of, "initial", "gcn2")}.items():
        torch.manual_seed(0)
        rows = diagnose(make(layers=64), x, graph)
        energy[name] = rows[64].dirichlet_energy / rows[0].dirichlet_energy
    assert energy["gcn"] < 1e-6
    assert energy["gcnii"] > 1e-4
