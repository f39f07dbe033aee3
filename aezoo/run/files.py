"""How a file of a run is written and read: whole or not at all, with a checksum, and strictly.

No pickle is ever read.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from aezoo.errors import AezooError, StorageError, system_reason
from aezoo.run.records import upgrade

TEMPORARY = ".tmp-"
"""How the names of files begin that are not whole yet."""
M = TypeVar("M", bound=pydantic.BaseModel)


class DamagedFileError(StorageError):
    """A file of a run that is torn, changed, or not what aezoo wrote."""


def require_room(folder: Path) -> None:
    """Check that files can be written into a folder, which need not be there; nothing is left in it.

    Raises:
        AezooError: it, or what it would lie in, is a file.
        StorageError: nothing can be written there.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise AezooError(f"{folder if place == folder.absolute() else place} is a file; give a folder with --out")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise StorageError(
            f"cannot write into {folder}: {place}: {system_reason(error)}; give another folder with --out"
        ) from error


def slug(text: str) -> str:
    """Return a text as a file name that every system takes: a-z, 0-9, ``_ - = .``; at most 60 characters.

    Where it is cut it ends in a digest, so that two texts with one beginning are two names.
    """
    name = re.sub(r"[^a-z0-9_=.]+", "-", text.lower()).strip("-.")
    if len(name) > 60:
        name = f"{name[:49].rstrip('-.')}-{digest(text)}"
    return name or "variant"


def digest(*parts: Any) -> str:
    """Return 10 hex digits over some values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def write_json(path: Path, model: pydantic.BaseModel) -> None:
    """Write a model as JSON with its checksum, whole or not at all.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    write_text(path, text_of(model))


def text_of(model: pydantic.BaseModel) -> str:
    """Return a model as JSON with its checksum."""
    content = model.model_dump(mode="json", by_alias=True)
    return json.dumps({**content, "checksum": checksum(content)}, indent=1, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all: temporary file, fsync, rename.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a run is for whoever may read the folder.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StorageError(f"cannot write {path}: {system_reason(error)}; earlier results are untouched") from error


def remove(path: Path) -> None:
    """Remove a file, where there is one.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {system_reason(error)}") from error


@contextlib.contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when all went well; else nothing is left.

    Raises:
        AezooError: there is something at `folder`: nothing is overwritten.
        StorageError: the disk is full, or the folder cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise AezooError(f"{folder} is there already: give another folder, or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent, ignore_cleanup_errors=True) as name:
            scratch = Path(name)
            yield scratch
            # mkdtemp makes folders for their owner alone.
            scratch.chmod(0o755)
            scratch.replace(folder)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {system_reason(error)}") from error


def content_of(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        DamagedFileError: it is not there.
        StorageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedFileError(f"{path} is damaged: it is not there") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {system_reason(error)}") from error


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def read(path: Path, model: type[M]) -> M:
    """Read a model as `write_json` wrote it, this aezoo or an older one.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is torn, changed, or not what aezoo wrote.
        StorageError: it cannot be read, or is of a newer aezoo.
    """
    try:
        content = json.loads(path.read_bytes())
        if content.pop("checksum") != checksum(content):
            raise DamagedFileError(f"{path} is damaged: its checksum does not fit")
    except DamagedFileError:
        raise
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {path}: {system_reason(error)}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: {type(error).__name__}") from error
    try:
        content = upgrade(content)
    except ValueError as error:
        # Whole, and not this aezoo's to judge: nothing to set aside.
        raise StorageError(f"cannot read {path}: {error}; read it with the aezoo that wrote it") from error
    try:
        return model.model_validate_json(json.dumps(content), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFileError(f"{path} is damaged: {where}{': ' if where else ''}{first['msg']}") from error


def read_or_set_aside(path: Path, model: type[M], check: Callable[[M], None] = lambda _: None) -> M | None:
    """Read a model; where it is damaged, or `check` says so, set it aside with a warning, as if it were not there."""
    try:
        content = read(path, model)
        check(content)
        return content
    except FileNotFoundError:
        # Another process has just set it aside.
        return None
    except DamagedFileError as error:
        set_aside(path, error)
        return None


def set_aside(path: Path, error: DamagedFileError) -> None:
    """Give a damaged file another name, and warn of it: it counts as not there."""
    number = sum(1 for _ in path.parent.glob(f"{glob.escape(path.stem)}.damaged*"))
    aside = path.with_suffix(f".damaged{number or ''}")
    try:
        path.replace(aside)
        what = f"set aside as {aside.name}"
    except OSError as failure:
        what = f"not set aside, {system_reason(failure)}"
    warnings.warn(f"{error}; {what}; it counts as not there", stacklevel=3)
