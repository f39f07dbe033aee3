"""What was read of a run's files, kept in `index.sqlite`, so that only what changed is read again.

It is derived, and never the truth. A file counts as read where the system says of it, and of the file that is read with
it, what it said before they were read and checked: size, times, inode. Whatever changes a file changes one of these,
but for a change within the same tick of a clock: so what has just been written is not kept before it has settled.

The index is never changed where it lies: a changed copy takes its place, by a rename. So nobody waits for a lock, which
some network file systems do not keep, and of two processes that write it the last one stands. Its last bytes are the
SHA-256 of those before. One that is torn, changed, of another aezoo or not there is made anew, and where the folder
cannot be written each reading reads all; nothing is said of either, since nothing comes of it but time.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import pydantic

from aezoo import machine
from aezoo.errors import StorageError
from aezoo.run.files import TEMPORARY
from aezoo.run.means import Means
from aezoo.run.records import Measurement, Timing, TrialRecord
from aezoo.run.repetition import Repetition

M = TypeVar("M", bound=pydantic.BaseModel)
SETTLED_NS = 2_000_000_000
"""What changed later than this may change again within the same tick: on some file systems one is 2 s."""
WORTH = 64
"""The index is written where one in so many of the files changed: else to copy it takes longer than to read them."""
_OWN: dict[type[pydantic.BaseModel], tuple[str, ...]] = {
    TrialRecord: (
        "trial_id", "seed", "status", "reason", "traceback", "test_mse", "validation_mse", "test_errors_sha256",
        "weights_sha256", "samples_sha256", "train_mse", "curve", "coded_bits", "active_units", "support_bits",
        "train_seconds", "compile_seconds",
        "peak_memory_bytes", "peak_device_memory_bytes", "infer_peak_memory_bytes", "infer_peak_device_memory_bytes",
        "started_at", "finished_at",
    ),
    Measurement: ("trial_id", "weights_sha256", "value", "reason", "measured_at"),
    Timing: (
        "variant", "train_images_per_s", "infer_images_per_s", "reference_train_images_per_s",
        "reference_infer_images_per_s", "matmul_flops_per_s", "measured_at",
    ),
    Repetition: ("trial_id", "seed", "recorded", "repeated", "repeated_at"),
}  # fmt: skip
"""What is a file's own. The rest of it, which many have in common, is held once, in the index and in memory."""
_FIELDS = {model: set(model.model_fields) for model in _OWN}
_PARTS = {
    model: {
        name: part
        for name, field in model.model_fields.items()
        if isinstance(part := field.annotation, type) and issubclass(part, pydantic.BaseModel)
    }
    for model in _OWN
}
"""Those fields that are models themselves: all of a run share a few."""
_TABLES = (
    "CREATE TABLE format (name TEXT)",
    "CREATE TABLE shared (id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID",
    "CREATE TABLE files (folder TEXT, name TEXT, marks TEXT, shared TEXT, own TEXT, PRIMARY KEY (folder, name)) "
    "WITHOUT ROWID",
    "CREATE TABLE means (variant TEXT PRIMARY KEY, hashes TEXT, seeds INTEGER, content BLOB)",
)
_DIGEST_BYTES = 32


class SeenFile(NamedTuple):
    """A file of a folder, and what the system says of it; no marks where it has not settled, or is a link."""

    name: str
    marks: str | None


