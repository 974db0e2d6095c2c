"""What must hold of reversible layers and of the measurements on a GPU; needs torch, PyG and deepgnn_cli's `nn`."""

from __future__ import annotations

import gc
import traceback
from dataclasses import asdict, replace
from typing import Any

import torch
from gpu_findings import Finding, Machine, Section, below, needs_gpu
from reversible_variants import VARIANTS, Problem, measure, measure_alone, relative_error
from torch import Tensor

from deepgnn_cli.measure import MIB, PeakMemory, PhaseMemory
from deepgnn_cli.measure.timing import StepTimer
from deepgnn_cli.nn.aggregation.products import product
from deepgnn_cli.nn.aggregation.repeatable import row_sums
from deepgnn_cli.training.errors import status_of


def _small(machine: Machine, **settings: Any) -> Problem:
    """A problem that a check takes a moment for."""
    sizes = {"nodes": 300, "edges": 2_000, "layers": 8} if machine.small else {"nodes": 2_000, "edges": 16_000}
    given = {"channels": 64, "groups": 2, "layers": 32} | sizes | settings
    return Problem.random(**given, device=machine.device)


def reversible(machine: Machine) -> Section:
    """Gradients equal stored ones; dropout inside the branches, drawn on the device, is replayed."""
    problem = _small(machine, dtype=torch.float64)
    error = relative_error(problem.step(problem.network("reversible")), problem.step(problem.network("stored")))
    findings = [below("gradient error, float64", error, 1e-9)]
    problem = _small(machine, dtype=torch.float64, rate=0.4)
    found = []
    for variant in ("stored", "reversible"):
        torch.manual_seed(5)
        found.append([*problem.step(problem.network(variant)), torch.rand(3, device=machine.device)])
    error = relative_error(found[1][:-1], found[0][:-1])
    alike = torch.equal(found[0][-1], found[1][-1])
    findings += [
        below("dropout inside branches is replayed, gradient error, float64", error, 1e-9),
        Finding("the device's random stream afterwards", "alike" if alike else "not alike", "alike", alike),
    ]
    return Section(findings)


def exact(machine: Machine) -> Section:
    """The input is found again to the last bit; a stream out of range is refused."""
    problem = _small(machine)
    network = problem.network("exact").eval()
    with torch.no_grad():
        once = network.inverse(network(problem.x, problem.graph), problem.graph)
        again = network.inverse(network(once, problem.graph), problem.graph)
    inverted = torch.equal(once, again)
    text = f"{'the' if inverted else 'NOT the'} same bits"
    found = problem.step(problem.network("exact"))
    error = relative_error(found, problem.step(problem.network("stored exact")))
    matrix = problem.graph.operator("sym").matrix
    sums = [row_sums(matrix, problem.x) for _ in range(20)]
    fast = [product(matrix, problem.x) for _ in range(20)]
    difference = relative_error([sums[0]], [fast[0]])
    repeated = [sum(torch.equal(other, group[0]) for other in group) for group in (sums, fast)]
    return Section([
        Finding("exact: the input found again", text, "the same bits", inverted),
        # The order in which a GPU adds up gradients differs from run to run, of one network, too.
        below("exact: gradient error, float32", error, 1e-4 if machine.on_gpu else 0.0),
        below("repeatable product against the fast one", difference, 1e-5),
        Finding("repeatable product: runs with the same bits", f"{repeated[0]} of 20", "20 of 20", repeated[0] == 20),
        Finding("fast product: runs with the same bits", f"{repeated[1]} of 20", "for information", True),
        _guard(problem),
    ])  # fmt: skip


def _guard(problem: Problem) -> Finding:
    """On a GPU the check is a pass late: the second pass raises what the first has done."""
    network = problem.network("exact")
    try:
        for _ in range(2):
            network(problem.x * 1e4, problem.graph)
    except FloatingPointError as error:
        return Finding("exact: a stream out of range", str(error).partition(";")[0], "FloatingPointError", True)
    return Finding("exact: a stream out of range", "passed", "FloatingPointError", False)


def autocast(machine: Machine) -> Section:
    """bf16 in the branches; the stream stays float32."""
    problem = _small(machine)
    found: dict[str, list[Tensor]] = {}
    for variant in ("stored", "reversible", "stored exact", "exact"):
        network, x = problem.network(variant), problem.x.clone().requires_grad_()
        with torch.autocast(machine.device.type, dtype=torch.bfloat16):
            out = network(x, problem.graph)
        found[variant] = list(torch.autograd.grad(out.float().square().mean(), [x, *network.parameters()]))
    same = relative_error(found["exact"], found["stored exact"])
    return Section([
        below("autocast bf16: gradient error", relative_error(found["reversible"], found["stored"]), 2e-2),
        below("autocast bf16, exact: gradient error", same, 2e-2 if machine.on_gpu else 0.0),
    ])  # fmt: skip


