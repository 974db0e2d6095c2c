"""Text from files and from the user, made fit to be shown."""

from __future__ import annotations

import re

# Control characters and Unicode's own line breaks: ESC would speak to the terminal, a line break leave a comment.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def printable(text: str) -> str:
    """The text in one line, without control characters."""
    return _UNFIT.sub(" ", text)


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def mib_of(text: str) -> float:
    """A size in MiB: `16GiB` (also `16G`, powers of 1024), `16GB` (powers of 1000).

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(iB|B)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ValueError(f"'{text}' is no size; write it as 16GiB or 800MiB")
    number, unit, byte = float(match[1]), match[2].upper(), (match[3] or "").lower()
    scale = 1000 ** "KMGT".find(unit) * 1000 if unit and byte == "b" else _UNITS[unit]
    return number * scale / 2**20
