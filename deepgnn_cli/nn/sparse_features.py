"""The input layer: multiply bag-of-words features as the sparse matrix they are.

N nodes, F input features, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import csr
from deepgnn_cli.nn.aggregation.products import product, without_autocast
from deepgnn_cli.nn.autograd import Context
from deepgnn_cli.nn.dropout import dropout

_SPARSE_BELOW = 0.1  # the density under which CSR x dense beats dense x dense on a CPU


class SparseFeatures:
    """Node features [N, F] in CSR, with what the transposed product of the backward pass needs.

    Transposing permutes the values: the pattern of the transpose is computed once, and `order` says which value
    goes where, so that features with some values dropped are transposed by one gather.
    """

    def __init__(self, matrix: Tensor, pattern: Tensor, order: Tensor) -> None:
        self.matrix, self.pattern, self.order = matrix, pattern, order

    @staticmethod
    def of(x: Tensor) -> SparseFeatures:
        """From dense features."""
        row, column = x.nonzero(as_tuple=True)
        matrix = csr(row, column, x[row, column], (x.size(0), x.size(1)))
        # Float64 holds positions exactly up to 2^53; CSR sorting carries them along.
        position = torch.arange(row.numel(), dtype=torch.float64, device=x.device)
        pattern = csr(column, row, position, (x.size(1), x.size(0)))
        return SparseFeatures(matrix, pattern, pattern.values().long())

    def moved(self, move: Callable[[Tensor], Tensor]) -> SparseFeatures:
        """The same elsewhere; `move` takes a tensor there."""
        return SparseFeatures(_moved(self.matrix, move), _moved(self.pattern, move), move(self.order))

    def size(self, dim: int) -> int:
        """N or F."""
        return self.matrix.size(dim)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """The values' type."""
        return self.matrix.dtype

    def dropout(self, rate: float, training: bool) -> SparseFeatures:
        """Dropout of the features; those that are zero stay zero, so only the values are drawn."""
        if not training or rate == 0:
            return self
        values = dropout(self.matrix.values(), rate, True)
        return SparseFeatures(_like(self.matrix, values), self.pattern, self.order)

    def transposed(self) -> Tensor:
        """[F, N], CSR."""
        return _like(self.pattern, self.matrix.values()[self.order])

    def dense(self) -> Tensor:
        """[N, F], dense."""
        return self.matrix.to_dense()


class Listening(SparseFeatures):
    """Features, dense or sparse, that are asked how strongly an output depends on each node's.

    The gradient itself, as large as dense features and nearly all zeros after few layers, is never made: each part
    of the model that reads the features tells the row sums of its absolute values. Read once, and in evaluation.
    """

    def __init__(self, x: Tensor | SparseFeatures) -> None:
        # Without the pattern of the transpose: no weight wants a gradient.
        self.matrix = x.matrix if isinstance(x, SparseFeatures) else x
        self.handle = torch.zeros((), device=x.device, requires_grad=True)
        self._told: Tensor | None = None
        self._read = False

    def dropout(self, rate: float, training: bool) -> Listening:
        """The same features."""
        assert not training or not rate, "features listen in evaluation"
        return self

    def dense(self) -> Tensor:
        """[N, F], dense."""
        return self.listen(self.matrix.to_dense(), None)

    def times(self, weight: Tensor) -> Tensor:
        """`X Wᵀ`, [N, C]."""
        dense = self.matrix.layout == torch.strided
        return self.listen(self.matrix @ weight.t() if dense else product(self.matrix, weight.t()), weight)

    def norms(self, output: Tensor) -> Tensor:
        """Σ_f |∂ output / ∂ x_uf|, [N] float64, of a number that a model made of these features."""
        self._told = None
        if output.requires_grad:  # it depends on them
            torch.autograd.grad(output, self.handle, retain_graph=True, allow_unused=True)
        nothing = torch.zeros(self.size(0), dtype=torch.float64, device=self.device)
        return nothing if self._told is None else self._told

    def listen(self, made: Tensor, weight: Tensor | None) -> Tensor:
        """`made`, whose gradient will be heard: [N, F], or [N, C] if it is `X Wᵀ`."""
        assert not self._read, "the norm of a sum is not the sum of norms"
        self._read = True
        heard: Tensor = _Heard.apply(self.handle, made, self, weight)
        return heard

    def tell(self, gradient: Tensor, weight: Tensor | None) -> None:
        """Note the row sums of `|gradient W|`."""
        rows = gradient.count_nonzero(dim=1).nonzero()[:, 0]
        at = gradient[rows] if weight is None else gradient[rows] @ weight
        self._told = torch.zeros(gradient.size(0), dtype=torch.float64, device=gradient.device)
        self._told[rows] = torch.linalg.vector_norm(at, 1, dim=1, dtype=torch.float64)


