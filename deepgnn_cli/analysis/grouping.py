"""Which runs are replicates of one another, and which differ in what is being studied.

Runs that differ only in the seed, or only in the index of the split (`geom-3`, `geom-7`), are replicates.
All else that differs separates groups: data set, split family, model, conv, norm, residual, layers, hidden
channels, and the overrides a job was started with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from pandas.api.types import is_numeric_dtype

from deepgnn_cli.analysis.collect import IDENTITY, MEASURES
from deepgnn_cli.runfiles.record import COLUMNS

NOT_SETTINGS = set(IDENTITY) | {
    *("seed", "dataset.split", "dataset.split_index", "dataset.split_seed", "dataset.fold", "depth"),
    *("output_dir", "data_dir", "device", "skip_finished", "resume"),
}
"""Overrides that another column already tells, or that change no result."""

UNVARIED = ("model", "layers")
"""What names the one group where nothing differs."""

CIRCUMSTANCES = ("device", "memory_kind", "version_deepgnn", "version_torch", "version_pyg", "git_sha")
INTERNAL = ("folder", "fold", "started_with", "unit")
"""Columns that collecting and grouping add."""

_NEXT_OVERRIDE = re.compile(r"\s+(?=[~+]{0,2}[\w./@:-]+=|~)")


@dataclass(frozen=True)
class Grouping:
    """How a table of runs falls into groups.

    Args:
        runs: the runs, with `split` as its family, `fold` as the split itself, and `overrides` reduced to
        what
            differs.
        by: the columns that separate groups.
        unit: the columns that tell the replicates of one group apart; runs equal in them repeat each other.
        notes: what the reader must know about the grouping.
    """

    runs: pd.DataFrame
    by: tuple[str, ...]
    unit: tuple[str, ...]
    notes: tuple[str, ...]


def group_runs(runs: pd.DataFrame, by: Sequence[str] = ()) -> Grouping:
    """Group by what differs between the runs, or by the columns `by`.

    Two runs with one seed and split but different configuration hashes are never taken for replicates:
    overrides separate them, else another column that differs, else the hash itself. Columns named in `by`
    are taken as they are; what else differs then tells replicates apart and is named in a note.

    Raises:
        ValueError: `by` names a column that is not there, or a measurement.
    """
    for name in by:
        _check_column(name, runs)
    runs = runs.assign(fold=runs["split"], started_with=runs["overrides"])
    if "split" not in by:
        runs["split"] = [re.sub(r"-\d+$", "", split) for split in runs["split"]]
    if "overrides" not in by:
        runs["overrides"] = _settings(runs["overrides"])
    differing = [name for name in (*IDENTITY, "overrides") if _differs(runs, name)]
    if "conv" in differing and _determined(runs, "conv", ["model"]):
        differing.remove("conv")
    runs = _complete(runs, differing or list(UNVARIED))
    runs, differing, notes = _separate(runs, differing)
    chosen = tuple(dict.fromkeys(by or differing)) or UNVARIED
    rest: list[str] = []
    if by:
        rest = [name for name in differing if name not in by and not _determined(runs, name, chosen)]
        notes += [f"each group mixes runs that differ in {name}: {_some(runs[name])}" for name in rest]
    unit = (*rest, "seed", "fold")
    runs["unit"] = pd.Series(_units(runs, unit), index=runs.index, dtype=object)
    notes += _repeats(runs, chosen)
    return Grouping(runs, chosen, unit, tuple(notes))


def override_tokens(overrides: str) -> list[str]:
    """The single overrides of a job."""
    return [token for token in _NEXT_OVERRIDE.split(overrides.strip()) if token]


def suggest(name: str, known: Iterable[str]) -> str:
    """A "did you mean" for `name`, or the list of what there is."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"


def _check_column(name: str, runs: pd.DataFrame) -> None:
    groupable = [column for column in runs.columns if column not in (*MEASURES, *INTERNAL, "error")]
    if name in MEASURES:
        raise ValueError(f"--by {name} is a measurement; group by a setting: {suggest(name, groupable)}")
    if name not in groupable:
        raise ValueError(f"--by {name}: no such column; {suggest(name, groupable)}")


def _differs(runs: pd.DataFrame, name: str) -> bool:
    """Whether the known values differ; a job started without overrides differs from one with some."""
    values = set(runs[name])
    return len(values if name == "overrides" else values - {""}) > 1


