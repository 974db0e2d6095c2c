"""One run, from a checked configuration to its row: seed, graph, model, fit, measure, write.

`run` is the recipe, to be read from top to bottom. `job` is a run that takes nothing along when it fails:
whatever happens becomes its row's status.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from deepgnn_cli.config.compose import config_hash
from deepgnn_cli.data.pieces import stream
from deepgnn_cli.measure.peak_memory import PeakMemory
from deepgnn_cli.runfiles.environment import git_sha, package_version
from deepgnn_cli.runfiles.record import IDENTITY, Row, RunFolder
from deepgnn_cli.runs.build import make, prepare
from deepgnn_cli.training.callbacks import (
    LAYER_COLUMNS,
    MEMORY_COLUMNS,
    CheckpointCallback,
    Logger,
    ProgressBar,
    StepProbe,
    diagnose,
)
from deepgnn_cli.training.checkpoint import BestWeights, TrainState
from deepgnn_cli.training.distributed import End, in_processes, place
from deepgnn_cli.training.errors import Interrupted, line_of, status_of
from deepgnn_cli.training.signals import Stop


@dataclass(frozen=True)
class Plan:
    """A run to be done: the checked configuration, the options it was made of, and where its files go.

    `resume` is the checkpoint to go on from; `stop_marker` a file that asks the run to stop when it appears.
    """

    values: dict[str, Any]
    chosen: dict[str, str]
    folder: Path
    run_id: str
    overrides: str
    resume: Path | None = None
    stop_marker: Path | None = None

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return int(self.values["trainer"]["processes"])

    @property
    def hash(self) -> str:
        """The configuration's hash."""
        return config_hash(self.values)

    def row(self) -> Row:
        """The row as far as it is known before anything has run."""
        values, reported = self.values, self.values.get("reported") or {}
        return Row(
            run_id=self.run_id,
            status="failed",
            dataset=self.chosen["dataset"],
            split=None,
            model=self.chosen["model"],
            conv=self.chosen.get("conv", ""),
            norm=self.chosen["norm"],
            residual=self.chosen["residual"],
            layers=values["layers"],
            hidden=values["hidden"],
            seed=values["seed"],
            reported=reported.get("value"),
            reported_source=reported.get("source"),
            config_hash=self.hash,
            git_sha=git_sha(),
            version_torch=torch.__version__,
            version_pyg=package_version("torch-geometric"),
            version_deepgnn=package_version("deepgnn"),
            overrides=self.overrides,
        )


def run(
    plan: Plan, folder: RunFolder, facts: dict[str, Any], listeners: list[Logger], stop: Stop, best: BestWeights
) -> None:
    """Do the run: train, take the scores at the best validation epoch, measure, write every file.

    `facts` gathers the columns of the row as they become known, and `listeners` who is to hear how the run ended,
    so that a run that fails has them, too.

    Raises:
        Interrupted: a signal came; the checkpoint is written and the run can be resumed.
        Diverged: the loss is no number.
        ValueError: the data or the model cannot be had as configured.
    """
    values, recipe = plan.values, plan.values["trainer"]
    trainer, progress = prepare(values, plan.run_id, plan.resume, facts, best)
    model, graph, device = trainer.model, trainer.loader.whole, trainer.loader.device
    folder.start(OmegaConf.to_yaml(OmegaConf.create(values)))
    folder.log(
        f"{label(plan)} on {facts['device']}: {graph.num_nodes} nodes, {graph.num_edges} edges; {plan.overrides}"
    )
    listeners.append(ProgressBar(recipe["max_epochs"], progress.epoch, label(plan)))
    listeners.append(make(values["logger"])(plan.folder, values))
    with PeakMemory(device) as memory:
        every = recipe["checkpoint_every"], recipe["checkpoint_seconds"]
        keeper = CheckpointCallback(folder, trainer, progress, plan.hash, *every, listeners, stop)
        trainer.probe = probe = StepProbe(model, trainer.optimizer, device)
        try:
            with stop.deferred():
                trainer.fit(progress, keeper.after_epoch)
        finally:
            facts.update(scores(progress))
            keeper.write_epochs()
    facts.update(peak_memory_mib=memory.peak_mib, memory_kind=memory.kind, activation_mib=probe.activation_mib)
    folder.table("memory", MEMORY_COLUMNS, probe.rows())
    keeper.save()
    if recipe["diagnostics"] and progress.best is not None:
        model.load_state_dict(progress.best_weights.read(device))
        folder.table("layers", LAYER_COLUMNS, diagnose(trainer))


def scores(progress: TrainState) -> dict[str, Any]:
    """The row's columns about training: the scores are those of the best validation epoch."""
    steps = [epoch.step_seconds for epoch in progress.epochs[1:]] or [e.step_seconds for e in progress.epochs]
    facts: dict[str, Any] = {
        "epochs": progress.epoch,
        "step_seconds": median(steps) if steps else None,
        "train_seconds": progress.train_seconds,
    }
    if progress.best is not None:
        best = asdict(progress.best)
        facts.update({key: best[key] for key in ("train_score", "val_score", "test_score", "val_loss")})
        facts["best_epoch"] = progress.best.epoch
    return facts