class _HeardContext(Context):
    features: Listening
    weight: Tensor | None


class _Heard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _HeardContext, handle: Tensor, made: Tensor, features: Listening, weight: Tensor | None) -> Tensor:
        ctx.features, ctx.weight = features, weight
        return made.view_as(made)

    @staticmethod
    def backward(ctx: _HeardContext, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.features.tell(gradients[0], ctx.weight)
        return gradients[0].new_zeros(()), None, None, None


def _like(pattern: Tensor, values: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        pattern.crow_indices(), pattern.col_indices(), values, pattern.shape, check_invariants=False
    )


def _moved(matrix: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    crow, column, values = (move(part) for part in (matrix.crow_indices(), matrix.col_indices(), matrix.values()))
    return torch.sparse_csr_tensor(crow, column, values, matrix.shape, check_invariants=False)


def features(x: Tensor) -> Tensor | SparseFeatures:
    """`x` as the cheaper of the two forms to multiply by."""
    if x.dtype == torch.float32 and x.count_nonzero() < _SPARSE_BELOW * x.numel():
        return SparseFeatures.of(x)
    return x


_DENSE_UP_TO = 64  # columns: below, a dense product takes no longer than building the sparse matrix


def one_hot(numbers: Tensor, sizes: Sequence[int], *, dense: bool = False) -> Tensor | SparseFeatures:
    """Categories as columns of zeros and ones, [N, Σ sizes]; what a linear layer makes of them is a sum of embeddings.

    Args:
        numbers: the category of each node by each of S properties, [N, S], from 0.
        sizes: how many categories each property has.
        dense: whether the result must be a tensor.
    """
    n, width = numbers.size(0), sum(sizes)
    starts = torch.tensor([0, *sizes[:-1]], device=numbers.device).cumsum(0)
    columns = numbers.long() + starts  # [N, S], rising along a row
    if dense or width <= _DENSE_UP_TO:
        return torch.zeros(n, width, device=numbers.device).scatter_(1, columns, 1.0)
    rows = torch.arange(n, device=numbers.device).repeat_interleave(len(sizes))
    flat = columns.flatten()
    matrix = csr(rows, flat, torch.ones(flat.numel(), device=numbers.device), (n, width))
    position = torch.arange(flat.numel(), dtype=torch.float64, device=numbers.device)
    pattern = csr(flat, rows, position, (width, n))
    return SparseFeatures(matrix, pattern, pattern.values().long())


def drop_features(x: Tensor | SparseFeatures, rate: float, training: bool) -> Tensor | SparseFeatures:
    """Dropout on the input, whatever its form."""
    if isinstance(x, SparseFeatures):
        return x.dropout(rate, training)
    return dropout(x, rate, training)


class _LinearContext(Context):
    x: SparseFeatures


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _LinearContext, weight: Tensor, x: SparseFeatures) -> Tensor:
        ctx.x = x
        return product(x.matrix, weight.t())

    @staticmethod
    def backward(ctx: _LinearContext, *gradients: Tensor) -> tuple[Tensor, None]:
        return product(ctx.x.transposed(), gradients[0]).t(), None


class Linear(nn.Linear):
    """`torch.nn.Linear` that also takes `SparseFeatures`; the features themselves get no gradient."""

    def forward(self, x: Tensor | SparseFeatures) -> Tensor:
        """x: [N, F]; result: [N, C]."""
        if not isinstance(x, SparseFeatures):
            return super().forward(x)
        with without_autocast(x.device):
            if isinstance(x, Listening):
                return x.times(self.weight) + (0 if self.bias is None else self.bias)
            product: Tensor = _SparseLinear.apply(self.weight, x)
        return product if self.bias is None else product + self.bias
