"""How an end is named."""

import pytest
import torch

from deepgnn_cli.training.errors import Diverged, Interrupted, gpu_is_lost, line_of, status_of


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: insufficient resources when calling `cusparseSpMM(...)`"),
    ],
    ids=str,
)
def test_every_wording_of_no_memory_is_oom(error):
    assert status_of(error) == "oom"


def test_other_ends_are_what_they_are():
    assert status_of(RuntimeError("CUDA error: device-side assert triggered")) == "failed"
    assert status_of(Diverged("x")) == "diverged"
    assert status_of(Interrupted(15)) == status_of(KeyboardInterrupt()) == "interrupted"
    assert line_of(Interrupted(15)) == "stopped by SIGTERM" and line_of(KeyError("a")) == "KeyError: 'a'"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (None, False),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: out of memory", False),
    ],
)
def test_a_gpu_is_lost_where_waiting_for_it_fails(error, lost, monkeypatch):
    def waiting():
        if error:
            raise RuntimeError(error)

    assert not gpu_is_lost()  # nothing has been started
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", waiting)
    assert gpu_is_lost() == lost
