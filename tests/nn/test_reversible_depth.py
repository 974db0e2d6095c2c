"""What depth costs a reversible stack: nothing kept, little error, none at all on the grid; and DDP."""

from __future__ import annotations

import gc
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from deepgnn_cli.measure.memory import PeakMemory, SavedTensors
from deepgnn_cli.measure.peak_memory import HighWaterMark
from deepgnn_cli.nn.adjacency import Adjacency
from tests.nn.reversible_cases import (
    NODES,
    WIDTH,
    Pass,
    branches,
    one_pass,
    relative_error,
    small_graph,
    stack_of,
    stored,
)
from tests.nn.test_reversible import Plain


@pytest.fixture(autouse=True)
def _float32(_float64):
    """Sizes and precisions are named where they matter; what names none is in torch's own default."""
    torch.set_default_dtype(torch.float32)


def kept_bytes(layers: int, **settings: bool) -> float:
    stack = stack_of(lambda: Plain(rate=0.3), layers=layers, **settings)
    graph = small_graph()
    inputs = [torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True) * 1 for _ in range(3)]
    with SavedTensors() as saved:
        out = stack(inputs[0], graph, inputs[1], inputs[2])
    del out
    return saved.mib * 2**20


@pytest.mark.parametrize("exact", [False, True])
def test_what_autograd_keeps_does_not_grow_with_depth(exact):
    """The output alone: x0, mask and edge features were there before."""
    assert kept_bytes(8, exact=exact) == kept_bytes(200, exact=exact) == NODES * 2 * WIDTH * 8


def test_stored_activations_do_grow_with_depth():
    assert kept_bytes(16, store_activations=True) > 1.9 * kept_bytes(8, store_activations=True)


def test_nothing_else_hangs_on_the_node_that_grows_with_depth():
    """Objects held by the pass itself (random states, lists of tensors): no tensor beside the parameters."""
    counts = []
    for layers in (4, 40):
        stack = stack_of(lambda: Plain(rate=0.3), layers=layers, exact=True)
        x = torch.randn(NODES, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
        gc.collect()
        before = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        out = stack(x, small_graph())
        counts.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()) - before)
        del out
    assert counts[0] == counts[1]


def deep(exact: bool, layers: int) -> nn.Module:
    return stack_of(lambda: Plain(rate=0.2), layers=layers, dtype=torch.float32, exact=exact)


def test_on_the_grid_512_layers_are_undone_without_error():
    stack = deep(exact=True, layers=512).eval()
    x, graph = torch.randn(NODES, 2 * WIDTH), small_graph(torch.float32)
    on_grid = torch.round(x * 2**14) / 2**14
    with torch.no_grad():
        y = stack(x, graph, x)
    assert torch.equal(stack.inverse(y, graph, x), on_grid)
    assert not torch.equal(deep(exact=False, layers=512).eval().inverse(y, graph, x), on_grid)


def test_on_the_grid_gradients_at_512_layers_are_bit_identical_to_stored_ones():
    stack = deep(exact=True, layers=512)
    found, expected = one_pass(stack, dtype=torch.float32), one_pass(stored(stack), dtype=torch.float32)
    assert torch.equal(found.output, expected.output)
    for name, gradient in expected.gradients.items():
        assert (gradient is None and found.gradients[name] is None) or torch.equal(found.gradients[name], gradient), (
            name
        )


def test_in_float32_gradients_at_256_layers_are_close_to_stored_ones():
    stack = deep(exact=False, layers=256)
    found, expected = one_pass(stack, dtype=torch.float32), one_pass(stored(stack), dtype=torch.float32)
    assert 0 < total_error(found, expected) < 1e-2
    assert relative_error(found, expected) < 1e-1


def total_error(found: Pass, expected: Pass) -> float:
    """‖found - expected‖ / ‖expected‖ over all gradients taken as one vector."""
    pairs = [(found.gradients[n].flatten(), g.flatten()) for n, g in expected.gradients.items() if g is not None]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("store_activations", [False, True])
