"""The two ways a reversible layer adds a branch's result to the stream: as floats do, or exactly on a grid.

N nodes, C channels, G groups; a stream part is [N, C / G].
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from deepgnn_cli.nn.aggregation.repeatable import repeatable
from deepgnn_cli.nn.autograd import Context
from deepgnn_cli.nn.late import LateCheck

_PLAIN = nullcontext()


class FloatAddition:
    """`stream + s f` with floating-point rounding: undone up to that rounding, which adds up with depth.

    Args:
        scale: s.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def start(self, part: Tensor) -> Tensor:
        """The stream's first value, differentiable."""
        return part

    def add(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream + s f`, differentiable."""
        return torch.add(stream, f, alpha=self._scale)

    def add_(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream += s f`, the same bits as `add`."""
        return stream.add_(f, alpha=self._scale)

    def undo_(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream -= s f`."""
        return stream.sub_(f, alpha=self._scale)

    def gradient(self, gradient: Tensor) -> Tensor:
        """That of f, given that of the sum."""
        return _times(gradient, self._scale)

    def evaluation(self) -> AbstractContextManager[None]:
        """A context for evaluating a branch."""
        return _PLAIN

    def tolerance(self, dtype: torch.dtype, autocast: bool) -> float:
        """How far, in parts of its size, an input that was found again may be off."""
        return 0.1 if autocast else 1e-6 if dtype == torch.float64 else 1e-2

    def finish(self, output: Tensor) -> Tensor:
        """The output of the last layer, [N, C]."""
        return output


class GridAddition:
    """`stream + round(s f)` on a grid of multiples of 2^-k, where addition has no rounding error and can be undone.

    Rounded to the grid: the input of the first layer and the result s f of every branch, and nothing else (neither
    what happens inside a branch nor any gradient: rounding passes gradients straight through). Multiples of 2^-k up
    to 2^(m-k), m the significand's bits, are all floating-point numbers, so sums on the grid are exact as long as the
    stream stays within that range:

        float32     k = 14, rounding by at most 3.1e-5, |stream| <= 1024
        float64     k = 40, rounding by at most 4.6e-13, |stream| <= 8192

    The largest |stream| of the pass is collected on its device and looked at once, by `finish`; one object serves
    one pass.

    Args:
        dtype: of the stream.
        scale: s.
        check: looks at the range, on a GPU a pass later.

    Raises:
        ValueError: a stream in 16 bits, where no useful grid exists.
    """

    _BITS = {torch.float32: (14, 24), torch.float64: (40, 53)}

    def __init__(self, dtype: torch.dtype, scale: float, check: LateCheck) -> None:
        if dtype not in self._BITS:
            raise ValueError(
                f"residual.exact=true needs a stream in float32 or float64, not {dtype}; keep the weights in float32 "
                "(autocast is fine) or set residual.exact=false"
            )
        self._dtype, self._check = dtype, check
        self._bits, significand = self._BITS[dtype]
        self._scale, self._grid = scale, 2.0**self._bits
        self._limit = 2.0 ** (significand - self._bits)
        self._peak: Tensor | None = None

    def start(self, part: Tensor) -> Tensor:
        """`part` on the grid, differentiable."""
        return self._seen(_round(part, 1.0, self._grid))

    def add(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream + round(s f)`, differentiable."""
        return self._seen(stream + _round(f.to(self._dtype), self._scale, self._grid))

    def add_(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream += round(s f)`, the same bits as `add`: scaling by a power of two is exact."""
        return self._seen(stream.add_(self._multiples(f), alpha=1.0 / self._grid))

    def undo_(self, stream: Tensor, f: Tensor) -> Tensor:
        """`stream -= round(s f)`."""
        return stream.sub_(self._multiples(f), alpha=1.0 / self._grid)

    def gradient(self, gradient: Tensor) -> Tensor:
        """That of f, given that of the sum."""
        return _times(gradient, self._scale)

    def evaluation(self) -> AbstractContextManager[None]:
        """A context for evaluating a branch, in which it gives the same bits every time."""
        return repeatable()

    def tolerance(self, dtype: torch.dtype, autocast: bool) -> float:
        """How far, in parts of its size, an input that was found again may be off: not at all."""
        return 0.0

    def finish(self, output: Tensor) -> Tensor:
        """Check the range. NaN passes: it spoils the loss, where it is looked for, and says nothing about the range.

        While a CUDA graph is being captured nothing can be raised: there the output becomes NaN instead.

        Raises:
            FloatingPointError: the stream has left the range, on a GPU in the pass before.
        """
        peak, self._peak = self._peak, None
        if peak is None:
            return output
        if output.is_cuda and torch.cuda.is_current_stream_capturing():
            return output.masked_fill(peak > self._limit, float("nan"))
        self._check.look(peak, self._judge)
        return output

    def _judge(self, peak: float) -> None:
        if peak > self._limit:
            raise FloatingPointError(
                f"residual.exact=true: the stream reached {peak:.4g}; beyond {self._limit:g} a grid of "
                f"2^-{self._bits} is not exact in {self._dtype}. Keep the stream small (a norm such as norm=layer, a "
                "smaller optimizer.lr) or set residual.exact=false"
            )

    def _multiples(self, f: Tensor) -> Tensor:
        return f.to(self._dtype).mul(self._scale * self._grid).round_()

    def _seen(self, stream: Tensor) -> Tensor:
        if stream.numel():
            low, high = torch.aminmax(stream.detach())
            if self._peak is None:
                self._peak = torch.zeros_like(high)
            # In place: small lasting arrays between large fleeting ones would splinter a CPU's heap.
            torch.maximum(self._peak, high, out=self._peak)
            torch.maximum(self._peak, low.neg_(), out=self._peak)
        return stream


def _times(gradient: Tensor, scale: float) -> Tensor:
    return gradient if scale == 1 else gradient * scale


class _RoundContext(Context):
    scale: float


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _RoundContext, x: Tensor, scale: float, grid: float) -> Tensor:
        ctx.scale = scale
        return x.mul(scale * grid).round_().mul_(1.0 / grid)

    @staticmethod
    def backward(ctx: _RoundContext, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _times(gradients[0], ctx.scale), None, None


def _round(x: Tensor, scale: float, grid: float) -> Tensor:
    """The multiple of 1 / grid nearest to `scale x` (ties to even); the gradient is that of `scale x`."""
    rounded: Tensor = _Round.apply(x, scale, grid)
    return rounded
