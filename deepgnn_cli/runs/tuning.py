"""A fair search: every arm (a model at a depth) gets the same number of trials, judged by validation alone.

A study lives in two places: in memory, where Optuna asks and tells, and in an SQLite file, which gets each trial when
it has ended. So a kill leaves no half trial behind: the same command begins that trial again, draws the same values
(each trial's sampler has its own seed), and goes on from the run's checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from deepgnn_cli.config.compose import RunConfig
from deepgnn_cli.config.search import Choice, Search, Space
from deepgnn_cli.config.validate import checked
from deepgnn_cli.rules.metrics import is_better, lower_is_better
from deepgnn_cli.runs.build import load_inputs, pick_device
from deepgnn_cli.runs.plan import Outcome, plan_for
from deepgnn_cli.runs.run import run
from deepgnn_cli.training.checkpoint import Epoch
from deepgnn_cli.training.errors import Pruned

_REPORTS = 50
"""So many times a trial's validation score is put on record, at most."""


@dataclass(frozen=True)
class Options:
    """How to search: `trials` for each arm, `seed` of the samplers, `pruner` median, hyperband or none."""

    trials: int
    sampler: str
    seed: int
    pruner: str


@dataclass(frozen=True)
class Trialled:
    """A trial that ended. `ended` is the run's status, or `pruned`; `value` its validation score."""

    arm: int
    number: int
    ended: str
    value: float | None
    params: dict[str, object]
    error: str
    epochs: int | None


@dataclass(frozen=True)
class Winner:
    """The best trial of an arm by validation. `fresh`: its runs with seeds that were not tuned on."""

    arm: int
    number: int
    value: float
    metric: str | None
    words: tuple[str, ...]
    fresh: tuple[Outcome, ...] = ()

    def summary(self, name: str) -> tuple[float, float | None, int] | None:
        """Mean, sample standard deviation and number of a score over the fresh seeds; None without any."""
        known = [value for run in self.fresh if run.status == "ok" and (value := getattr(run, name)) is not None]
        if not known:
            return None
        return fmean(known), stdev(known) if len(known) > 1 else None, len(known)