def _determined(runs: pd.DataFrame, name: str, by: Sequence[str]) -> bool:
    """Whether `name` has one value wherever `by` has one: it separates nothing further."""
    known = runs[runs[name] != ""]
    return bool(known.groupby(list(by), sort=False)[name].nunique().le(1).all())


def _complete(runs: pd.DataFrame, differing: Sequence[str]) -> pd.DataFrame:
    """Put unfinished runs, of which not all is known, into the one group that agrees in what is known."""
    cells = runs[list(differing)]
    partial = (cells == "").any(axis=1) & (runs["status"] != "ok")
    if not partial.any():
        return runs
    keys = list(cells[~partial].drop_duplicates().itertuples(index=False, name=None))
    runs = runs.copy()
    for i in runs.index[partial]:
        mine = tuple(cells.loc[i])
        like = [key for key in keys if all(own in ("", other) for own, other in zip(mine, key, strict=True))]
        if len(like) == 1:
            runs.loc[i, list(differing)] = pd.Series(like[0], index=list(differing), dtype=object)
    return runs


def _some(values: Iterable[object]) -> str:
    """The distinct values, the first of them where they are many."""
    found = sorted({str(value) for value in values}, key=lambda text: (not text.isdigit(), len(text), text))
    return ", ".join(found[:6]) + (f", … ({len(found)})" if len(found) > 6 else "")


def _settings(overrides: pd.Series) -> list[str]:
    """Overrides without what other columns tell and without what all runs share."""
    sets = {text: frozenset(_settings_of(text)) for text in set(overrides)}
    common = frozenset.intersection(*sets.values()) if sets else frozenset()
    return [" ".join(sorted(sets[text] - common)) for text in overrides]


def _settings_of(overrides: str) -> list[str]:
    """The single overrides that change results and that no other column tells."""
    keys = {token: token.partition("=")[0].lstrip("+~") for token in override_tokens(overrides)}
    return [
        token
        for token, key in keys.items()
        if key not in NOT_SETTINGS and not key.startswith(("hydra", "logger", "trainer.checkpoint_"))
    ]


def _separate(runs: pd.DataFrame, differing: list[str]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Add columns until no two runs with one seed and split but different configurations share a group."""
    if not _conflicts(runs, differing).any():
        return runs, differing, []
    foreign = [name for name in runs.columns if name not in (*COLUMNS, *INTERNAL) and not is_numeric_dtype(runs[name])]
    for name in (*CIRCUMSTANCES, *sorted(foreign, key=lambda name: runs[name].nunique())):
        if not _conflicts(runs, [*differing, name]).any():
            return (
                runs,
                [*differing, name],
                [f"runs with the same seed and split differ in {name}: grouped by it too"],
            )
    conflicts = _conflicts(runs, differing) & (runs["config_hash"] != "")
    if not conflicts.any():
        return runs, differing, []
    runs = runs.assign(config_hash=runs["config_hash"].where(conflicts, ""))
    note = (
        "runs with the same seed and split have different configurations, and no column says how they differ:"
        " each config_hash is a group of its own"
    )
    return runs, [*differing, "config_hash"], [note]


def _conflicts(runs: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """[runs] whether a run shares group, seed and split with one that may have another configuration."""
    seeded = runs[runs["seed"] != ""]
    cells = seeded.groupby([*by, "seed", "fold"], sort=False)["config_hash"]
    unlike = (cells.transform("nunique") > 1) | ((cells.transform("size") > 1) & (seeded["config_hash"] == ""))
    return unlike.astype(bool).reindex(runs.index, fill_value=False)


def _units(runs: pd.DataFrame, unit: Sequence[str]) -> list[tuple[object, ...]]:
    """What each run is a replicate of; a run without a known seed is one by itself."""
    keys = zip(*(runs[name] for name in unit), strict=True)
    seeded = runs["seed"] != ""
    return [key if known else (*key, i) for i, (key, known) in enumerate(zip(keys, seeded, strict=True))]


def _repeats(runs: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Say how many finished runs repeat another one, and that a repetition is not a replicate."""
    done = runs[runs["status"] == "ok"]
    copies = len(done) - len(done.drop_duplicates([*by, "unit"]))
    if not copies:
        return []
    subject = "1 run repeats" if copies == 1 else f"{copies} runs repeat"
    return [f"{subject} the configuration, seed and split of another: averaged, counted once in n"]
