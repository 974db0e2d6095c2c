"""QM9 (arXiv:1703.00564): molecules of up to nine heavy atoms, and what quantum chemistry computes of them.

The file lies below `ROOT/qm9/raw` as PyG lays it out: `qm9_v3.pt`, a list of dicts of tensors, which PyG made of the
published one; no chemistry package is needed.

G molecules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import obtain, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.molecules import Molecule, graph_of, joined
from deepgnn_cli.data.tensor_pickle import load_tensors
from deepgnn_cli.rules.types import Count, Seed

HOME = "https://data.pyg.org/datasets/qm9_v3.zip"
FILE = "raw/qm9_v3.pt"
Target = Literal[
    "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv",
    "u0_atom", "u298_atom", "h298_atom", "g298_atom", "a", "b", "c",
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
]  # fmt: skip
PROPERTIES = [value for value in get_args(Target) if isinstance(value, str)]
"""The targets in the order of the file."""


def qm9(
    *,
    target: Target,
    standardise: bool,
    train_molecules: Count,
    val_molecules: Count,
    split_seed: Seed,
    root: str | Path,
    seed: int,
) -> Graph:
    """QM9: one of 19 properties of 130,831 molecules of 18 atoms on average, by mean absolute error.

    Units are those of PyG's file: energies in eV (Hartree and kcal/mol converted), mu in D, alpha in a0³, r2 in a0²,
    cv in cal/(mol K), rotational constants in GHz. Atoms have 11 features (element, atomic number, aromatic,
    hybridisation, hydrogens), bonds 4 (type); where atoms are in space is not read.

    Args:
        target: the property, by its name or its number in the file.
        standardise: predict (y - mean) / std over the training molecules; the score is then in such units, too.
        train_molecules: how many train, drawn by `split_seed`.
        val_molecules: how many validate; all others test.
        split_seed: of the split: the same one for every seed of a run.
        root: folder of all data.
        seed: not used: nothing here is drawn by it.

    Raises:
        ValueError: no molecule is left to test.
        DataError: the file cannot be had, or read.
    """
    folder = Path(root).expanduser() / "qm9"
    (path,) = obtain(folder, [FILE], [zipped(HOME, {FILE: Path(FILE).name})])
    stored = cached(folder / "processed" / "deepgnn.pt", [path], lambda: _parse(path))
    count, chosen = len(stored["y"]), train_molecules + val_molecules
    if chosen >= count:
        raise ValueError(
            f"dataset.train_molecules={train_molecules} and val_molecules={val_molecules} leave none of {count} to "
            "test; lower them"
        )
    part = np.empty(count, dtype=np.int64)
    sizes = [train_molecules, val_molecules, count - chosen]
    part[np.random.default_rng(split_seed).permutation(count)] = np.repeat(np.arange(3), sizes)
    of = torch.from_numpy(part)
    number = target if isinstance(target, int) else PROPERTIES.index(target)
    y = stored["y"][:, number, None].double()
    if standardise:
        y = (y - y[of == 0].mean()) / y[of == 0].std().clamp(min=1e-12)
    return graph_of(
        stored, of, name=f"qm9_{PROPERTIES[number]}", split=f"random-{split_seed}", metric="mae", y=y.float()
    )


def _parse(path: Path) -> Tensors:
    found = load_tensors(path)
    with reading(path):
        if not isinstance(found, list):
            raise ValueError(f"it holds a {type(found).__name__}, and should hold a list of molecules")
    return joined(path, _molecules(found), atoms=11, bonds=4, targets=len(PROPERTIES))


def _molecules(found: Sequence[object]) -> Iterator[Molecule]:
    for number, molecule in enumerate(found):
        if not isinstance(molecule, dict):
            raise ValueError(f"molecule {number} is no dict of tensors")
        if missing := {"x", "edge_index", "edge_attr", "y"} - set(molecule):
            raise ValueError(f"molecule {number} has no {' and no '.join(sorted(missing))}")
        y = molecule["y"]
        y = y.reshape(-1) if isinstance(y, torch.Tensor) else y
        yield Molecule(molecule["x"], molecule["edge_index"], molecule["edge_attr"], y)
