"""The models that propagate apart from transforming, against dense algebra."""

import pytest
import torch
from torch.nn import functional

from deepgnn_cli.nn.decoupled import appnp, dagnn, gprgnn, sgc
from deepgnn_cli.nn.dropout import keep_mask
from deepgnn_cli.nn.grand import disagreement, grand
from deepgnn_cli.nn.model import Drop, Shape
from deepgnn_cli.nn.sparse_features import features
from deepgnn_cli.nn.stack import result
from tests.conftest import N
from tests.nn.builders import knobs

K = 3  # classes
STEPS = 4
PLAIN = Drop(0.0, 0.0)
MAKERS = {"sgc": sgc, "appnp": appnp, "dagnn": dagnn, "gprgnn": gprgnn, "grand": grand}


def made(name, drop=PLAIN, features_in=8, **changes):
    values = {k: v for k, v in knobs("model", name)["model"].items() if not k.startswith("_")} | changes
    return MAKERS[name](Shape(features_in, K), layers=STEPS, hidden=5, drop=drop, norm=None, residual=None, **values)


def mlp(model, x):
    first, second = model.mlp.first, model.mlp.second
    return (x @ first.weight.t() + first.bias).relu() @ second.weight.t() + second.bias


def powers(normalised, z):
    return [torch.linalg.matrix_power(normalised, k) @ z for k in range(STEPS + 1)]


def test_sgc(graph, normalised, x):
    model = made("sgc")
    torch.nn.init.normal_(model.bias)
    want = torch.linalg.matrix_power(normalised, STEPS) @ x @ model.linear.weight.t() + model.bias
    assert torch.allclose(model(x, graph), want)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_appnp(graph, normalised, x, alpha):
    """Z^(K) = (1-α)^K Â^K Z0 + α Σ_{k<K} (1-α)^k Â^k Z0"""
    model = made("appnp", alpha=alpha)
    hops = powers(normalised, mlp(model, x))
    want = (1 - alpha) ** STEPS * hops[-1] + alpha * sum((1 - alpha) ** k * hops[k] for k in range(STEPS))
    assert torch.allclose(model(x, graph), want)


def test_dagnn(graph, normalised, x):
    model = made("dagnn")
    hops = torch.stack(powers(normalised, mlp(model, x)), 1)  # [N, K+1, classes]
    gate = (hops @ model.gate.weight.t() + model.gate.bias).sigmoid()
    assert torch.allclose(model(x, graph), (gate * hops).sum(1))


def test_gprgnn_starts_as_appnp_and_learns_its_weights(graph, normalised, x):
    model = made("gprgnn", alpha=0.2, propagated_dropout=0.0)
    twin = made("appnp", alpha=0.2)
    twin.mlp = model.mlp
    assert torch.allclose(model(x, graph), twin(x, graph))
    torch.nn.init.normal_(model.weights)
    hops = powers(normalised, mlp(model, x))
    assert torch.allclose(model(x, graph), sum(w * h for w, h in zip(model.weights, hops, strict=True)))
    model(x, graph).square().sum().backward()
    assert (model.weights.grad != 0).all()


def mixed(normalised, x):
    return sum(powers(normalised, x)) / (STEPS + 1)


def test_grand_in_evaluation(graph, normalised, x):
    model = made("grand").eval()
    assert torch.allclose(model(x, graph), mlp(model, mixed(normalised, x)))


def test_grand_propagates_what_drop_node_leaves(graph, normalised, x):
    model = made("grand", drop_node=0.5)
    torch.manual_seed(4)
    mask, keep = keep_mask((N, 1), 0.5, x.device)
    torch.manual_seed(4)
    assert torch.allclose(model(x, graph), mlp(model, mixed(normalised, x * mask / keep)))
    assert 0 < mask.sum() < N


def test_grand_loss(graph, x):
    """mean over views of the cross entropy, plus λ times the mean over views and nodes of |p - sharpened mean|²"""
    model = made("grand", drop=Drop(0.3, 0.3), views=3, temperature=0.4, consistency=0.7)
    mask, y = torch.arange(N) % 4 == 0, torch.arange(3)
    torch.manual_seed(6)
    loss = model.loss(x, graph, y, mask, functional.cross_entropy)
    torch.manual_seed(6)
    logits = [model(x, graph).float() for _ in range(3)]
    p = [view.exp() / view.exp().sum(1, keepdim=True) for view in logits]
    sharp = (sum(p) / 3) ** (1 / 0.4)
    sharp = sharp / sharp.sum(1, keepdim=True)
    apart = sum(((view - sharp) ** 2).sum(1).mean() for view in p) / 3
    supervised = sum(-view[mask].log()[torch.arange(3), y].mean() for view in p) / 3
    assert torch.allclose(loss, supervised + 0.7 * apart, rtol=1e-5)


def test_grand_pulls_the_views_to_the_target_and_not_the_target_to_the_views():
    views = [torch.randn(N, K, requires_grad=True) for _ in range(2)]
    target = (sum(view.detach().softmax(1) for view in views) / 2) ** 2
    target = target / target.sum(1, keepdim=True)
    want = sum(((view.softmax(1) - target) ** 2).sum(1).mean() for view in views) / 2
    loss = disagreement(views, 0.5)
    assert torch.allclose(loss, want)
    gradients = (torch.autograd.grad(of, views) for of in (loss, want))
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_gets_a_finite_gradient_and_the_drops_apply(name, graph, x):
    model = made(name, drop=Drop(0.5, 0.5, 0.3, 0.2))
    y = torch.arange(N) % K
    if hasattr(model, "loss"):
        model.loss(x, graph, y, torch.ones(N, dtype=torch.bool), functional.cross_entropy).backward()
    else:
        functional.cross_entropy(model(x, graph), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert not torch.equal(model(x, graph), model(x, graph))
    model.eval()
    assert torch.equal(model(x, graph), model(x, graph))


@pytest.mark.parametrize("name", MAKERS)
def test_sparse_features_give_the_same(name, graph):
    bag = ((torch.rand(N, 60) < 0.05) * torch.rand(N, 60)).float()
    model = made(name, features_in=60).float().eval()
    assert torch.allclose(model(features(bag), graph), model(bag, graph), atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_there_is_a_state_for_every_step(name, graph, x):
    model = made(name).eval()
    assert torch.allclose(model(x, graph), result(model.states(x, graph)))
    assert len(list(model.states(x, graph))) == len(model.layer_parameters()) == STEPS + 1
