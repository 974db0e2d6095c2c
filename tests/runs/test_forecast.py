"""What is drawn out from small depths is what deeper networks take."""

import pytest

from deepgnn_cli.config.validate import checked
from deepgnn_cli.runs import forecast
from deepgnn_cli.runs.build import load_inputs, pick_device
from deepgnn_cli.runs.excerpt import Excerpt
from deepgnn_cli.runs.forecast import Forecaster, Sample, Sizes, Wider, largest, measure

TINY = ["dataset=csbm", "dataset.num_nodes=60", "device=cpu", "hidden=8", "drop.input=0"]


def line(values, loader, layers):
    """A network of 10 numbers a layer; what autograd keeps, and twice that besides in the backward pass."""
    kept, width = 3.0 * layers, values["hidden"]
    sizes = Sizes(10 * layers + 5, 2.0 * layers, 2.0 * layers, 4.0 * layers, kept * width / 8)
    above = {"forward": 6 * layers + kept + 1, "backward": 6 * layers + 3 * kept + 7, "optimiser": 8.0 * layers}
    return Sample(layers, sizes, 100.0, above | {"evaluation": 6.0 * layers}, 0.0, 0.5 + 0.25 * layers)


def parabola(values, loader, layers):
    """As a dense wiring: parameters and activations grow with the square, slack with the activations."""
    square = layers * layers / 10
    sizes = Sizes(square, square, square, 2 * square, 5 * square)
    above = {"forward": 8 * square, "backward": 13 * square + 2, "optimiser": 4 * square, "evaluation": 3 * square}
    return Sample(layers, sizes, 50.0, above, 0.0, square / 1000)


@pytest.fixture
def inputs():
    values = checked(TINY).values
    return values, Excerpt(load_inputs(values, pick_device("cpu")[0]))


@pytest.mark.parametrize(("law", "at_100"), [(line, 100 + 1507), (parabola, 50 + 13_002)])
def test_what_grows_by_a_law_is_drawn_out_by_it(law, at_100, inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", law)
    forecaster = Forecaster(*inputs, [100])
    found, true = forecaster.at(100), law(*inputs, 100)
    assert forecaster.depths == (2, 4, 8, 32) and not found.measured
    assert vars(found.sizes) == pytest.approx(vars(true.sizes))
    assert found.peak_memory_mib == pytest.approx(at_100)
    assert found.epoch_seconds == pytest.approx(true.epoch_seconds)
    sizes = true.sizes
    kept = sizes.parameters_mib + sizes.gradients_mib + sizes.optimiser_mib + sizes.activation_mib
    assert found.transient_mib == pytest.approx(at_100 - true.base_mib - kept)


def test_small_depths_are_measured_and_nothing_else_is(inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", line)
    forecaster = Forecaster(*inputs, [3, 5])
    assert forecaster.depths == (3, 5) and forecaster.at(3).measured
    assert forecaster.at(5).peak_memory_mib == 100 + 6 * 5 + 9 * 5 + 7


def test_a_depth_that_takes_long_is_not_measured(inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", line)
    monkeypatch.setattr(forecast, "_PATIENCE_SECONDS", 5)  # 32 layers take 8.5 s, 16 take 4.5 s
    assert Forecaster(*inputs, [100]).depths == (2, 4, 8, 16)


def test_depths_are_measured_by_whole_checkpointed_segments(inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", line)
    values, loader = inputs
    values = values | {"trainer": values["trainer"] | {"gradient_checkpointing": 4}}
    assert Forecaster(values, loader, [100]).depths == (4, 8, 16, 32)


def test_the_largest_that_fits_fits_and_one_more_does_not(inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", line)
    forecaster = Forecaster(*inputs, [100])
    found = largest(forecaster.at, 1000)
    assert found.layers == (1000 - 107) // 15
    assert found.peak_memory_mib <= 1000 < forecaster.at(found.layers + 1).peak_memory_mib
    assert largest(forecaster.at, 120) is None


def test_width_is_drawn_out_as_depth_is(inputs, monkeypatch):
    monkeypatch.setattr(forecast, "measure", line)
    values, loader = inputs
    found = Wider(values | {"layers": 4}, loader).at(80)
    assert found.hidden == 80 and found.layers == 4
    assert found.sizes.activation_mib == pytest.approx(120)


@pytest.mark.parametrize("words", [["model=gcn"], ["model=densegcn"], ["model=revgcn"], ["model=jknet"]])
def test_sizes_at_24_layers_are_those_of_a_network_of_24_layers(words, monkeypatch):
    config = checked([*TINY, *words])
    loader = Excerpt(load_inputs(config.values, pick_device("cpu")[0]))
    monkeypatch.setattr(forecast, "_FURTHER", ())
    found, true = Forecaster(config.values, loader, [24]).at(24).sizes, measure(config.values, loader, 24).sizes
    assert round(found.parameters) == true.parameters
    for name in ("parameters_mib", "gradients_mib", "optimiser_mib", "activation_mib"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.02), name