class Index:
    """The index of a run, as it was when this was made, and what was read since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._kept: sqlite3.Connection | None = None
        opened = _opened(path)
        if opened is not None:
            self._file, self._kept = opened
            for each in opened:
                weakref.finalize(self, each.close)
        self._rows: dict[tuple[str, str], tuple[str, str, str] | None] = {}
        self._means: dict[str, tuple[str, Means]] = {}
        self._size = 0
        self._contents: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, str] = {}
        self._parts: dict[str, pydantic.BaseModel] = {}

    def unchanged(
        self, folder: Path, model: type[M], beside: Callable[[str], str] | None = None
    ) -> tuple[dict[str, M], list[SeenFile]]:
        """Return what those JSON files of a folder hold that did not change, by name, and those that are to be read.

        `beside` says, by the name of one, where the other file lies that is read with it.
        """
        kept: dict[str, M] = {}
        changed = []
        rows = self._rows_of(folder.name)
        name, *row = next(rows, _NONE)
        for found in _files(folder, beside):
            self._size += 1
            while name and name < found.name:
                self._rows[folder.name, name] = None  # the file is gone
                name, *row = next(rows, _NONE)
            if name == found.name and row[0] == found.marks:
                kept[name] = self._content(model, row[1], row[2])
            else:
                changed.append(found)
            if name == found.name:
                name, *row = next(rows, _NONE)
        while name:
            self._rows[folder.name, name] = None
            name, *row = next(rows, _NONE)
        return kept, changed

    def keep(self, folder: Path, found: SeenFile, content: M) -> M:
        """Keep what a file holds that was read and checked after it was found, and return it as the index holds it."""
        model = type(content)
        own = content.model_dump_json(by_alias=True, include=set(_OWN[model]), exclude_none=True)
        rest = content.model_dump_json(by_alias=True, exclude={*_OWN[model], *_PARTS[model]})
        parts = [self._share(getattr(content, name).model_dump_json(by_alias=True)) for name in _PARTS[model]]
        shared = "\n".join([rest, *parts])
        if found.marks is not None:
            self._rows[folder.name, found.name] = (found.marks, self._share(shared), own)
        return self._content(model, shared, own)

    def covered(self, variant: str, hashes: Sequence[str]) -> int:
        """Return of how many of a variant's trials, the first ones, the test errors' means are kept.

        Args:
            variant: Its text.
            hashes: Those of the files of test errors of its trials, in the order of their seeds.
        """
        if variant in self._means:
            key, means = self._means[variant]
            seeds = len(means.by_seed)
        else:
            key, seeds = self._keys.get(variant, ("", 0))
        return seeds if seeds <= len(hashes) and key == _key(hashes[:seeds]) else 0

    def means(self, variant: str, hashes: Sequence[str]) -> Means | None:
        """Return what the test errors of a variant's trials come to, where that is kept.

        Raises:
            StorageError: the index can no longer be read.
        """
        if not hashes or self.covered(variant, hashes) != len(hashes):
            return None
        if variant in self._means:
            return self._means[variant][1]
        assert self._kept is not None
        try:
            row = self._kept.execute("SELECT seeds, content FROM means WHERE variant = ?", (variant,)).fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self.path}: {error}; the same command again makes it anew") from error
        return Means.unpack(*row)

    def keep_means(self, variant: str, hashes: Sequence[str], means: Means) -> None:
        """Keep what the test errors of a variant's trials come to."""
        self._means[variant] = _key(hashes), means

    def save(self) -> None:
        """Write what is to be kept beyond this process, where that is worth it and can be done; the reading is over."""
        changes = len(self._rows) + len(self._means)
        if changes and changes * WORTH >= self._size:
            with contextlib.suppress(OSError, sqlite3.Error):
                self._write()
        for held in (self._rows, self._texts, self._contents, self._parts):
            held.clear()

    @cached_property
    def _keys(self) -> dict[str, tuple[str, int]]:
        """What the means of each variant are of: a hash over those of the files, and how many they are."""
        if self._kept is None:
            return {}
        try:
            rows = self._kept.execute("SELECT variant, hashes, seeds FROM means")
            return {variant: (key, seeds) for variant, key, seeds in rows}
        except sqlite3.Error:
            return {}

    def _rows_of(self, folder: str) -> Iterator[tuple[str, str, str, str]]:
        """Yield the rows of a folder's files, by name."""
        if self._kept is not None:
            # What cannot be read counts as changed.
            with contextlib.suppress(sqlite3.Error):
                yield from self._kept.execute(
                    "SELECT name, marks, content, own FROM files JOIN shared ON id = shared WHERE folder = ? "
                    "ORDER BY name",
                    (folder,),
                )

    def _share(self, text: str) -> str:
        """Keep what several files share, and return its id."""
        key = _hash(text)
        self._texts[key] = text
        return key

    def _content(self, model: type[M], shared: str, own: str) -> M:
        """Return what a file holds: what it shares with others is one object in all of them."""
        values = json.loads(own)
        if "curve" in values:
            values["curve"] = [tuple(point) for point in values["curve"]]
        if shared not in self._contents:
            self._contents[shared] = self._checked(model, shared, values)
        content = model.__new__(model)
        # What `model_copy` does, without a copy of the names of all fields in each of very many.
        object.__setattr__(content, "__dict__", {**self._contents[shared], **values})
        object.__setattr__(content, "__pydantic_fields_set__", _FIELDS[model])
        object.__setattr__(content, "__pydantic_extra__", None)
        object.__setattr__(content, "__pydantic_private__", None)
        return content

    def _checked(self, model: type[M], shared: str, own: dict[str, Any]) -> dict[str, Any]:
        """Return what a file shares with others, checked together with what is its own, by the names of the fields."""
        rest, *keys = shared.split("\n")
        parts = {name: self._part(part, key) for (name, part), key in zip(_PARTS[model].items(), keys, strict=True)}
        nothing: dict[str, Any] = dict.fromkeys(_OWN[model])
        # What is not there of its own was null.
        return vars(model.model_validate(json.loads(rest) | parts | nothing | own)) | nothing

    def _part(self, model: type[pydantic.BaseModel], key: str) -> pydantic.BaseModel:
        """Return a part of several files that is a model itself."""
        if key not in self._parts:
            text = self._texts.get(key)
            if text is None and self._kept is not None:
                (text,) = self._kept.execute("SELECT content FROM shared WHERE id = ?", (key,)).fetchone()
            self._parts[key] = model.model_validate_json(text or "", strict=True)
        return self._parts[key]

    def _write(self) -> None:
        """Write a changed copy, and put it in the place of what is there.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
            sqlite3.Error: likewise.
        """
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=TEMPORARY)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if self._file is not None:
                    _copy(self._file, file)
            self._change(temporary)
            with temporary.open("rb+") as file:
                file.write(_digest(file, temporary.stat().st_size))
            temporary.chmod(0o644)
            temporary.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _change(self, path: Path) -> None:
        changed = sqlite3.connect(path)
        with contextlib.closing(changed):
            # It is nobody else's, and none that has to stand when the machine stops.
            changed.execute("PRAGMA journal_mode = OFF")
            changed.execute("PRAGMA synchronous = OFF")
            if self._kept is None:
                # Of the longest rows none takes more than a quarter of a page, or it would lie in pages of its own.
                changed.execute("PRAGMA page_size = 16384")
                for table in _TABLES:
                    changed.execute(table)
                changed.execute("INSERT INTO format VALUES (?)", (_format(),))
            changed.executemany("INSERT OR IGNORE INTO shared VALUES (?, ?)", self._texts.items())
            changed.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                ((*key, *row) for key, row in self._rows.items() if row is not None),
            )
            gone = [key for key, row in self._rows.items() if row is None]
            changed.executemany("DELETE FROM files WHERE folder = ? AND name = ?", gone)
            changed.executemany(
                "INSERT OR REPLACE INTO means VALUES (?, ?, ?, ?)",
                ((variant, key, *means.pack()) for variant, (key, means) in self._means.items()),
            )
            changed.commit()


