"""`deepgnn train -m`: every combination of the swept values, each a job of its own, none taking another along.

Hydra's sweepers and launchers run the jobs, here or elsewhere, by calling `jobs.job`. What became of each is read
from the jobs' folders.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.compose import choices, compose, register, resolved
from deepgnn_cli.config.groups import CONF
from deepgnn_cli.config.validate import check, explain
from deepgnn_cli.runfiles.record import collect_results, new_id
from deepgnn_cli.runs import jobs
from deepgnn_cli.runs import resume as history
from deepgnn_cli.runs.launchers import EXTRAS, isolated, replaced
from deepgnn_cli.runs.monitor import BEFORE, KILLED, NOT_STARTED, RUNNING, Job, Tally
from deepgnn_cli.runs.run import refused
from deepgnn_cli.training.errors import Interrupted, line_of
from deepgnn_cli.training.signals import Stop, write_marker

_KILLED = "killed from outside: its process ended without a word (kill -9, or no memory left)"


def sweep(overrides: Sequence[str]) -> int:
    """Run the sweep that these words describe; returns the exit status: 0 only if every job is ok.

    Raises:
        ValueError: the words are wrong: an unknown key or option, a value of a wrong type, or values none of which
            can work. Nothing has been written. One impossible combination among others is a failed job instead.
    """
    words = _completed(overrides)
    axes = _axes(words)
    base = _validate(words, axes)
    own = _given(words, "hydra.sweep.dir")
    folder = Path(base.hydra.sweep.dir if own else Path(base.output_dir) / new_id("sweep")).resolve()
    words = [word for word in words if not word.startswith("hydra.sweep.dir=")] + [f"hydra.sweep.dir={_quoted(folder)}"]
    swept = [key for key, values in axes.items() if len(values) > 1]
    total = None if base.hydra.sweeper.get("n_trials") else math.prod(map(len, axes.values()))
    tally = Tally(swept, total or base.hydra.sweeper.get("n_trials"))
    with _held(folder) if own else ExitStack():
        return _report(_run(words, tally, folder), tally, folder)


def _completed(overrides: Sequence[str]) -> list[str]:
    """The words with what a plugin needs and its users forget."""
    words = list(overrides)
    if _given(words, "hydra/sweeper") == "optuna" and not _given(words, "hydra.sweeper.direction"):
        words.append("hydra.sweeper.direction=maximize")  # a job returns its validation score
    if _given(words, "hydra/launcher") == "ray" and not _given(words, "hydra.launcher.ray.remote.max_retries"):
        words.append("+hydra.launcher.ray.remote.max_retries=0")  # what kills a job would kill it again
    resume = _given(words, "resume")
    if resume is not None and resume.lower() not in ("true", "false", "null"):
        raise ValueError(f"resume={resume}: a sweep takes resume=true; a folder is for a single run")
    return words


def _given(words: Sequence[str], key: str) -> str | None:
    """The value the words give to a key; the last one counts."""
    found = [value for name, _, value in (word.lstrip("+").partition("=") for word in words) if name == key]
    return found[-1] if found else None


def _quoted(path: Path) -> str:
    """A path as a value of Hydra's grammar."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _axes(words: Sequence[str]) -> dict[str, list[str]]:
    """The key of each word and the words it stands for: several where it is swept.

    Of an interval (Optuna's), the ends: they stand for all of it.
    """
    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            continuous = _given(words, "hydra/sweeper") == "optuna"
            return {word.get_key_element(): _values(word, continuous) for word in parser.parse_overrides(list(words))}
    except HydraException as error:
        raise ValueError(explain(error, words)) from None


def _values(word: Override, continuous: bool) -> list[str]:
    key = word.get_key_element()
    if not word.is_sweep_override():
        return [word.input_line or ""]
    if word.is_discrete_sweep():
        values = [f"{key}={value}" for value in word.sweep_string_iterator()]
        if not values:
            raise ValueError(f"{word.input_line}: there is no value in it to run; `deepgnn ls` lists what groups offer")
        return values
    ends = word.value()
    assert isinstance(ends, IntervalSweep)
    if not continuous:
        raise ValueError(f"{word.input_line}: an interval needs hydra/sweeper=optuna; list the values instead")
    return [f"{key}={ends.start}", f"{key}={ends.end}"]


def _validate(words: Sequence[str], axes: dict[str, list[str]]) -> DictConfig:
    """Compose and check each swept value with the first ones of the others; returns the first configuration.

    Raises:
        ValueError: one cannot be composed, or none passes the check.
    """
    firsts = {key: values[0] for key, values in axes.items()}
    trials = [list(firsts.values())]
    trials += [list((firsts | {key: value}).values()) for key, values in axes.items() for value in values[1:]]
    base: DictConfig | None = None
    problems: list[ValueError] = []
    for trial in trials:
        cfg = _composed(trial)
        base = base or cfg
        try:
            check(resolved(cfg), choices(cfg))
        except ValueError as error:
            problems.append(error)
    if len(problems) == len(trials):
        raise problems[0]
    assert base is not None
    return base


