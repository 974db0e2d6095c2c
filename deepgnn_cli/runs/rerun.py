"""A bundled study again: each run with the same configuration, its row held against the one it had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from deepgnn_cli.analysis.bundle import BundledRun
from deepgnn_cli.config.compose import RunConfig
from deepgnn_cli.config.schema import Root
from deepgnn_cli.config.validate import check
from deepgnn_cli.runfiles.environment import machine
from deepgnn_cli.runfiles.files import read_csv, read_yaml
from deepgnn_cli.runs.plan import Plan, plan_for
from deepgnn_cli.runs.run import run

REPEATED = ("ok", "diverged")
"""How a run has ended that can be repeated; the others were cut short."""
SCORES = ("train_score", "val_score", "test_score")
EXACT = ("status", "metric", "data_hash", "parameters", "epochs", "best_epoch", *SCORES, "val_loss")
_OURS = ("deepgnn_cli.", "torch_geometric.")


@dataclass(frozen=True)
class Repeated:
    """A run and its repetition. `differing`: what is not the same to the last bit, as (column, before, now)."""

    plan: Plan
    bundled: BundledRun
    row: dict[str, str]
    differing: tuple[tuple[str, str, str], ...]
    same_machine: bool

    def agrees(self, tolerance: float) -> bool:
        """To the last bit on the machine it ran on; elsewhere the scores within `tolerance`."""
        if not self.differing:
            return True
        if self.same_machine or self.row["status"] != self.bundled.row["status"]:
            return False
        pairs = [(self.bundled.row[name], self.row[name]) for name in SCORES]
        return all(before == now or _near(before, now, tolerance) for before, now in pairs)


def _near(before: str, now: str, tolerance: float) -> bool:
    return bool(before and now) and abs(float(before) - float(now)) <= tolerance


def configurations(runs: Sequence[BundledRun], unpacked: Path, out: Path, trust: bool) -> list[RunConfig]:
    """The checked configuration of each run, which writes below `out` and reads its own graph from the bundle.

    Raises:
        ValueError: a configuration cannot work here, or names others' code and `trust` is not given.
    """
    configs = []
    for one in runs:
        values = cast(Root, read_yaml(unpacked / "runs" / one.name / "config.yaml"))
        values |= {"output_dir": str(out), "resume": None, "skip_finished": None}
        foreign = sorted(set(_code(values)))
        if foreign and not trust:
            raise ValueError(
                f"run {one.name} calls {', '.join(foreign)}, which is no part of deepgnn; look at it, then add --trust"
            )
        if one.data:
            _copy(unpacked / one.data, out / one.data)
            values["dataset"] = values["dataset"] | {"path": str((out / one.data).absolute())}
        config = RunConfig(values, one.choices, one.row.get("overrides", ""))
        check(config.values, config.choices)
        configs.append(config)
    return configs


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _code(node: object) -> Iterator[str]:
    """The names of functions and classes in a configuration that are not ours."""
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).endswith("target_") or key == "target":
                if isinstance(value, str) and not value.startswith(_OURS):
                    yield value
            else:
                yield from _code(value)
    elif isinstance(node, list):
        for value in node:
            yield from _code(value)


def repeat(config: RunConfig, bundled: BundledRun) -> Repeated:
    """Do a run again, with as many threads as it had; one that was repeated before is read.

    Raises:
        OSError: its row could not be written.
    """
    threads = bundled.machine.get("threads")
    if isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
    plan = plan_for(config, skip=True)
    if plan.finished is None:
        run(plan, alone=False)
    else:
        plan = replace(plan, folder=plan.finished)
    row = read_csv(plan.folder / "result.csv")[0]
    before = bundled.row
    differing = tuple(
        (name, before.get(name, ""), row[name]) for name in EXACT if before.get(name, "") != row.get(name, "")
    )
    return Repeated(plan, bundled, row, differing, _same_machine(bundled, row))


def _same_machine(bundled: BundledRun, row: dict[str, str]) -> bool:
    here = machine(torch.get_num_threads()) == bundled.machine
    versions = ("device", "version_torch", "version_pyg")
    return here and all(bundled.row.get(name) == row.get(name) for name in versions)
