"""Exact reversible layers evaluate their branches with operations that give the same bits twice on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deepgnn_cli.config.groups import options
from deepgnn_cli.nn.aggregation import repeatable
from tests.rehearsal.device import place, rehearsal
from tests.rehearsal.step import Case, prepared

ATOMIC = {
    "index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_", "index_reduce",
    "index_reduce_", "put_", "bincount", "histc", "cumsum", "_embedding_bag",
}  # fmt: skip
"""What adds up in any order on CUDA, by torch's documentation of `use_deterministic_algorithms`."""
PRODUCTS = {"mm", "addmm", "_sparse_mm"}
"""With a sparse matrix; a sampled product has one sum an entry."""


class Orders(TorchDispatchMode):
    """Notes what may come out otherwise when it is done again, while exact layers evaluate a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.evaluations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(repeatable._ASKED, "now", False):
            name = func._schema.name.removeprefix("aten::")
            sparse = any(isinstance(t, Tensor) and t.layout == torch.sparse_csr for t in tree_leaves((args, kwargs)))
            adds = name in ("index_put", "index_put_", "_index_put_impl_") and len(args) > 3 and args[3]
            self.evaluations += name == "segment_reduce"
            if name in ATOMIC or adds or (name in PRODUCTS and sparse):
                self.seen.append(f"{name} {place()}")
        return func(*args, **(kwargs or {}))


@contextmanager
def orders() -> Iterator[Orders]:
    with rehearsal(), Orders() as seen:
        yield seen


@pytest.mark.parametrize("conv", [name for name in options("conv") if name != "none"])
def test_branches_of_every_conv_repeat_their_bits(conv: str) -> None:
    trainer = prepared(Case(conv, f"model=revgcn conv={conv} residual.exact=true"))
    (inputs,) = trainer.loader.train(1)
    with orders() as seen:
        trainer.train_step(inputs)
    assert not seen.seen and seen.evaluations


def test_the_fast_product_would_be_noted() -> None:
    trainer = prepared(Case("gcn", "model=revgcn residual.exact=true"))
    (inputs,) = trainer.loader.train(1)
    with orders() as seen, mock.patch.object(repeatable, "asked_for", lambda device: False):
        trainer.train_step(inputs)
    assert any("addmm" in note for note in seen.seen)
