"""Who claims: the processes that share a run, and which of them are dead.

Each writes one file, `<token>.json`, that says where it runs, and counts on in it as long as it lives. No two machines'
clocks are ever compared: a watcher measures, by its own, how long a count has stood still.
"""

import os
import platform
import secrets
import threading
import time
import weakref
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pydantic

from aezoo.errors import StorageError
from aezoo.machine import Count, FrozenModel
from aezoo.run.files import read, write_json
from aezoo.run.records import SCHEMA, SchemaVersion

BEAT_SECONDS = 10.0
"""Between two counts of a process: a thousand processes write a hundred small files a second."""
STALE_SECONDS = 300.0
"""How long a count of another machine stands still before its process is taken for dead. A client of NFS may go by what
it knew a minute ago (acdirmax, nfs(5)), a server that starts again gives its clients 90 s to come back, and a machine
that swaps may lose minutes. A process that was taken for dead wrongly finds out, and loses its work, no more."""


class Beat(FrozenModel):
    """A process that claims. `place` is None where the system does not tell it; `started` is in ticks of its kernel."""

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    host: str
    place: str | None
    pid: Count
    started: Count | None
    count: Count = 0


@dataclass(kw_only=True)
class _Watch:
    """What a watcher has seen of another process: its last beat, when it looked, how long it saw that beat stand."""

    beat: Beat | None
    looked: float
    unmoved: float = 0.0


class Owners:
    """The processes that share a run, seen by one of them.

    Args:
        folder: Where each has its file.
        held: What this process holds; its file is left where that is not empty, so that others see who it was.
        beat_seconds: Between two counts of this process.
        stale_seconds: After which one of another machine that does not count on is dead.
        place: The processes of one place see each other's ids; by default this machine, as it was started.
    """

    def __init__(
        self,
        folder: Path,
        held: Collection[str],
        *,
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        place: str | None = None,
    ) -> None:
        self._folder = folder
        self._held = held
        self._beat_seconds = beat_seconds
        self._stale_seconds = stale_seconds
        self._place = place or place_of_pids()
        self._watches: dict[str, _Watch] = {}
        self._token = ""
        self._pid = 0

    def me(self) -> str:
        """Return this process's token, 16 hex digits, after it began to count.

        Raises:
            StorageError: its file cannot be written.
        """
        # A fork has its parent's memory, and not its threads: it is another process.
        if self._pid != os.getpid():
            pid, token = os.getpid(), secrets.token_hex(8)
            path = self._folder / f"{token}.json"
            facts = _stat(pid)
            beat = Beat(host=platform.node(), place=self._place, pid=pid, started=None if facts is None else facts[1])
            write_json(path, beat)
            stop = threading.Event()
            threading.Thread(
                target=_count_on, args=(path, beat, self._beat_seconds, stop), name="aezoo-beat", daemon=True
            ).start()
            weakref.finalize(self, _end, path, pid, self._held, stop)
            self._pid, self._token = pid, token
        return self._token

    def is_me(self, token: str) -> bool:
        """Say whether a token is this process's."""
        return token == self._token and self._pid == os.getpid()

    def is_dead(self, token: str) -> bool:
        """Say whether the process of a token is dead, as far as this one can know: never of one that lives here."""
        watch = self._watches.get(token)
        now = time.monotonic()
        if watch is None:
            watch = self._watches[token] = _Watch(beat=self._read(token), looked=now)
        if watch.beat is not None and watch.beat.place is not None and watch.beat.place == self._place:
            return not _lives(watch.beat.pid, watch.beat.started)
        if now - watch.looked > self._beat_seconds / 4:
            beat = self._read(token)
            # A watcher that was stopped itself, or whose server was away, has not seen how long it stood.
            seen = min(now - watch.looked, self._beat_seconds)
            watch.unmoved = watch.unmoved + seen if beat == watch.beat else 0.0
            watch.beat, watch.looked = beat, now
        return watch.unmoved >= self._stale_seconds

    def _read(self, token: str) -> Beat | None:
        try:
            return read(self._folder / f"{token}.json", Beat)
        except (FileNotFoundError, StorageError):
            return None


def place_of_pids() -> str | None:
    """Return what processes that see each other's ids have in common; None where the system does not tell.

    It is the machine since it was started, and the namespace of process ids: two containers of one machine have two.
    """
    try:
        if Path("/proc/self").readlink().name != str(os.getpid()):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # A machine that is a copy of another one may have the same boot.
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _lives(pid: int, started: int | None) -> bool:
    """Say whether a process of this place lives, stopped or not; another one that has its id by now is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    facts = _stat(pid)
    # Where another user's processes are hidden, there is one of this id, and no more to be known.
    return facts is None or (facts[0] not in "ZX" and facts[1] == started)


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state of a process, a letter, and when it started, in ticks since its machine did; None where unknown.

    Not psutil's: it gives that as a time of day, and changes with the clock.
    """
    try:
        # proc_pid_stat(5): the name, in brackets, may hold anything; the state is field 3, and the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _count_on(path: Path, beat: Beat, seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        beat = beat.model_copy(update={"count": beat.count + 1})
        # What keeps it from writing may pass; if it stays, this process is taken for dead, and finds out.
        with suppress(StorageError):
            write_json(path, beat)


def _end(path: Path, pid: int, held: Collection[str], stop: threading.Event) -> None:
    stop.set()
    if pid == os.getpid() and not held:
        with suppress(OSError):
            path.unlink()
