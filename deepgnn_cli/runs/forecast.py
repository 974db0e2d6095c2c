"""What a run will take, before it runs: measured at a few small depths on the real graph, then drawn out by depth.

What tensors take (parameters, gradients, the optimiser's state, what autograd keeps) is an exact polynomial of the
depth, a line for most wirings and a parabola for dense ones. What else a phase of the step takes (temporary tensors,
memory that the C library does not give back) is a line: in the depth, or for dense wirings in the activations. The peak
is that of the greediest phase.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from deepgnn_cli.config.schema import Root
from deepgnn_cli.measure.peak_memory import MIB, PeakMemory
from deepgnn_cli.runs.build import build_trainer
from deepgnn_cli.runs.excerpt import NEVER, Excerpt, epoch_seconds
from deepgnn_cli.training.callbacks import StepProbe
from deepgnn_cli.training.trainer import Trainer

_DEPTHS = (2, 4, 8)
_FURTHER = (32, 16)
"""The first of these is measured as well, if it takes little time and memory: the further out, the surer the line."""
_WIDTHS = (1, 2, 4)
_PATIENCE_SECONDS, _SHARE_OF_MEMORY = 10.0, 0.25
_DEEPEST = 1_000_000


@dataclass(frozen=True)
class Sizes:
    """What the tensors of a network in training take, in MiB: exact at any depth."""

    parameters: float
    parameters_mib: float
    gradients_mib: float
    optimiser_mib: float
    activation_mib: float

    def standing_in(self, phase: str) -> float:
        """What of them is there when a phase of the step takes most, at least."""
        always = self.parameters_mib + self.optimiser_mib
        during = {
            "forward": self.activation_mib,
            "backward": max(self.activation_mib, self.gradients_mib),  # these go while those come
            "optimiser": self.gradients_mib,
            "evaluation": 0.0,
        }
        return always + during[phase]


@dataclass(frozen=True)
class Sample:
    """What was measured at one depth.

    `above_mib` is each phase's peak above `base_mib`, what was in use before there was a model. `spread_mib` is how far
    other batches of the epoch go beyond the first.
    """

    layers: int
    sizes: Sizes
    base_mib: float
    above_mib: dict[str, float]
    spread_mib: float
    epoch_seconds: float


@dataclass(frozen=True)
class Forecast:
    """What a run will take. `transient_mib` is the peak less the base and the sizes: below 0 where they never meet."""

    layers: int
    hidden: int
    sizes: Sizes
    base_mib: float
    peak_memory_mib: float
    epoch_seconds: float
    measured: bool

    @property
    def transient_mib(self) -> float:
        """Temporary tensors at the peak, and the allocator's slack."""
        sizes = self.sizes
        kept = sizes.parameters_mib + sizes.gradients_mib + sizes.optimiser_mib + sizes.activation_mib
        return self.peak_memory_mib - self.base_mib - kept


