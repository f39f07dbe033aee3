"""Text that is safe to show. It knows nothing else, so that a listing needs no library of tables."""

import re


def plain(text: str) -> str:
    """Return a text without control characters, so that a name cannot move a terminal's cursor or break a row."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
