"""Time a training step: ours against PyG's, CogDL's and the official formulation of GCNII, in turn in one process.

    python scripts/bench_step.py --out bench_step.csv

Every round runs one step of each variant, so that all of them see the same machine; medians and ratios are what
to believe. `floor` is the products of a step alone: two SpMMs and three matmuls a layer.
`--growth` times ours over depths and graph sizes and fits the growth. `--check R` fails if ours / best rival exceeds R.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GCN2Conv

from deepgnn_cli.nn import convs, residuals
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.model import Drop, Shape, deep_gnn
from deepgnn_cli.nn.sparse_features import features

ALPHA, THETA, RATE = 0.1, 0.5, 0.6
Step = Callable[[], object]


class Rival(nn.Module):
    """GCNII as its authors wrote it: dropout before every layer, `layer(x, x0, l)`, ReLU."""

    def __init__(self, width: int, hidden: int, classes: int, layers: list[nn.Module]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(hidden, classes)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, edges: object) -> Tensor:
        x = x0 = self.first(functional.dropout(x, RATE, self.training)).relu()
        for layer in self.layers:
            x = layer(functional.dropout(x, RATE, self.training), x0, edges).relu()
        return self.last(functional.dropout(x, RATE, self.training))


class OfficialLayer(nn.Module):
    """The official code's layer: SpMM over COO, and each element-wise operation by itself."""

    def __init__(self, hidden: int, layer: int) -> None:
        super().__init__()
        self.beta = math.log(THETA / layer + 1)
        bound = 1 / math.sqrt(hidden)
        self.weight = nn.Parameter(torch.empty(hidden, hidden).uniform_(-bound, bound))

    def forward(self, x: Tensor, x0: Tensor, adjacency: Tensor) -> Tensor:
        support = (1 - ALPHA) * torch.spmm(adjacency, x) + ALPHA * x0
        return self.beta * torch.mm(support, self.weight) + (1 - self.beta) * support


class PyGLayer(nn.Module):
    """PyG's GCN2Conv over whatever adjacency it is given."""

    def __init__(self, hidden: int, layer: int, normalize: bool) -> None:
        super().__init__()
        self.conv = GCN2Conv(hidden, ALPHA, THETA, layer, normalize=normalize, cached=True)

    def forward(self, x: Tensor, x0: Tensor, edges: Tensor) -> Tensor:
        return self.conv(x, x0, edges)


class CogDLLayer(nn.Module):
    """CogDL's GCNIILayer, over its own graph."""

    def __init__(self, hidden: int, layer: int) -> None:
        from cogdl.layers import GCNIILayer

        super().__init__()
        self.conv = GCNIILayer(hidden, ALPHA, math.log(THETA / layer + 1))

    def forward(self, x: Tensor, x0: Tensor, graph: object) -> Tensor:
        return self.conv(graph, x, x0)


def cogdl_graph(edge_index: Tensor, x: Tensor) -> object | None:
    """CogDL's graph with self-loops, normalised; None, and a line that says why, where CogDL does not load."""
    try:
        from cogdl.data import Graph
        from cogdl.layers import GCNIILayer  # noqa: F401
    except Exception as error:  # it loads much that may fail in its own ways
        print(f"no row of CogDL: {type(error).__name__}: {error}")
        return None
    graph = Graph(x=x, edge_index=edge_index)
    graph.add_remaining_self_loops()
    graph.sym_norm()
    return graph


def random_graph(nodes: int, edges: int, width: int, density: float) -> tuple[Tensor, Tensor, Tensor]:
    """Undirected random edges, sparse binary features normalised by row, and labels."""
    half = torch.randint(0, nodes, (2, edges // 2))
    x = (torch.rand(nodes, width) < density).float()
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([half, half.flip(0)], dim=1), x, torch.randint(0, 7, (nodes,))


def training_step(model: nn.Module, x: object, edges: object, y: Tensor, fused: bool) -> Step:
    """Forward, backward and Adam over 140 training nodes, GCNII's two weight decays."""
    inner = [p for name, p in model.named_parameters() if "layers" in name]
    outer = [p for name, p in model.named_parameters() if "layers" not in name]
    decays = [{"params": inner, "weight_decay": 0.01}, {"params": outer, "weight_decay": 5e-4}]
    optimizer = torch.optim.Adam([d for d in decays if d["params"]], lr=0.01, **({"fused": True} if fused else {}))
    train = torch.arange(min(140, y.numel()), device=y.device)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x, edges)[train], y[train]).backward()
        optimizer.step()

    return step


def ours(name: str, x: Tensor, graph: Adjacency, y: Tensor, layers: int, hidden: int) -> Step:
    """A model of this package under its default recipe."""
    conv, residual, ends = {
        "gcnii": (
            partial(convs.gcn2, theta=THETA, variant="shared"),
            partial(residuals.initial, alpha=ALPHA),
            "linear",
        ),
        "gcn": (partial(convs.gcn, bias=True), residuals.none, "conv"),
    }[name]
    model = deep_gnn(
        Shape(x.size(1), 7), layers=layers, hidden=hidden, norm=None, residual=residual, drop=Drop(RATE, RATE),
        conv=conv, encoder=ends, decoder=ends, encoder_act="relu", act="relu", identity_mapping=None,
    ).to(x.device)  # fmt: skip
    return training_step(model, features(x), graph, y, fused=True)


