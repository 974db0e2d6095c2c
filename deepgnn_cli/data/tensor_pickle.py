"""Files of tensors that others wrote, read without running anything in them.

A pickle may name any function to be called while it is read. Here the few names that a pickled tensor consists of stand
for functions of this module, and any other name ends the reading.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepgnn_cli.data.download import DataError, reading

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which torch begins a pickled storage
_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "Short": torch.int16,
        "Int": torch.int32,
        "Long": torch.int64,
        "Half": torch.float16,
        "Float": torch.float32,
        "Double": torch.float64,
    }.items()
}


class PackedTensor:
    """A tensor as it lies in a pickle, not unpacked yet: a file may hold many more than are wanted."""

    __slots__ = ("offset", "packed", "size", "stride")

    def __init__(self, packed: Any, offset: Any, size: Any, stride: Any) -> None:
        self.packed, self.offset, self.size, self.stride = packed, offset, size, stride

    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            ValueError: its numbers are not all there, or are of no type known here.
        """
        values = _numbers(self.packed)
        steps = [step * (length - 1) for step, length in zip(self.stride, self.size, strict=True)]
        count, last = math.prod(self.size), self.offset + sum(steps)
        outside = min([self.offset, *self.size, *self.stride]) < 0 or (count and last >= values.numel())
        if outside or count > values.numel():
            raise ValueError(f"a tensor of shape {list(self.size)} does not fit its {values.numel()} numbers")
        return torch.as_strided(values, self.size, self.stride, self.offset)


def load_pickle(path: Path) -> Any:
    """What a pickle holds: lists, dicts, numbers and words, each tensor as a `PackedTensor`.

    What is of numpy is read past: it comes as an object without content.

    Raises:
        DataError: it names anything else, or is cut off.
    """
    with reading(path), path.open("rb") as file:
        try:
            return _Tensors(file).load()
        except _Foreign as found:
            raise _refused(path, str(found)) from None
        except Exception as error:  # whatever bytes may make of the reader
            raise _damaged(path, error) from None


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote: lists, dicts, numbers, words and tensors.

    Raises:
        DataError: it holds anything else, or is cut off.
    """
    with reading(path), path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            if isinstance(error, pickle.UnpicklingError) and named:
                raise _refused(path, named[1]) from None
            raise _damaged(path, error) from None


def _refused(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} is not read: it holds {found}, and to read anything but tensors could run code from the file; "
        "put the published file in its place"
    )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is no whole file of tensors ({type(error).__name__}): it is cut off, or not the right file; delete "
        "it, and the next run fetches it again or says where to put a good copy"
    )


class _Foreign(Exception):
    """A name that is none of a tensor's."""


class _Ignored:
    """Stands for anything of numpy's."""

    def __init__(self, *content: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _packed(data: bytes) -> bytes:
    return data


def _tensor(packed: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> PackedTensor:
    return PackedTensor(packed, offset, size, stride)


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as old protocols write them."""
    if encoding != "latin1":
        raise _Foreign(f"text in {encoding}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _packed,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): _Ignored,
    ("numpy", "ndarray"): _Ignored,
    **{
        (f"numpy.{core}.multiarray", name): _Ignored
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}


class _Tensors(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _KNOWN:
            raise _Foreign(f"{module}.{name}")
        return _KNOWN[module, name]


class _Storage(pickle.Unpickler):
    """Of the bytes of a storage: names of element types alone."""

    def find_class(self, module: str, name: str, /) -> Any:
        if module != "torch" or name not in _DTYPES:
            raise _Foreign(f"{module}.{name}")
        return _DTYPES[name]

    def persistent_load(self, pid: Any, /) -> Any:
        return pid


def _numbers(packed: Any) -> Tensor:
    """The numbers of a storage, as torch writes one into a pickle: a head of five pickles, their count, they."""
    file = io.BytesIO(packed)
    try:
        magic, protocol, _, described, _ = (_Storage(file).load() for _ in range(5))
        dtype, count = described[1], described[4]
    except (_Foreign, pickle.UnpicklingError, EOFError, LookupError, TypeError) as error:
        raise ValueError(f"a tensor's numbers cannot be read ({error})") from None
    head, rest = file.read(8), file.read()
    if (magic, protocol, int.from_bytes(head, "little")) != (_MAGIC, _PROTOCOL, count):
        raise ValueError("a tensor's numbers are not as torch writes them")
    if not isinstance(dtype, torch.dtype) or len(rest) != count * dtype.itemsize:
        raise ValueError(f"of {count} numbers of a tensor there are {len(rest)} bytes")
    return torch.frombuffer(bytearray(rest), dtype=dtype) if count else torch.empty(0, dtype=dtype)
