"""Time a training epoch of whole graphs: ours against PyG's DataLoader and its GIN, in turn in one process.

    python scripts/bench_graphs.py dataset=nci1 data_dir=DATA
    python scripts/bench_graphs.py dataset=nci1 data_dir=DATA model=deepergcn layers=7 hidden=64

The words are those of `deepgnn train`, behind `experiment=gin_nci1`, whose network is also PyG's side: four layers, 64
channels, batch normalisation, the layers side by side, a sum over the nodes; the same graphs, batch size and Adam. No
evaluation on either side; the processor time of an epoch, shuffling and batching included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import global_add_pool
from torch_geometric.nn.models import GIN

from deepgnn_cli.config.compose import compose, resolved
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.runs.build import build_trainer, load_inputs

ROUNDS, WARM = 5, 1
UNEVALUATED = ["trainer.eval_every=1000000", "trainer.max_epochs=1000000"]


class Classifier(nn.Module):
    """PyG's GIN, a sum over the nodes of a graph, and a linear layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.body = GIN(features, 64, 4, norm="batch", jk="cat")
        self.head = nn.Linear(64, classes)

    def forward(self, batch: Data) -> Tensor:
        out: Tensor = self.head(global_add_pool(self.body(batch.x, batch.edge_index), batch.batch))
        return out


def training_graphs(graph: Graph) -> list[Data]:
    """The graphs of the training set, as a data set of PyG's holds them: the label of a node one-hot."""
    assert graph.part_of is not None
    sizes = torch.bincount(graph.part_of).tolist()
    edges_of = torch.bincount(graph.part_of[graph.edge_index[0]], minlength=len(sizes)).tolist()
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    assert graph.categories is not None and len(graph.categories) == 1
    x = functional.one_hot(graph.x[:, 0].long(), graph.num_features).float()
    parts = zip(x.split(sizes), graph.edge_index.split(edges_of, dim=1), starts, strict=False)
    data = [
        Data(x=own, edge_index=ends - start, y=graph.y[number : number + 1])
        for number, (own, ends, start) in enumerate(parts)
    ]
    return [data[number] for number in graph.train.nonzero()[:, 0].tolist()]


def theirs(graph: Graph, batch_size: int, lr: float) -> Callable[[], None]:
    """An epoch of PyG's loader and network."""
    torch.manual_seed(0)
    loader = DataLoader(training_graphs(graph), batch_size=batch_size, shuffle=True)
    model = Classifier(graph.num_features, graph.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def epoch() -> None:
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), batch.y).backward()
            optimizer.step()

    return epoch


def main() -> None:
    """Time both in turn, and print medians and their ratio."""
    values = resolved(compose(["experiment=gin_nci1", *UNEVALUATED, *sys.argv[1:]]))
    loader = load_inputs(values, torch.device("cpu"))
    trainer = build_trainer(values, loader)
    numbers = iter(range(1, 1000))
    batch_size, lr = cast(int, values["batch"]["graphs_per_batch"]), cast(float, values["optimizer"]["lr"])
    epochs = {"ours": lambda: trainer.epoch(next(numbers)), "pyg": theirs(loader.whole, batch_size, lr)}
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(WARM + ROUNDS):
        for name, epoch in epochs.items():
            began = time.process_time()
            epoch()
            times[name].append(time.process_time() - began)
    found = {name: median(taken[WARM:]) for name, taken in times.items()}
    print(f"{' '.join(sys.argv[1:])}: ours {found['ours']:.3f} s, PyG's GIN {found['pyg']:.3f} s an epoch")
    print(f"ours / PyG's = {found['ours'] / found['pyg']:.2f}, medians of {ROUNDS}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