def rivals(x: Tensor, edge_index: Tensor, graph: Adjacency, y: Tensor, layers: int, hidden: int) -> dict[str, Step]:
    """The official formulation, PyG's layer over edge_index and over CSR, and CogDL's where it is installed."""
    matrix = graph.operator("sym").matrix
    width, numbers = x.size(1), range(1, layers + 1)

    def build(stack: list[nn.Module], edges: object) -> Step:
        return training_step(Rival(width, hidden, 7, stack).to(x.device), x, edges, y, fused=False)

    coo = matrix.to_sparse_coo().coalesce()
    wide = torch.sparse_csr_tensor(
        matrix.crow_indices().long(), matrix.col_indices().long(), matrix.values(), matrix.shape
    )
    theirs = cogdl_graph(edge_index, x)
    cogdl = {} if theirs is None else {"cogdl": build([CogDLLayer(hidden, n) for n in numbers], theirs)}
    return cogdl | {
        "official": build([OfficialLayer(hidden, n) for n in numbers], coo),
        "pyg_edge_index": build([PyGLayer(hidden, n, True) for n in numbers], edge_index),
        "pyg_csr": build([PyGLayer(hidden, n, False) for n in numbers], wide),
    }


def floor(x: Tensor, graph: Adjacency, layers: int, hidden: int) -> Step:
    """The products of a step and nothing else."""
    matrix = graph.operator("sym").matrix
    h, w = torch.randn(x.size(0), hidden, device=x.device), torch.randn(hidden, hidden, device=x.device)

    def step() -> None:
        for _ in range(layers):
            matrix @ h, matrix @ h, h @ w, h @ w, h.t() @ h

    return step


def seconds(step: Step, device: torch.device) -> float:
    """One step's time, the device waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternate(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """The times of every variant, in turn, after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 2):
        for name, step in steps.items():
            taken = seconds(step, device)
            if round_ >= 2:
                times[name].append(taken)
    return times


def compare(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, object]]:
    """Ours, the rivals and the floor for GCNII at the depth, width and size asked for."""
    edge_index, x, y = (t.to(device) for t in random_graph(arguments.nodes, arguments.edges, 1433, 0.013))
    graph = Adjacency(edge_index, arguments.nodes)
    layers, hidden = arguments.layers, arguments.hidden
    steps = {
        "ours": ours("gcnii", x, graph, y, layers, hidden),
        **rivals(x, edge_index, graph, y, layers, hidden),
        "floor": floor(x, graph, layers, hidden),
    }
    times = alternate(steps, arguments.rounds, device)
    best = min(median(taken) for name, taken in times.items() if name not in ("ours", "floor"))
    return [
        {
            "table": "compare", "model": "gcnii", "variant": name, "layers": layers, "hidden": hidden,
            "nodes": arguments.nodes, "edges": arguments.edges, "median_ms": 1e3 * median(taken),
            "min_ms": 1e3 * min(taken), "ratio_to_best_rival": median(taken) / best,
            "ratio_to_floor": median(taken) / median(times["floor"]), "device": device_name(device),
        }
        for name, taken in times.items()
    ]  # fmt: skip


def growth(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, object]]:
    """Ours over layers and over edges, in turn, with a straight line fitted to each."""
    rows: list[dict[str, object]] = []
    depths, sizes = (2, 8, 32, 128, 512), (10_000, 20_000, 40_000, 80_000)
    for model in ("gcnii", "gcn"):
        data = {edges: random_graph(arguments.nodes, edges, 1433, 0.013) for edges in (arguments.edges, *sizes)}
        cases = [(depth, arguments.edges) for depth in depths] + [(32, edges) for edges in sizes]
        steps = {}
        for depth, edges in cases:
            edge_index, x, y = (t.to(device) for t in data[edges])
            graph = Adjacency(edge_index, arguments.nodes)
            steps[f"{depth}/{edges}"] = ours(model, x, graph, y, depth, arguments.hidden)
        times = alternate(steps, max(3, arguments.rounds // 3), device)
        for axis, picked in (("layers", cases[: len(depths)]), ("edges", cases[len(depths) :])):
            points = [(d if axis == "layers" else e, median(times[f"{d}/{e}"])) for d, e in picked]
            slope, intercept, fit = line(points)
            for (depth, edges), (_, taken) in zip(picked, points, strict=True):
                rows.append({
                    "table": f"growth_{axis}", "model": model, "variant": "ours", "layers": depth, "edges": edges,
                    "hidden": arguments.hidden, "nodes": arguments.nodes, "median_ms": 1e3 * taken,
                    "fit_slope_ms": 1e3 * slope, "fit_intercept_ms": 1e3 * intercept, "fit_r2": fit,
                    "device": device_name(device),
                })  # fmt: skip
    return rows


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    xs, ys = [float(x) for x, _ in points], [y for _, y in points]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)
    left = sum((y - my - slope * (x - mx)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, my - slope * mx, 1 - left / sum((y - my) ** 2 for y in ys)


def device_name(device: torch.device) -> str:
    """The GPU's name, or the number of CPU threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def main() -> int:
    """Run the tables asked for, print them, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=2708)
    parser.add_argument("--edges", type=int, default=10556)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--check", type=float, metavar="R", help="fail if ours / best rival is above R")
    parser.add_argument("--out", metavar="FILE.csv")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    rows = growth(arguments, device) if arguments.growth else compare(arguments, device)
    for row in rows:
        print(
            "  ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )
    if arguments.out:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if arguments.check is not None:
        ratio = next(row["ratio_to_best_rival"] for row in rows if row["variant"] == "ours")
        assert isinstance(ratio, float)
        print(f"ours / best rival = {ratio:.3f}, at most {arguments.check} asked for")
        return int(ratio > arguments.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
