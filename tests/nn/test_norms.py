"""Each norm against its formula, for one graph and for a batch of graphs."""

import pytest
import torch
from torch import nn

from tests.nn.builders import builder, options

EPS = 1e-5
BATCH = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
NAMES = [name for name in options("norm") if name != "none"]


def made(name, channels=8, **knobs):
    """With random scales and shifts, so that a norm that forgets them is found out."""
    norm = builder("norm", name, **knobs)(channels)
    for parameter in norm.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    return norm


def per_graph(x, batch, formula):
    if batch is None:
        return formula(x)
    return torch.cat([formula(x[batch == b]) for b in range(int(batch.max()) + 1)])


def std(x, dim, keepdim=True):
    return (x.var(dim, correction=0, keepdim=keepdim) + EPS).sqrt()


both = pytest.mark.parametrize("batch", [None, BATCH], ids=["one graph", "batch"])


def test_none_is_no_module():
    assert builder("norm", "none")(8) is None


@both
def test_batch(x, batch):
    norm = made("batch")
    scale, shift = norm.weight, norm.bias
    assert torch.allclose(norm(x, batch), (x - x.mean(0)) / std(x, 0) * scale + shift)


@both
def test_layer_normalises_each_node_by_itself(x, batch):
    norm = made("layer")
    want = (x - x.mean(1, keepdim=True)) / std(x, 1) * norm.weight + norm.bias
    assert torch.allclose(norm(x, batch), want)
    assert torch.allclose(norm(x[:1]), want[:1])


@both
def test_instance(x, batch):
    norm = made("instance")
    want = per_graph(x, batch, lambda h: (h - h.mean(0)) / std(h, 0)) * norm.weight + norm.bias
    assert torch.allclose(norm(x, batch), want)
    assert not list(builder("norm", "instance", affine=False)(8).parameters())


@both
def test_graph(x, batch):
    norm = made("graph")

    def formula(h):
        out = h - norm.mean_scale * h.mean(0)
        return norm.weight * out / (out.square().mean(0) + EPS).sqrt() + norm.bias

    assert torch.allclose(norm(x, batch), per_graph(x, batch, formula))


@both
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_pair_keeps_the_total_pairwise_distance(x, batch, scale):
    norm = made("pair", scale=scale, individually=False)
    out = norm(x, batch)
    for h in [out] if batch is None else [out[batch == b] for b in range(3)]:
        assert torch.allclose(h.mean(0), torch.zeros(8), atol=1e-12)
        # mean over i, j of |h_i - h_j|² = 2 s²
        assert torch.cdist(h, h).square().mean() == pytest.approx(2 * scale**2, rel=1e-4)
    centred = per_graph(x, batch, lambda h: h - h.mean(0))
    want = per_graph(centred, batch, lambda h: scale * h / (EPS + h.square().sum(1).mean()).sqrt())
    assert torch.allclose(out, want)


@both
def test_pair_individually_puts_every_node_at_the_same_length(x, batch):
    out = made("pair", scale=3.0, individually=True)(x, batch)
    centred = per_graph(x, batch, lambda h: h - h.mean(0))
    assert torch.allclose(out, 3 * centred / (EPS + centred.norm(dim=1, keepdim=True)))


def test_group(x):
    norm = made("group", groups=3, lamda=0.5)
    inner = norm.operator
    soft = (x @ inner.lin.weight.t()).softmax(1)  # [N, G]
    total = x.clone()
    for g in range(3):
        h = soft[:, g, None] * x
        span = slice(8 * g, 8 * g + 8)
        total += 0.5 * ((h - h.mean(0)) / std(h, 0) * inner.norm.weight[span] + inner.norm.bias[span])
    assert torch.allclose(norm(x), total)


@both
def test_mean_subtraction(x, batch):
    assert torch.allclose(made("mean_subtraction")(x, batch), per_graph(x, batch, lambda h: h - h.mean(0)))


@both
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_node_divides_by_a_root_of_the_nodes_own_spread(x, batch, power):
    out = made("node", power=power)(x, batch)
    want = torch.stack([row / ((row - row.mean()).square().mean() + EPS).sqrt() ** (1 / power) for row in x])
    assert torch.allclose(out, want)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_representation_stays_finite_in_both_passes(name):
    """Where over-smoothing ends, norms divide by zero spread."""
    x = torch.ones(12, 8, requires_grad=True)
    for batch in (None, BATCH):
        out = made(name)(x, batch)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        assert out.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_in_single_precision_out(name):
    norm = made(name).float()
    assert norm(torch.randn(12, 8, dtype=torch.float32), BATCH).dtype == torch.float32


@both
@pytest.mark.parametrize(("scale", "temperature"), [(0.5, 1.0), (1.0, 0.2)])
def test_contra_takes_away_what_similar_nodes_of_the_graph_share(x, batch, scale, temperature):
    norm = made("contra", scale=scale, temperature=temperature)

    def formula(h):
        unit = h / h.norm(dim=1, keepdim=True)
        near = (unit @ unit.t() / temperature).exp()
        return h - scale * (near / near.sum(1, keepdim=True)) @ h

    apart = per_graph(x, batch, formula)
    want = (apart - apart.mean(1, keepdim=True)) / std(apart, 1) * norm.layer.weight + norm.layer.bias
    assert torch.allclose(norm(x, batch), want)


def test_contra_refuses_a_graph_whose_pairs_do_not_fit():
    with pytest.raises(ValueError, match="norm=contra compares all pairs of 20001 nodes; use batch=parts"):
        builder("norm", "contra")(1)(torch.zeros(20_001, 1))
