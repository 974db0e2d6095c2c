"""What ended a run, in one word for its row and one line for its reader."""

from __future__ import annotations

import signal

import torch
from torch.distributed import DistBackendError

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusparse_status_insufficient_resources",
    "insufficient resources",
)
"""How torch, cuBLAS, cuDNN and cuSPARSE say it, in lower case."""


class Diverged(Exception):
    """The training loss is no longer a number."""


class Pruned(Exception):
    """A search sees no hope for the run."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop. `signal` is the number of the signal.

    A KeyboardInterrupt, so that no library's `except Exception` swallows it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


def status_of(error: BaseException) -> str:
    """`diverged`, `oom`, `interrupted` or `failed`."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Interrupted | KeyboardInterrupt | Pruned):
        return "interrupted"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "oom"
    text = str(error).lower()
    if isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY):
        return "oom"
    return "failed"


GPU_LOST = "the GPU takes no more work from this process: start a new one, the same command runs what is missing"


def gpu_is_lost() -> bool:
    """Whether CUDA refuses all that this process asks for, as it does after a device-side assert."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return status_of(error) != "oom"
    return False


def line_of(error: BaseException) -> str:
    """One line: the error's first, with its kind where the text alone would not say it."""
    text = next((part.strip() for part in str(error).splitlines() if part.strip()), "")
    if isinstance(error, RuntimeError) and ("gloo/transport" in text or isinstance(error, DistBackendError)):
        return "the connection to another process of this run broke: that one says why it ended"
    if isinstance(error, ValueError | Diverged | Interrupted | Pruned) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
