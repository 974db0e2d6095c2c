"""One run, from a checked configuration to its outcome: seed, graph, model, fit, measure, write.

`train` is the recipe, to be read from top to bottom; every process of a run follows it.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from filelock import FileLock, Timeout

from deepgnn_cli.config.compose import as_yaml, make
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.measure.peak_memory import PeakMemory, set_aside
from deepgnn_cli.runfiles.environment import machine
from deepgnn_cli.runfiles.record import IDENTITY, RunFolder
from deepgnn_cli.runs.build import build_trainer, load_inputs, pick_device
from deepgnn_cli.runs.plan import Outcome, Plan
from deepgnn_cli.training import checkpoint
from deepgnn_cli.training.callbacks import (
    MEMORY_COLUMNS,
    AssistingRank,
    CheckpointCallback,
    Logger,
    ProgressBar,
    StepProbe,
)
from deepgnn_cli.training.checkpoint import BestWeights, Epoch, TrainState
from deepgnn_cli.training.diagnostics import Diagnostics
from deepgnn_cli.training.distributed import End, in_processes, place
from deepgnn_cli.training.errors import Interrupted, line_of, status_of
from deepgnn_cli.training.signals import Stop
from deepgnn_cli.training.subnormals import subnormals_are_zeros

Judge = Callable[[Epoch], None]


def run(plan: Plan, *, alone: bool = True, judge: Judge | None = None) -> Outcome:
    """Do a run and say how it ended; its row and files are written, whatever happens.

    Args:
        plan: the run.
        alone: a mistake of the user's found before anything is written is raised (a single run) rather than
            made an outcome (a job of a sweep).
        judge: hears of every epoch, those before a resumption too, and may end the run by raising `Pruned`. Not asked
            in a run of several processes.

    Raises:
        ValueError: see `alone`.
        OSError: the row could not be written.
    """
    together = plan.processes > 1 and place().world == 1
    outcome = _train_together(plan, alone) if together else train(plan, alone, judge)
    gc.collect()
    if torch.cuda.is_initialized():
        with suppress(RuntimeError):  # after a device-side assert every call fails
            torch.cuda.empty_cache()
    return outcome


@subnormals_are_zeros()
def train(plan: Plan, alone: bool, judge: Judge | None = None) -> Outcome:
    """The recipe: train, take the scores at the best validation epoch, measure, write every file.

    Rank 0 of several processes measures and writes, the others train along with it. Arguments as for `run`.
    """
    values, recipe, leads = plan.values, plan.values["trainer"], place().leads
    outcome, folder, callback = Outcome("ok"), _folder(plan), None
    with (
        _locked(plan, leads),
        Stop(plan.stop_marker if leads else None) as stop,
        BestWeights(plan.folder if leads else None) as best,
    ):
        state = TrainState(plan.run_id, best_weights=best)
        if not leads:
            stop.defer()
        try:
            device, ranks = pick_device(values["device"])
            outcome = replace(outcome, device=_name(device))
            loader = load_inputs(values, device, ranks)
            graph = loader.whole
            outcome = replace(outcome, split=graph.split, data_hash=graph.digest)
            outcome = replace(outcome, metric=graph.metric, direction=graph.task.direction)
            trainer = build_trainer(values, loader, ranks)
            outcome = replace(outcome, parameters=sum(p.numel() for p in trainer.model.parameters()))
            diagnostics = Diagnostics(trainer, values) if leads else None  # of the network as it is drawn
            if plan.resume is not None:
                state = checkpoint.restore(checkpoint.read(plan.resume), trainer.model, trainer.optimizer, best)
                outcome = replace(outcome, run_id=state.run_id)
            if not leads:
                with stop.deferred():
                    trainer.fit(state, AssistingRank(trainer, state, values["seed"], stop).after_epoch)
                return outcome

            folder.start(as_yaml(values))
            folder.log(f"{plan.label} on {outcome.device}: {_size(graph)}; {plan.config.overrides}")
            if diagnostics is not None:
                outcome = replace(outcome, **diagnostics.describe_graph(folder))
            callback = CheckpointCallback(
                folder, trainer, state, plan.config.hash, recipe, _listeners(plan, outcome, state.epoch), stop
            )
            trainer.probe = probe = StepProbe(trainer.model, trainer.optimizer, device)
            try:
                with PeakMemory(device) as memory, stop.deferred():
                    trainer.fit(state, _judged(state, callback.after_epoch, judge))
            finally:
                callback.write_training()
            peak, kept = memory.peak_mib, probe.activation_mib
            outcome = replace(outcome, peak_memory_mib=peak, memory_kind=memory.kind, activation_mib=kept)
            folder.table("memory", MEMORY_COLUMNS, probe.rows())
            callback.save()
            if diagnostics is not None and state.best is not None:
                outcome = replace(outcome, **diagnostics.write(state, folder))
        except (Exception, KeyboardInterrupt) as error:
            stop.defer()
            if alone and leads and isinstance(error, ValueError) and not folder.started:
                raise
            outcome = replace(outcome, status=status_of(error), error=line_of(error))
            problem = traceback.format_exc()
            traceback.clear_frames(error.__traceback__)  # they hold the model and the optimiser
            if leads:
                _log_failure(plan, folder, problem)
        stop.defer()
        outcome = replace(outcome, **scores(state))
        if leads:
            _write_outcome(plan, folder, outcome, callback)
        return outcome


def _size(graph: Graph) -> str:
    size = f"{graph.num_nodes} nodes, {graph.num_edges} edges"
    return f"{graph.num_graphs} graphs, {size}" if graph.part_of is not None else size


def _listeners(plan: Plan, outcome: Outcome, epoch: int) -> list[Logger]:
    """Who hears of every epoch: the bar, and the logger of one's choice."""
    values = plan.values
    bar = ProgressBar(values["trainer"]["max_epochs"], epoch, plan.label)
    with set_aside():
        return [bar, make(values["logger"])(plan.folder, {**values, "names": plan.names(outcome)})]


