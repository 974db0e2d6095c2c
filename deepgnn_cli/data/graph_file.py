"""A graph in a file, as `torch.save` writes it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import GlobalStorage


def read_graph(path: Path, what: str) -> Any:
    """A PyG `Data`, a dict of tensors, or a list of them.

    Args:
        path: the file.
        what: what the error calls it.

    Raises:
        ValueError: there is no such file, or reading it would run code from it.
    """
    if not path.is_file():
        raise ValueError(f"{what}: there is no such file; give what torch.save wrote")
    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            return torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{what} cannot be read without running code from it ({type(error).__name__}); "
            "save a plain dict instead: torch.save(data.to_dict(), PATH)"
        ) from None
