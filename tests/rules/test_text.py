"""Sizes as people write them."""

import pytest

from deepgnn_cli.rules.text import mib_of


@pytest.mark.parametrize(
    ("text", "mib"),
    [("16GiB", 16384), ("16G", 16384), ("1.5 gib", 1536), ("800MiB", 800), ("1TiB", 2**20), ("1048576", 1)]
    + [("1MB", 1e6 / 2**20), ("24GB", 24e9 / 2**20), ("512K", 0.5)],
)
def test_a_size_in_mib(text, mib):
    assert mib_of(text) == pytest.approx(mib)


@pytest.mark.parametrize("text", ["", "GiB", "0", "0.0G", "-1G", "16XB", "1e3G", "nan", "16 16G"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="no size"):
        mib_of(text)