def _judged(
    state: TrainState, after_epoch: Callable[[TrainState], None], judge: Judge | None
) -> Callable[[TrainState], None]:
    """`after_epoch`, and then the judge; who has heard of the epochs there are."""
    if judge is None:
        return after_epoch
    for epoch in state.epochs:
        judge(epoch)

    def both(state: TrainState) -> None:
        after_epoch(state)
        judge(state.epochs[-1])

    return both


@contextmanager
def _locked(plan: Plan, leads: bool) -> Iterator[None]:
    """The folder of a resumed run, for this process alone: two that go on there would write over each other.

    Raises:
        ValueError: another process goes on there now, or has just finished.
    """
    if not leads or plan.resume is None or plan.resume.parent != plan.folder:
        yield
        return
    try:
        with FileLock(plan.folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"resume={plan.folder}: another process goes on with that run now; leave it alone") from None


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def scores(state: TrainState) -> dict[str, Any]:
    """The outcome of the training: the scores are those of the best validation epoch."""
    known: dict[str, object] = {}
    if state.epochs:
        # The first epoch has cold caches.
        timed = [
            [e.step_seconds for e in part if e.step_seconds is not None] for part in (state.epochs[1:], state.epochs)
        ]
        steps = timed[0] or timed[1]
        known = {"epochs": state.epoch, "train_seconds": state.train_seconds}
        known["step_seconds"] = median(steps) if steps else None
    if state.best is not None:
        names = ("train_score", "val_score", "test_score", "val_loss")
        known |= {name: getattr(state.best, name) for name in names} | {"best_epoch": state.best.epoch}
    return known


def _train_together(plan: Plan, alone: bool) -> Outcome:
    """Do a run in several processes, each of which follows the recipe; here they are only looked after.

    Raises:
        ValueError: see `run`.
    """
    with Stop(plan.stop_marker) as stop:
        stop.defer()
        known, end = None, End("interrupted", "stopped twice")
        try:
            known, end = in_processes(plan.processes, partial(_train_as_rank, plan, alone), stop)
            if end.status == "interrupted":
                stop.check()
        except Interrupted as error:
            end = replace(end, error=line_of(error))
        outcome = replace(Outcome(**known) if known else Outcome("failed"), status=end.status, error=end.error)
        if known is None or (known["status"], known["error"]) != (end.status, end.error):
            # Rank 0 could not write its row, or took another's end for its own.
            write_failure(plan, outcome, f"{end.status}: {end.error}")
        return outcome


def _train_as_rank(plan: Plan, alone: bool) -> dict[str, object]:
    return asdict(train(plan, alone))


def write_failure(plan: Plan, outcome: Outcome, text: str) -> None:
    """Write the row of a run that could not do so itself, or that was never begun; `text` goes to its log."""
    folder = _folder(plan)
    _log_failure(plan, folder, text)
    _write_outcome(plan, folder, outcome, None)


def _folder(plan: Plan) -> RunFolder:
    row = plan.row(Outcome("running"))
    identity = {name: getattr(row, name) for name in IDENTITY}
    return RunFolder(plan.folder, identity, machine(torch.get_num_threads()))


def _log_failure(plan: Plan, folder: RunFolder, text: str) -> None:
    if not folder.started:
        folder.start(as_yaml(plan.values))
    folder.log(text)


def _write_outcome(plan: Plan, folder: RunFolder, outcome: Outcome, callback: CheckpointCallback | None) -> None:
    row = plan.row(outcome)
    folder.log(f"{row.status} after {row.epochs} epochs: test {row.metric} {row.test_score} at epoch {row.best_epoch}")
    folder.finish(row)
    if callback is not None:
        callback.finish(row)
