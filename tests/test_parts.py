"""docs/parts.md has a row for every part, with the papers that its yaml names."""

import re
from pathlib import Path

import pytest

from deepgnn_cli.config.groups import options

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
