"""The sparse product in single precision, by whichever kernel: the plain formula in double precision."""

import pytest
import torch

from deepgnn_cli.nn.aggregation.edges import offsets
from deepgnn_cli.nn.aggregation.products import csr, product


def matrix(rows, columns, entries, index=torch.int32):
    row = torch.randint(0, rows, (entries,)).sort().values.to(index)
    column, values = torch.randint(0, columns, (entries,)).to(index), torch.randn(entries, dtype=torch.float32)
    return csr(offsets(row, rows), column, values, (rows, columns))


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("width", [0, 1, 4, 8, 33, 128])
@pytest.mark.parametrize("shape", [(30, 20, 100), (30, 20, 0), (1, 1, 0), (1, 1, 3), (3, 500, 10_000)])
def test_each_row_is_the_sum_of_its_entries(shape, width, index):
    m, x = matrix(*shape, index), torch.randn(shape[1], width, dtype=torch.float32)
    plain = m.to_dense().double()
    found = product(m, x)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), plain @ x.double(), rtol=1e-4, atol=1e-4)
    base = torch.randn(shape[0], width, dtype=torch.float32)
    before = base.clone()
    mixed = product(m, x, base, scale=0.9, base_scale=0.1)
    expected = 0.9 * plain @ x.double() + 0.1 * base.double()
    assert torch.allclose(mixed.double(), expected, rtol=1e-4, atol=1e-4) and torch.equal(base, before)
    out = torch.full_like(base, torch.nan)
    assert product(m, x, scale=0.9, out=out) is out
    assert torch.allclose(out.double(), 0.9 * plain @ x.double(), rtol=1e-4, atol=1e-4)
    assert torch.equal(product(m, x, base, scale=0.9, base_scale=0.1, out=out), mixed) and torch.equal(base, before)


@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x[:, 3:19], lambda x: x[:16].t()])
def test_features_may_be_a_view_and_want_a_gradient(view):
    x = view(torch.randn(40, 32, dtype=torch.float32)).requires_grad_()
    m = matrix(25, x.size(0), 200)
    found = product(m, x)
    assert not found.requires_grad
    assert torch.allclose(found.double(), m.to_dense().double() @ x.double(), rtol=1e-4, atol=1e-4)


def test_any_number_of_threads_gives_the_same_bits():
    m, x = matrix(2000, 2000, 50_000), torch.randn(2000, 64, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            summed = product(m, x, x, scale=0.9, base_scale=0.1)
            found.append(torch.stack([summed, product(m, x), product(m, x, out=torch.empty_like(x))]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_what_is_not_finite_reaches_its_neighbours_alone():
    x = torch.ones(3, 8, dtype=torch.float32)
    x[1] = torch.nan
    eye = csr(torch.arange(4), torch.arange(3), torch.ones(3, dtype=torch.float32), (3, 3))
    assert product(eye, x).isnan().any(1).tolist() == [False, True, False]
