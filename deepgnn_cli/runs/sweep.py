"""`deepgnn train -m`: every combination of the swept values, each a job of its own, none taking another along.

Hydra's sweepers and launchers run the jobs, here or elsewhere, by calling a `JobTask`, which returns what became of
its job. Of a job that could not return anything, its folder tells.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.compose import RunConfig, choices, register, resolved
from deepgnn_cli.config.explain import explain
from deepgnn_cli.config.groups import CONF
from deepgnn_cli.config.sweep_words import SweepWords, given, quoted
from deepgnn_cli.config.validate import check
from deepgnn_cli.runfiles.environment import out_of_memory_kills
from deepgnn_cli.runfiles.record import collect_results, new_id
from deepgnn_cli.runfiles.status import read_status
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.launchers import end_with_sweep, isolated, pin, wrapped
from deepgnn_cli.runs.monitor import (
    BEFORE,
    KILLED,
    NOT_STARTED,
    RUNNING,
    JobState,
    SweepJob,
    SweepMonitor,
    finished_before,
)
from deepgnn_cli.runs.plan import Outcome, Plan, plan_for
from deepgnn_cli.runs.run import run, write_failure
from deepgnn_cli.runs.sweep_folder import held, note_jobs, set_aside_other_runs
from deepgnn_cli.training.errors import GPU_LOST, Interrupted, gpu_is_lost, line_of
from deepgnn_cli.training.signals import Stop, number_of, write_marker

_MARKER = ".stop"
_KILLED = "its process was killed from outside, without a word (kill -9, or no memory left)"
_OUT_OF_MEMORY = "the kernel killed its process: no memory was left"


def sweep(asked: SweepWords) -> int:
    """Run a sweep; returns the exit status: 0 only if every job is ok.

    One impossible combination among others is a failed job.

    Raises:
        ValueError: a combination cannot be composed, or its folder is another sweep's. Nothing has been written.
    """
    axes, base = asked.axes, asked.first
    own = given(asked.words, "hydra.sweep.dir")
    folder = Path(base.hydra.sweep.dir if own else Path(base.output_dir) / new_id("sweep")).resolve()
    words = [word for word in asked.words if not word.startswith("hydra.sweep.dir=")] + [
        f"hydra.sweep.dir={quoted(folder)}"
    ]
    swept = [key for key, values in axes.items() if len(values) > 1]
    monitor = SweepMonitor(swept, math.prod(map(len, axes.values())))
    where = _where(str(base.hydra.runtime.choices["hydra/launcher"]), base.hydra.launcher.get("n_jobs"))
    over = " × ".join(f"{len(axes[key])} {key}" for key in swept) or "one configuration"
    print(f"{monitor.total} jobs ({over}), {where}; files in {folder}", flush=True)
    with held(folder) if own else ExitStack():
        return _report(_run(words, monitor, folder), monitor, folder)


def _where(launcher: str, n_jobs: int | None) -> str:
    """Where the jobs of a sweep run, in words."""
    if launcher == "basic":
        return "here, one after the other"
    if launcher == "joblib":
        return f"here, {n_jobs} at a time" if n_jobs and n_jobs > 0 else "here, as many at a time as there are cores"
    return f"by hydra/launcher={launcher}"


def _run(words: list[str], monitor: SweepMonitor, folder: Path) -> int | None:
    """Run every job; returns the number of the signal that ended the sweep early, if one did."""
    marker = folder / _MARKER
    marker.unlink(missing_ok=True)

    def tell_workers(number: int) -> None:
        if folder.is_dir():
            write_marker(marker, number)

    try:
        with Stop(marker, tell_workers) as stop, monitor:
            stop.defer()
            _launch(words, JobTask(stop, monitor), monitor, folder)
            stop.check()
    except Interrupted as error:
        return error.signal
    except GpuLost:
        print(f"deepgnn: {GPU_LOST}", file=sys.stderr)
    return None


class GpuLost(BaseException):
    """No job can follow in this process. No `Exception`, which Hydra would take for the end of one job."""


class JobTask:
    """One job of a sweep, as Hydra's launchers call it.

    In the process that runs the sweep a job shares its signals, and its line is printed at once. A launcher's other
    processes get a copy that knows of neither.
    """

    def __init__(self, stop: Stop | None = None, monitor: SweepMonitor | None = None) -> None:
        self._stop, self._monitor = stop, monitor

    def __reduce__(self) -> tuple[type[JobTask], tuple[()]]:
        return JobTask, ()

    def __call__(self, cfg: DictConfig) -> JobState:
        """Do one job. Nothing that goes wrong in a run is raised: it is in its outcome.

        Raises:
            Interrupted: a signal ends the sweep, which runs in this process.
            GpuLost: this process can use its GPU no more, and the sweep runs in it.
            OSError: the row could not be written.
        """
        hydra = HydraConfig.get()
        folder, marker = Path(hydra.runtime.output_dir), Path(hydra.sweep.dir) / _MARKER
        if self._stop is not None:
            self._stop.check()
        elif marker.exists():
            return JobState(NOT_STARTED)
        else:
            _enter_worker(hydra.runtime.cwd, hydra.job.num, str(cfg.device), cfg.trainer.processes)
        chosen = choices(OmegaConf.create({"hydra": hydra}))
        config = RunConfig(resolved(cfg), chosen, " ".join(hydra.overrides.task))
        skip = config.values["skip_finished"] is not False
        plan = plan_for(config, skip=skip, folder=folder, also=[Path(hydra.sweep.dir)], stop_marker=marker)
        set_aside_other_runs(plan)
        state = _do(plan)
        if self._monitor is not None:
            self._monitor.note(int(hydra.job.num), state)
        if state.state == "interrupted" and self._stop is not None:
            raise Interrupted(number_of(state.error))
        if state.gpu_lost and self._stop is not None:
            raise GpuLost
        return state


def _enter_worker(cwd: str, number: int, device: str, processes: int) -> None:
    """Settle in a process that a launcher started."""
    os.environ["DEEPGNN_QUIET"] = "1"  # the progress bars of several jobs would overwrite each other
    if cwd not in sys.path:  # the user's own modules lie where the command was given
        sys.path.append(cwd)
    pin(number, device, processes)
    end_with_sweep()


def _do(plan: Plan) -> JobState:
    if plan.finished is not None:
        history.adopt(plan.finished, plan.folder)
        return finished_before(plan.finished)
    try:
        check(plan.config.values, plan.config.choices)
    except ValueError as error:
        refused = Outcome("failed", str(error))
        write_failure(plan, refused, str(error))
        return JobState.of(refused)
    return replace(JobState.of(run(plan, alone=False)), gpu_lost=gpu_is_lost())


def _launch(words: list[str], task: JobTask, monitor: SweepMonitor, folder: Path) -> None:
    """Hydra's multirun, with our launcher around the one that was chosen.

    Raises:
        ValueError: a combination cannot be composed.
    """

    def noted(inner: Launcher, context: HydraContext, cfg: DictConfig) -> Launcher:
        return _Launcher(inner, context, cfg, monitor)

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"), wrapped(noted):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            hydra.multirun("config", task, words)
        except (HydraException, OmegaConfBaseException) as error:
            if not monitor.jobs:
                shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(explain(error, words)) from None


class _Launcher(Launcher):
    """Around the chosen launcher: notes the jobs, keeps one job's end from being another's."""

    def __init__(self, inner: Launcher, context: HydraContext, cfg: DictConfig, monitor: SweepMonitor) -> None:
        self.inner, self.context, self.cfg, self.monitor = inner, context, cfg, monitor
        self._kernel_kills = 0

    def setup(self, **parts: object) -> None:
        """Done by the sweeper, for the launcher inside."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs; a job that did not end by itself gets its row here, and returns no score."""
        jobs = [self._job(initial_job_idx + index, words) for index, words in enumerate(job_overrides)]
        self.monitor.expect(jobs)
        note_jobs(Path(self.cfg.hydra.sweep.dir), self.monitor)
        self._kernel_kills = out_of_memory_kills()
        with isolated(self.inner):
            if isinstance(self.inner, BasicLauncher):  # of all at once it keeps every job's configuration to the end
                return [self._settled(job, *self.inner.launch([job.overrides], job.number)) for job in jobs]
            outcomes = self.inner.launch(job_overrides, initial_job_idx)
        return [self._settled(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _job(self, number: int, words: Sequence[str]) -> SweepJob:
        hydra = self.cfg.hydra
        sweep = OmegaConf.to_container(hydra.sweep)
        assert isinstance(sweep, dict)
        if sweep["subdir"] != "${hydra:job.num}":
            cfg = self.context.config_loader.load_sweep_config(self.cfg, list(words))
            with open_dict(cfg):
                cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
            HydraConfig.instance().set_config(cfg)
            return SweepJob(number, tuple(words), Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))
        return SweepJob(number, tuple(words), Path(hydra.sweep.dir) / str(number))

    def _settled(self, job: SweepJob, outcome: JobReturn) -> JobReturn:
        state = outcome.return_value if outcome.status == JobStatus.COMPLETED else self._lost(job, outcome)
        self.monitor.note(job.number, state)
        settled = JobReturn()
        settled.status, settled.return_value = JobStatus.COMPLETED, state.val_score
        return settled

    def _lost(self, job: SweepJob, outcome: JobReturn) -> JobState:
        """What became of a job whose process could not say it; its row is written, if it has none."""
        state = self.monitor.read(job)
        if state.state not in (KILLED, NOT_STARTED, RUNNING):
            return state
        error = outcome._return_value  # the property raises it
        killed = state.state == KILLED and not isinstance(error, OSError)
        if killed and out_of_memory_kills() > self._kernel_kills:
            end = Outcome("oom", _OUT_OF_MEMORY)
        else:
            end = Outcome("killed", _KILLED) if killed else Outcome("failed", line_of(error))
        assert end.error is not None
        # If there is no room even for a row, it is at least shown.
        with suppress(OSError):
            write_failure(self._plan(job), end, end.error)
        return JobState.of(end)

    def _plan(self, job: SweepJob) -> Plan:
        cfg = self.context.config_loader.load_sweep_config(self.cfg, list(job.overrides))
        config = RunConfig.of(cfg)
        config = replace(config, values=config.values | {"resume": None})
        plan = plan_for(config, skip=False, folder=job.folder)
        begun = read_status(job.folder).get("run") or {}
        return replace(plan, run_id=begun.get("run_id") or plan.run_id)


def _report(ended_by: int | None, monitor: SweepMonitor, folder: Path) -> int:
    """Rebuild `results.csv`, say what became of each job, and return the exit status."""
    unwritten = False
    try:
        if folder.is_dir():
            collect_results(folder)
    except OSError as error:
        unwritten = True
        print(f"deepgnn: {error}; each job's result.csv is there, and `deepgnn compare` reads them", file=sys.stderr)
    states = Counter(monitor.state(job).state for job in monitor.jobs)
    print(f"\n{monitor.table()}\n")
    print(f"{len(monitor.jobs)} jobs: " + ", ".join(f"{count} {state}" for state, count in states.most_common()))
    if states.total() > states["ok"] + states[BEFORE]:
        print("the same command again runs only what is missing; with resume=true, from the last checkpoints")
    print(f"files in {folder}\ndeepgnn compare {shlex.quote(str(folder))}")
    if ended_by is not None:
        return 128 + ended_by
    return 1 if unwritten or states.total() > states["ok"] + states[BEFORE] else 0
