"""What is to be run, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from deepgnn_cli.config.compose import RunConfig
from deepgnn_cli.config.schema import Reported, Root
from deepgnn_cli.runfiles.environment import git_sha, package_version
from deepgnn_cli.runfiles.files import read_csv
from deepgnn_cli.runfiles.record import Row, new_id
from deepgnn_cli.runs.resume import checkpoint_for, finished_runs


@dataclass(frozen=True)
class Outcome:
    """What became of a run: how it ended, and what is known of it; the names are those of the row's columns.

    A run that fails has one, too, with what was known by then. What is unknown is None.
    """

    status: str
    error: str | None = None
    run_id: str | None = None
    split: str | None = None
    metric: str | None = None
    direction: str | None = None
    data_hash: str | None = None
    device: str | None = None
    parameters: int | None = None
    train_score: float | None = None
    val_score: float | None = None
    test_score: float | None = None
    val_loss: float | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    step_seconds: float | None = None
    train_seconds: float | None = None
    peak_memory_mib: float | None = None
    memory_kind: str | None = None
    activation_mib: float | None = None
    edges_before: int | None = None
    edges: int | None = None
    spectral_gap_before: float | None = None
    spectral_gap: float | None = None
    range_hops_untrained: float | None = None
    range_hops: float | None = None
    influence_beyond_untrained: float | None = None
    influence_beyond: float | None = None

    @staticmethod
    def read(folder: Path) -> Outcome:
        """The outcome that a run's row tells.

        Raises:
            ValueError, OSError: it has none that can be read.
        """
        row = read_csv(folder / "result.csv")[0]
        kinds = {field.name: str(field.type).partition(" ")[0] for field in fields(Outcome)}
        makers: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
        known = {name: makers.get(kind, str)(row[name]) for name, kind in kinds.items() if row.get(name)}
        return Outcome(**known)


@dataclass(frozen=True)
class Plan:
    """A run to be done: its checked configuration, its name, and where its files go.

    Args:
        config: what to run.
        folder: its own folder.
        run_id: its name; a resumed run keeps the one it has.
        resume: the checkpoint to go on from.
        finished: the folder of a run of this configuration that is done, and need not be repeated.
        stop_marker: a file that asks the run to stop when it appears.
    """

    config: RunConfig
    folder: Path
    run_id: str
    resume: Path | None = None
    finished: Path | None = None
    stop_marker: Path | None = None

    @property
    def values(self) -> Root:
        """Every key of the configuration."""
        return self.config.values

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return int(self.values["trainer"]["processes"])

    @property
    def label(self) -> str:
        """The run in a few words: `gcnii cora L64 s0`."""
        chosen = self.config.choices
        return f"{chosen['model']} {chosen['dataset']} L{self.values['layers']} s{self.values['seed']}"

    def names(self, outcome: Outcome) -> dict[str, str | int | None]:
        """What the run's parts are called, and the sweep it belongs to, for those who keep runs elsewhere."""
        row = self.row(outcome)
        sweep = None if self.stop_marker is None else self.stop_marker.parent.name
        names = ("dataset", "split", "model", "conv", "norm", "residual", "layers", "hidden", "seed")
        return {name: getattr(row, name) for name in names} | {"sweep": sweep}

    def row(self, outcome: Outcome) -> Row:
        """The row of `result.csv`."""
        values, chosen, reported = self.values, self.config.choices, self.values.get("reported") or Reported()
        row = Row(
            run_id=self.run_id,
            status=outcome.status,
            dataset=chosen["dataset"],
            split=None,
            model=chosen["model"],
            conv=chosen.get("conv", ""),
            norm=chosen["norm"],
            residual=chosen["residual"],
            rewire=chosen.get("rewire"),
            layers=values["layers"],
            hidden=values["hidden"],
            seed=values["seed"],
            reported=reported.get("value"),
            reported_source=reported.get("source"),
            config_hash=self.config.hash,
            git_sha=git_sha(),
            version_torch=torch.__version__,
            version_pyg=package_version("torch-geometric"),
            version_deepgnn=package_version("deepgnn"),
            overrides=self.config.overrides,
        )
        return replace(row, **{column: value for column, value in asdict(outcome).items() if value is not None})


def plan_for(
    config: RunConfig,
    *,
    skip: bool,
    folder: Path | None = None,
    also: Sequence[Path] = (),
    stop_marker: Path | None = None,
) -> Plan:
    """The plan of a run; if `skip` asks for it, with the folder of a finished one of the same configuration.

    Args:
        config: what to run.
        skip: look for a finished run, below `output_dir` and the folders that `skip_finished` names.
        folder: where the run's files go; None: a new folder below `output_dir`, or the resumed run's own.
        also: further folders to look in.
        stop_marker: see `Plan`.

    Raises:
        ValueError: `resume` names a folder without a checkpoint, or with one of another configuration.
    """
    values, chosen = config.values, config.choices
    root, named = Path(values["output_dir"]), values["skip_finished"]
    named = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    places = _outermost([root, *also, *map(Path, named)])
    run_id = new_id(f"{chosen['dataset']}_{chosen['model']}_L{values['layers']}_s{values['seed']}")
    finished = next(finished_runs(places, config.hash), None) if skip else None
    resume = checkpoint_for(values["resume"], places, config.hash) if finished is None else None
    own = folder or (resume.parent if resume else root / run_id)
    return Plan(config, own, run_id, resume, finished, stop_marker)


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders without those that lie in another of them, so that none is searched twice."""
    paths = sorted({folder.resolve() for folder in folders})
    return [path for path in paths if not any(other in path.parents for other in paths)]
