"""The one family of errors that a user can cause, and how a close match is suggested."""

import difflib
from collections.abc import Iterable


class AezooError(Exception):
    """A mistake that the user can mend: one line that says what was given, what is accepted and what to do."""

    exit_status = 2


class ComparisonRefusedError(AezooError):
    """Two runs that must not be compared, because something that changes a loss differs between them."""

    exit_status = 3


class ContractError(AezooError):
    """An architecture, or what it built, breaks the contract of an architecture. Its trials are `invalid`."""


def did_you_mean(given: str, accepted: Iterable[str]) -> str:
    """Return `` Did you mean 'mlp'?`` for the close matches of `given`, or an empty string."""
    matches = difflib.get_close_matches(given, list(accepted), n=3, cutoff=0.55)
    return f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def reason_of(error: BaseException) -> str:
    """Return an error as one line: what it says, with its type before it where it is not one of aezoo's own."""
    text = " ".join(str(error).split())
    if isinstance(error, AezooError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
