"""What Hydra's launchers lack for long sweeps: a killed job costs one job, and each job has its own GPU.

The plugins (joblib, submitit, ray) wait for all jobs of a batch and raise the first error, which takes the other
jobs' results along. `isolated` runs a launcher such that every job of the batch gets its own outcome.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from deepgnn_cli.config.groups import chooses

REPLACED = {
    "hydra-core": (
        "hydra.core.plugins:Plugins.instantiate_launcher",
        "hydra.plugins.sweeper:Sweeper.validate_batch_is_legal",
        "hydra._internal.core_plugins.basic_launcher:BasicLauncher",
    ),
    "hydra-joblib-launcher": ("hydra_plugins.hydra_joblib_launcher._core:Parallel",),
    "joblib": ("joblib.externals.loky:ProcessPoolExecutor",),
    "submitit": ("submitit.core.core:Job.results",),
    "ray": ("ray:get",),
}
"""All that is taken from, or put in place of, others' parts that they do not promise to keep: package -> where."""

_WORKER = "DEEPGNN_WORKER"  # the number of a worker that runs one job after another
_SWEEP = "DEEPGNN_SWEEP_PID"  # the process whose worker it is
_LOOK_SECONDS, _GRACE_SECONDS = 1.0, 30.0  # between looks; for a run to save itself


def failed(error: BaseException) -> JobReturn:
    """The outcome of a job that could not report one itself."""
    outcome = JobReturn()
    outcome.status, outcome.return_value = JobStatus.FAILED, error
    return outcome


@contextmanager
def isolated(launcher: Launcher) -> Iterator[None]:
    """Inside, a job of `launcher` that is killed becomes a failed outcome, and the others go on."""
    for package, isolate in ((".hydra_joblib_", _joblib), (".hydra_submitit_", _submitit), (".hydra_ray_", _ray)):
        if package in type(launcher).__module__:
            with isolate():
                yield
            return
    with nullcontext():
        yield