def label(plan: Plan) -> str:
    """The run in a few words: `gcnii cora L64 s0`."""
    return f"{plan.chosen['model']} {plan.chosen['dataset']} L{plan.values['layers']} s{plan.values['seed']}"


def job(plan: Plan, alone: bool = True) -> Row:
    """Do a run and say how it ended: its row, written to its folder, whatever happens.

    Args:
        plan: the run.
        alone: a mistake of the user's found before anything is written is raised (a single run) rather than
            made a row (a job of a sweep).

    Raises:
        ValueError: see `alone`.
    """
    here = place()
    if plan.processes > 1 and here.world == 1:
        return together(plan, alone)
    if not here.leads:
        return assist(plan)
    folder, facts, listeners = _folder(plan), dict[str, Any](), list[Logger]()
    with _held(plan), Stop(plan.stop_marker) as stop, BestWeights(plan.folder) as best:
        try:
            run(plan, folder, facts, listeners, stop, best)
            facts["status"] = "ok"
        except (Exception, KeyboardInterrupt) as error:
            stop.defer()
            if alone and isinstance(error, ValueError) and not folder.started:
                raise
            facts.update(status=status_of(error), error=line_of(error))
            record_failure(plan, folder, traceback.format_exc())
            # The frames of a failed run hold its model and its optimiser.
            traceback.clear_frames(error.__traceback__)
        stop.defer()
        return _ended(plan, folder, facts, listeners)


@contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """The folder of a resumed run, for this process alone: two that go on there would write over each other.

    Raises:
        ValueError: another process goes on there now, or has just finished.
    """
    if plan.resume is None or plan.resume.parent != plan.folder:
        yield
        return
    try:
        with FileLock(plan.folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"resume={plan.folder}: another process goes on with that run now; leave it alone") from None


def assist(plan: Plan) -> Row:
    """Train along with rank 0, which writes all there is to write; returns a row that says how it ended."""
    facts = dict[str, Any](status="ok")
    with Stop() as stop, BestWeights() as best:
        try:
            with stop.deferred():
                trainer, progress = prepare(plan.values, plan.run_id, plan.resume, facts, best)
                ranks = trainer.ranks

                def agree(progress: TrainState) -> None:
                    # Other masks than rank 0's, and after a resumption the same ones as without.
                    torch.manual_seed(stream(plan.values["seed"], ranks.rank, progress.epoch))
                    if stop.share(ranks.largest):
                        stop.check()

                torch.manual_seed(stream(plan.values["seed"], ranks.rank, progress.epoch))
                trainer.fit(progress, agree)
        except (Exception, KeyboardInterrupt) as error:
            stop.defer()
            facts.update(status=status_of(error), error=line_of(error))
    return replace(plan.row(), **facts)


def together(plan: Plan, alone: bool) -> Row:
    """Do a run in several processes: rank 0's is `job`, the others assist; here it is only looked after them.

    Raises:
        ValueError: see `job`.
    """
    with Stop(plan.stop_marker) as stop:
        stop.defer()
        row, end = None, End("interrupted", "stopped twice")
        try:
            row, end = in_processes(plan.processes, partial(job, plan, alone), stop)
            if end.status == "interrupted":
                stop.check()
        except Interrupted as error:
            end = replace(end, error=line_of(error))
        if row is not None and (row.status, row.error) == (end.status, end.error):
            return row
        # Rank 0 could not write its row, or took another's end for its own.
        folder = _folder(plan)
        record_failure(plan, folder, f"{end.status}: {end.error}")
        facts = {} if row is None else row.as_dict()
        return _ended(plan, folder, facts | {"status": end.status, "error": end.error}, [])


def refused(plan: Plan, reason: str) -> Row:
    """The row of a job of a sweep that cannot be done, written to its folder."""
    folder = _folder(plan)
    record_failure(plan, folder, reason)
    return _ended(plan, folder, {"status": "failed", "error": reason}, [])


def _folder(plan: Plan) -> RunFolder:
    row = plan.row()
    return RunFolder(plan.folder, {name: getattr(row, name) for name in IDENTITY})


def record_failure(plan: Plan, folder: RunFolder, text: str) -> None:
    """Say in the folder of a run, which may be new, what went wrong."""
    if not folder.started:
        folder.start(OmegaConf.to_yaml(OmegaConf.create(plan.values)))
    folder.log(text)


def _ended(plan: Plan, folder: RunFolder, facts: dict[str, Any], listeners: list[Logger]) -> Row:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    row = replace(plan.row(), **facts)
    folder.log(f"{row.status} after {row.epochs} epochs: test {row.metric} {row.test_score} at epoch {row.best_epoch}")
    folder.finish(row)
    for listener in listeners:
        try:
            listener.finish(row)
        except Exception as error:  # a logger's trouble is not the run's
            folder.log(f"{type(listener).__name__}: {line_of(error)}")
    return row
