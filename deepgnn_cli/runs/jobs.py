"""One job of a sweep, as Hydra's launchers call it: in this process, or in a worker's."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deepgnn_cli.config.compose import choices, resolved
from deepgnn_cli.config.validate import check
from deepgnn_cli.runfiles.record import read_csv
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.launchers import pin
from deepgnn_cli.runs.monitor import Tally
from deepgnn_cli.runs.run import Plan, refused
from deepgnn_cli.runs.run import job as run_job
from deepgnn_cli.training.errors import Interrupted
from deepgnn_cli.training.signals import Stop, number_of

MARKER = ".stop"


@dataclass(frozen=True)
class _Here:
    stop: Stop
    tally: Tally


_here: _Here | None = None


@contextmanager
def in_process(stop: Stop, tally: Tally) -> Iterator[None]:
    """Say that this process runs the sweep: a job called here shares its signals, and its lines are printed at once."""
    global _here
    _here = _Here(stop, tally)
    try:
        yield
    finally:
        _here = None


def job(cfg: DictConfig) -> float | None:
    """Do one job; returns the validation score of a run that is ok, else None.

    Nothing that goes wrong in a run is raised: it is in the run's row.

    Raises:
        Interrupted: a signal ends the sweep, which runs in this process.
        OSError: the row could not be written.
    """
    hydra = HydraConfig.get()
    folder, marker = Path(hydra.runtime.output_dir), Path(hydra.sweep.dir) / MARKER
    if _here is not None:
        _here.stop.check()
    elif marker.exists():
        return None
    else:
        _enter_worker(hydra.runtime.cwd, hydra.job.num, str(cfg.device))
    values, chosen = resolved(cfg), choices(cast(DictConfig, HydraConfig.instance().cfg))
    plan, done = history.plan_for(
        values,
        chosen,
        " ".join(hydra.overrides.task),
        skip=values["skip_finished"] is not False,
        folder=folder,
        also=[Path(hydra.sweep.dir)],
        stop_marker=marker,
    )
    _make_room(plan)
    if done is not None:
        history.adopt(done, folder)
    else:
        _do(plan)
    if _here is not None:
        _here.tally.tell()
    row = read_csv(folder / "result.csv")[0]
    return float(row["val_score"]) if row["status"] == "ok" and row["val_score"] else None


def _enter_worker(cwd: str, number: int, device: str) -> None:
    """Settle in a process that a launcher started."""
    os.environ["DEEPGNN_QUIET"] = "1"  # the progress bars of several jobs would overwrite each other
    if cwd not in sys.path:  # the user's own modules lie where the command was given
        sys.path.append(cwd)
    pin(number, device)


def _make_room(plan: Plan) -> None:
    """Move aside what a run of another configuration left under this job's number, in a sweep folder used again."""
    known = history.outcomes(plan.folder / "result.csv")
    if known and all(digest != plan.hash for digest, _ in known):
        plan.folder.rename(plan.folder.with_name(f"{plan.folder.name}_{secrets.token_hex(3)}"))
        plan.folder.mkdir()


def _do(plan: Plan) -> None:
    try:
        check(plan.values, plan.chosen)
    except ValueError as error:
        refused(plan, str(error))
        return
    row = run_job(plan, alone=False)
    if row.status == "interrupted" and _here is not None:
        raise Interrupted(number_of(row.error))
