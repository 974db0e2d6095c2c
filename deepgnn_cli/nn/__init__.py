"""Deep graph neural networks as a library: torch and PyG only."""

from deepgnn_cli.nn.deepen import deepen

__all__ = ["deepen"]