def phases(machine: Machine) -> Section:
    """The peak of each phase is its own: a large tensor freed before the phase does not count."""
    problem = _small(machine)
    network = problem.network("reversible")
    optimizer = torch.optim.Adam(network.parameters())
    memory = PhaseMemory(machine.device, network, optimizer)
    past = torch.ones(256 * MIB, dtype=torch.uint8, device=machine.device)
    del past
    with PeakMemory(machine.device) as whole:
        with memory.phase("forward"):
            loss = network(problem.x, problem.graph).square().mean()
        with memory.phase("backward"):
            loss.backward()
        with memory.phase("optimiser"):
            optimizer.step()
    rows = {row["phase"]: row["peak_mib"] for row in memory.rows()}
    largest = max(rows[name] for name in ("forward", "backward", "optimiser"))
    text = ", ".join(f"{name} {size:.1f}" for name, size in rows.items())
    # On a CPU the peaks are the whole process's, and pages that were freed may still be its own.
    freed = Finding("memory by phase, MiB", text, "no phase has the 256 MiB freed before it", largest < 256)
    expected, fits = f"at most the whole step's, {whole.peak_mib:.1f}", largest <= whole.peak_mib + 1
    return Section([
        freed if machine.on_gpu else needs_gpu(freed.check, freed.expected),
        Finding("the largest phase, MiB", f"{largest:.1f}", expected, fits),
    ])  # fmt: skip


def oom(machine: Machine) -> Section:
    """To ask for more memory than there is is `oom`, and the process trains on."""
    total = torch.cuda.get_device_properties(machine.device).total_memory if machine.on_gpu else 2**55
    try:
        torch.empty(2 * total, dtype=torch.uint8, device=machine.device)
    except RuntimeError as error:
        status = status_of(error)
    else:
        status = "allocated"
    problem = _small(machine)
    finite = all(bool(g.isfinite().all()) for g in problem.step(problem.network("reversible")))
    return Section([
        Finding("more memory than there is", status, "oom", status == "oom"),
        Finding("a step after it", "finite gradients" if finite else "broken", "finite gradients", finite),
    ])  # fmt: skip


def second_device(machine: Machine) -> Section:
    """What is measured on cuda:1 is measured there, and nothing happens on cuda:0."""
    expected = "times and peaks of cuda:1 alone"
    if not machine.on_gpu or torch.cuda.device_count() < 2:
        return Section([Finding("a step on cuda:1", "there is no second GPU", expected, None)])
    second, before = torch.device("cuda:1"), torch.cuda.memory_allocated(0)
    torch.cuda.set_device(second)
    try:
        problem, timer = _small(Machine(second, machine.small)), StepTimer(second)
        with PeakMemory(second) as peak, timer:
            problem.step(problem.network("reversible"))
        (seconds,) = timer.seconds()
    finally:
        torch.cuda.set_device(machine.device)
    grown = torch.cuda.memory_allocated(0) - before
    text = f"{1e3 * seconds:.1f} ms, {peak.peak_mib:.1f} MiB there, {grown} bytes more on cuda:0"
    return Section([Finding("a step on cuda:1", text, expected, seconds > 0 and peak.peak_mib > 0 and not grown)])


def depth(machine: Machine) -> Section:
    """Memory and step time by depth: reversible layers against stored ones, checkpointing and PyG's GroupAddRev."""
    depths = (8, 16) if machine.small else (8, 64, 256, 1001)
    sizes = {"nodes": 300, "edges": 2_400} if machine.small else {"nodes": 20_000, "edges": 200_000}
    rows: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for layers in depths:
        problem = Problem.random(**sizes, channels=64, groups=2, layers=layers, device=machine.device)
        rounds = 1 if machine.small else 3
        try:
            measured = measure(problem, list(VARIANTS), rounds)
        except RuntimeError as error:
            if status_of(error) != "oom":
                raise
            traceback.clear_frames(error.__traceback__)
            measured = []
        if not measured:
            findings.append(Finding(f"{layers} layers beside stored ones", "out of memory", "depends on the GPU", None))
            measured = measure_alone(problem, list(VARIANTS), rounds)
        rows += [{"layers": layers} | asdict(row) for row in measured]
        gc.collect()
    return Section(findings + depth_laws(rows, machine), {"Memory and step time by depth": rows})


def depth_laws(rows: list[dict[str, Any]], machine: Machine) -> list[Finding]:
    """What must hold of the table by depth, as far as it has the numbers."""
    findings = []
    for variant in ("reversible", "exact"):
        kept = _known(rows, variant, "kept_mib")
        text = f"{min(kept):.3f} to {max(kept):.3f}" if kept else "nothing fits"
        alike = max(kept) <= 1.01 * min(kept) if kept else False
        findings.append(Finding(f"{variant}: kept MiB", text, "the same at every depth", alike))
    ratios = _known([row for row in rows if row["layers"] >= 64], "reversible", "ratio")
    name, text = "reversible: step time ÷ stored, 64 layers and more", f"{max(ratios, default=0):.2f}"
    findings.append(_unless_none(Finding(name, text, "at most 1.4", max(ratios, default=0) <= 1.4), ratios))
    for variant, limit in (("reversible", 1e-2), ("exact", 1e-4 if machine.on_gpu else 0.0)):
        errors = _known(rows, variant, "gradient_error")
        name = f"{variant}: gradient error, float32, all depths"
        findings.append(_unless_none(below(name, max(errors, default=0.0), limit), errors))
    return findings


def _known(rows: list[dict[str, Any]], variant: str, column: str) -> list[float]:
    return [row[column] for row in rows if row["variant"] == variant and row[column] is not None]


def _unless_none(finding: Finding, values: list[float]) -> Finding:
    return finding if values else replace(finding, found="no such numbers here", holds=None)
