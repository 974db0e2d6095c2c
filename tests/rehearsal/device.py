"""A device that no machine needs to have: torch's `meta`, made to answer like a GPU and to note what would hold one up.

Tensors on `meta` have sizes and no numbers, and take every branch that a GPU's tensors take where code asks for
`device.type != "cpu"`. What asks for a number (`item`, a boolean index, an upload) is answered with something
plausible and noted: on a GPU the program would wait there until everything queued before is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


@dataclass
class Notes:
    """Operations, each with the line of the package that asked for it."""

    waits: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)


def place() -> str:
    """The innermost line of the package that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "deepgnn_cli" in name:
            return f"{name.partition('deepgnn_cli/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _item(tensor: Tensor) -> Any:
    return True if tensor.dtype == torch.bool else 0.0 if tensor.is_floating_point() else 1


def _bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    return torch.empty(max(1, minlength), dtype=torch.int64 if weights is None else weights.dtype, device=META)


def _unique(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
    places = torch.empty(x.numel(), dtype=torch.int64, device=META)
    return torch.empty_like(x).flatten(), places, places.clone()


def _repeated(*arguments: Any, **_: Any) -> Tensor:
    counts = arguments[-1] if isinstance(arguments[-1], Tensor) else arguments[0]
    return torch.empty(counts.numel(), dtype=torch.int64, device=META)


WAITS: dict[str, Callable[..., Any]] = {
    "_local_scalar_dense": _item,
    "equal": lambda *_: True,
    "is_nonzero": lambda *_: True,
    "nonzero": lambda x: torch.empty(x.numel(), x.dim(), dtype=torch.int64, device=META),
    "masked_select": lambda x, mask: x.new_empty(mask.numel()),
    "bincount": _bincount,
    "_unique2": _unique,
    "unique_consecutive": _unique,
    "repeat_interleave": _repeated,
    "_coalesce": lambda x: x,
}
"""What makes the CPU wait for a GPU, and the answer here."""


def _product(*arguments: Any, out: Tensor | None = None, **_: Any) -> Tensor:
    a, b = arguments[-2:]
    return b.new_empty(a.size(0), b.size(1)) if out is None else out


def _segments(data: Tensor, *_: Any, offsets: Tensor, **__: Any) -> Tensor:
    return data.new_empty(offsets.numel() - 1, *data.shape[1:])


SPARSE: dict[str, Callable[..., Any]] = {
    "mm": _product,
    "addmm": _product,
    "_sparse_mm": _product,
    "sampled_addmm": lambda pattern, *_, **__: pattern,
    "sparse_sampled_addmm": lambda pattern, *_, **__: pattern,
    "_to_dense": lambda matrix, *_, **__: torch.empty(matrix.shape, dtype=matrix.dtype, device=META),
}
"""Products with a CSR matrix, which `meta` lacks; none of them waits."""


def _compressed(coo: Tensor, *_: Any, **__: Any) -> Tensor:
    crow = torch.empty(coo.size(0) + 1, dtype=torch.int64, device=META)
    return torch.sparse_csr_tensor(crow, coo._indices()[1], coo._values(), coo.shape, check_invariants=False)


LACKING: dict[str, Callable[..., Any]] = {
    "_to_sparse_csr": _compressed,
    "segment_reduce": _segments,
    "_fused_adam_": lambda *_, **__: None,
    "_fused_adamw_": lambda *_, **__: None,
}
"""What else `meta` lacks."""


class Stream(TorchDispatchMode):
    """Answers for the device, operation by operation."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self.notes = notes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if tensor.is_meta]
        if name in ("_to_copy", "copy_", "lift_fresh"):
            return self._copy(name, func, args, kwargs)
        if not there:
            return func(*args, **kwargs)
        if any(not tensor.is_meta and tensor.dim() for tensor in tensors):
            self.notes.mixed.append(f"{name} {place()}")
            args, kwargs = tree_map(_moved, (args, kwargs))
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            args = self._whole(name, args)
        if name in WAITS:
            self._wait(name)
            return WAITS[name](*args, **kwargs)
        if name in SPARSE and any(tensor.layout == torch.sparse_csr for tensor in there):
            return SPARSE[name](*args, **kwargs)
        if name in LACKING:
            return LACKING[name](*args, **kwargs)
        return func(*args, **kwargs)

    def _wait(self, name: str) -> None:
        self.notes.waits.append(f"{name} {place()}")

    def _copy(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """A blocking copy to or from the device waits; what comes from it is zeros."""
        source = args[1] if name == "copy_" else args[0]
        target = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
        if source.device.type != target.type:
            blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if blocking:
                self._wait(f"copy to {'the CPU' if source.is_meta else 'the device'}")
            if source.is_meta:
                kind = kwargs.get("dtype") or source.dtype
                if name == "copy_":
                    return args[0].zero_()
                return torch.zeros(source.shape, dtype=kind)
        return func(*args, **kwargs)

    def _whole(self, name: str, args: Any) -> Any:
        """A boolean index keeps everything; one number put where it holds is a `masked_fill`, and waits for nothing."""
        indices = list(args[1])
        if not any(index is not None and index.dtype == torch.bool for index in indices):
            return args
        single = name != "index" and args[2].numel() == 1 and sum(index is not None for index in indices) == 1
        if not single:
            self._wait(f"boolean {name}")
        found: list[Any] = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                found.append(index)
            else:
                found += [torch.zeros(index.numel(), dtype=torch.int64, device=META)] * index.dim()
        return (args[0], found, *args[2:])


class Numbers(TorchFunctionMode):
    """Notes tensors made on the device from Python's numbers: an upload that waits, which `meta` leaves out."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self.notes = notes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            device = kwargs.get("device")
            if device is not None and torch.device(device).type == "meta":
                self.notes.waits.append(f"{func.__name__} {place()}")
        return func(*args, **kwargs)


@contextmanager
def rehearsal() -> Iterator[Notes]:
    """Inside, `meta` answers like a GPU; the notes tell of every wait, and of devices that meet in one operation."""
    notes = Notes()
    kinds = [*optimizer._get_fused_kernels_supported_devices(), "meta"]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(optimizer, "_get_fused_kernels_supported_devices", lambda: list(kinds)))
        stack.enter_context(mock.patch("torch.is_autocast_enabled", lambda *_: False))
        stack.enter_context(mock.patch("torch.get_autocast_dtype", lambda *_: torch.bfloat16))
        stack.enter_context(Numbers(notes))
        stack.enter_context(Stream(notes))
        yield notes


