"""Every conv × norm × residual composes; what does not is refused by name."""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch.nn import functional

from deepgnn_cli.config.combinations import DECOUPLED, refuse
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from tests.conftest import N, undirected
from tests.nn.builders import builder, knobs, options

CONVS = [name for name in options("conv") if name != "none"]
LABELS = torch.arange(N) % 3


def build(conv, norm="none", residual="none", *, layers=4, ends="linear", shape=None, drop=None, **changes):
    model = deep_gnn(
        shape or Shape(6, 3),
        layers=layers,
        hidden=8,
        norm=builder("norm", norm),
        residual=builder("residual", residual, **changes),
        drop=drop or Drop(0.2, 0.1, 0.1, 0.1),
        conv=builder("conv", conv),
        encoder=ends,
        decoder=ends,
        encoder_act="none",
        act="relu",
        identity_mapping=None,
    )
    for name, parameter in model.named_parameters():
        if name.endswith(".scale"):
            torch.nn.init.ones_(parameter)  # ReZero's layers do nothing at first
    return model


def trains(model, graph, x):
    """Forward, backward, an evaluation; the parameters whose gradient is absent or not finite, by name."""
    model.train()
    functional.cross_entropy(model(x, graph), LABELS).backward()
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    model.eval()
    with torch.no_grad():
        logits = model(x, graph)
        again = model(x, graph)
    assert logits.shape == (N, 3) and logits.isfinite().all()
    assert torch.equal(logits, again), "an evaluation must not be random"
    return wrong


@pytest.mark.parametrize("conv", CONVS)
def test_every_norm_and_residual_composes_with(conv, graph):
    x = torch.randn(N, 6)
    for norm in options("norm"):
        for residual in options("residual"):
            wrong = trains(build(conv, norm, residual), graph, x)
            assert not wrong, (norm, residual, wrong)


@pytest.mark.parametrize("conv", CONVS)
def test_every_drop_and_residual_composes_with(conv, graph):
    x = torch.randn(N, 6)
    for name in options("drop"):
        rates = {"dropout": 0.5, "input": 0.5} | knobs("drop", name)
        values, chosen = config("gcn", conv=conv)
        try:
            refuse(values | {"drop": rates}, chosen)
        except ValueError:
            assert name == "dropmessage"
            continue
        for residual in options("residual"):
            wrong = trains(build(conv, "none", residual, drop=Drop(**rates)), graph, x)
            assert not wrong, (name, residual, wrong)


@pytest.fixture
def single_precision():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("conv", CONVS)
def test_every_residual_composes_with_it_in_sixteen_bits(conv, graph, single_precision):
    """With `trainer.autocast=bf16` products are lowered, sparse ones and sums over edges are not."""
    x = torch.randn(N, 6)
    for residual in options("residual"):
        model = build(conv, "layer", residual)
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model(x, graph).float(), LABELS)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), residual


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_conv_can_encode_and_decode(conv, layers, graph):
    x = torch.randn(N, 6)
    for residual in options("residual"):
        assert not trains(build(conv, "layer", residual, layers=layers, ends="conv"), graph, x), residual


@pytest.mark.parametrize("conv", CONVS)
def test_alpha_composes_with_every_residual_that_takes_it(conv, graph):
    x = torch.randn(N, 6)
    for residual in [name for name in options("residual") if "alpha" in knobs("residual", name)]:
        assert not trains(build(conv, "none", residual, alpha=0.3), graph, x), residual


@pytest.mark.parametrize("conv", CONVS)
def test_edge_features_reach_the_convs_that_read_them(conv):
    edges = undirected()
    x, attributes = torch.randn(N, 6), torch.randn(edges.size(1), 5)
    graph = Adjacency(edges, N, attributes)
    reads = conv.startswith(("gat", "gen", "transformer"))  # gat, gatv2, gated; gen, gen_max
    for residual in options("residual"):
        model = build(conv, "layer", residual, shape=Shape(6, 3, 5), drop=Drop(0.0, 0.0))
        assert not trains(model, graph, x)
        other = Adjacency(edges, N, attributes + 1)
        assert torch.allclose(model(x, graph), model(x, other)) != reads


