"""Measurements of a network and its training: memory, step times, and what each layer does to its input."""

from deepgnn_cli.measure.influence import Influence, influence
from deepgnn_cli.measure.layer_diagnostics import LayerRow, layer_diagnostics
from deepgnn_cli.measure.memory import PhaseMemory, SavedTensors, tensors_mib
from deepgnn_cli.measure.peak_memory import MIB, PeakMemory
from deepgnn_cli.measure.projection import Projection, projection
from deepgnn_cli.measure.smoothness import (
    dirichlet_energy,
    effective_rank,
    feature_norm,
    mad_all,
    mad_neighbours,
    numerical_rank,
    rayleigh_quotient,
)
from deepgnn_cli.measure.timing import StepTimer

__all__ = [
    "MIB",
    "Influence",
    "LayerRow",
    "PeakMemory",
    "PhaseMemory",
    "Projection",
    "SavedTensors",
    "StepTimer",
    "dirichlet_energy",
    "effective_rank",
    "feature_norm",
    "influence",
    "layer_diagnostics",
    "mad_all",
    "mad_neighbours",
    "numerical_rank",
    "projection",
    "rayleigh_quotient",
    "tensors_mib",
]