class Interruption(Exception):
    """A signal ended the run under way; `outcome` says which."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error or "interrupted")
        self.outcome = outcome


class Tuner:
    """The studies of all arms, in one storage.

    Args:
        search: arms and space.
        options: how to search.
        storage: Optuna's address of the storage, `sqlite:///FILE`.
        name: of the study; each arm's has a number added.
        folder: where the runs go: `trials/`, and `fresh/` for those of the winners.
    """

    def __init__(self, search: Search, options: Options, storage: str, name: str, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search, self.options, self.folder = search, options, folder
        self.metrics = [_metric(checked(arm)) for arm in search.arms]
        self.kept, self.studies = [], []
        database = _opened(storage)
        for index, metric in enumerate(self.metrics):
            direction = StudyDirection.MINIMIZE if lower_is_better(metric) else StudyDirection.MAXIMIZE
            label = f"{name}/{index}"
            kept = optuna.create_study(storage=database, study_name=label, direction=direction, load_if_exists=True)
            kept.set_user_attr("arm", search.names[index])
            study = optuna.create_study(study_name=label, direction=direction, pruner=self._pruner(index))
            study.add_trials(kept.get_trials(deepcopy=True))
            self.kept.append(kept)
            self.studies.append(study)

    def trials(self) -> Iterator[Trialled]:
        """Run what is missing, the arms in turn, and say of each trial how it ended.

        Raises:
            Interruption: a signal; nothing is lost.
        """
        for number in range(self.options.trials):
            for arm, study in enumerate(self.studies):
                if number >= len(study.trials):
                    yield self._trial(arm, number)

    def done(self, arm: int) -> int:
        """How many trials of an arm have ended."""
        return len(self.studies[arm].trials)

    def best(self, arm: int) -> FrozenTrial | None:
        """The best trial of an arm that ran to its end, by validation."""
        ended = [trial for trial in self.studies[arm].trials if trial.state == TrialState.COMPLETE]
        return self.studies[arm].best_trial if ended else None

    def winners(self) -> list[Winner]:
        """The best trial of each arm, the best arm first; an arm without a finished trial has none."""
        found = []
        for arm, metric in enumerate(self.metrics):
            if (trial := self.best(arm)) is not None and trial.value is not None:
                words = (*self.search.arms[arm], *words_of(trial.params))
                found.append(Winner(arm, trial.number, trial.value, metric, words))
        sign = 1 if lower_is_better(self.metrics[0]) else -1
        return sorted(found, key=lambda winner: sign * winner.value)

    def fresh(self, winner: Winner, seeds: int) -> Iterator[Outcome]:
        """Run a winner again with seeds that it was not tuned on.

        Raises:
            Interruption: a signal; the same command goes on.
        """
        tuned = checked(winner.words).values["seed"]
        for seed in range(tuned + 1, tuned + 1 + seeds):
            yield self._run([*winner.words, f"seed={seed}"], self.folder / "fresh")

    def _trial(self, arm: int, number: int) -> Trialled:
        study = self.studies[arm]
        study.sampler = self._sampler(number)
        trial = study.ask()
        assert trial.number == number
        params = _suggested(trial, self.search.space)
        words = [*self.search.arms[arm], *words_of(params)]
        judge = _Judge(trial, checked(words))
        outcome = self._run(words, self.folder / "trials", None if self.options.pruner == "none" else judge)
        ended = "pruned" if judge.pruned else outcome.status
        value = outcome.val_score if outcome.status == "ok" else None
        trial.set_user_attr("ended", ended)
        if value is None:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
        self.kept[arm].add_trial(study.get_trials(deepcopy=True)[-1])
        return Trialled(arm, number, ended, outcome.val_score, params, outcome.error or "", outcome.epochs)

    def _run(self, words: Sequence[str], folder: Path, judge: _Judge | None = None) -> Outcome:
        """A run of these words below `folder`, from its checkpoint or its row if it has one there.

        Raises:
            Interruption: a signal ended it.
        """
        config = checked([*words, "resume=true"])
        config.values["output_dir"] = str(folder)
        plan = plan_for(config, skip=True)
        outcome = Outcome.read(plan.finished) if plan.finished else run(plan, alone=False, judge=judge)
        if outcome.status == "interrupted" and not (judge and judge.pruned):
            raise Interruption(outcome)
        return outcome

    def _sampler(self, number: int) -> BaseSampler:
        # A seed for each trial: the values it draws depend on the trials before it, and not on who was killed when.
        seed = self.options.seed * 1_000_003 + number
        return TPESampler(seed=seed) if self.options.sampler == "tpe" else RandomSampler(seed=seed)

    def _pruner(self, arm: int) -> BasePruner:
        most = int(checked(self.search.arms[arm]).values["trainer"]["max_epochs"])
        if self.options.pruner == "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=most // 10)
        if self.options.pruner == "hyperband":
            return HyperbandPruner(min_resource=max(1, most // 27), max_resource=most, reduction_factor=3)
        return NopPruner()


class _Judge:
    """Hears of each epoch of a trial, and ends it where the pruner sees no hope."""

    def __init__(self, trial: Trial, config: RunConfig) -> None:
        self._trial = trial
        self._metric = _metric(config)
        self._every = max(1, int(config.values["trainer"]["max_epochs"]) // _REPORTS)
        self._best: float | None = None
        self.pruned = False

    def __call__(self, epoch: Epoch) -> None:
        if epoch.val_score is None:
            return
        if self._best is None or is_better(self._metric, epoch.val_score, self._best):
            self._best = epoch.val_score
        if epoch.epoch % self._every == 0:
            self._trial.report(self._best, epoch.epoch)
            if self._trial.should_prune():
                self.pruned = True
                raise Pruned(f"pruned after epoch {epoch.epoch}: others do better by then")


def _opened(storage: str) -> RDBStorage:
    try:
        return RDBStorage(storage)
    except (SQLAlchemyError, RuntimeError) as error:
        raise ValueError(f"--storage {storage}: {str(error).splitlines()[0]}") from None


def _metric(config: RunConfig) -> str:
    """What the run's data are scored by."""
    device, _ = pick_device(config.values["device"])
    return load_inputs(config.values, device).whole.metric


def _suggested(trial: Trial, space: Space) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, spec in space.items():
        if isinstance(spec, Choice):
            values[key] = trial.suggest_categorical(key, spec.values)
        elif spec.whole:
            values[key] = trial.suggest_int(key, int(spec.low), int(spec.high))
        else:
            values[key] = trial.suggest_float(key, spec.low, spec.high, log=spec.log)
    return values


def words_of(params: dict[str, object]) -> list[str]:
    """The words that say the values of a trial."""
    return [f"{key}={value}" for key, value in params.items()]


def study_name(search: Search, options: Options) -> str:
    """Equal for two commands exactly if one goes on with the other's study: the number of trials may differ."""
    space = {key: asdict(spec) for key, spec in search.space.items()}
    arms = [checked(arm).hash for arm in search.arms]
    told = {"space": space, "arms": arms, **asdict(options), "trials": None}
    return "tune-" + hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]


@contextmanager
def held(storage: str, lock: Path) -> Iterator[None]:
    """The storage for this process alone.

    Raises:
        ValueError: another process tunes in it now.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"--storage {storage}: another `deepgnn tune` works in it now; wait, or name another"
        ) from None
