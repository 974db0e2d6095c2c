"""The product of a sparse matrix and a dense one, by the kernel that is fastest; its gradient is the callers'.

N nodes, C channels.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation import repeatable

_BAG_WIDTH = 8  # channels from which a bag of embeddings is the faster product
_NOTHING = nullcontext()


def floating(dtype: torch.dtype) -> torch.dtype:
    """The precision of sparse products: single or double; autocast lowers the dense ones around them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(x: Tensor) -> Tensor:
    """`x` in a type that sparse products compute in: as it is in single or double precision, otherwise single."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which products keep their inputs' type. Entering one costs as much as a small kernel."""
    lowered = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if lowered else _NOTHING


def csr(crow: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix over index arrays already at hand; nothing is copied."""
    with warnings.catch_warnings():  # torch calls its CSR support beta, once a process
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)
        return torch.sparse_csr_tensor(crow, column, values, shape, check_invariants=False)


def product(
    matrix: Tensor,
    x: Tensor,
    base: Tensor | None = None,
    *,
    scale: float = 1.0,
    base_scale: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """`scale * matrix @ x + base_scale * base`, written to `out` if there is one; not seen by autograd.

    Into fresh memory and without a base, in single precision on a CPU, as a bag of embeddings, whose kernel fetches
    rows ahead: up to four times as fast as the product of torch's CSR matrices, and the same numbers on any number of
    threads. That product is as fast or faster where the memory of the result is at hand, or a base is to be added.
    """
    if base is None and out is None and x.device.type == "cpu" and x.dtype == torch.float32 and x.size(1) >= _BAG_WIDTH:
        values = matrix.values() if scale == 1 else matrix.values() * scale
        indices = matrix.col_indices(), matrix.crow_indices()
        bags: Tensor = torch.embedding_bag(x.detach().contiguous(), *indices, False, 0, False, values.detach(), True)[0]
        return bags
    if repeatable.asked_for(x.device):
        sums = repeatable.row_sums(matrix, x).mul_(scale)
        sums = sums if base is None else sums.add_(base, alpha=base_scale)
        return sums if out is None else out.copy_(sums)
    if base is not None:
        return torch.addmm(base, matrix, x, beta=base_scale, alpha=scale, out=out)
    # Written in place: `matrix @ x` would fill, copy and scale the result in steps of their own. With beta 0 torch
    # promises to ignore what is there, NaN included.
    out = x.new_empty(matrix.size(0), x.size(1)) if out is None else out
    return torch.addmm(out, matrix, x, beta=0, alpha=scale, out=out)


def maximum(matrix: Tensor, x: Tensor) -> Tensor:
    """The maximum over each row's entries of x, [N, C], on a CPU; the matrix holds ones. An empty row gives 0."""
    with without_autocast(x.device):
        top: Tensor = torch.sparse.mm(matrix, x, "amax")
        return top
