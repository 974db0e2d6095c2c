"""The baseline that groups are held against: which group is whose counterpart, and the paired test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deepgnn_cli.analysis.grouping import suggest
from deepgnn_cli.analysis.statistics import holm, paired_test

RECIPE = ("conv", "norm", "residual", "hidden", "overrides")
"""What a model preset brings along: `--baseline model=gcn` may differ in these, not in data set or depth."""

FEW_PAIRS = 5

Replicates = Mapping[object, float]
Key = tuple[object, ...]


def parse_baseline(text: str) -> dict[str, str]:
    """`model=gcn,layers=2` as a mapping.

    Raises:
        ValueError: a part is not KEY=VALUE.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and equals and value.strip() for key, equals, value in pairs):
        raise ValueError(f"--baseline {text}: not KEY=VALUE[,KEY=VALUE], as in model=gcn or model=gcn,layers=2")
    return {key.strip(): value.strip() for key, _, value in pairs}


def against(
    baseline: Mapping[str, str],
    by: Sequence[str],
    rows: dict[Key, dict[str, Any]],
    samples: dict[Key, Replicates],
) -> list[str]:
    """Fill in the difference of every group to its counterpart of the baseline, and return the notes."""
    candidates = _candidates(baseline, by, list(rows))
    tests, few, alone, text = 0, 0, 0, ",".join(f"{key}={value}" for key, value in baseline.items())
    for key, row in rows.items():
        if key in candidates:
            row["baseline"] = "baseline"
            continue
        other = _counterpart(key, candidates, by, baseline)
        if other is None:
            alone += 1
            continue
        found = paired_test(samples[key], samples[other])
        row["baseline"] = " ".join(f"{name}={value}" for name, value in zip(by, other, strict=True))
        unpaired = row["mean"] - rows[other]["mean"]
        row |= {
            "difference": found.difference if found.pairs else unpaired,
            "difference_ci95": found.half_width,
        }
        row |= {"p_value": found.p_value, "effect_size": found.effect_size, "pairs": found.pairs}
        tests += not math.isnan(found.p_value)
        few += found.pairs < FEW_PAIRS
    for row, corrected in zip(rows.values(), holm([row["p_value"] for row in rows.values()]), strict=True):
        row["p_holm"] = corrected
    notes = [f"baseline {text}: two-sided paired t-test over runs with the same seed and split"]
    if tests > 1:
        notes[0] += f"; p values are Holm-corrected for {tests} tests"
    if few:
        notes.append(
            f"{few} comparisons have fewer than {FEW_PAIRS} pairs: too small a sample to trust the p value"
            " (none is given below 2)"
        )
    if alone:
        notes.append(f"{alone} groups have no counterpart, or several, in the baseline {text}: no difference shown")
    return notes


def _candidates(baseline: Mapping[str, str], by: Sequence[str], keys: list[Key]) -> list[Key]:
    """The groups that the baseline names.

    Raises:
        ValueError: it names a column that does not separate groups, or a value that no group has.
    """
    for name, value in baseline.items():
        if name not in by:
            raise ValueError(f"--baseline {name}={value}: groups differ in {', '.join(by)}; {suggest(name, by)}")
        values = [str(key[by.index(name)]) for key in keys]
        if value not in values:
            raise ValueError(f"--baseline {name}={value}: no run has it; {suggest(value, values)}")
    found = [key for key in keys if all(str(key[by.index(name)]) == value for name, value in baseline.items())]
    if not found:
        wanted = ",".join(f"{name}={value}" for name, value in baseline.items())
        raise ValueError(f"--baseline {wanted}: no group has all of these")
    return found


def _counterpart(key: Key, candidates: list[Key], by: Sequence[str], baseline: Mapping[str, str]) -> Key | None:
    """The baseline group to hold `key` against, None where there is none or no single one.

    It agrees in every other column. A baseline that is a single group stands against all others of its data
    set and split. A baseline model brings its own recipe (conv, norm, residual, width): of the groups that
    agree in all else, the one that agrees in most of these is taken.
    """
    loose = set(baseline) | (set(RECIPE) if "model" in baseline else set())
    if len(candidates) == 1:
        loose |= {name for name in by if name not in ("dataset", "split")}
    strict = [i for i, name in enumerate(by) if name not in loose]
    soft = [i for i, name in enumerate(by) if name in loose and name not in baseline]
    likeness = {
        other: sum(key[i] == other[i] for i in soft) for other in candidates if all(key[i] == other[i] for i in strict)
    }
    most = [other for other, count in likeness.items() if count == max(likeness.values())]
    return most[0] if len(most) == 1 else None
