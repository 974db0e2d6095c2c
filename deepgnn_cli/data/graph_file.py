"""A graph in a file, as `torch.save` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch_geometric.data import Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.separate import separate
from torch_geometric.data.storage import GlobalStorage


def read_graph(path: Path, what: str) -> object:
    """A PyG `Data`, a dict of tensors, or a list of them; also what PyG's data sets keep in `processed/`.

    Args:
        path: the file.
        what: what the error calls it.

    Raises:
        ValueError: there is no such file, it is none of torch's, or reading it would run code from it.
    """
    if not path.is_file():
        below = "" if path.is_absolute() else f" below {Path.cwd()}"
        raise ValueError(f"{what}: there is no such file{below}; give what torch.save wrote")
    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            return _separated(torch.load(path, weights_only=True))
    except OSError:
        raise
    except Exception as error:  # whatever bytes may make of the reader
        table = path.suffix in (".csv", ".parquet", ".npz")
        if isinstance(error, UnpicklingError) and not table:
            raise ValueError(
                f"{what} holds more than tensors and is not read, as that would run code from it; "
                "save a dict of tensors instead: torch.save(data.to_dict(), PATH)"
            ) from None
        hint = "; tables and arrays are dataset=table" if table else ""
        raise ValueError(f"{what} is no whole file of torch.save ({type(error).__name__}){hint}") from None


def _separated(stored: object) -> object:
    """Several graphs as a list, from one and where each begins in it, as PyG keeps them."""
    if not isinstance(stored, tuple) or len(stored) not in (2, 3) or not isinstance(stored[1], Mapping | None):
        return stored
    whole = stored[0] if isinstance(stored[0], Data) else Data.from_dict(dict(stored[0]))
    if stored[1] is None:
        return whole
    count = len(next(iter(stored[1].values()))) - 1
    return [separate(Data, whole, number, dict(stored[1]), decrement=False) for number in range(count)]
