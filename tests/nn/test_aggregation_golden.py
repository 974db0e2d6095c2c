"""Ten training steps as PyG's own gather and scatter took them, recorded before the sparse products."""

import pytest
import torch
from torch.nn import functional

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from tests.conftest import N, undirected
from tests.nn.builders import builder

LABELS = torch.arange(N) % 3
LEARNED_T = {"learn_t": True, "stop_gradient": False, "t": 1.0}
LEARNED_P = {"aggregation": "power", "p": 2.0, "learn_p": True, "stop_gradient": False}
HEADS = {"attention_dropout": 0.0, "heads": 2}
LAYER = ("res_plus", "layer", "linear", "relu")
BATCH = ("res_plus", "batch", "linear", "relu")
REVERSIBLE = ("reversible", "layer", "linear", "relu")
CASES = {
    "deepergcn": ("gen", {}, *BATCH),
    "deepergcn, learned t": ("gen", LEARNED_T, *BATCH),
    "deepergcn, power": ("gen", LEARNED_P, *BATCH),
    "deepergcn, max": ("gen", {"aggregation": "max", "message_norm": True}, *BATCH),
    "gat": ("gat", HEADS, "none", None, "conv", "elu"),
    "gatv2": ("gatv2", HEADS, *LAYER),
    "transformer": ("transformer", HEADS, *LAYER),
    "sage, max": ("sage", {"aggregation": "max"}, *LAYER),
    "graph, max": ("graph", {"aggregation": "max"}, *LAYER),
    "revgat": ("gat", HEADS, *REVERSIBLE),
    "revgen": ("gen_max", {}, *REVERSIBLE),
}
# The first loss, the tenth, and the sum of the squares of all parameters after the tenth step.
RECORDED = {
    "deepergcn": (1.18765639, 0.83903959, 47.85940442),
    "deepergcn, learned t": (1.18957242, 0.79263956, 52.61917502),
    "deepergcn, power": (1.17952929, 0.85678749, 63.70867616),
    "deepergcn, max": (1.05839268, 0.68916453, 53.46296341),
    "gat": (1.12402035, 1.03108671, 49.65595560),
    "gatv2": (1.11794962, 0.91950775, 111.79701006),
    "transformer": (1.06068356, 0.65138118, 91.21653541),
    "sage, max": (1.11093565, 0.70031524, 59.94657688),
    "graph, max": (1.11093565, 0.70031524, 59.94657688),
    "revgat": (1.09584470, 0.81364982, 109.57562313),
    "revgen": (1.12067651, 0.71989749, 148.93809341),
}


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_are_those_of_before(case):
    conv, changes, residual, norm, ends, act = CASES[case]
    torch.manual_seed(0)
    x, adjacency = torch.randn(N, 6), Adjacency(undirected(), N)
    model = deep_gnn(
        Shape(6, 3), layers=4, hidden=8, norm=builder("norm", norm) if norm else None,
        residual=builder("residual", residual), drop=Drop(0.0, 0.0), conv=builder("conv", conv, **changes),
        encoder=ends, decoder=ends, encoder_act="none", act=act, identity_mapping=None,
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x, adjacency), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    weights = sum(p.detach().square().sum().item() for p in model.parameters())
    assert (losses[0], losses[-1], weights) == pytest.approx(RECORDED[case], rel=1e-6)
