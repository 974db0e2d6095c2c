"""Peptides of the Long Range Graph Benchmark (arXiv:2206.08164): what they do, and what they look like in space.

Files lie below `ROOT/peptides-func/raw` and `ROOT/peptides-struct/raw` as PyG lays them out: `{train,val,test}.pt`, a
list of (x, edge_attr, edge_index, y) each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import obtain, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.molecules import ATOMS, BONDS, Molecule, graph_of, in_parts, joined
from deepgnn_cli.data.tensor_pickle import load_tensors

HOME = "https://www.dropbox.com/s"
ARCHIVES = {"func": "ycsq37q8sxs1ou8/peptidesfunc.zip", "struct": "zgv4z8fcpmknhs8/peptidesstruct.zip"}
TARGETS = {"func": 10, "struct": 11}
METRICS = {"func": "average_precision", "struct": "mae"}


def peptides(*, target: Literal["func", "struct"], root: str | Path, seed: int) -> Graph:
    """15,535 peptides of 151 atoms on average: 70 % train, 15 % validate, 15 % test.

    Atoms have OGB's nine properties and bonds its three, as categories.

    Args:
        target: `func`, ten functions that a peptide may have, by average precision; or `struct`, eleven numbers of its
            shape, standardised in the files, by mean absolute error.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        DataError: files cannot be had, or read.
    """
    folder = Path(root).expanduser() / f"peptides-{target}"
    files = [f"raw/{part}.pt" for part in ("train", "val", "test")]
    members = {file: file.replace("raw", f"peptides{target}") for file in files}
    paths = obtain(folder, files, [zipped(f"{HOME}/{ARCHIVES[target]}?dl=1", members)])
    stored = cached(folder / "processed" / "deepgnn.pt", paths, lambda: _parse(paths, TARGETS[target]))
    return graph_of(
        stored,
        stored["part"],
        name=f"peptides_{target}",
        split="public",
        metric=METRICS[target],
        categories=ATOMS,
        edge_categories=BONDS,
    )


def _parse(paths: Sequence[Path], targets: int) -> Tensors:
    parts = []
    for path in paths:
        found = load_tensors(path)
        with reading(path):
            if not isinstance(found, list | tuple):
                raise ValueError(f"it holds a {type(found).__name__}, and should hold a list of molecules")
        parts.append(joined(path, _molecules(found), atoms=len(ATOMS), bonds=len(BONDS), targets=targets))
    return in_parts(parts)


def _molecules(found: Sequence[object]) -> Iterator[Molecule]:
    for number, graph in enumerate(found):
        if not isinstance(graph, list | tuple) or len(graph) != 4 or not all(isinstance(a, Tensor) for a in graph):
            raise ValueError(f"molecule {number} is not (x, edge_attr, edge_index, y)")
        x, edge_attr, edge_index, y = graph
        yield Molecule(x, edge_index, edge_attr, y.reshape(-1))
