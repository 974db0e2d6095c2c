"""Checks the reversible engine and the memory measurements on a CUDA GPU, in one command.

    python scripts/check_gpu.py --out gpu_check

Needs torch, PyG and this package's `nn` and `measure` only. Prints two tables and writes OUT_depth.csv (step time,
memory and gradient error of every variant by depth) and OUT_checks.csv (what must hold, and whether it does), each
with the GPU's name. Exit status: 0 all holds, 1 something does not, 2 no CUDA device.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from reversible_variants import VARIANTS, Problem, measure, relative_error
from torch import Tensor, nn

from deepgnn_cli.measure import MIB, PeakMemory, PhaseMemory
from deepgnn_cli.measure.timing import StepTimer

SIZES = {"nodes": 20_000, "edges": 200_000, "channels": 64, "groups": 2}


@dataclass(frozen=True)
class Finding:
    """A law, what was found, and whether it holds; `holds` is None where it could not be tried here."""

    check: str
    found: str
    holds: bool | None


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 64, 128, 512])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=SIZES["nodes"])
    parser.add_argument("--edges", type=int, default=SIZES["edges"])
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cpu: try the script out")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), help="head of the files' names")
    return parser.parse_args()


def main() -> int:
    """Measure depth by depth, check every law, and write both tables."""
    args = arguments()
    if args.device.type == "cuda" and not torch.cuda.is_available():
        print("check_gpu: this machine has no CUDA device (or torch is built without CUDA)", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}")
    sizes = SIZES | {"nodes": args.nodes, "edges": args.edges}
    rows: list[dict[str, Any]] = []
    for layers in args.layers:
        problem = Problem.random(**sizes, layers=layers, device=args.device)
        rows += [{"layers": layers} | asdict(row) for row in measure(problem, list(VARIANTS), args.rounds)]
    show(rows)
    findings = [*depth_laws(rows), *(finding for law in LAWS for finding in attempt(law, args.device))]
    checks = [asdict(finding) for finding in findings]
    show(checks)
    write(args.out.with_name(args.out.name + "_depth.csv"), rows, name)
    write(args.out.with_name(args.out.name + "_checks.csv"), checks, name)
    return int(any(finding.holds is False for finding in findings))


def attempt(law: Callable[[torch.device], list[Finding]], device: torch.device) -> list[Finding]:
    """A check that ends in an error has failed; the others still run."""
    try:
        return law(device)
    except (RuntimeError, ValueError, FloatingPointError) as error:
        return [Finding(law.__name__, f"{type(error).__name__}: {error}".splitlines()[0], False)]


def depth_laws(rows: Sequence[dict[str, Any]]) -> list[Finding]:
    """What must hold of the table by depth."""
    found: dict[str, list[dict[str, Any]]] = {v: [row for row in rows if row["variant"] == v] for v in VARIANTS}
    findings = []
    for variant in ("reversible", "exact"):
        kept = [row["kept_mib"] for row in found[variant]]
        findings.append(Finding(f"{variant}: kept MiB at every depth", f"{min(kept):.3f} to {max(kept):.3f}",
                                max(kept) <= 1.01 * min(kept)))  # fmt: skip
    ratios = [row["ratio"] for row in found["reversible"] if row["layers"] >= 64]
    if ratios:
        findings.append(Finding("reversible: step time ÷ stored, 64 layers and more", f"{max(ratios):.2f}",
                                max(ratios) <= 1.4))  # fmt: skip
    worst = max(row["gradient_error"] for row in found["reversible"])
    findings.append(Finding("reversible: gradient error, float32", f"{worst:.1e}", worst < 1e-2))
    worst = max(row["gradient_error"] for row in found["exact"])
    findings.append(Finding("exact: gradient error, float32", f"{worst:.1e}", worst == 0))
    return findings


def small(device: torch.device, **settings: Any) -> Problem:
    """A problem that a check takes a moment for."""
    return Problem.random(**({"nodes": 2_000, "edges": 16_000, "channels": 64, "groups": 2, "layers": 32} | settings),
                          device=device)  # fmt: skip


def double_precision(device: torch.device) -> list[Finding]:
    """Gradients equal stored ones up to rounding."""
    problem = small(device, dtype=torch.float64)
    error = relative_error(problem.step(problem.network("reversible")), problem.step(problem.network("stored")))
    return [Finding("gradient error, float64", f"{error:.1e}", error < 1e-9)]


def randomness_of_the_device(device: torch.device) -> list[Finding]:
    """Dropout inside the branches draws from the device's generator."""
    problem = small(device, dtype=torch.float64, rate=0.4)
    found = []
    for variant in ("stored", "reversible"):
        torch.manual_seed(5)
        found.append([*problem.step(problem.network(variant)), torch.rand(3, device=device)])
    error = relative_error(found[1][:-1], found[0][:-1])
    return [
        Finding("dropout inside branches is replayed, float64", f"{error:.1e}", error < 1e-9),
        Finding("the device's random stream goes on alike", "", bool(torch.equal(found[0][-1], found[1][-1]))),
    ]