class Forecaster:
    """Measures a configuration at a few depths; `at(layers)` says what it takes at any other.

    Args:
        values: the configuration; its `layers` are not looked at.
        loader: its data.
        wanted: the depths that will be asked for; small ones are measured themselves.
    """

    def __init__(self, values: Root, loader: Excerpt, wanted: Iterable[int]) -> None:
        unit = max(1, values["trainer"]["gradient_checkpointing"])  # memory climbs by such steps
        asked = sorted(set(wanted))
        small = {layers for layers in asked if layers <= _DEPTHS[-1]}
        beyond = bool(set(asked) - small)
        depths = sorted(small | {_rounded(depth, unit) for depth in _DEPTHS if beyond})
        measure(values, loader, depths[0])  # what is loaded at the first step is no depth's own
        self.hidden: int = values["hidden"]
        self.samples = [measure(values, loader, layers) for layers in depths]
        self.base_mib = self.samples[0].base_mib
        for depth in (_rounded(depth, unit) for depth in _FURTHER):
            if beyond and depth <= max(asked) and self._is_cheap(depth, loader.device):
                self.samples.append(measure(values, loader, depth))
                break

    def _is_cheap(self, layers: int, device: torch.device) -> bool:
        forecast = self.at(layers)
        needed = (forecast.peak_memory_mib - self.base_mib) * MIB
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
        return forecast.epoch_seconds < _PATIENCE_SECONDS and needed < _SHARE_OF_MEMORY * free

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths that were measured."""
        return tuple(sample.layers for sample in self.samples)

    def at(self, layers: int) -> Forecast:
        """What a run of this depth takes."""
        for sample in self.samples:
            if sample.layers == layers:
                peak = self.base_mib + max(sample.above_mib.values()) + sample.spread_mib
                return Forecast(layers, self.hidden, sample.sizes, self.base_mib, peak, sample.epoch_seconds, True)
        assert len(self.samples) > 1, "a depth beyond those measured was not announced"
        sizes = self._sizes(layers)
        else_of = self._else_at(layers, sizes)
        peaks = [
            sizes.standing_in(phase)
            + else_of([one.above_mib[phase] - one.sizes.standing_in(phase) for one in self.samples])
            for phase in self.samples[0].above_mib
        ]
        spread = else_of([sample.spread_mib for sample in self.samples])
        return Forecast(
            layers,
            self.hidden,
            sizes,
            self.base_mib,
            self.base_mib + max(peaks) + max(0.0, spread),
            max(0.0, self._drawn_out([sample.epoch_seconds for sample in self.samples], self._degree)(layers)),
            False,
        )

    @property
    def _degree(self) -> int:
        """1 where the parameters grow by the same amount a layer, 2 where by more and more (dense wiring)."""
        if len(self.samples) < 3:
            return 1
        counts = [sample.sizes.parameters for sample in self.samples]
        steps = np.diff(counts) / np.diff(self.depths)
        return 1 if np.allclose(steps, steps[-1], rtol=1e-3) else 2

    def _sizes(self, layers: int) -> Sizes:
        columns = zip(*(vars(sample.sizes).values() for sample in self.samples), strict=True)
        return Sizes(*(max(0.0, self._drawn_out(column, self._degree)(layers)) for column in columns))

    def _else_at(self, layers: int, sizes: Sizes) -> Callable[[Sequence[float]], float]:
        """What takes memory beside the sizes, by its values at the measured depths."""
        at, known = float(layers), [float(depth) for depth in self.depths]
        if self._degree == 2:
            at, known = sizes.activation_mib, [sample.sizes.activation_mib for sample in self.samples]
        return lambda values: float(np.polynomial.Polynomial.fit(known, values, 1)(at))

    def _drawn_out(self, values: Sequence[float], degree: int = 1) -> np.polynomial.Polynomial:
        return np.polynomial.Polynomial.fit(self.depths, values, degree)


class Wider:
    """What a configuration takes at other widths, by three of them: sizes are parabolas of it, the rest a line."""

    def __init__(self, values: Root, loader: Excerpt) -> None:
        self.layers: int = values["layers"]
        self.widths = [values["hidden"] * factor for factor in _WIDTHS]
        self.known = [
            Forecaster(values | {"hidden": width}, loader, [self.layers]).at(self.layers) for width in self.widths
        ]

    def at(self, hidden: int) -> Forecast:
        """What a run of this width takes."""
        columns = zip(*(vars(forecast.sizes).values() for forecast in self.known), strict=True)
        sizes = Sizes(*(max(0.0, self._drawn_out(column, 2)(hidden)) for column in columns))
        transient = self._drawn_out([forecast.transient_mib for forecast in self.known])(hidden)
        kept = sizes.parameters_mib + sizes.gradients_mib + sizes.optimiser_mib + sizes.activation_mib
        base = self.known[0].base_mib
        seconds = self._drawn_out([forecast.epoch_seconds for forecast in self.known])(hidden)
        return Forecast(self.layers, hidden, sizes, base, base + kept + transient, max(0.0, seconds), False)

    def _drawn_out(self, values: Sequence[float], degree: int = 1) -> np.polynomial.Polynomial:
        return np.polynomial.Polynomial.fit(self.widths, values, degree)


def largest(at: Callable[[int], Forecast], size_mib: float) -> Forecast | None:
    """The forecast at the largest number from 1 on whose peak is at most `size_mib`: peaks grow with the number."""
    if at(1).peak_memory_mib > size_mib:
        return None
    low, high = 1, _DEEPEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at(middle).peak_memory_mib <= size_mib else (low, middle - 1)
    return at(low)


def _rounded(depth: int, unit: int) -> int:
    """A depth to measure that is a multiple of `unit`; `depth` itself where that is one."""
    return depth if unit <= 2 else unit * depth // 2


def measure(values: Root, loader: Excerpt, layers: int) -> Sample:
    """Train a little at this depth: sizes, the peak of each phase of a step, the time of an epoch."""
    with PeakMemory(loader.device) as before:
        pass
    recipe = values["trainer"]
    unevaluated: Root = values | {"trainer": recipe | {"eval_every": NEVER, "max_epochs": NEVER}}
    trainer = build_trainer(unevaluated | {"layers": layers}, loader)
    _probed(trainer, 1)  # makes the optimiser's state, and is not measured
    trainer.evaluate()
    with PeakMemory(loader.device, tidy=False) as whole:
        probe = _probed(trainer, 2)
        if loader.largest is not None:
            trainer.step(loader.largest)
    with PeakMemory(loader.device, tidy=False) as evaluation:
        trainer.evaluate().cpu()
    rows = {row["phase"]: row["peak_mib"] for row in probe.rows()}
    peaks = {phase: rows[phase] for phase in ("forward", "backward", "optimiser")} | {"evaluation": evaluation.peak_mib}
    sample = Sample(
        layers=layers,
        sizes=Sizes(
            parameters=sum(p.numel() for p in trainer.model.parameters()),
            parameters_mib=rows["parameters"],
            gradients_mib=rows["gradients"],
            optimiser_mib=rows["optimiser_state"],
            activation_mib=rows["activations"],
        ),
        base_mib=before.peak_mib,
        above_mib={phase: peak - before.peak_mib for phase, peak in peaks.items()},
        spread_mib=max(0.0, whole.peak_mib - max(peaks.values())),
        epoch_seconds=epoch_seconds(trainer, loader, recipe["eval_every"]),
    )
    del trainer, probe
    gc.collect()
    return sample


def _probed(trainer: Trainer, epoch: int) -> StepProbe:
    trainer.probe = probe = StepProbe(trainer.model, trainer.optimizer, trainer.loader.device)
    trainer.epoch(epoch)
    return probe
