"""The ranges that builders annotate their parameters with, in the terms of annotated-types.

`rate: Rate` in a signature says type and range, and is read by the command line, the Python call, `deepgnn ls` and the
error line alike.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

__all__ = ["Count", "Natural", "NonNegative", "Positive", "Rate", "Seed", "Share"]

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Rate = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
