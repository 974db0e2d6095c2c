"""Nodes in the plane of their principal components."""

import numpy as np
import pytest
import torch

from deepgnn_cli.measure.projection import projection
from tests.conftest import N


def test_points_and_share_are_those_of_the_singular_value_decomposition():
    state = torch.randn(N, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 0.5, 2.0, 0.1]) + 7
    nodes = torch.tensor([4, 0, 2])
    found = projection(state, nodes)
    u, s, _ = np.linalg.svd(state.numpy() - state.numpy().mean(axis=0), full_matrices=False)
    want = (u * s)[:, :2][nodes.numpy()]
    np.testing.assert_allclose(np.abs(found.points.numpy()), np.abs(want), rtol=1e-8)
    assert found.share == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
    turned = projection(state.float() * 1e-25, nodes)
    np.testing.assert_allclose(turned.points.numpy(), found.points.numpy() * 1e-25, rtol=1e-4)


@pytest.mark.parametrize(("value", "point"), [(3.0, 0.0), (torch.inf, torch.nan)])
def test_nodes_that_are_alike_or_not_finite_have_no_plane(value, point):
    found = projection(torch.full((N, 3), value), torch.arange(2))
    np.testing.assert_array_equal(found.points.numpy(), np.full((2, 2), point))
    assert found.share is None


def test_one_channel_is_a_line():
    found = projection(torch.arange(4.0)[:, None], torch.arange(4))
    np.testing.assert_allclose(found.points.numpy(), [[-1.5, 0], [-0.5, 0], [0.5, 0], [1.5, 0]])
    assert found.share == 1
