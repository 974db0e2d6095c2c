"""A training step as a CUDA graph: captured once, replayed ever after, so that launching its kernels costs nothing.

A graph repeats the very same kernels on the very same memory. So it serves where every step sees the same batch, and
nothing in the step waits for the device to decide what comes next. Where that does not hold, steps run as ever.
"""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from deepgnn_cli.measure import MIB, PeakMemory
from deepgnn_cli.training.inputs import Inputs

# Steps before the capture, ordinary ones of the training: they create the optimiser's state and the libraries' handles
# and workspaces, none of which may happen in a capture.
WARM_UP_STEPS = 3
_MARGIN = 1.1  # blocks of memory are rounded up

_log = logging.getLogger(__name__)


def obstacle(model: nn.Module, optimizer: Optimizer, inputs: Inputs, device: torch.device, world: int) -> str | None:
    """Why the training step cannot be captured, as far as that can be told beforehand; None: it can be tried."""
    drop = getattr(model, "drop", None)
    if device.type != "cuda":
        return f"device {device} is no CUDA device"
    if world > 1:
        return f"{world} processes exchange gradients within a step"
    if drop is not None and (drop.edge or drop.node):
        return "drop.edge and drop.node make a sparse matrix of another size in every step"
    if inputs.graph.batch is not None:
        return "the batch holds several graphs, whose number is read from the device"
    if not isinstance(optimizer, SGD) and any("capturable" not in group for group in optimizer.param_groups):
        return f"{type(optimizer).__name__} counts its steps on the CPU"
    if any(getattr(module, "checkpoint_every", 0) for module in model.modules()):
        return "gradient checkpointing sets the random generators back within the step"
    if any(getattr(module, "draws_on_gpu", False) for module in model.modules()):
        return "the reversible layers replay random numbers of their branches"
    return None


class StepGraph:
    """Calls a training step, and replays it instead from the fourth on where it can be captured.

    The steps before the capture are ordinary ones, and capturing executes nothing: training goes as it would have
    gone. Random numbers go on from replay to replay, as torch's CUDA generator sees to.

    A change of the learning rates, which are constants of the graph, lets the steps run as ever until they have
    stayed the same for three; another batch ends the attempt for good.

    Args:
        step: `step(inputs)` -> the loss, a scalar on the device; forward, backward and optimiser.
        model: what it trains.
        optimizer: what it trains it with.
        device: where.
        wanted: True; `auto`: likewise, but without a word when it cannot be; False.
        world: the number of processes that train the model.
    """

    def __init__(
        self,
        step: Callable[[Inputs], Tensor],
        model: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        wanted: str | bool,
        world: int,
    ) -> None:
        self._step, self._model, self._optimizer = step, model, optimizer
        self._device, self._wanted, self._world = device, wanted, world
        self._tries = wanted is not False
        self._side: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss: Tensor | None = None
        self._inputs: Inputs | None = None
        self._rates: list[float] = []
        self._warm = 0
        self._needs = 0.0

    @property
    def captured(self) -> bool:
        """Whether steps are replayed now."""
        return self._graph is not None

    def __call__(self, inputs: Inputs) -> Tensor:
        """Do one step; returns the loss without waiting for it."""
        if self._tries:
            self._look(inputs)
        if self._tries and self._graph is None and self._warm == WARM_UP_STEPS:
            self._capture(inputs)
        if not self._tries:
            return self._step(inputs)
        if self._graph is None:
            return self._warm_up(inputs)
        assert self._loss is not None
        self._graph.replay()
        return self._loss.clone()  # the next replay writes to the same memory

    def _look(self, inputs: Inputs) -> None:
        """Notice what makes a capture impossible, or the captured graph worthless."""
        if self._inputs is None:
            self._inputs = inputs
            set_capturable(self._optimizer, False)  # a checkpoint may have left it set
            if reason := obstacle(self._model, self._optimizer, inputs, self._device, self._world):
                self._give_up(reason)
        elif inputs is not self._inputs:
            self._give_up("every step sees another batch")
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        if rates != self._rates:
            self._forget()
            self._rates = rates

    def _forget(self) -> None:
        if self._graph is not None:
            self._graph = self._loss = None
            set_capturable(self._optimizer, False)
        self._warm = 0

    def _give_up(self, reason: str) -> None:
        self._forget()
        self._tries, self._side = False, None
        level = logging.WARNING if self._wanted is True else logging.DEBUG
        _log.log(level, "trainer.cuda_graph=%s: steps are not captured: %s", str(self._wanted).lower(), reason)

    def _warm_up(self, inputs: Inputs) -> Tensor:
        """An ordinary step on the stream of the capture; the last one is watched for waits."""
        if self._side is None:
            self._side = torch.cuda.Stream(self._device)
        self._warm += 1
        waits: list[str] = []
        self._side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._side):
            if self._warm < WARM_UP_STEPS:
                loss = self._step(inputs)
            else:
                before = torch.cuda.memory_allocated(self._device)
                with waits_noted(waits), PeakMemory(self._device, tidy=False) as peak:
                    loss = self._step(inputs)
                self._needs = peak.peak_mib - before / MIB
        torch.cuda.current_stream(self._device).wait_stream(self._side)
        if waits:
            self._give_up(f"a step waits for the device ({waits[0]})")
        return loss

    def _capture(self, inputs: Inputs) -> None:
        """Record a step without executing it. Should that fail, all is as before, and steps run as ever."""
        if reason := obstacle(self._model, self._optimizer, inputs, self._device, self._world):
            self._give_up(reason)  # known after the first step: what the reversible layers draw
            return
        self._optimizer.zero_grad(set_to_none=True)  # the graph's gradients lie in its own memory
        if reason := self._no_room():
            self._give_up(reason)
            return
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        generator = torch.cuda.default_generators[index]
        spare = generator.clone_state()
        set_capturable(self._optimizer, True)
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context puts the stream back even where a failed capture does not.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self._device)),
                torch.cuda.graph(graph, stream=self._side),
            ):
                self._loss = self._step(inputs)
        except RuntimeError as error:
            generator.graphsafe_set_state(spare)  # a failed capture leaves the generator in it
            set_capturable(self._optimizer, False)
            self._optimizer.zero_grad(set_to_none=True)
            traceback.clear_frames(error.__traceback__)  # they hold what the capture had made in the graph's memory
            self._loss = None
            with suppress(RuntimeError):
                graph.reset()
            self._give_up(str(error).splitlines()[0])
            return
        self._graph = graph

    def _no_room(self) -> str | None:
        """A graph has memory of its own, as much as a step takes: a failed capture would keep its part of it."""
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        if free / MIB < _MARGIN * self._needs:
            return f"a graph needs {self._needs:.0f} MiB of its own, and {free / MIB:.0f} MiB are free"
        return None


def set_capturable(optimizer: Optimizer, capturable: bool) -> None:
    """Tell an optimiser whether it is being captured; then its step counts must lie where the parameters are."""
    for group in optimizer.param_groups:
        if "capturable" not in group:
            continue
        group["capturable"] = capturable
        for parameter in group["params"] if capturable else ():
            state = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=parameter.device)


@contextmanager
def waits_noted(places: list[str]) -> Iterator[None]:
    """Inside, whatever makes the CPU wait for the GPU adds its place (file and line) to `places`."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in seen:
        text = str(warning.message)
        if "synchronizing CUDA operation" in text:
            places.append(f"{warning.filename}:{warning.lineno}")
        elif "debug mode is a prototype" not in text:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