_NONE = ("", "", "", "")


def _opened(path: Path) -> tuple[IO[bytes], sqlite3.Connection] | None:
    """Open an index to be read, as a file and as a database; None where none is there, whole and of this aezoo."""
    with contextlib.suppress(OSError, sqlite3.Error), contextlib.ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        size = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
        if size < 0 or _digest(file, size) != file.read():
            return None
        name = urllib.parse.quote(str(path.absolute()))
        # Immutable: SQLite asks for no lock, and looks for no journal.
        kept = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        opened.callback(kept.close)
        tables = [sql for (sql,) in kept.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")]
        ours = tables == list(_TABLES) and kept.execute("SELECT name FROM format").fetchall() == [(_format(),)]
        # Another process may have put one of its own there meanwhile.
        if ours and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            opened.pop_all()
            return file, kept
    return None


def _format() -> str:
    """Return what an index of this aezoo calls itself: in another one, or of other models, it would be read wrong."""
    models = {model.__name__: (_OWN[model], list(model.model_fields)) for model in _OWN}
    return _hash(json.dumps([1, machine.version(), models]))


def _files(folder: Path, beside: Callable[[str], str] | None) -> Iterator[SeenFile]:
    """Yield the JSON files of a folder that are written whole, by name; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            each = [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(TEMPORARY)]
    except FileNotFoundError:
        return
    settled = time.time_ns() - SETTLED_NS
    for entry in sorted(each, key=lambda entry: entry.name):
        try:
            latest, marks = _state(entry.stat(follow_symlinks=False))
        except OSError:
            continue  # another process has just set it aside
        if beside is not None:
            with contextlib.suppress(OSError):
                other, more = _state(os.stat(beside(entry.name), follow_symlinks=False))  # noqa: PTH116 - of very many
                latest, marks = max(latest, other), f"{marks}; {more}"
        yield SeenFile(entry.name, None if latest > settled or entry.is_symlink() else marks)


def _state(status: os.stat_result) -> tuple[int, str]:
    """Return when a file was changed the last time, and what tells it from what it was before."""
    times = status.st_mtime_ns, status.st_ctime_ns
    return max(times), f"{status.st_size} {times[0]} {times[1]} {status.st_ino}"


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy an index without its digest."""
    left = os.fstat(source.fileno()).st_size - _DIGEST_BYTES
    source.seek(0)
    while left:
        chunk = source.read(min(left, 2**20))
        left -= target.write(chunk)


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the SHA-256 of a file's first bytes, and leave it behind them."""
    hashed = hashlib.sha256()
    file.seek(0)
    while size:
        chunk = file.read(min(size, 2**20))
        if not chunk:
            break
        hashed.update(chunk)
        size -= len(chunk)
    return hashed.digest()


def _key(hashes: Sequence[str]) -> str:
    return _hash("".join(hashes))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
