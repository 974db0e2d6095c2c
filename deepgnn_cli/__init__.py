"""deepgnn: what happens when this GNN gets deeper, and which trick keeps it alive?"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["experiment", "load"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `deepgnn --help`, `ls` and `compare` never pay for Hydra or torch.
    if name == "experiment":
        from deepgnn_cli.api import experiment

        return experiment
    if name == "load":
        from deepgnn_cli.runs.trained import load

        return load
    raise AttributeError(f"module 'deepgnn_cli' has no attribute {name!r}")