def _composed(words: Sequence[str]) -> DictConfig:
    """As `config.compose`, with an error in a line."""
    try:
        return compose(words)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group not in ("hydra/launcher", "hydra/sweeper"):
            raise ValueError(explain(error, words)) from None
        if name in EXTRAS:
            raise ValueError(f"{group}={name} is not installed; pip install 'deepgnn[{EXTRAS[name]}]'") from None
        raise ValueError(f"{group}={name}: there is no such plugin; there are {', '.join(EXTRAS)}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, words)) from None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A folder the user named, for this sweep alone: job numbers of two would collide."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"hydra.sweep.dir={folder}: another sweep writes there now; name another folder") from None


def _run(words: list[str], tally: Tally, folder: Path) -> int | None:
    """Run every job; returns the number of the signal that ended the sweep early, if one did."""
    marker = folder / jobs.MARKER
    marker.unlink(missing_ok=True)

    def tell_workers(number: int) -> None:
        if folder.is_dir():
            write_marker(marker, number)

    try:
        with Stop(marker, tell_workers) as stop, jobs.in_process(stop, tally), tally:
            stop.defer()
            _launch(words, tally, folder)
            stop.check()
    except Interrupted as error:
        return error.signal
    return None


def _launch(words: list[str], tally: Tally, folder: Path) -> None:
    """Hydra's multirun, with our launcher around the one that was chosen.

    Raises:
        ValueError: a combination cannot be composed.
    """
    plugins = Plugins.instance()
    instantiate = plugins.instantiate_launcher

    def ours(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
        inner = instantiate(hydra_context=hydra_context, task_function=task_function, config=config)
        return _Launcher(inner, hydra_context, config, tally)

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"), replaced(plugins, "instantiate_launcher", ours):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            hydra.multirun("config", jobs.job, words)
        except (HydraException, OmegaConfBaseException) as error:
            if not tally.jobs:
                shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(explain(error, words)) from None
        except ValueError as error:
            if "No trials are completed" not in str(error):  # Optuna has no best trial then; the table says why
                raise


class _Launcher(Launcher):
    """Around the chosen launcher: notes the jobs, keeps one job's end from being another's."""

    def __init__(self, inner: Launcher, context: HydraContext, cfg: DictConfig, tally: Tally) -> None:
        self.inner, self.context, self.cfg, self.tally = inner, context, cfg, tally

    def setup(self, **parts: Any) -> None:
        """Done by the sweeper, for the launcher inside."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs; a job that did not end by itself gets its row here, and returns no score."""
        jobs = [self._job(initial_job_idx + index, words) for index, words in enumerate(job_overrides)]
        self.tally.expect(jobs)
        with isolated(self.inner):
            outcomes = self.inner.launch(job_overrides, initial_job_idx)
        return [self._settled(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _job(self, number: int, words: Sequence[str]) -> Job:
        hydra = self.cfg.hydra
        if OmegaConf.to_container(hydra.sweep)["subdir"] != "${hydra:job.num}":  # type: ignore[index,call-overload]
            cfg = self.context.config_loader.load_sweep_config(self.cfg, list(words))
            with open_dict(cfg):
                cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
            HydraConfig.instance().set_config(cfg)
            return Job(number, tuple(words), Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir))
        return Job(number, tuple(words), Path(hydra.sweep.dir) / str(number))

    def _settled(self, job: Job, outcome: JobReturn) -> JobReturn:
        if outcome.status == JobStatus.COMPLETED:
            return outcome
        state = self.tally.outcome(job).state
        if state in (KILLED, NOT_STARTED, RUNNING):
            error = outcome._return_value  # the property raises it
            reason = _KILLED if state == KILLED and not isinstance(error, OSError) else line_of(error)
            try:
                self._bury(job, reason)
            except OSError:  # no room even for that: it is at least shown
                self.tally.lose(job, reason)
        settled = JobReturn()
        settled.status, settled.return_value = JobStatus.COMPLETED, None
        return settled

    def _bury(self, job: Job, reason: str) -> None:
        """Write the row of a job whose process could not."""
        cfg = self.context.config_loader.load_sweep_config(self.cfg, list(job.overrides))
        words = " ".join(cfg.hydra.overrides.task)
        values, chosen = resolved(cfg) | {"resume": None}, choices(cfg)
        plan, _ = history.plan_for(values, chosen, words, skip=False, folder=job.folder)
        begun = history.read_status(job.folder).get("run") or {}
        refused(replace(plan, run_id=begun.get("run_id") or plan.run_id), reason)


def _report(ended_by: int | None, tally: Tally, folder: Path) -> int:
    """Rebuild `results.csv`, say what became of each job, and return the exit status."""
    unwritten = False
    try:
        if folder.is_dir():
            collect_results(folder)
    except OSError as error:
        unwritten = True
        print(f"deepgnn: {error}; each job's result.csv is there, and `deepgnn compare` reads them", file=sys.stderr)
    states = Counter(tally.outcome(job).state for job in tally.jobs)
    print(f"\n{tally.table()}\n")
    print(f"{len(tally.jobs)} jobs: " + ", ".join(f"{count} {state}" for state, count in states.most_common()))
    if states.total() > states["ok"] + states[BEFORE]:
        print("the same command again runs only what is missing; with resume=true, from the last checkpoints")
    print(f"files in {folder}\ndeepgnn compare {shlex.quote(str(folder))}")
    if ended_by is not None:
        return 128 + ended_by
    return 1 if unwritten or states.total() > states["ok"] + states[BEFORE] else 0