def test_the_grid_rounds_its_input_and_each_branch_only(store_activations):
    """One layer, by hand: y1 = [x1] + [f(x2)], where [·] is the nearest multiple of 2^-14."""

    class Third(nn.Module):
        def forward(self, x, graph, x0=None, mask=None):
            return x / 3

    stack = stack_of(Third, layers=1, exact=True, store_activations=store_activations, dtype=torch.float32)
    x = torch.randn(NODES, 2 * WIDTH)

    def grid(t: torch.Tensor) -> torch.Tensor:
        return torch.round(t.double() * 2**14) / 2**14

    x1, x2 = grid(x).chunk(2, dim=1)
    y1 = x1 + grid(x2.float() / 3)
    y2 = x2 + grid(y1.float() / 3)
    leaf = x.requires_grad_()
    out = stack(leaf, None)
    assert torch.equal(out.double(), torch.cat([y1, y2], dim=1))
    out[:, 0].sum().backward()
    assert torch.allclose(leaf.grad[:, 0], torch.ones(NODES)) and torch.allclose(
        leaf.grad[:, 4], torch.full((NODES,), 1 / 3)
    )


@pytest.mark.parametrize("store_activations", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1024), (torch.float64, 8192)])
def test_a_stream_that_leaves_the_grids_range_is_refused_with_a_remedy(dtype, limit, sign, store_activations):
    class Constant(nn.Module):
        def forward(self, x, graph, x0=None, mask=None):
            return torch.full_like(x, sign * limit / 4)

    def run(layers: int) -> torch.Tensor:
        stack = stack_of(Constant, layers=layers, exact=True, store_activations=store_activations, dtype=dtype)
        return stack(torch.zeros(NODES, 2 * WIDTH, dtype=dtype, requires_grad=True), None)

    assert run(4).abs().max() == limit
    with pytest.raises(FloatingPointError, match=f"exact.*{limit}.*norm=layer"):
        run(5)


def test_an_excursion_in_the_middle_of_the_stack_is_noticed():
    class Add(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x, graph, x0=None, mask=None):
            return torch.full_like(x, self.value)

    stack = stack_of(iter([Add(0.0), Add(1500.0), Add(0.0), Add(-1500.0)]), layers=2, exact=True, dtype=torch.float32)
    with pytest.raises(FloatingPointError):
        stack(torch.zeros(NODES, 2 * WIDTH), None)


def test_the_grid_refuses_16_bits():
    stack = stack_of(Plain, layers=1, exact=True, store_activations=True, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="exact=true.*exact=false"):
        stack(torch.zeros(NODES, 2 * WIDTH, dtype=torch.bfloat16), small_graph(torch.bfloat16))


def _worker(rank: int, port: int, results: mp.Queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    stack = stack_of(branches("gcn", "layer", rate=0.0), layers=3)
    network = nn.parallel.DistributedDataParallel(stack, bucket_cap_mb=0.0001)
    data = torch.Generator().manual_seed(rank)
    inputs = [torch.randn(NODES, 2 * WIDTH, generator=data, dtype=torch.float64) for _ in range(2)]
    for step, x in enumerate(inputs):
        with network.no_sync() if step == 0 else torch.enable_grad():  # two steps' gradients, one exchange
            network(x, small_graph(), x).square().sum().backward()
    results.put((rank, [p.grad.tolist() for p in stack.parameters()]))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_with_ddp_hold_the_mean_gradient():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_worker, args=(rank, port, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    plain = stored(stack_of(branches("gcn", "layer", rate=0.0), layers=3))
    for rank in range(2):
        data = torch.Generator().manual_seed(rank)
        for _ in range(2):
            x = torch.randn(NODES, 2 * WIDTH, generator=data, dtype=torch.float64)
            plain(x, small_graph(), x).square().sum().backward()
    for rank in range(2):
        for gradient, parameter in zip(found[rank], plain.parameters(), strict=True):
            assert torch.allclose(torch.tensor(gradient, dtype=torch.float64), parameter.grad / 2, rtol=1e-9)


def resident_peak(layers: int) -> float:
    """MiB that a step takes above what was there before: a stream part is 1 MiB, so a layer stores several."""
    nodes = 2**18 // WIDTH
    stack = stack_of(Plain, layers=layers, dtype=torch.float32)
    ring = torch.arange(nodes)
    graph = Adjacency(torch.stack([ring, (ring + 1) % nodes]), nodes)
    x = torch.randn(nodes, 2 * WIDTH)
    stack(x, graph).sum().backward()
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as during:
        stack(x, graph).sum().backward()
    return during.peak_mib - before.peak_mib


@pytest.mark.skipif(not HighWaterMark.works(), reason="this system does not let a process set its high-water mark back")
def test_the_resident_peak_of_a_step_does_not_grow_with_depth():
    assert resident_peak(24) < resident_peak(4) + 24
