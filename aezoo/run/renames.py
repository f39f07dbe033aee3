"""Claims by renames, for folders in which locks do not hold.

What a claim stands for has a folder of its own, with one empty file in it, whose name is its state: `7.free`, or
`8.held.` and its owner's token. Every step is one rename of that file, and the number in it grows with each: so no name
comes twice, and of several processes that step from one state, on any machines, the file system lets one. That is why a
takeover has one winner, and why an owner that was taken for dead finds out by a step of its own: it does not ask what a
cache of its machine remembers. Nothing is removed, ever: two small things are left of each trial.
"""

import errno
import re
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

from aezoo.errors import StorageError, system_reason
from aezoo.run.owner import BEAT_SECONDS, STALE_SECONDS, Owners

_STATE = re.compile(r"([0-9]{1,18})\.(?:free|held\.([0-9a-f]{16}))")


class State(NamedTuple):
    """What became of a claim: how many steps it has taken, and who owns it."""

    number: int
    owner: str | None

    @property
    def name(self) -> str:
        """The name of the file that stands for it."""
        return f"{self.number}.free" if self.owner is None else f"{self.number}.held.{self.owner}"

    def next(self, owner: str | None) -> "State":
        """Return the state that follows."""
        return State(self.number + 1, owner)


class RenameClaims:
    """Claims by renames, of one process. Not for several threads.

    Args:
        folder: Where the claims of a run are; it exists.
        beat_seconds: Between two signs of life.
        stale_seconds: After which a process of another machine that gives none is dead.
        place: As `Owners` takes it.
        notice: What its user should know.
    """

    suffix = ".claim"

    def __init__(
        self,
        folder: Path,
        *,
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        place: str | None = None,
        notice: str | None = None,
    ) -> None:
        self.notice = notice
        self.held: set[str] = set()
        self._owners = Owners(
            folder / "owners", self.held, beat_seconds=beat_seconds, stale_seconds=stale_seconds, place=place
        )

    def claim(self, path: Path) -> "RenameClaim | None":
        """Claim what a folder stands for, or return None where a living process, on any machine, has it.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            before = _state(path)
            if before is None:
                state = State(1, self._owners.me())
                mine = make_folder(path, state.name, b"")
            else:
                if before.owner is not None and not self._is_left(path, before.owner):
                    return None
                state = before.next(self._owners.me())
                mine = _step(path, before, state)
        except OSError as error:
            raise _unwritten(path, error) from error
        if not mine:
            return None
        self.held.add(path.name)
        return RenameClaim(path, state, self)

    def is_held(self, path: Path) -> bool:
        """Say whether a living process, as far as is seen from here, has what a folder stands for."""
        try:
            state = _state(path)
        except OSError:
            return False
        return state is not None and state.owner is not None and not self._is_left(path, state.owner)

    def _is_left(self, path: Path, owner: str) -> bool:
        """Say whether whoever owns a claim will never let go of it."""
        if self._owners.is_me(owner):
            # Over a network, a step that was taken may be reported as one that was not.
            return path.name not in self.held
        return self._owners.is_dead(owner)


class RenameClaim:
    """What this process has, until it lets go of it, dies, or is taken for dead."""

    def __init__(self, path: Path, state: State, claims: RenameClaims) -> None:
        self._path = path
        self._state: State | None = state
        # As long as it is there, its owner gives signs of life.
        self._claims = claims

    def holds(self) -> bool:
        """Say whether it is still this process's: no other one, on any machine, has taken it for dead.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self._state is None:
            return False
        after = self._state.next(self._state.owner)
        try:
            if _step(self._path, self._state, after):
                self._state = after
                return True
        except OSError as error:
            raise _unwritten(self._path, error) from error
        self._lose()
        return False

    def release(self) -> None:
        """Let others have it."""
        if self._state is None:
            return
        before = self._state
        self._lose()
        try:
            _step(self._path, before, before.next(None))
        except OSError:
            # It is this process's, which does not know it any more: it can have it again, and others when it ends.
            return

    def _lose(self) -> None:
        self._state = None
        self._claims.held.discard(self._path.name)


def make_folder(path: Path, name: str, content: bytes) -> bool:
    """Make a folder with a file in it, whole, unless there is one that is not empty; say whether it was made.

    Of several processes, on any machines, one makes it: a folder is not renamed onto one that has something in it.

    Raises:
        OSError: it cannot be made.
    """
    scratch = path.with_name(f".tmp-{secrets.token_hex(8)}")
    scratch.mkdir()
    (scratch / name).write_bytes(content)
    try:
        scratch.rename(path)
        return True
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        if gone and (path / name).exists():
            # Over a network, what was done and was asked for twice is answered so.
            return True
        if not gone:
            shutil.rmtree(scratch, ignore_errors=True)
        # That it is not empty is the file system's word: a listing may miss a file that is being renamed.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (path.is_dir() and any(path.iterdir())):
            return False
        raise


def renames_hold(folder: Path) -> bool:
    """Say whether the file system of a folder refuses what `make_folder` must not do; in storage of objects it may not.

    Raises:
        OSError: no file can be made in the folder.
    """
    target = folder / f".tmp-{secrets.token_hex(8)}"
    try:
        return make_folder(target, "a", b"") and not make_folder(target, "b", b"") and (target / "a").exists()
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _state(path: Path) -> State | None:
    """Return the state of a claim, None where there is none.

    A listing may miss a file that is being renamed, or show it twice: then what is made of it is refused.
    """
    try:
        matches = [_STATE.fullmatch(each.name) for each in path.iterdir()]
    except FileNotFoundError:
        return None
    return max(
        (State(int(match[1]), match[2]) for match in matches if match), key=lambda each: each.number, default=None
    )


def _step(path: Path, before: State, after: State) -> bool:
    """Take a claim from one state to the next, and say whether it was this process that did.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        (path / before.name).rename(path / after.name)
        return True
    except FileNotFoundError:
        # Another one was first; or, over a network, what was done was asked for twice.
        return (path / after.name).exists()


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {system_reason(error)}; earlier results are untouched")
