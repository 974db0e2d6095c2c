"""Representations as points in a plane: the rows of `embeddings.csv`.

N nodes, C channels, S shown nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """Nodes in the plane of the two principal components.

    Args:
        points: [S, 2], the mean of all nodes at the origin.
        share: of the variance of all nodes, what the plane holds; None where all nodes are one point, or not finite.
    """

    points: Tensor
    share: float | None


def projection(state: Tensor, nodes: Tensor) -> Projection:
    """The principal components of all nodes, and some nodes on the first two.

    The largest number of each component's direction is positive, so that the same state gives the same picture.

    Args:
        state: [N, C].
        nodes: [S] int64, the nodes shown.
    """
    centred = state.detach() - state.detach().mean(dim=0)
    scale = centred.abs().max()
    if not scale.isfinite() or scale == 0:
        return Projection(centred.new_full((len(nodes), 2), 0.0 if scale == 0 else torch.nan).cpu(), None)
    centred /= scale  # squares of tiny features vanish in single precision
    values, vectors = torch.linalg.eigh((centred.T @ centred).double())  # ascending
    plane = vectors[:, -2:].flip(1)
    largest = plane.gather(0, plane.abs().argmax(dim=0, keepdim=True))
    points = scale.double() * centred[nodes].double() @ (plane * largest.sign())
    if points.size(1) == 1:
        points = torch.cat([points, torch.zeros_like(points)], dim=1)
    return Projection(points.cpu(), float(values[-2:].sum() / values.sum()))
