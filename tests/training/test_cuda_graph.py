"""When a training step is captured in a CUDA graph; the capture itself needs a GPU: scripts/check_gpu.py."""

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepgnn_cli.measure import MIB
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.training.cuda_graph import WARM_UP_STEPS, StepGraph, obstacle, set_capturable
from deepgnn_cli.training.inputs import Inputs

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class Model(nn.Module):
    def __init__(self, edge: float = 0.0, node: float = 0.0, draws: bool | None = None) -> None:
        super().__init__()
        self.drop, self.inner = SimpleNamespace(edge=edge, node=node), nn.Linear(8, 3)
        self.draws_on_gpu = draws


def batch(graph: Adjacency, x: Tensor, part_of: Tensor | None = None) -> Inputs:
    edges = Adjacency(graph.edge_index, graph.num_nodes, None, part_of)
    return Inputs(x, edges, torch.zeros(len(x), dtype=torch.long), torch.arange(len(x)), None)


def test_a_plain_step_on_cuda_may_be_captured_and_each_obstacle_is_named(graph: Adjacency, x: Tensor) -> None:
    def why(
        model: nn.Module, *, device: torch.device = CUDA, world: int = 1, several: bool = False, **keys: Any
    ) -> str:
        optimizer = keys.get("optimizer", torch.optim.Adam)(model.parameters(), lr=0.1)
        inputs = batch(graph, x, torch.zeros(len(x), dtype=torch.long) if several else None)
        return obstacle(model, optimizer, inputs, device, world) or ""

    for optimizer in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD):
        assert why(Model(), optimizer=optimizer) == ""
    assert "cpu" in why(Model(), device=CPU)
    assert "2 processes" in why(Model(), world=2)
    assert "sparse matrix" in why(Model(edge=0.1)) and "sparse matrix" in why(Model(node=0.1))
    assert "several graphs" in why(Model(), several=True)
    assert "Adagrad" in why(Model(), optimizer=torch.optim.Adagrad)
    assert "random numbers" in why(Model(draws=True))
    checkpointed = Model()
    checkpointed.inner.checkpoint_every = 4  # type: ignore[assignment]
    assert "checkpointing" in why(checkpointed)
    assert why(Model(draws=False)) == why(Model(draws=None)) == ""


