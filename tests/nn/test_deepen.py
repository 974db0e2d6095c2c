"""Any PyG conv becomes a deep GNN in a line."""

import pytest
import torch
from torch_geometric.nn import GATConv, GCNConv, GENConv, GINConv, SAGEConv

from deepgnn_cli.nn import deepen
from deepgnn_cli.nn.deepen import DEFAULTS
from tests.conftest import N, undirected
from tests.nn.builders import knobs, options

RESIDUALS, NORMS = options("residual"), options("norm")
EDGES = undirected()
CONVS = {
    "gat": lambda c: GATConv(c, c),
    "gcn": lambda c: GCNConv(c, c),
    "sage": lambda c: SAGEConv(c, c),
    "gin": lambda c: GINConv(torch.nn.Linear(c, c)),
}


@pytest.mark.parametrize("conv", CONVS)
def test_every_residual_and_norm_by_name(conv):
    h = torch.randn(N, 8)
    for residual in RESIDUALS:
        for norm in NORMS if conv == "gcn" else ("none", "layer"):
            body = deepen(CONVS[conv], channels=8, layers=3, residual=residual, norm=norm, dropout=0.1)
            out = body(h, EDGES)
            assert out.shape == (N, body.out_channels)
            out.square().sum().backward()
            assert all(p.grad.isfinite().all() for p in body.parameters()), (residual, norm)
            assert torch.equal(body.eval()(h, EDGES), body(h, EDGES))


def test_the_defaults_are_those_of_the_yaml_files():
    for group, names in (("residual", RESIDUALS), ("norm", NORMS)):
        for name in names:
            plain = {k: v for k, v in knobs(group, name).items() if not k.startswith("_")}
            assert DEFAULTS.get(name, {}) == plain, f"{group}={name}"


def test_none_is_the_conv_behind_activations():
    body = deepen(CONVS["gcn"], channels=8, layers=2)
    h = torch.randn(N, 8)
    first, second = (layer.conv.operator for layer in body.stack.layers)
    want = second(first(h.relu(), EDGES).relu(), EDGES).relu()
    assert torch.allclose(body(h, EDGES), want)


def test_reversible_gives_the_gradients_of_stored_activations():
    gradients = []
    for store in (False, True):
        torch.manual_seed(0)
        body = deepen(
            CONVS["gat"], channels=8, layers=20, residual="reversible", groups=2, norm="layer", dropout=0.1,
            store_activations=store,
        )  # fmt: skip
        h = torch.ones(N, 8, requires_grad=True)
        torch.manual_seed(1)
        body(h, EDGES).sum().backward()
        gradients.append([h.grad, *(p.grad for p in body.parameters())])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("residual", ["res_plus", "reversible"])
def test_edge_features_are_the_convs_third_argument_and_get_gradients(residual):
    body = deepen(lambda c: GENConv(c, c, edge_dim=5), channels=8, layers=2, residual=residual)
    attributes = torch.randn(EDGES.size(1), 5, requires_grad=True)
    body(torch.randn(N, 8), EDGES, attributes).sum().backward()
    assert attributes.grad.abs().sum() > 0


def test_a_batch_vector_reaches_the_norms():
    body = deepen(CONVS["gcn"], channels=8, layers=2, norm="pair").eval()
    h = torch.randn(N, 8)
    both = body(torch.cat([h, h]), torch.cat([EDGES, EDGES + N], 1), None, torch.arange(2 * N) // N)
    assert torch.allclose(both, body(h, EDGES).repeat(2, 1))


def test_identity_mapping_by_its_own_switch():
    body = deepen(CONVS["gcn"], channels=8, layers=2, identity_mapping=0.5)
    twin = deepen(CONVS["gcn"], channels=8, layers=2, identity_mapping=0.5)
    twin.load_state_dict(body.state_dict())
    h = torch.randn(N, 8)
    assert torch.equal(body(h, EDGES), twin(h, EDGES))
    assert hasattr(body.stack.layers[0].conv.operator.lin, "parametrizations")


def test_a_knob_reaches_the_residual_first_and_the_norm_otherwise():
    body = deepen(CONVS["gcn"], channels=8, layers=1, residual="reversible", groups=4, norm="group", lamda=0.5)
    assert len(body.stack.layers[0]) == 4
    assert body.norm.operator.groups == DEFAULTS["group"]["groups"] and body.norm.operator.lamda == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual": "resplus"}, "residual=resplus is unknown"),
        ({"residual": "build_stack"}, "residual=build_stack is unknown"),
        ({"norm": "batchnorm"}, "norm=batchnorm is unknown"),
        ({"norm": "Tensor"}, "norm=Tensor is unknown"),
        ({"alpha": 0.5}, "alpha: neither residual=none nor norm=none takes this"),
        ({"residual": "initial", "alpha": -0.1}, "alpha=-0.1: alpha must be a number of at least 0 and at most 1"),
        ({"residual": "reversible", "groups": 3}, "not divisible by residual.groups=3"),
        ({"residual": "jumping", "mode": "mean"}, "mode must be one of cat, max, lstm"),
        ({"layers": 0}, "layers=0: layers must be a whole number of at least 1"),
        ({"channels": 0}, "channels=0: channels must be a whole number of at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: dropout must be a number of at least 0 and below 1"),
        ({"act": "relu6"}, "act=relu6 is not one of"),
        ({"layers": 2.5}, "layers=2.5: layers must be a whole number"),
        ({"layers": True}, "layers=True: layers must be a whole number"),
        ({"channels": "8"}, "channels='8': channels must be a whole number"),
        ({"norm": None}, "norm=None: norm must be a word"),
        ({"act": ["relu"]}, "act=.* must be a word"),
        ({"identity_mapping": float("nan")}, "identity_mapping=nan: identity_mapping must be a number above 0"),
        ({"checkpoint_every": -1}, "checkpoint_every=-1: checkpoint_every must be a whole number of at least 0"),
        ({"residual": "reversible", "exact": "yes"}, "exact='yes': exact must be true or false"),
        (
            {"residual": "reversible", "depth_scaling": float("inf")},
            "depth_scaling=inf: depth_scaling must be a number",
        ),
        ({"norm": "group", "groups": 0}, "groups=0: groups must be a whole number of at least 1"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        deepen(CONVS["gcn"], **({"channels": 8, "layers": 2} | changes))