def autocast(device: torch.device) -> list[Finding]:
    """bf16 in the branches; the stream stays float32."""
    problem = small(device)
    found = {}
    for variant in ("stored", "reversible", "stored exact", "exact"):
        network, x = problem.network(variant), problem.x.clone().requires_grad_()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out = network(x, problem.graph)
        at_x, *at_weights = torch.autograd.grad(out.float().square().mean(), [x, *network.parameters()])
        found[variant] = [at_x, *(gradient for gradient in at_weights)]
    close = relative_error(found["reversible"], found["stored"])
    same = relative_error(found["exact"], found["stored exact"])
    return [
        Finding("autocast bf16: gradient error", f"{close:.1e}", close < 2e-2),
        Finding("autocast bf16, exact: gradient error", f"{same:.1e}", same == 0),
    ]


def grid_guard(device: torch.device) -> list[Finding]:
    """A stream too large for the grid is refused, not spoilt."""
    problem = small(device)
    try:
        problem.network("exact")(problem.x * 1e4, problem.graph)
    except FloatingPointError as error:
        return [Finding("exact: a stream out of range is refused", str(error)[:60], True)]
    return [Finding("exact: a stream out of range is refused", "it was not", False)]


def phases(device: torch.device) -> list[Finding]:
    """The peak of each phase is its own: a large tensor freed before the phase does not count."""
    problem = small(device)
    network = problem.network("reversible")
    optimizer = torch.optim.Adam(network.parameters())
    memory = PhaseMemory(device, network, optimizer)
    past = torch.ones(256 * MIB, dtype=torch.uint8, device=device)
    del past
    with PeakMemory(device) as whole:
        with memory.phase("forward"):
            loss = network(problem.x, problem.graph).square().mean()
        with memory.phase("backward"):
            loss.backward()
        with memory.phase("optimiser"):
            optimizer.step()
    rows = {row["phase"]: row["peak_mib"] for row in memory.rows()}
    peaks = [rows[name] for name in ("forward", "backward", "optimiser")]
    text = "  ".join(f"{name} {size:.1f}" for name, size in rows.items())
    return [Finding("memory by phase, MiB", text, whole.peak_mib >= max(peaks) - 1)]


def cuda_graph(device: torch.device) -> list[Finding]:
    """A whole training step, captured once and replayed, gives the weights that eager steps give."""
    if device.type != "cuda":
        return [Finding("a training step in a CUDA graph", "needs CUDA", None)]
    findings = []
    for variant in ("stored", "reversible", "exact"):
        eager, captured = small(device), small(device)
        plain, replayed = eager.network(variant), captured.network(variant)
        seconds = [train_eagerly(eager, plain), train_captured(captured, replayed)]
        error = relative_error([p.detach() for p in replayed.parameters()], [p.detach() for p in plain.parameters()])
        text = f"error {error:.1e}, {seconds[0] * 1e3:.1f} ms eager, {seconds[1] * 1e3:.1f} ms replayed"
        findings.append(Finding(f"a training step in a CUDA graph: {variant}", text, error < 1e-4))
    return findings


STEPS = 8  # the first three warm up, in both ways of training


def train_eagerly(problem: Problem, network: nn.Module) -> float:
    """The median seconds of a step after the warm-up."""
    optimizer, timer = torch.optim.SGD(network.parameters(), lr=0.1), StepTimer(problem.x.device)
    for _ in range(STEPS):
        with timer:
            _train_step(problem, network, optimizer)
    return median(timer.seconds()[3:])


def train_captured(problem: Problem, network: nn.Module) -> float:
    """The same, the steps being replays of one captured step."""
    optimizer, timer = torch.optim.SGD(network.parameters(), lr=0.1), StepTimer(problem.x.device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            _train_step(problem, network, optimizer)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        _train_step(problem, network, optimizer)
    for _ in range(STEPS - 3):
        with timer:
            graph.replay()
    return median(timer.seconds())


def _train_step(problem: Problem, network: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss: Tensor = network(problem.x, problem.graph).square().mean()
    loss.backward()
    optimizer.step()
    return loss


LAWS = (double_precision, randomness_of_the_device, autocast, grid_guard, phases, cuda_graph)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    texts = [[_text(value) for value in row.values()] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(list(rows[0]), *texts, strict=True)]
    for line in ([*rows[0]], *texts):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def write(path: Path, rows: Sequence[dict[str, Any]], device: str) -> None:
    """Write the rows as CSV, with the device and the version of torch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "device", "version_torch"])
        writer.writeheader()
        writer.writerows(row | {"device": device, "version_torch": torch.__version__} for row in rows)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
