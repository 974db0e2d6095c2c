"""Tensors in files."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

_SEAL = b"sha256:"  # 32 bytes follow, the last of the file; what reads torch's files passes over them


class _Candid(io.RawIOBase):
    """Writes to a file, remembers what the file system refused and, if asked to, the checksum of what it took."""

    def __init__(self, file: IO[bytes], seal: bool) -> None:
        self._file = file
        self.refusal: OSError | None = None
        self.checksum = sha256() if seal else None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.checksum is not None:
            self.checksum.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.refusal = error
            raise


def write(state: Mapping[str, Any], file: IO[bytes], seal: bool = False) -> None:
    """`torch.save`, straight to the file; with `seal`, a checksum of it all at the end, which torch's files lack.

    Raises:
        OSError: it could not be written. (torch reports a full disk as a fault of its own zip writer.)
    """
    candid = _Candid(file, seal)
    try:
        torch.save(state, cast(IO[bytes], candid))
    except RuntimeError as error:
        raise candid.refusal or error from None
    if candid.checksum is not None:
        file.write(_SEAL + candid.checksum.digest())


def sealed(path: Path) -> bool:
    """Whether the file is, to the last bit, what `write` has sealed."""
    checksum = sha256()
    length = len(_SEAL) + checksum.digest_size
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - length
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            checksum.update(block)
            left -= len(block)
        return file.read() == _SEAL + checksum.digest()


class BestWeights:
    """The weights of the best epoch so far: in a file without a name and not in memory; gone after the `with` block.

    So a run takes the memory of its parameters, their gradients and the optimiser's state, and not of one copy more.

    Args:
        folder: where the file lies; None: where temporary files do.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def __enter__(self) -> BestWeights:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Keep these instead.

        Raises:
            OSError: they cannot be written; there are none now.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed on leaving)
        try:
            self._file.seek(0)
            self._file.truncate()
            write(weights, self._file)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder or tempfile.gettempdir())) from None

    def read(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The weights, on `device`; none before the first `keep`."""
        if self._file is None:
            return {}
        self._file.seek(0)
        weights: dict[str, Tensor] = torch.load(self._file, map_location=device, weights_only=True)
        return weights
