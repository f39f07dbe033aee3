"""The one family of errors that a user can cause, and how a close match is suggested."""

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


class AezooError(Exception):
    """A mistake that the user can mend: one line that says what was given, what is accepted and what to do."""

    exit_status = 2

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it: its line; a script shows where it came from too."""
        return _in_a_line(self)


class DamagedDataError(AezooError):
    """Parts of a data set that cannot be read: `problems` holds what each is called, and what is wrong with it."""

    def __init__(self, text: str, problems: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.problems = tuple(problems)


class ComparisonRefusedError(AezooError):
    """Two runs that must not be compared, because something that changes a loss differs between them."""

    exit_status = 3


class ContractError(AezooError):
    """An architecture, or what it built, breaks the contract of an architecture. Its trials are `invalid`."""


class ConcernError(ContractError):
    """An architecture is not as the contract asks, and its rows may be compared all the same: they say so in a note."""


class RefusedError(ContractError):
    """A build function that says, in a line, that it cannot build what was asked for."""


class UnfitError(AezooError):
    """This machine cannot do a work as another one asked for it: it has other software. Another machine may."""


class StorageError(AezooError):
    """A file cannot be written, or is not what aezoo wrote; what else is in the run is untouched."""

    exit_status = 1


def system_reason(error: OSError) -> str:
    """Return what the system says went wrong with a file."""
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror)


def did_you_mean(text: str, accepted: Iterable[str]) -> str:
    """Return `` Did you mean 'mlp'?`` for the close matches of `text`, in any case, or an empty string."""
    by_lower = {each.lower(): each for each in accepted}
    matches = [by_lower[each] for each in difflib.get_close_matches(text.lower(), by_lower, n=3, cutoff=0.55)]
    return f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def none_of(
    what: str, given: str, accepted: Sequence[str], lead: str = "give one of", near: Iterable[str] | None = None
) -> AezooError:
    """Return the error of a name that is not among some: first those that are close to it, then all.

    Args:
        what: What it should be the name of.
        given: The name.
        accepted: The names that there are.
        lead: What stands before them.
        near: What it may be close to; by default those.
    """
    close = did_you_mean(given, accepted if near is None else near)
    lead = f".{close} {lead[0].upper()}{lead[1:]}" if close else f"; {lead}"
    return AezooError(f"no {what} {given!r}{lead} {', '.join(accepted)}")


class Interrupted(KeyboardInterrupt):
    """A bench that Ctrl-C stopped.

    Args:
        text: What to do now.
        run: What it came to so far, an `aezoo.Run`; None where no trial ran yet.
    """

    def __init__(self, text: str, run: Any) -> None:
        super().__init__(text)
        self.run = run

    def _render_traceback_(self) -> list[str]:
        return _in_a_line(self)


def _in_a_line(error: BaseException) -> list[str]:
    return [f"{type(error).__name__}: {plain(str(error))}"]


def spelled(name: str, names: Iterable[str]) -> str:
    """Return a name, or the only one of `names` that differs from it in nothing but capitals."""
    alike = [each for each in set(names) if each.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else name


def no_architecture(name: str, labels: Iterable[str]) -> AezooError:
    """Return the error of a name that no architecture has, with the closest of those that there are."""
    there = f" Images are given by --dataset ./{name}." if Path(name).exists() else ""
    return AezooError(f"no architecture {name!r}; `aezoo list` shows them all." + (there or did_you_mean(name, labels)))


def no_hyperparameter(owner: str, name: str, declared: Sequence[str]) -> AezooError:
    """Return the error of a hyperparameter that is not among those that its owner declares."""
    accepted = ", ".join(declared) or "no hyperparameters"
    return AezooError(f"{owner}: no hyperparameter {name!r}; it accepts {accepted}." + did_you_mean(name, declared))


def is_dataset(name: str) -> AezooError:
    """Return the error of an architecture's name that is a data set's."""
    return AezooError(
        f"{name!r} is a data set, and no architecture: bench architectures on it by --dataset {name}; "
        f"`aezoo data check {name}` looks at it"
    )


def another_recipe(path: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> AezooError | None:
    """Return the error of a run whose settings are not those that are asked for, with those that differ; or None."""
    differing = [
        f"{name} {shortened(there.get(name))} there, {shortened(asked.get(name))} asked"
        for name in sorted(there.keys() | asked.keys())
        if there.get(name) != asked.get(name)
    ]
    if not differing:
        return None
    return AezooError(f"{path} holds a run of another recipe ({'; '.join(differing)}); give another folder with --out")


def shortened(value: Any) -> str:
    """Return a setting as a message has it: of a hash the first digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", str(value))


def nothing_to_bench() -> AezooError:
    """Return the error of a bench that names nothing."""
    return AezooError("nothing to bench: name variants or patterns, or give --all; `aezoo list` shows what there is")


def no_match(pattern: str, labels: Iterable[str]) -> AezooError:
    """Return the error of a pattern that no architecture matches, with the names that are close to it."""
    near = did_you_mean(re.sub("[*?]", "", pattern), labels)
    return AezooError(f"no architecture matches {pattern!r}; `aezoo list` shows them all{'.' if near else ''}{near}")


def reason_of(error: BaseException) -> str:
    """Return an error as one line: what it says, with its type before it where it is not one of aezoo's own."""
    text = _storable(" ".join(str(error).split()), 2_000)
    if isinstance(error, AezooError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback as a record holds it."""
    return _storable("".join(traceback.format_exception(error)), 20_000)


def _storable(text: str, length: int) -> str:
    """Return a text that every encoding takes, shortened aloud where it is longer than that."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= length else f"{text[:length]} [... {len(text) - length:,} characters left out]"


def plain(text: str) -> str:
    """Return a text without control characters, so that a name cannot move a terminal's cursor or break a row.

    Nor can it turn the direction of what stands beside it, or be what no file can hold (half of a surrogate pair).
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", " ", text)


def duration(seconds: float) -> str:
    """Return a time as one would say it: seconds, or minutes from 100 s on."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def counted(count: int, what: str, total: int | None = None) -> str:
    """Return a count with its noun: ``3 of 2,000 images``."""
    whole = total if total is not None else count
    noun = what if whole == 1 else f"{what}s"
    return f"{count:,} {noun}" if total is None else f"{count:,} of {total:,} {noun}"
