"""The seam between the laws of training and the rooms they hold: a graph, a small model, and a trainer of both."""

from dataclasses import replace

import torch
from torch import nn

from deepgnn_cli.data.batches import full
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.training.checkpoint import BestWeights, TrainState
from deepgnn_cli.training.inputs import InputLoader
from deepgnn_cli.training.objectives import objective
from deepgnn_cli.training.trainer import Settings, Trainer
from tests.conftest import N, undirected

CPU = torch.device("cpu")
PLAIN = Settings(
    max_epochs=5,
    patience=None,
    select="val_loss",
    eval_every=1,
    warmup_epochs=0,
    clip_norm=None,
    autocast="none",
    cuda_graph=False,
    lr=0.1,
)


def problem(**changes) -> Graph:
    """Twelve nodes of three classes, five features; every third node trains, validates or tests."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(N, 5, generator=draw, dtype=torch.float64)
    y = torch.randint(3, (N,), generator=draw)
    masks = [torch.arange(N) % 3 == k for k in range(3)]
    return replace(Graph("ring", "thirds", x, undirected(), y, 3, *masks), **changes)


def summed(x, edge_index):
    """`x` plus the sum over the neighbours."""
    return x.index_add(0, edge_index[1], x[edge_index[0]])


class Linear(nn.Module):
    """`(x + A x) W`, or `x W` without neighbours; [N, 5] -> [N, 3]."""

    def __init__(self, neighbours=True):
        super().__init__()
        self.neighbours = neighbours
        self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.float64))

    def forward(self, x, graph):
        return (summed(x, graph.edge_index) if self.neighbours else x) @ self.weight


class Noisy(nn.Module):
    """Dropout and batch statistics: what a step draws and what a model carries beside its parameters."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList([nn.Linear(5, 4)])
        self.norm, self.drop, self.last = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)
        self.double()

    def forward(self, x, graph):
        return self.last(self.drop(self.norm(self.stack[0](x)).relu()))


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def trainer(graph, model, optimizer=None, batches=None, task=None, label_smoothing=0.0, **settings) -> Trainer:
    """A trainer on the CPU; without more words on the whole graph, by gradient descent."""
    loader = InputLoader(graph, batches or full(graph, seed=0, evaluate_on="device"), CPU)
    task = task or objective(graph.metric, label_smoothing)
    return Trainer(model, loader, optimizer or sgd(model), task, replace(PLAIN, **settings))


def fit(trained: Trainer, after_epoch=lambda progress: None) -> tuple[TrainState, dict[str, torch.Tensor]]:
    """Train to the end; how far it came, and the best epoch's weights."""
    with BestWeights() as best:
        progress = TrainState(best_weights=best)
        trained.fit(progress, after_epoch)
        return progress, best.read()


def one_step(trained: Trainer, epoch: int = 1) -> torch.Tensor:
    """The loss of the first training step of an epoch."""
    return trained.train_step(next(iter(trained.loader.train(epoch))))
