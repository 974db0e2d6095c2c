"""`deepgnn ls GROUP NAME`: every key of every option says what it may be and what it means."""

import pytest

from deepgnn_cli.config.describe import keys_of
from deepgnn_cli.config.groups import LISTED, options

OWN = sorted(set(LISTED) - {"experiment", "search", "depth"})


@pytest.mark.parametrize("group", OWN)
def test_every_key_has_a_range_and_a_meaning(group):
    for name in options(group, []):
        for key in keys_of(group, name)[0]:
            assert key.allowed and key.meaning, f"{group}={name}: {key.name}"