def _moved(value: Any) -> Any:
    return value.to(META) if isinstance(value, Tensor) else value


def on_meta(thing: Any, known: dict[int, Any] | None = None) -> Any:
    """The same on `meta`: tensors, containers, and objects of this package with all they have worked out so far."""
    known = {} if known is None else known
    if id(thing) not in known:
        known[id(thing)] = _on_meta(thing, known), thing  # the original too: its id stays its own
    return known[id(thing)][0]


def _on_meta(thing: Any, known: dict[int, Any]) -> Any:
    if isinstance(thing, Tensor):
        if thing.layout != torch.sparse_csr:
            return thing.to(META)
        parts = (on_meta(part, known) for part in (thing.crow_indices(), thing.col_indices(), thing.values()))
        return torch.sparse_csr_tensor(*parts, thing.shape, check_invariants=False)
    if isinstance(thing, dict):
        return {key: on_meta(value, known) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return type(thing)(on_meta(value, known) for value in thing)
    if type(thing).__module__.startswith("deepgnn_cli."):
        made = object.__new__(type(thing))
        table = {f.name: getattr(thing, f.name) for f in fields(thing)} if is_dataclass(thing) else {}
        made.__dict__.update({key: on_meta(value, known) for key, value in (table | vars(thing)).items()})
        return made
    return thing
