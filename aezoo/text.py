"""Texts as a person reads them. It knows nothing else, so that a listing needs no library of tables."""

import re


def plain(text: str) -> str:
    """Return a text without control characters, so that a name cannot move a terminal's cursor or break a row."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)


def duration(seconds: float) -> str:
    """Return a time as one would say it: seconds, or minutes from 100 s on."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
