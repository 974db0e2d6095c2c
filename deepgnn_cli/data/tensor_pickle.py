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

    def __init__(self, packed: object, offset: object, size: object, stride: object) -> None:
        self.packed, self.offset, self.size, self.stride = packed, offset, size, stride

    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            ValueError: its numbers are not all there, or are of no type known here.
        """
        values, size, stride = _numbers(self.packed), _whole(self.size), _whole(self.stride)
        (offset,) = _whole((self.offset,))
        last = offset + sum(step * (length - 1) for step, length in zip(stride, size, strict=True))
        count = math.prod(size)
        if count > values.numel() or (count and last >= values.numel()):
            raise ValueError(f"a tensor of shape {list(size)} does not fit its {values.numel()} numbers")
        return torch.as_strided(values, size, stride, offset)


def _whole(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(isinstance(value, int) and 0 <= value < 2**63 for value in values):
        raise ValueError(f"a tensor is described by {values!r:.60} where whole numbers should be")
    return values


def load_pickle(path: Path) -> object:
    """What a pickle holds: lists, dicts, numbers and words, each tensor as a `PackedTensor`.

    What is of numpy is read past: it comes as an object without content.

    Raises:
        DataError: it names anything else, or is cut off.
    """
    with reading(path), path.open("rb") as file:
        try:
            found: object = _Tensors(file).load()
            return found
        except _Foreign as name:
            raise _refused(path, str(name)) from None
        except Exception as error:  # whatever bytes may make of the reader
            raise _damaged(path, error) from None


def load_tensors(path: Path) -> object:
    """What `torch.save` wrote: lists, dicts, numbers, words and tensors.

    Raises:
        DataError: it holds anything else, or is cut off.
    """
    with reading(path), path.open("rb") as file:
        try:
            found: object = torch.load(file, map_location="cpu", weights_only=True)
            return found
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

    def __init__(self, *content: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _packed(data: bytes) -> bytes:
    return data


def _tensor(packed: object, offset: object, size: object, stride: object, *rest: object) -> PackedTensor:
    return PackedTensor(packed, offset, size, stride)


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as old protocols write them."""
    if encoding != "latin1":
        raise _Foreign(f"text in {encoding}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
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
    def find_class(self, module: str, name: str, /) -> Callable[..., object]:
        if (module, name) not in _KNOWN:
            raise _Foreign(f"{module}.{name}")
        return _KNOWN[module, name]


class _Storage(pickle.Unpickler):
    """Of the bytes of a storage: names of element types alone."""

    def find_class(self, module: str, name: str, /) -> object:
        if module != "torch" or name not in _DTYPES:
            raise _Foreign(f"{module}.{name}")
        return _DTYPES[name]

    def persistent_load(self, pid: object, /) -> object:
        return pid


def _numbers(packed: object) -> Tensor:
    """The numbers of a storage, as torch writes one into a pickle: a head of five pickles, their count, they."""
    if not isinstance(packed, bytes):
        raise ValueError("a tensor has no numbers")
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
