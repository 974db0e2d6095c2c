"""What autograd carries from a function's forward pass to its backward pass."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Context(Protocol):
    """The first argument of both passes, as far as torch fills it in; a subclass names what a function keeps besides.

    It is a type, never made: torch hands over an object of its own.
    """

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors; the backward pass finds them in `saved_tensors`."""
