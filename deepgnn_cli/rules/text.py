"""Text from files and from the user, made fit to be shown."""

from __future__ import annotations

import re

# Control characters and Unicode's own line breaks: ESC would speak to the terminal, a line break leave a comment.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def printable(text: str) -> str:
    """The text in one line, without control characters."""
    return _UNFIT.sub(" ", text)
