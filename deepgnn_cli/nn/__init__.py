"""Deep graph neural networks as a library: torch and PyG only.

`deepen` makes a deep GNN out of any conv; `deep_gnn` is the whole network that the command line trains. A conv of one's
own is called `conv(x, adjacency, x0)` with an `Adjacency`.
"""

from deepgnn_cli.nn.adjacency import Adjacency, Operator
from deepgnn_cli.nn.deepen import Deep, deepen
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.model import DeepGNN, Drop, Shape, deep_gnn
from deepgnn_cli.nn.reversible.stack import ReversibleStack
from deepgnn_cli.nn.sparse_features import SparseFeatures

__all__ = [
    "Adjacency",
    "Branches",
    "Deep",
    "DeepGNN",
    "Drop",
    "Operator",
    "ReversibleStack",
    "Shape",
    "SparseFeatures",
    "deep_gnn",
    "deepen",
]
