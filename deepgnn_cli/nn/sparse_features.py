"""The input layer: multiply bag-of-words features as the sparse matrix they are.

N nodes, F input features, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deepgnn_cli.nn.adjacency import csr
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


def _like(pattern: Tensor, values: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        pattern.crow_indices(), pattern.col_indices(), values, pattern.shape, check_invariants=False
    )


def features(x: Tensor) -> Tensor | SparseFeatures:
    """`x` as the cheaper of the two forms to multiply by."""
    if x.dtype == torch.float32 and x.count_nonzero() < _SPARSE_BELOW * x.numel():
        return SparseFeatures.of(x)
    return x


def drop_features(x: Tensor | SparseFeatures, rate: float, training: bool) -> Tensor | SparseFeatures:
    """Dropout on the input, whatever its form."""
    if isinstance(x, SparseFeatures):
        return x.dropout(rate, training)
    return dropout(x, rate, training)


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: SparseFeatures) -> Tensor:
        ctx.x = x
        return x.matrix @ weight.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return (ctx.x.transposed() @ gradients[0]).t(), None


class Linear(nn.Linear):
    """`torch.nn.Linear` that also takes `SparseFeatures`; the features themselves get no gradient."""

    def forward(self, x: Tensor | SparseFeatures) -> Tensor:
        """x: [N, F]; result: [N, C]."""
        if not isinstance(x, SparseFeatures):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            product: Tensor = _SparseLinear.apply(self.weight, x)
        return product if self.bias is None else product + self.bias