@pytest.mark.parametrize(("wanted", "lines"), [(True, 1), ("auto", 0), (False, 0)])
def test_without_a_gpu_steps_run_as_ever_and_it_is_said_once_if_it_was_asked_for(
    wanted: str | bool, lines: int, graph: Adjacency, x: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    model, seen = Model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(inputs: Inputs) -> Tensor:
        seen.append(inputs)
        return torch.tensor(float(len(seen)))

    inputs = batch(graph, x)
    steps = StepGraph(step, model, optimizer, CPU, wanted, 1)
    with caplog.at_level(logging.INFO):
        assert [float(steps(inputs)) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert all(one is inputs for one in seen) and not steps.captured
    assert len(caplog.records) == lines
    assert not lines or "trainer.cuda_graph=true" in caplog.text and "no CUDA device" in caplog.text


class Rehearsed(StepGraph):
    """What happens when, with a stand-in for the device: e(ager), c(apture), r(eplay)."""

    happened = ""

    def _warm_up(self, inputs: Inputs) -> Tensor:
        self._warm += 1
        self.happened += "e"
        return self._step(inputs)

    def _capture(self, inputs: Inputs) -> None:
        self.happened += "c"
        self._loss = torch.zeros(())
        self._graph = SimpleNamespace(replay=self._replay)  # type: ignore[assignment]

    def _replay(self) -> None:
        self.happened += "r"


def test_it_captures_after_the_warm_up_and_anew_after_a_change_of_the_learning_rate(
    graph: Adjacency, x: Tensor
) -> None:
    model, inputs = Model(), batch(graph, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = Rehearsed(lambda inputs: torch.zeros(()), model, optimizer, CUDA, "auto", 1)
    for _ in range(WARM_UP_STEPS + 2):
        steps(inputs)
    assert steps.happened == "eeecrr" and steps.captured
    for rate in (0.2, 0.3, 0.3, 0.3, 0.3):  # two rates, the second of which stays
        optimizer.param_groups[0]["lr"] = rate
        steps(inputs)
    assert steps.happened == "eeecrr" + "e" + "eeecr"
    steps(batch(graph, x))  # another batch: no capture any more
    assert not steps.captured
    steps(inputs)
    assert steps.happened == "eeecrr" + "e" + "eeecr"


def test_a_replayed_loss_is_not_overwritten_by_the_next(graph: Adjacency, x: Tensor) -> None:
    model, inputs = Model(), batch(graph, x)
    steps = Rehearsed(
        lambda inputs: torch.zeros(()), model, torch.optim.SGD(model.parameters(), lr=0.1), CUDA, "auto", 1
    )
    for _ in range(WARM_UP_STEPS):
        steps(inputs)
    first = steps(inputs)
    assert steps._loss is not None
    steps._loss.fill_(5)
    assert float(first) == 0 and float(steps(inputs)) == 5


class Generator:
    """Remembers what it is set to."""

    put: str | None = None

    def clone_state(self) -> str:
        return "spare"

    def graphsafe_set_state(self, state: str) -> None:
        self.put = state


class Gpu:
    """What capturing asks of `torch.cuda`, with so much memory free; a capture fails if told to."""

    def __init__(self, patch: pytest.MonkeyPatch, free_mib: int, failing: bool) -> None:
        self.failing, self.did, self.generator = failing, list[str](), Generator()
        graph = SimpleNamespace(reset=lambda: self.did.append("reset"), replay=lambda: self.did.append("replay"))
        for name, value in {
            "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
            "current_stream": lambda device=None: SimpleNamespace(wait_stream=lambda other: None),
            "stream": lambda stream: nullcontext(),
            "graph": self.capture,
            "CUDAGraph": lambda: graph,
            "default_generators": [self.generator],
            "current_device": lambda: 0,
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda mode: None,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (free_mib * MIB, 80_000 * MIB),
            "memory_allocated": lambda device: 100 * MIB,
            "max_memory_allocated": lambda device: 300 * MIB,
            "max_memory_reserved": lambda device: 300 * MIB,
            "reset_peak_memory_stats": lambda device: None,
        }.items():
            patch.setattr(torch.cuda, name, value)

    @contextmanager
    def capture(self, graph: object, stream: object) -> Iterator[None]:
        self.did.append("capture")
        yield
        if self.failing:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("free_mib", "failing", "did", "told"),
    [
        (221, False, ["capture", "replay", "replay"], ""),
        (219, False, [], "a graph needs 200 MiB of its own, and 219 MiB are free"),
        (221, True, ["capture", "reset"], "not permitted"),
    ],
)
def test_a_capture_is_tried_where_a_second_step_fits_and_leaves_nothing_when_it_fails(
    free_mib: int, failing: bool, did: list[str], told: str, graph: Adjacency, x: Tensor,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gpu = Gpu(monkeypatch, free_mib, failing)
    model, made = Model(), list[Any]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model.inner(x.float()).sum().backward()
    optimizer.step()

    def step(inputs: Inputs) -> Tensor:
        activations = torch.ones(5)
        made.append(weakref.ref(activations))
        return activations.sum()

    inputs, steps = batch(graph, x), StepGraph(step, model, optimizer, CUDA, True, 1)
    assert [float(steps(inputs)) for _ in range(WARM_UP_STEPS + 2)] == [5] * (WARM_UP_STEPS + 2)
    assert gpu.did == did and steps.captured == (not told) and told in caplog.text
    assert gpu.generator.put == ("spare" if failing else None)
    if told:
        assert not any(group["capturable"] for group in optimizer.param_groups)
        assert steps._loss is None and not any(reference() is not None for reference in made)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD])
def test_capturable_counts_steps_where_the_parameters_are_and_off_trains_on_without_a_word(
    kind: type[torch.optim.Optimizer],
) -> None:
    layer = nn.Linear(2, 2)
    optimizer = kind(layer.parameters(), lr=0.1)  # type: ignore[call-arg]

    def step() -> None:
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    step()
    set_capturable(optimizer, True)
    assert all(group.get("capturable", True) for group in optimizer.param_groups)
    for parameter, state in optimizer.state.items():
        if "step" in state:
            assert state["step"].device == parameter.device and state["step"] == 1
    set_capturable(optimizer, False)
    step()
    assert not any(group.get("capturable", False) for group in optimizer.param_groups)
