"""Sparse features give what dense ones give, in both passes."""

import pytest
import torch

from deepgnn_cli.nn.sparse_features import Linear, SparseFeatures, drop_features, features


@pytest.fixture
def bag():
    """[12, 40] float32, a twentieth of it non-zero."""
    return torch.rand(12, 40, dtype=torch.float32) * (torch.rand(12, 40) < 0.05)


def test_only_sparse_single_precision_features_become_sparse(bag):
    assert isinstance(features(bag), SparseFeatures)
    assert features(bag + 1) is not None and isinstance(features(bag + 1), torch.Tensor)
    assert isinstance(features(bag.double()), torch.Tensor)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_gives_the_same_for_sparse_features(bag, bias):
    sparse = features(bag)
    layer = Linear(40, 5, bias=bias).float()
    out, same = layer(sparse), layer(bag)
    assert torch.allclose(out, same, atol=1e-6)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad((out * weight).sum(), layer.parameters())
    for got, want in zip(gradients, torch.autograd.grad((same * weight).sum(), layer.parameters()), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_the_transposed_matrix_follows_dropped_values(bag):
    torch.manual_seed(3)
    dropped = features(bag).dropout(0.5, True)
    assert torch.equal(dropped.transposed().to_dense(), dropped.dense().t())
    kept = dropped.dense() != 0
    assert torch.allclose(dropped.dense()[kept], 2 * bag[kept])
    assert kept.sum() < (bag != 0).sum()


def test_an_evaluation_and_a_rate_of_zero_drop_nothing(bag):
    sparse = features(bag)
    assert drop_features(sparse, 0.5, False) is sparse and drop_features(sparse, 0.0, True) is sparse
    assert drop_features(bag, 0.5, False) is bag


def test_features_without_any_value_work():
    layer = Linear(40, 5).float()
    nothing = SparseFeatures.of(torch.zeros(12, 40, dtype=torch.float32))
    out = layer(nothing)
    assert torch.equal(out, layer.bias.expand(12, 5))
    out.sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(5, 40))
