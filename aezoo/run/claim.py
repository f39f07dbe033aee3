"""A claim: what one process runs, and no other does, on any machine that shares the run.

Where locks hold in a run's folder, a claim is a lock; elsewhere it is a rename (`renames`). Which of them is written
into the run by whoever comes first, and all follow it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Protocol

import pydantic

from aezoo import locks
from aezoo.errors import AezooError, StorageError, duration, system_reason
from aezoo.machine import FrozenModel
from aezoo.run.files import DamagedFileError, read, text_of
from aezoo.run.owner import STALE_SECONDS
from aezoo.run.records import SCHEMA, SchemaVersion
from aezoo.run.renames import RenameClaims, make_folder, renames_hold

KIND = "kind.json"
WAIT_SECONDS = 0.02
"""Between tries for a claim that is held for an instant."""
_NOTICE = (
    "trials are claimed by renames, as locks do not hold: {reason}; what a process leaves behind that dies on another "
    "machine is taken over {stale} later"
)


class Claim(Protocol):
    """What a process has, and no other one, until it lets go of it or dies."""

    def holds(self) -> bool:
        """Say whether it is still this process's; it is asked before something is written that one process may write.

        Raises:
            StorageError: the folder cannot be written.
        """

    def release(self) -> None:
        """Let others have it."""


class Claims(Protocol):
    """How work is claimed in a run. `suffix` ends the names of what stands for claims; `notice` is for its user."""

    suffix: str
    notice: str | None

    def claim(self, path: Path) -> Claim | None:
        """Claim what a path stands for, or return None where another process, on any machine, has it.

        Raises:
            StorageError: the folder cannot be written.
        """


class LockClaim:
    """A lock on a file: the system lets go of it when its owner dies, however that happens."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def holds(self) -> bool:
        """Say that it is: nobody can take a lock away."""
        return not self._file.closed

    def release(self) -> None:
        """Let others have it. The file stays: removing it would leave two owners of one name."""
        self._file.close()


class LockClaims:
    """Claims by locks."""

    suffix = ".lock"
    notice: str | None = None

    def claim(self, path: Path) -> LockClaim | None:
        """Lock a file, or return None where another process, on any machine, has it.

        Raises:
            StorageError: the folder cannot be written, or takes no locks.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {system_reason(error)}; earlier results are untouched") from error
        try:
            if locks.lock(file, wait=False):
                return LockClaim(file)
        except StorageError:
            file.close()
            raise
        file.close()
        return None


@contextmanager
def waited(attempt: Callable[[], Claim | None]) -> Iterator[Claim]:
    """Wait until a claim can be had, and have it as long as the context lasts."""
    while (claim := attempt()) is None:
        time.sleep(WAIT_SECONDS)
    try:
        yield claim
    finally:
        claim.release()


class KindOfClaims(FrozenModel):
    """How a run is claimed, and `reason`, why locks do not hold there, as the process found that began it."""

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    kind: Literal["locks", "renames"]
    reason: str | None = None

    @classmethod
    def of(cls, folder: Path) -> "KindOfClaims":
        """Return how a run in a folder would be claimed from here.

        Raises:
            OSError: no file can be made in the folder.
            StorageError: neither locks nor renames keep processes apart there.
        """
        reason = locks.weakness(folder)
        if reason is not None and not renames_hold(folder):
            raise StorageError(
                f"nothing keeps two processes apart in {folder}: {reason}, and a folder can be renamed onto another "
                "one; give a folder on another disk with --out"
            )
        return cls(kind="locks" if reason is None else "renames", reason=reason)


def held(folder: Path, names: Iterable[str]) -> set[str]:
    """Return what living processes have, of some names of work in a run, on any machine; nothing is written.

    Args:
        folder: That of the run's claims.
        names: As they are claimed: the ids of trials.
    """
    try:
        kind = read(folder / KIND, KindOfClaims).kind
    except FileNotFoundError:
        kind = "locks"
    except (OSError, DamagedFileError):
        return set()
    if kind == "locks":
        return {name for name in names if locks.is_locked(folder / f"{name}{LockClaims.suffix}")}
    claims = RenameClaims(folder)
    return {name for name in names if claims.is_held(folder / f"{name}{RenameClaims.suffix}")}


def open_claims(folder: Path) -> Claims:
    """Open the folder of a run's claims, made where there is none.

    Raises:
        AezooError: they are locks, and locks do not hold here.
        StorageError: the folder cannot be written, or nothing keeps two processes apart there.
    """
    run = folder.parent
    try:
        run.mkdir(parents=True, exist_ok=True)
        here = KindOfClaims.of(run)
        make_folder(folder, KIND, text_of(here).encode())
        try:
            chosen = read(folder / KIND, KindOfClaims)
        except FileNotFoundError:
            # An aezoo that knew no other kind made it.
            chosen = KindOfClaims(kind="locks")
    except DamagedFileError as error:
        raise StorageError(f"{error}; once no process works on the run, remove {folder}") from error
    except OSError as error:
        raise StorageError(
            f"cannot write into {run}: {system_reason(error)}; give another folder with --out"
        ) from error
    if chosen.kind == "renames":
        return RenameClaims(folder, notice=_NOTICE.format(reason=chosen.reason, stale=duration(STALE_SECONDS)))
    if here.reason is not None:
        raise AezooError(
            f"{run} is claimed by locks, which do not hold here: {here.reason}; mount it as where it was begun, or, "
            f"once no process works on it, remove {folder}"
        )
    return LockClaims()
