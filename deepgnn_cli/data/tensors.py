"""Fields of a graph as tensors of what they must hold, or a line that says which is wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def rule(holds: bool, line: str) -> None:
    """Refuse the graph with `line` unless the rule holds."""
    if not holds:
        raise ValueError(f"the graph is wrong: {line}")


def tensor(value: object, field: str) -> Tensor:
    """A tensor, dense and on the CPU, of what a user's field holds.

    Raises:
        ValueError: it is nothing of numbers.
    """
    if isinstance(value, Tensor):
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        dense = dense.resolve_conj().cpu()
    else:
        try:
            dense = torch.from_numpy(np.array(value.todense() if hasattr(value, "todense") else value))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"the graph is wrong: {field} is a {type(value).__name__}; give a torch tensor of numbers"
            ) from None
    rule(not dense.is_complex() and not dense.is_quantized, f"{field} is of {dense.dtype}; give real numbers")
    return dense


def floats(value: object, field: str) -> Tensor:
    """Finite numbers in single precision."""
    floats = tensor(value, field).float()
    bad = ~floats.isfinite()
    if bad.any():
        at = bad.nonzero()[0].tolist()
        raise ValueError(
            f"the graph is wrong: {field} holds {floats[tuple(at)].item()} at {at} ({int(bad.sum())} such values); "
            "replace what is missing or too large, e.g. by torch.nan_to_num"
        )
    return floats


def integers(value: Tensor, field: str) -> Tensor:
    """Whole numbers."""
    if value.numel() == 0:
        return value.long()
    if value.is_floating_point():
        whole = value.isfinite() & (value == value.round()) & (value.abs() < 2**53)
        rule(bool(whole.all()), f"{field} holds numbers that are not whole, such as {value[~whole][:1].tolist()}")
    return value.long()
