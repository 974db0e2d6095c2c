"""Molecules: atoms are nodes, bonds are edges both ways; many of them as one disjoint union.

N atoms, E directed bonds, G molecules, S properties of an atom, D of a bond, K targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from deepgnn_cli.data.cache import Tensors
from deepgnn_cli.data.download import reading
from deepgnn_cli.data.graph import Graph

ATOMS = (119, 5, 12, 12, 10, 6, 6, 2, 2)
"""How many values each of OGB's properties of an atom has: element, chirality, degree, charge, hydrogens, radical
electrons, hybridisation, aromatic, in a ring."""
BONDS = (5, 6, 2)
"""The same of a bond: kind, stereochemistry, conjugated."""


class Molecule(NamedTuple):
    """x: [n, S]; edge_index: [2, e]; edge_attr: [e, D]; y: [K]."""

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    y: Tensor


def joined(path: Path, molecules: Iterable[Molecule], *, atoms: int, bonds: int, targets: int) -> Tensors:
    """The union of the molecules of one file.

    Args:
        path: named where something is wrong.
        molecules: in their order.
        atoms: S.
        bonds: D.
        targets: K.

    Returns:
        x [N, S], edge_index [2, E], edge_attr [E, D], y [G, K] and num_nodes [G].

    Raises:
        DataError: a tensor has another shape, a bond ends at no atom, or there is no molecule.
    """
    with reading(path):
        found = [_checked(number, molecule, atoms, bonds, targets) for number, molecule in enumerate(molecules)]
        if not found:
            raise ValueError("it holds no molecule")
        num_nodes = torch.tensor([len(molecule.x) for molecule in found])
        bond_counts = torch.tensor([molecule.edge_index.size(1) for molecule in found])
        ends = torch.cat([molecule.edge_index for molecule in found], dim=1).long()
        outside = ((ends < 0) | (ends >= num_nodes.repeat_interleave(bond_counts))).any(dim=0)
        if bool(outside.any()):
            bond = int(outside.nonzero()[0])
            number = int(torch.searchsorted(bond_counts.cumsum(0), bond, right=True))
            raise ValueError(
                f"molecule {number} has a bond of atoms {ends[:, bond].tolist()} and {int(num_nodes[number])} atoms"
            )
        first = num_nodes.cumsum(0) - num_nodes
        return {
            "x": torch.cat([molecule.x for molecule in found]),
            "edge_index": ends + first.repeat_interleave(bond_counts),
            "edge_attr": torch.cat([molecule.edge_attr for molecule in found]),
            "y": torch.stack([molecule.y for molecule in found]).float(),
            "num_nodes": num_nodes,
        }


def _checked(number: int, molecule: Molecule, atoms: int, bonds: int, targets: int) -> Molecule:
    if not all(isinstance(part, Tensor) for part in molecule):
        raise ValueError(f"molecule {number} is not of tensors")
    x, ends, attr, y = molecule
    if x.dim() != 2 or x.size(1) != atoms or not len(x):
        raise ValueError(f"molecule {number} has atoms of shape {list(x.shape)}, and they must be [n, {atoms}]")
    if ends.dim() != 2 or ends.size(0) != 2 or ends.is_floating_point():
        raise ValueError(f"molecule {number} has bonds of shape {list(ends.shape)}, and they must be [2, e], whole")
    if attr.shape != (ends.size(1), bonds):
        raise ValueError(
            f"molecule {number} has bond features of shape {list(attr.shape)}, and they must be {[ends.size(1), bonds]}"
        )
    if y.shape != (targets,):
        raise ValueError(f"molecule {number} has targets of shape {list(y.shape)}, and they must be [{targets}]")
    return molecule


def in_parts(parts: Sequence[Tensors]) -> Tensors:
    """Several unions as one; `part` [G] says which of them a molecule was of."""
    nodes = [len(part["x"]) for part in parts]
    offsets = [sum(nodes[:number]) for number in range(len(parts))]
    whole = {name: torch.cat([part[name] for part in parts]) for name in ("x", "edge_attr", "y", "num_nodes")}
    whole["edge_index"] = torch.cat(
        [part["edge_index"] + offset for part, offset in zip(parts, offsets, strict=True)], dim=1
    )
    counts = torch.tensor([len(part["y"]) for part in parts])
    return whole | {"part": torch.arange(len(parts)).repeat_interleave(counts)}


def graph_of(
    stored: Tensors,
    part: Tensor,
    *,
    name: str,
    split: str,
    metric: str,
    y: Tensor | None = None,
    categories: tuple[int, ...] | None = None,
    edge_categories: tuple[int, ...] | None = None,
) -> Graph:
    """The `Graph` of a union.

    Args:
        stored: as of `joined`.
        part: [G], 0 where a molecule trains, 1 where it validates, 2 where it tests.
        name: of the data set.
        split: which one `part` is.
        metric: the score.
        y: [G, K] in place of the stored ones.
        categories: of the atoms' properties; None: numbers.
        edge_categories: of the bonds'.
    """
    y = stored["y"] if y is None else y
    train, val, test = (part == number for number in range(3))
    return Graph(
        name=name,
        split=split,
        x=stored["x"].float(),
        edge_index=stored["edge_index"],
        y=y,
        num_classes=y.size(1),
        train=train,
        val=val,
        test=test,
        metric=metric,
        level="graph",
        part_of=torch.arange(len(y)).repeat_interleave(stored["num_nodes"]),
        edge_attr=stored["edge_attr"].float(),
        categories=categories,
        edge_categories=edge_categories,
    )
