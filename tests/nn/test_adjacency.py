"""The sparse operators against dense algebra."""

import pytest
import torch

from deepgnn_cli.nn import adjacency
from deepgnn_cli.nn.adjacency import Adjacency

DIRECTED = torch.tensor([[0, 1, 2, 2, 3, 4, 4], [1, 2, 0, 3, 3, 0, 2]])  # 3 -> 3 is a self-loop; nothing reaches 4


def dense(edge_index, n):
    a = torch.zeros(n, n)
    a[edge_index[1], edge_index[0]] = 1
    return a


def inverse(v, power):
    return torch.where(v > 0, v**-power, torch.zeros_like(v))


def expected(name, a):
    if name == "sym":
        a = a.clone().fill_diagonal_(1)
    degree = a.sum(1)
    if name == "mean":
        return inverse(degree, 1)[:, None] * a
    if name == "sum":
        return a
    return inverse(degree, 0.5)[:, None] * a * inverse(degree, 0.5)


NAMES = ["sym", "sym_loopless", "mean", "sum"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("edges", [DIRECTED, torch.empty(2, 0, dtype=torch.long)])
def test_an_operator_is_its_dense_matrix_in_both_passes(name, edges):
    matrix = expected(name, dense(edges, 5))
    x, base = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    operator = Adjacency(edges, 5).operator(name, torch.float64)
    assert torch.allclose(operator(x), matrix @ x)
    out = operator(x, base, 0.9, 0.1)
    assert torch.allclose(out, 0.9 * matrix @ x + 0.1 * base)
    weight = torch.randn(5, 3)
    to_x, to_base = torch.autograd.grad((out * weight).sum(), (x, base))
    assert torch.allclose(to_x, 0.9 * matrix.t() @ weight)
    assert torch.allclose(to_base, 0.1 * weight)


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_can_be_differentiated_twice(name, graph, x):
    operator = graph.operator(name, torch.float64)
    assert torch.autograd.gradgradcheck(operator, x[:, :2].clone().requires_grad_())


def test_an_operator_is_built_once_and_shared_by_twins(graph):
    operator = graph.operator("sym", torch.float64)
    assert graph.with_edge_attr(torch.ones(26, 1)).operator("sym", torch.float64) is operator
    assert graph.operator("sym", torch.float32) is not operator


def test_a_symmetric_matrix_is_held_once(graph):
    operator = graph.operator("sym", torch.float64)
    assert operator.matrix is operator.transpose
    directed = Adjacency(DIRECTED, 5).operator("sym", torch.float64)
    assert directed.matrix is not directed.transpose


def test_fewer_edges_are_normalised_anew(graph, x):
    keep = torch.arange(26) % 3 > 0
    left = graph.with_edges(keep)
    matrix = expected("sym", dense(graph.edge_index[:, keep], 12))
    assert torch.allclose(left.operator("sym", torch.float64)(x), matrix @ x)


def test_repeated_edges_add_up(x):
    twice = torch.tensor([[0, 0, 1], [1, 1, 0]])
    out = Adjacency(twice, 12).operator("sum", torch.float64)(x)
    assert torch.allclose(out[1], 2 * x[0])


def test_of_a_fleeting_graph_no_symmetry_is_looked_for_and_the_products_are_the_same(graph, x):
    fleeting = Adjacency(graph.edge_index, 12, fleeting=True).operator("sym", torch.float64)
    assert fleeting.matrix is not fleeting.transpose
    assert torch.equal(fleeting(x), graph.operator("sym", torch.float64)(x))
    assert torch.equal(fleeting.transposed()(x), graph.operator("sym", torch.float64)(x))


LOOPS_AND_TWINS = torch.tensor([[0, 1, 1, 2, 2, 3, 4, 4, 3], [1, 2, 2, 0, 3, 3, 0, 2, 3]])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_matrices_of_a_gpu_are_those_of_a_cpu(name, weighted, monkeypatch):
    """A GPU does not add up parallel edges, nor take self-loops out: nothing is counted there, nothing waited for."""
    weight, x = torch.rand(9) if weighted else None, torch.randn(5, 3)
    expected = Adjacency(LOOPS_AND_TWINS, 5, edge_weight=weight).operator(name, torch.float64)

    def unsummed(row, column, value, shape):
        return adjacency._unsummed(row, column, value, shape, torch.int32)

    monkeypatch.setattr(adjacency, "csr", unsummed)
    found = Adjacency(LOOPS_AND_TWINS, 5, edge_weight=weight).operator(name, torch.float64)
    assert found.matrix.values().numel() > expected.matrix.values().numel()
    torch.testing.assert_close(found.matrix.to_dense(), expected.matrix.to_dense())
    torch.testing.assert_close(found(x), expected(x))
    torch.testing.assert_close(found.transposed()(x), expected.transposed()(x))


def test_edges_of_the_wrong_shape_and_unknown_normalisations_are_named():
    with pytest.raises(ValueError, match=r"edge_index has shape \(3, 2\); it must be \[2, E\]"):
        Adjacency(torch.zeros(3, 2, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="normalisation='row' is not one of"):
        Adjacency(DIRECTED, 5).operator("row")


def test_sparse_products_keep_single_precision_under_autocast(graph, x):
    with torch.autocast("cpu", torch.bfloat16):
        out = graph.operator("sym")(x.bfloat16(), x.float())
    assert out.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("edges", [DIRECTED, torch.empty(2, 0, dtype=torch.long)])
@pytest.mark.parametrize("name", NAMES)
def test_what_lay_where_a_product_is_written_does_not_matter(name, edges, dtype, monkeypatch):
    """Rows that nothing reaches included: they are zero, not what memory held."""
    operator, x = Adjacency(edges, 5).operator(name, dtype), torch.randn(5, 3, dtype=dtype)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *size: self.new_full(size, torch.nan))
    assert torch.allclose(operator(x).double(), expected(name, dense(edges, 5)) @ x.double(), atol=1e-6)
