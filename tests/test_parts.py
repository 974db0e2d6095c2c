"""docs/parts.md has a row for every part, with the papers that its yaml names."""

import re
from pathlib import Path

import pytest

from deepgnn_cli.config import combinations
from deepgnn_cli.config.groups import options
from deepgnn_cli.config.validate import checked

PAGE = (Path(__file__).parents[1] / "docs" / "parts.md").read_text()


@pytest.mark.parametrize("group", ["residual", "conv", "norm", "drop", "encoding"])
def test_every_part_has_its_row(group):
    section = PAGE.partition(f"## `{group}=`")[2].partition("\n## ")[0]
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", section, re.MULTILINE)}
    known = options(group)
    assert set(rows) == set(known)
    for name, line in known.items():
        papers = set(re.findall(r"arXiv:[\d.]+\d", line))
        assert papers <= set(re.findall(r"arXiv:[\d.]+\d", rows[name])), name


def refusals():
    section = PAGE.partition("## What is refused")[2].partition("\n## ")[0]
    return [found[1].split() for found in re.finditer(r"^\|.*\| `([^`|]+)` \|$", section, re.MULTILINE)]


def reasons(monkeypatch):
    """The functions that may refuse, and a set that fills with the names of those that do."""
    names = [name for name in combinations.refuse.__code__.co_names if name.startswith("_")]
    spoke = set()
    for name in names:
        reason = getattr(combinations, name)

        def listened(*given, name=name, reason=reason):
            if said := reason(*given):
                spoke.add(name)
            return said

        monkeypatch.setattr(combinations, name, listened)
    return names, spoke


def test_every_refusal_has_its_row_and_every_row_is_refused_in_one_line(monkeypatch):
    names, spoke = reasons(monkeypatch)
    for words in refusals():
        spoke.clear()
        with pytest.raises(ValueError) as refused:
            checked(words)
        assert len(spoke) == 1 and "\n" not in str(refused.value), words
        (name,) = spoke
        names.remove(name)  # a reason has one row
    assert names == []