@pytest.mark.parametrize("residual", options("residual"))
def test_a_batch_of_graphs_is_normalised_graph_by_graph(residual, graph):
    """Two copies of a graph side by side give what one gives, for the norms that know graphs apart."""
    x = torch.randn(N, 6)
    both = Adjacency(torch.cat([graph.edge_index, graph.edge_index + N], 1), 2 * N, None, torch.arange(2 * N) // N)
    for norm in ("instance", "graph", "pair", "mean_subtraction", "layer", "node", "contra"):
        model = build("gcn", norm, residual).eval()
        assert torch.allclose(model(torch.cat([x, x]), both), model(x, graph).repeat(2, 1)), norm


@pytest.mark.parametrize("residual", options("residual"))
def test_identity_mapping_applies_to_any_conv_and_survives_a_checkpoint(residual, graph):
    x = torch.randn(N, 6)

    def make(conv):
        return deep_gnn(
            Shape(6, 3),
            layers=3,
            hidden=8,
            norm=None,
            residual=builder("residual", residual),
            drop=Drop(0.0, 0.0),
            conv=builder("conv", conv),
            encoder="linear",
            decoder="linear",
            encoder_act="relu",
            act="relu",
            identity_mapping=0.5,
        ).eval()

    for conv in CONVS:
        model, twin = make(conv), make(conv)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(model(x, graph), twin(x, graph)), conv
        assert not trains(model, graph, x), conv


def permuted(graph, order):
    place = torch.empty_like(order)
    place[order] = torch.arange(N)
    return Adjacency(place[graph.edge_index], N)


@pytest.mark.parametrize("conv", CONVS)
def test_renumbering_the_nodes_renumbers_the_logits(conv, graph):
    x, order = torch.randn(N, 6), torch.randperm(N)
    for residual in options("residual"):
        model = build(conv, "pair", residual).eval()
        assert torch.allclose(model(x[order], permuted(graph, order)), model(x, graph)[order]), residual


@pytest.mark.parametrize("conv", CONVS)
def test_states_are_the_forward_pass(conv, graph):
    x = torch.randn(N, 6)
    for residual in options("residual"):
        model = build(conv, "layer", residual).eval()
        states = model.states(x, graph)
        seen = []
        while True:
            try:
                seen.append(next(states))
            except StopIteration as end:
                logits = end.value
                break
        assert torch.allclose(logits, model(x, graph)), residual
        assert len(seen) == len(model.layer_parameters()) == 5
        inside = {id(p) for layer in model.layer_parameters() for p in layer}
        assert inside <= {id(p) for p in model.parameters()}


def config(model, residual="none", norm="none", conv="gcn", hidden=64, **conv_knobs):
    """A resolved configuration with the keys the refusals read."""
    node = knobs("model", model)["model"]
    if conv != "none":
        node["conv"] = knobs("conv", conv) | conv_knobs
    values = {"model": node, "hidden": hidden}
    values |= {"residual": knobs("residual", residual), "norm": knobs("norm", norm)}
    return values, {"model": model, "residual": residual, "norm": norm, "conv": conv}


@pytest.mark.parametrize("model", DECOUPLED)
@pytest.mark.parametrize("part", [{"norm": "pair"}, {"residual": "initial"}, {"conv": "gat"}])
def test_a_decoupled_model_refuses_what_its_layers_do_not_have(model, part):
    ((key, name),) = part.items()
    with pytest.raises(ValueError, match=f"model={model} does not combine with {key}={name}.*use {key}=none"):
        refuse(*config(model, **({"conv": "none"} | part)))
    refuse(*config(model, conv="none"))


def test_the_decoupled_models_are_those_without_a_convolution():
    without = [name for name in options("model") if not knobs("model", name)["model"]["_target_"].endswith("deep_gnn")]
    assert sorted(without) == sorted(DECOUPLED)


@pytest.mark.parametrize("model", DECOUPLED)
def test_a_decoupled_model_built_by_hand_refuses_the_same(model):
    values = {key: value for key, value in knobs("model", model)["model"].items() if not key.startswith("_")}
    module, _, function = knobs("model", model)["model"]["_target_"].rpartition(".")
    make = partial(getattr(import_module(module), function), Shape(6, 3), layers=2, hidden=4, drop=Drop(0, 0), **values)
    with pytest.raises(ValueError, match=f"model={model} does not combine with norm=pair"):
        make(norm=builder("norm", "pair"), residual=builder("residual", "none"))
    with pytest.raises(ValueError, match=f"model={model} does not combine with residual=res"):
        make(norm=None, residual=builder("residual", "res"))
    make(norm=builder("norm", "none"), residual=builder("residual", "none"))


@pytest.mark.parametrize(("hidden", "groups", "remedy"), [(64, 3, 63), (9, 2, 8), (2, 4, 4), (100, 16, 96)])
def test_channels_that_the_groups_do_not_divide_are_refused_with_a_remedy(hidden, groups, remedy):
    values, chosen = config("revgcn", "reversible", hidden=hidden)
    values["residual"]["groups"] = groups
    with pytest.raises(ValueError, match=f"hidden={hidden} .*residual.groups={groups}; try hidden={remedy}"):
        refuse(values, chosen)
    refuse(values | {"hidden": remedy}, chosen)


def test_a_stack_needs_a_convolution():
    with pytest.raises(ValueError, match="model=gcn is made of convolutions and conv=none"):
        refuse(*config("gcn", conv="none"))


def test_a_temperature_cannot_learn_from_a_stopped_gradient():
    with pytest.raises(ValueError, match="learn_t=true needs the gradient"):
        refuse(*config("deepergcn", conv="gen", learn_t=True))
    refuse(*config("deepergcn", conv="gen", learn_t=True, stop_gradient=False))


def test_ordered_gates_cover_equal_chunks():
    values, chosen = config("gcn", "ordered", hidden=30)
    with pytest.raises(ValueError, match="hidden=30 .*residual.chunk=4; try hidden=28"):
        refuse(values, chosen)
    refuse(values | {"hidden": 28}, chosen)


@pytest.mark.parametrize("conv", CONVS)
def test_messages_are_dropped_where_a_matrix_multiplies_and_refused_elsewhere(conv, graph):
    values, chosen = config("gcn", conv=conv)
    values["drop"] = {"message": 0.3}
    model = build(conv, drop=Drop(0.0, 0.0, message=0.3))
    x = torch.randn(N, 6)
    try:
        model(x, graph)
    except ValueError:
        with pytest.raises(ValueError, match=f"drop.message=0.3 applies to .* conv={conv} does not"):
            refuse(values, chosen)
    else:
        assert not torch.equal(model(x, graph), model(x, graph))
        refuse(values, chosen)


def test_messages_of_a_maximum_are_not_dropped():
    values, chosen = config("gcn", conv="sage", aggregation="max")
    with pytest.raises(ValueError, match="conv=sage with aggregation=max does not"):
        refuse(values | {"drop": {"message": 0.3}}, chosen)


def test_everything_else_is_accepted():
    for conv in CONVS:
        for norm in options("norm"):
            for residual in options("residual"):
                refuse(*config("gcn", residual, norm, conv))
