"""ZINC (arXiv:1610.02415): small molecules and a number each, split as in arXiv:2003.00982.

Files lie below `ROOT/zinc/raw` as PyG lays them out: `{train,val,test}.pickle` of all molecules, and
`{train,val,test}.index`, the numbers of those of the subset.

n atoms, G molecules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from deepgnn_cli.data.cache import Tensors, cached
from deepgnn_cli.data.download import direct, obtain, reading, zipped
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.molecules import Molecule, graph_of, in_parts, joined
from deepgnn_cli.data.tensor_pickle import PackedTensor, load_pickle

HOME = "https://www.dropbox.com/s/feo9qle74kg48gy/molecules.zip?dl=1"
SUBSET = "https://raw.githubusercontent.com/graphdeeplearning/benchmarking-gnns/master/data/molecules"
PARTS = ("train", "val", "test")
ATOM_TYPES, BOND_TYPES = 28, 4


def zinc(*, subset: bool, root: str | Path, seed: int) -> Graph:
    """ZINC: the constrained solubility of a molecule, logP - SA - cycles, by mean absolute error.

    The subset: 10,000 molecules train, 1,000 validate, 1,000 test, of 23 atoms on average. All: 220,011, 24,445, 5,000.
    An atom is one of 28 types and a bond one of 4 (the first is no bond's), as categories.

    Args:
        subset: the 12,000 molecules of arXiv:2003.00982; false: all 249,456.
        root: folder of all data.
        seed: not used: nothing here is drawn.

    Raises:
        DataError: files cannot be had, or read.
    """
    folder = Path(root).expanduser() / "zinc"
    pickles = [f"raw/{part}.pickle" for part in PARTS]
    paths = obtain(folder, pickles, [zipped(HOME, {file: file.replace("raw/", "molecules/") for file in pickles})])
    chosen: list[Path] = []
    if subset:
        urls = {f"raw/{part}.index": f"{SUBSET}/{part}.index" for part in PARTS}
        chosen = obtain(folder, list(urls), [direct(urls)])
    copy = folder / "processed" / f"deepgnn_{'subset' if subset else 'full'}.pt"
    stored = cached(copy, [*paths, *chosen], lambda: _parse(paths, chosen))
    return graph_of(
        stored,
        stored["part"],
        name="zinc" if subset else "zinc_full",
        split="public",
        metric="mae",
        categories=(ATOM_TYPES,),
        edge_categories=(BOND_TYPES,),
    )


def _parse(pickles: Sequence[Path], indices: Sequence[Path]) -> Tensors:
    parts = []
    for number, path in enumerate(pickles):
        found = load_pickle(path)
        with reading(path):
            if not isinstance(found, list):
                raise ValueError(f"it holds a {type(found).__name__}, and should hold a list of molecules")
        chosen = _numbers(indices[number], len(found)) if indices else range(len(found))
        parts.append(joined(path, _molecules(found, chosen, path), atoms=1, bonds=1, targets=1))
    return in_parts(parts)


def _numbers(path: Path, count: int) -> list[int]:
    """The numbers of the molecules that are of the subset."""
    with reading(path):
        numbers = [int(word) for word in path.read_text(encoding="ascii").strip().split(",")]
        if not 0 <= min(numbers) <= max(numbers) < count:
            wrong = min(numbers) if min(numbers) < 0 else max(numbers)
            raise ValueError(f"it names molecule {wrong}, and there are {count}")
        if len(set(numbers)) != len(numbers):
            raise ValueError("it names a molecule twice")
        return numbers


def _molecules(found: list[object], chosen: Sequence[int], path: Path) -> Iterator[Molecule]:
    for number in tqdm(chosen, desc=f"zinc: {path.name}", disable=None, leave=False):
        atoms, bonds, y = (
            _tensor(found[number], number, key) for key in ("atom_type", "bond_type", "logP_SA_cycle_normalized")
        )
        if bonds.shape != (atoms.numel(), atoms.numel()):
            raise ValueError(f"molecule {number} has {atoms.numel()} atoms and bonds of shape {list(bonds.shape)}")
        ends = bonds.nonzero().t()
        yield Molecule(atoms.reshape(-1, 1), ends, bonds[ends[0], ends[1]][:, None], y.reshape(-1))


def _tensor(molecule: object, number: int, key: str) -> Tensor:
    value = molecule.get(key) if isinstance(molecule, dict) else None
    if not isinstance(value, PackedTensor):
        raise ValueError(f"molecule {number} has no tensor {key}")
    return value.tensor()
