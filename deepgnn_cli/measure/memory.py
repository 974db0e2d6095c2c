"""Memory by phase of a training step, and what autograd keeps. All sizes are in MiB (2^20 bytes)."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.optim import Optimizer

from deepgnn_cli.measure.peak_memory import MIB, PeakMemory


class PhaseMemory:
    """The memory of one training step, phase by phase, and what its tensors take.

    `with memory.phase("forward"): …`, then `"backward"` and `"optimiser"`; `rows()` afterwards.

    Args:
        device: where the step runs.
        model: whose parameters and gradients are counted.
        optimizer: whose state is counted, if given.
    """

    def __init__(self, device: torch.device, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        self._device, self._model, self._optimizer = device, model, optimizer
        self._rows: list[dict[str, object]] = []
        self._saved = SavedTensors()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block; during `forward`, count what autograd keeps as well."""
        peak = PeakMemory(self._device, tidy=False)
        inner: AbstractContextManager[object] = self._saved if name == "forward" else _nothing()
        with inner, peak:
            yield
        self._rows.append(_row(name, peak.peak_mib, peak.reserved_mib, peak.kind))
        if name == "forward":
            self._rows.append(_row("activations", self._saved.mib, None, "tensors"))
        elif name == "backward":
            gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
            self._rows.append(_row("gradients", tensors_mib(gradients), None, "tensors"))

    @property
    def activation_mib(self) -> float:
        """What autograd kept for the backward pass."""
        return self._saved.mib

    def rows(self) -> list[dict[str, object]]:
        """One row a phase (`kind` cuda or rss), then what the tensors of each sort take (`kind` tensors)."""
        sizes = [_row("parameters", tensors_mib(self._model.parameters()), None, "tensors")]
        if self._optimizer is not None:
            state = (value for entry in self._optimizer.state.values() for value in entry.values())
            held = (value for value in state if isinstance(value, Tensor))
            sizes.append(_row("optimiser_state", tensors_mib(held), None, "tensors"))
        return sorted(self._rows, key=lambda row: row["kind"] == "tensors") + sizes


def _row(phase: str, peak_mib: float, reserved_mib: float | None, kind: str) -> dict[str, object]:
    return {"phase": phase, "peak_mib": peak_mib, "reserved_mib": reserved_mib, "kind": kind}


class SavedTensors:
    """What autograd keeps for the backward pass of what runs inside the `with` block: `mib` says how much.

    Counted by memory, not by tensor: two views of one array count once, and a small view counts as the whole array
    that it keeps alive. Memory that was in use before the block (parameters, features, the graph) does not count,
    nor does what a custom autograd function keeps otherwise than by `save_for_backward`. The backward pass must run
    after the block.
    """

    def __init__(self) -> None:
        self._before: set[int] = set()
        self._kept: dict[int, int] = {}
        self._hooks: Any = None

    def __enter__(self) -> SavedTensors:
        self._before = {address for tensor in _living_tensors() for address, _ in _memory(tensor)}
        self._kept = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    @property
    def mib(self) -> float:
        """The sum."""
        return sum(self._kept.values()) / MIB

    def _pack(self, tensor: Tensor) -> Tensor:
        for address, size in _memory(tensor):
            if address not in self._before:
                self._kept[address] = size
        return tensor.detach()  # the tensor itself would keep its own graph alive, and with it the memory


def tensors_mib(tensors: Iterable[Tensor]) -> float:
    """The memory that tensors take together; memory that several share counts once."""
    return sum(dict(part for tensor in tensors for part in _memory(tensor)).values()) / MIB


def _living_tensors() -> list[Tensor]:
    # type(), not isinstance(): the latter asks proxies for their class, which can run code.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def _memory(tensor: Tensor) -> list[tuple[int, int]]:
    """(address, bytes) of each piece of memory that a tensor, dense or sparse, keeps alive."""
    if tensor.layout == torch.strided:
        parts = [tensor]
    elif tensor.layout == torch.sparse_coo:
        parts = [tensor._indices(), tensor._values()]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        parts = []
    # What torch.export and torch.compile have traced with has no memory, and no address to ask for.
    real = [part for part in parts if part.device.type != "meta" and not isinstance(part, FakeTensor)]
    storages = [part.untyped_storage() for part in real]
    return [(storage.data_ptr(), storage.nbytes()) for storage in storages if storage.nbytes()]


@contextmanager
def _nothing() -> Iterator[None]:
    yield
