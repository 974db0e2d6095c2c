"""Laws of the memory measurements; sizes are chosen far above the noise of a process."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from deepgnn_cli.measure import peak_memory
from deepgnn_cli.measure.memory import MIB, PeakMemory, PhaseMemory, SavedTensors, tensors_mib

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _float32(_float64):
    """Sizes and precisions are named where they matter; what names none is in torch's own default."""
    torch.set_default_dtype(torch.float32)


def touch(mib: int) -> torch.Tensor:
    """Memory that is resident: every page written."""
    return torch.ones(mib * MIB, dtype=torch.uint8)


@pytest.fixture(params=["kernel", "sampled"])
def meter(request, monkeypatch):
    if request.param == "sampled":
        monkeypatch.setattr(peak_memory.HighWaterMark, "works", classmethod(lambda cls: False))
    elif not peak_memory.HighWaterMark.works():
        pytest.skip("this system does not let a process set its high-water mark back")
    return request.param


def test_the_peak_is_the_blocks_own(meter):
    past = touch(300)
    del past
    with PeakMemory(CPU) as quiet:
        pass
    with PeakMemory(CPU) as busy:
        held = touch(120)
        del held
    with PeakMemory(CPU) as after:
        pass
    assert 100 < busy.peak_mib - quiet.peak_mib < 140
    assert after.peak_mib - quiet.peak_mib < 20
    assert busy.kind == "rss" and busy.reserved_mib is None


def test_a_short_spike_is_seen_by_the_kernels_mark():
    if not peak_memory.HighWaterMark.works():
        pytest.skip("this system does not let a process set its high-water mark back")
    with PeakMemory(CPU) as quiet:
        pass
    with PeakMemory(CPU) as spike:
        touch(100)
    assert spike.peak_mib - quiet.peak_mib > 90


def test_nested_blocks_do_not_hide_the_outer_peak(meter):
    with PeakMemory(CPU) as outer:
        held = touch(120)
        del held
        with PeakMemory(CPU) as inner:
            pass
    assert outer.peak_mib - inner.peak_mib > 90


def test_what_is_set_aside_is_in_no_later_peak(meter, monkeypatch):
    monkeypatch.setattr(peak_memory, "_aside", 0)
    with PeakMemory(CPU) as before:
        pass
    with peak_memory.set_aside():
        kept = touch(64)
        touch(64)
    with PeakMemory(CPU) as after:
        touch(32)
    assert kept.numel() == 64 * MIB
    assert after.peak_mib - before.peak_mib == pytest.approx(32, abs=8)


def test_an_exception_ends_the_measurement(meter):
    with pytest.raises(KeyError), PeakMemory(CPU) as memory:
        raise KeyError
    assert memory.peak_mib > 0
    test_the_peak_is_the_blocks_own(meter)


def test_kept_bytes_of_known_operations():
    """exp keeps its result, mul both factors, add nothing: counted by hand, float32 [256, 1024] = 1 MiB each."""
    x = torch.randn(256, 1024, requires_grad=True)
    with SavedTensors() as saved:
        y = x.exp()
    assert saved.mib == 1
    with SavedTensors() as saved:
        y = x + 1
    assert saved.mib == 0
    with SavedTensors() as saved:
        y = (x + 1) * (x + 2)
    assert saved.mib == 2
    with SavedTensors() as saved:
        y = x.exp()
        z = y * y
    assert saved.mib == 1, "one array, saved three times"
    z.sum().backward()
    assert x.grad is not None and y.shape == z.shape


def test_a_view_counts_as_the_array_it_keeps_alive():
    x = torch.randn(256, 1024, requires_grad=True)
    with SavedTensors() as saved:
        y = (x * 2)[:, :1].square()
    assert saved.mib == 1
    del y


def test_what_was_there_before_does_not_count():
    linear, features = nn.Linear(1024, 1024), torch.randn(256, 1024)
    matrix = torch.eye(1024).to_sparse_csr().requires_grad_(False)
    with SavedTensors() as saved:
        h = linear(features)
        out = (matrix @ h.t()).t()
    assert saved.mib == 0
    out.sum().backward()


def test_sparse_operands_made_inside_do_count():
    weight = torch.randn(64, 8, requires_grad=True)
    with SavedTensors() as saved:
        operator = torch.sparse_csr_tensor(torch.arange(65), torch.arange(64), torch.ones(64))
        out = operator @ weight
    assert saved.mib * MIB == pytest.approx(65 * 8 + 64 * 8 + 64 * 4)
    out.sum().backward()


def test_custom_functions_are_seen_and_nothing_leaks():
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x * 2
            ctx.save_for_backward(out)
            return out

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2 + 0 * ctx.saved_tensors[0]

    x = torch.randn(256, 1024, requires_grad=True)
    with SavedTensors() as saved:
        out = Keep.apply(x)
    assert saved.mib == 1
    alive = weakref.ref(out)
    del out
    assert alive() is None, "no cycle holds it"


def test_counting_does_not_change_gradients():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad((x.exp() * x.sin()).sum(), x)[0]
    with SavedTensors():
        y = (x.exp() * x.sin()).sum()
    assert torch.equal(torch.autograd.grad(y, x)[0], plain)


def test_each_block_counts_anew():
    x = torch.randn(256, 1024, requires_grad=True)
    saved = SavedTensors()
    for _ in range(2):
        with saved:
            y = x.exp()
        assert saved.mib == 1
    del y


def test_a_step_phase_by_phase():
    model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.ReLU(), nn.Linear(1024, 256, bias=False))
    optimizer = torch.optim.Adam(model.parameters())
    memory = PhaseMemory(CPU, model, optimizer)
    x = torch.randn(512, 1024)
    with memory.phase("forward"):
        loss = model(x).square().mean()
    with memory.phase("backward"):
        loss.backward()
    with memory.phase("optimiser"):
        optimizer.step()
    rows = {row["phase"]: row for row in memory.rows()}
    assert list(rows)[:3] == ["forward", "backward", "optimiser"]
    assert set(list(rows)[3:]) == {"activations", "gradients", "parameters", "optimiser_state"}
    assert {rows[name]["kind"] for name in ("forward", "backward", "optimiser")} == {"rss"}
    assert rows["parameters"]["peak_mib"] == rows["gradients"]["peak_mib"] == 5
    assert rows["optimiser_state"]["peak_mib"] == pytest.approx(10, abs=0.001)
    # relu's result [512, 1024] (2 MiB), which the second linear reads too, and the output [512, 256] (0.5 MiB)
    assert rows["activations"]["peak_mib"] == memory.activation_mib == 2.5


def test_shared_memory_counts_once():
    x = torch.zeros(MIB // 4)
    assert tensors_mib([x, x[:5], x.view(2, -1)]) == 1
    assert tensors_mib([x, torch.zeros(MIB // 4)]) == 2
    assert tensors_mib([]) == 0


def test_what_a_tracer_leaves_behind_has_no_memory():
    with FakeTensorMode():
        left = torch.empty(MIB // 4)
    x = torch.ones(MIB // 4, requires_grad=True)
    with SavedTensors() as saved:
        y = x.exp()
    assert saved.mib == 1 and tensors_mib([left, x]) == 1 and y.requires_grad
