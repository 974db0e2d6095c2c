"""Every key of every option with values it may and may not have: taken, or refused in one line, and nothing else.

The check hears all of them; the command line, where each takes a tenth of a second, a sample of `FUZZ_COMMANDS`
(an environment variable; 0: all).
"""

import os
import random
from collections.abc import Iterator
from copy import deepcopy

import pytest

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.config.groups import GROUPS, options
from deepgnn_cli.config.validate import check, checked

# Below, at and above the ranges there are; numbers that are none; other types; nothing; too much of it.
VALUES = [
    *("-1", "0", "1", "2", "7", "-0.5", "0.0", "0.5", "1.0", "1.5", "1e-300", "1e300"),
    *("nan", "inf", "-inf", "4294967295", "4294967296", "9223372036854775808", str(10**20), str(-(10**20))),
    *("true", "false", "null", "''", "foo", "'é ✓'", "'1'", "[]", "[1]", "[1,2]", "[a,b]", "{}", "{a:1}", "x" * 5000),
]
READ = [
    *(-1, 0, 1, 2, 7, -0.5, 0.0, 0.5, 1.0, 1.5, 1e-300, 1e300),
    *(float("nan"), float("inf"), float("-inf"), 2**32 - 1, 2**32, 2**63, 10**20, -(10**20)),
    *(True, False, None, "", "foo", "é ✓", "1", [], [1], [1, 2], ["a", "b"], {}, {"a": 1}, "x" * 5000),
]
NEVER = ("output_dir", "data_dir", "skip_finished", "resume")  # paths: to be made, or found, when the run begins


def leaves(node, path=""):
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and value:
            yield from leaves(value, name)
        else:
            yield name


def compositions() -> Iterator[tuple[list[str], dict, dict]]:
    """The words that choose each option of each group, with the configuration they give, where they give one."""
    for group in GROUPS:
        for option in options(group):
            words = ["device=cpu", f"{group}={option}"]
            try:
                config = checked(words)
            except ValueError:  # an extra that is not installed, or an option that needs another one
                continue
            yield words, config.values, config.choices


@pytest.fixture(scope="module")
def keys() -> list[tuple[list[str], dict, dict, str]]:
    """Each key once: under the first option that has it with this builder."""
    seen, found = set(), []
    for words, values, chosen in compositions():
        for key in leaves(values):
            owner = key.split(".")[0]
            node = values[owner]
            builder = node.get("_target_") if isinstance(node, dict) else None
            if (key, builder) not in seen and key not in NEVER:
                seen.add((key, builder))
                found.append((words, values, chosen, key))
    return found


def test_the_check_takes_or_refuses_every_value_of_every_key(keys):
    wrong, taken, refused = [], 0, 0
    for _, values, chosen, key in keys:
        for value in READ:
            changed = deepcopy(values)
            *path, last = key.split(".")
            node = changed
            for part in path:
                node = node[part]
            node[last] = value
            try:
                check(changed, chosen)
                taken += 1
            except ValueError as error:
                refused += 1
                if "\n" in str(error) or not str(error):
                    wrong.append((key, value, str(error)))
            except Exception as error:
                wrong.append((key, value, repr(error)))
    print(f"{len(keys)} keys, {taken} values taken, {refused} refused")
    assert not wrong, f"{len(wrong)}: {wrong[:20]}"
    assert len(keys) > 100 and taken > 500 and refused > 2000


def test_the_command_line_ends_with_0_or_2_and_writes_nothing(keys, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cases = [(words, f"{key}={value}") for words, _, _, key in keys for value in VALUES]
    count = int(os.environ.get("FUZZ_COMMANDS", "100")) or len(cases)
    wrong, ends = [], {0: 0, 2: 0}
    for words, word in random.Random(0).sample(cases, min(count, len(cases))):
        try:
            status = run_command(["train", "--cfg", "job", *words, word])
        except BaseException as error:
            wrong.append((*words, word[:80], repr(error)[:300]))
            continue
        out, err = capsys.readouterr()
        ends[status] = ends.get(status, 0) + 1
        tidy = not err if status == 0 else not out and err.count("\n") == 1 and err.startswith("deepgnn: ")
        if status not in (0, 2) or not tidy or "Traceback" in err:
            wrong.append((*words, word[:80], status, err[:300]))
    with capsys.disabled():
        print(f"{sum(ends.values())} of {len(cases)} command lines: {ends}")
    assert not wrong, f"{len(wrong)}: {wrong[:20]}"
    assert list(tmp_path.iterdir()) == []
