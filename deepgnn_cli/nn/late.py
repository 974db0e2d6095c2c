"""Numbers of a GPU that are read a pass later, when they have long been there.

To read a number at once the CPU waits until the GPU has done all that is queued before it, and then the GPU waits for
the CPU to queue more. A pass later there is nothing to wait for: the copy was queued behind the number itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class LateNumber:
    """A number on its way from the device to the CPU.

    Args:
        number: a scalar; what it is now is what will be read.
    """

    def __init__(self, number: Tensor) -> None:
        self._number = number.detach().to("cpu", non_blocking=True)
        self._there: torch.cuda.Event | None = None
        if number.is_cuda:
            self._there = torch.cuda.Event()
            self._there.record(torch.cuda.current_stream(number.device))

    def read(self) -> float:
        """The number; waits only if it is not there yet."""
        if self._there is not None:
            self._there.synchronize()
        return float(self._number)

    def __reduce__(self) -> tuple[type[LateNumber], tuple[Tensor]]:
        return LateNumber, (torch.tensor(self.read()),)


class LateCheck:
    """A check of a number that each pass gives: at once on a CPU, elsewhere when the next pass gives its own.

    So an error is raised one pass late, and `settle` raises it before anything is done with what the passes gave.
    """

    def __init__(self) -> None:
        self._waiting: tuple[LateNumber, Callable[[float], None]] | None = None

    def look(self, number: Tensor, judge: Callable[[float], None]) -> None:
        """Have `judge` look at the number, in its time; now it looks at the one before."""
        self.settle()
        self._waiting = LateNumber(number), judge
        if number.device.type == "cpu":
            self.settle()

    def settle(self) -> None:
        """Have the last number looked at now."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            number, judge = waiting
            judge(number.read())

    def __reduce__(self) -> tuple[type[LateCheck], tuple[()]]:
        return LateCheck, ()