@contextmanager
def wrapped(wrap: Callable[[Launcher, HydraContext, DictConfig], Launcher]) -> Iterator[None]:
    """Inside, Hydra gives its sweeper `wrap(launcher, context, config)` for the launcher that was chosen.

    And the sweeper composes each choice of options once, not each job: what its other values are, it is not asked.
    """
    plugins = Plugins.instance()
    chosen_launcher = plugins.instantiate_launcher

    def instantiate(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
        inner = chosen_launcher(hydra_context=hydra_context, task_function=task_function, config=config)
        return wrap(inner, hydra_context, config)

    compose_all = Sweeper.validate_batch_is_legal

    def compose_choices(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        jobs = {tuple(word for word in words if chooses(word)): words for words in batch}
        compose_all(sweeper, list(jobs.values()))

    with (
        replaced(plugins, "instantiate_launcher", instantiate),
        replaced(Sweeper, "validate_batch_is_legal", compose_choices),
    ):
        yield


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Inside, `owner` has `value` as its attribute `name`."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _joblib() -> Iterator[None]:
    """One killed worker breaks joblib's whole pool: give every slot a pool of its own."""
    core = importlib.import_module("hydra_plugins.hydra_joblib_launcher._core")
    with replaced(core, "Parallel", OneWorkerPools), warnings.catch_warnings():
        # A slot renews its worker when that has grown; nothing is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        yield


@contextmanager
def _submitit() -> Iterator[None]:
    """A submitit job that ends without a result raises when asked for it, and the others are not waited for."""
    core = importlib.import_module("submitit.core.core")
    results: Callable[[object], list[object]] = core.Job.results

    def outcome(self: object) -> list[object]:
        try:
            return results(self)
        except Exception as error:
            return [failed(error)]

    with replaced(core.Job, "results", outcome):
        yield


@contextmanager
def _ray() -> Iterator[None]:
    """`ray.get` of a killed job raises, and the others are not waited for."""
    ray = importlib.import_module("ray")
    get = ray.get

    def outcome(*args: object, **keys: object) -> object:
        try:
            return get(*args, **keys)
        except ray.exceptions.RayError as error:
            return failed(error)

    with replaced(ray, "get", outcome):
        yield


class OneWorkerPools:
    """Stands in for `joblib.Parallel`: `n_jobs` slots, each with its own worker process, used again and again.

    A worker takes its share of the cores, and, by its number, of the GPUs (see `pin`). The other settings of
    `joblib.Parallel` are about the shared pool and have no meaning.
    """

    def __init__(self, n_jobs: int = -1, **settings: object) -> None:
        self._joblib = importlib.import_module("joblib")
        self.count = max(1, self._joblib.effective_n_jobs(n_jobs))
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._taken = 0
        self._pools: dict[int, Any] = {}

    def __call__(
        self, tasks: Iterable[tuple[Callable[..., object], Sequence[object], dict[str, object]]]
    ) -> list[object]:
        """Run the tasks (joblib's triples) and return their outcomes in order."""
        threads = ThreadPoolExecutor(self.count, "slot")
        futures = [threads.submit(self._run, *task) for task in tasks]
        kill = True
        try:
            outcomes = [future.result() for future in futures]
            kill = False
            return outcomes
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for pool in list(self._pools.values()):
                pool.shutdown(wait=True, kill_workers=kill)

    def _run(self, function: Callable[..., object], args: Sequence[object], keys: dict[str, object]) -> object:
        with self._lock:
            if not hasattr(self._mine, "slot"):
                self._mine.slot, self._taken = self._taken, self._taken + 1
            slot: int = self._mine.slot
            if slot not in self._pools:
                self._pools[slot] = self._pool(slot)
        try:
            outcome = self._pools[slot].submit(function, *args, **keys).result()
            if getattr(getattr(outcome, "_return_value", None), "gpu_lost", False):
                self._pools.pop(slot).shutdown(wait=False)  # the slot's next job gets a new process
            return outcome
        except Exception as error:
            self._pools.pop(slot).shutdown(wait=False, kill_workers=True)
            return failed(error)

    def _pool(self, slot: int) -> object:
        env = {_WORKER: str(slot), _SWEEP: str(os.getpid())}
        if "OMP_NUM_THREADS" not in os.environ:
            env["OMP_NUM_THREADS"] = str(threads_each(self._joblib.cpu_count(), self.count))
        loky = importlib.import_module("joblib.externals.loky")
        return loky.ProcessPoolExecutor(max_workers=1, env=env)


def end_with_sweep() -> None:
    """Stop this worker as SIGTERM does when the process of its sweep is gone: killed, that cannot say so itself."""
    sweep = int(os.environ.pop(_SWEEP, "0"))  # one watch a process

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)

    if sweep and os.getppid() == sweep:
        threading.Thread(target=watch, name="sweep watch", daemon=True).start()


def threads_each(cores: int, workers: int) -> int:
    """How many threads each of `workers` processes may have without competing for `cores`."""
    return max(1, cores // workers)


def gpus_of(index: int, gpus: Sequence[str], count: int) -> list[str]:
    """The `count` GPUs of the `index`-th worker or job: they take turns; none where there is no choice."""
    return [gpus[(index * count + k) % len(gpus)] for k in range(count)] if len(gpus) > count else []


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as `CUDA_VISIBLE_DEVICES` names them; CUDA is not started."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if any(named):
        return [name for name in named if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def pin(job: int, device: str, processes: int) -> None:
    """Give this process the GPUs of its worker, or else of its job, as many as the run has processes.

    Nothing is done where `device` names one or CUDA has started.
    """
    import torch

    if device in ("auto", "cuda") and not torch.cuda.is_initialized():
        gpus = gpus_of(int(os.environ.get(_WORKER, job)), visible_gpus(), processes)
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
