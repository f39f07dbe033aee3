"""Images as arrays that need not be in memory: read from a file when they are asked for, or gathered in one."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aezoo import locks, machine
from aezoo.errors import StorageError, system_reason

Shape = tuple[int, ...]
Index = slice | NDArray[np.integer[Any]]
STREAMED_ABOVE = 2**28
"""Bytes of a data set's images above which they are streamed."""
CHUNK = 2**24
"""Bytes of images that are read at a time by whoever walks through all of them."""
_IMAGES = "aezoo-images-"
_STARTING = "aezoo-starting-"


def is_large(size: int) -> bool:
    """Say whether so many bytes are too many to be held in memory as a whole."""
    return size > STREAMED_ABOVE


class Pixels(Protocol):
    """Images as a data set may give them, (N, C, H, W), uint8: an array, or what reads them as it is asked."""

    @property
    def shape(self) -> Shape:
        """(N, C, H, W)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return some images that follow each other, as an array."""
        ...


class Subset:
    """Some images of others, in an order of their own, read when they are asked for.

    Args:
        pixels: Whatever can be indexed by an array of whole numbers, and has a shape and a dtype.
        indices: Which of them, (M,), whole numbers.
    """

    def __init__(self, pixels: Any, indices: NDArray[np.integer[Any]]) -> None:
        self._pixels = pixels
        self._indices = np.asarray(indices)

    @property
    def shape(self) -> Shape:
        """(M, C, H, W)."""
        return (len(self._indices), *self._pixels.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the others have."""
        dtype: np.dtype[Any] = np.dtype(self._pixels.dtype)
        return dtype

    def __len__(self) -> int:
        """M."""
        return len(self._indices)

    def __getitem__(self, index: Index) -> NDArray[np.uint8]:
        """Return some of them as an array."""
        return np.asarray(self._pixels[self._indices[index]])


class FilePixels:
    """An array that lies in a file, (N, ...), in rows one behind the other, read when they are asked for.

    Args:
        file: An open file without a buffer; it must stay open.
        shape: (N, C, H, W) of images.
        offset: The byte at which they begin.
        dtype: Of what they are.
    """

    def __init__(self, file: FileIO, shape: Shape, offset: int = 0, dtype: Any = np.uint8) -> None:
        self._file = file
        self._offset = offset
        self.dtype = np.dtype(dtype)
        self.shape = tuple(int(side) for side in shape)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, index: Index) -> NDArray[Any]:
        """Return some of them as an array."""
        indices = np.arange(len(self))[index]
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        if not len(indices):
            return rows
        size = rows[0].nbytes
        # Those that follow each other are read at once.
        for run in np.split(np.arange(len(indices)), np.flatnonzero(np.diff(indices) != 1) + 1):
            part = rows[run[0] : run[-1] + 1].reshape(-1).view(np.uint8).data.cast("B")
            read_into(part, self._file, self._offset + int(indices[run[0]]) * size)
        return rows


class GatheredPixels(FilePixels):
    """Images that come one by one, (C, H, W), uint8, and are kept in a file that nobody else sees, not in memory."""

    def __init__(self, image_shape: Shape) -> None:
        self._folder = _folder_on_disk()
        file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - it lives as long as the images
        super().__init__(file, (0, *image_shape))

    def extend(self, images: NDArray[np.uint8]) -> None:
        """Take more images, (N, C, H, W), of the same shape.

        Raises:
            StorageError: there is no room for them.
        """
        assert images.shape[1:] == self.shape[1:], f"{images.shape} among {self.shape[1:]}"
        try:
            write_all(self._file, images)
        except OSError as error:
            raise no_room(self._folder, error) from error
        self.shape = (self.shape[0] + len(images), *self.shape[1:])


def _folder_on_disk() -> Path:
    """Return a folder for what is too large for memory, in which the folder for temporary files may lie itself."""
    folder = machine.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder on a disk, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="aezoo-", dir=_folder_on_disk(), ignore_cleanup_errors=True) as name:
        yield Path(name)


def array_chunks(pixels: Pixels) -> Iterator[NDArray[Any]]:
    """Yield images as arrays that follow each other, some `CHUNK` bytes at a time."""
    size = max(1, CHUNK // max(1, pixels.dtype.itemsize * int(np.prod(pixels.shape[1:], dtype=np.int64))))
    for start in range(0, len(pixels), size):
        yield np.ascontiguousarray(pixels[start : start + size])


def read_into(left: memoryview, file: FileIO, offset: int) -> None:
    while left:
        count = os.preadv(file.fileno(), [left], offset)
        if not count:
            raise StorageError(f"{file.name} ends before its images do")
        left, offset = left[count:], offset + count


def write_pixels(parts: Sequence[Pixels], file: FileIO) -> str:
    """Write images one part behind the other, and return the hash of their shapes and pixels, 64 hex digits.

    It is what two runs must share for their losses to be compared. Labels have no part in it: no network sees them.

    Raises:
        OSError: there is no room.
    """
    digest = hashlib.sha256()
    for pixels in parts:
        digest.update(repr(tuple(pixels.shape)).encode())
        for chunk in array_chunks(pixels):
            digest.update(chunk.data)
            write_all(file, chunk)
    return digest.hexdigest()


def write_all(file: FileIO, array: NDArray[Any]) -> None:
    """Write an array's bytes, all of them, to a file without a buffer."""
    left = np.ascontiguousarray(array).data.cast("B")
    while left:
        left = left[file.write(left) :]


@contextmanager
def scratch_file(folder: Path | None = None) -> Iterator[FileIO]:
    """Open a file for images that is removed in the end, in the folder for temporary files or another one.

    It is locked as long: one that nobody locks was left by a process that was killed, and is removed. Where locks do
    not hold, as over some networks, it may be another machine's, and is left alone.

    Raises:
        StorageError: it cannot be made.
    """
    folder = folder or Path(tempfile.gettempdir())
    _remove_orphans(folder)
    try:
        descriptor, name = tempfile.mkstemp(prefix=_STARTING, dir=folder)
    except OSError as error:
        raise no_room(folder, error) from error
    os.close(descriptor)
    path = Path(name).with_name(Path(name).name.replace(_STARTING, _IMAGES))
    with Path(name).open("wb") as locked:
        with suppress(StorageError):
            locks.lock(locked, wait=True)
        # From here on it would be taken for an orphan, where locks hold, if it were not locked.
        Path(name).rename(path)
        try:
            with path.open("r+b", buffering=0) as file:
                yield file
        finally:
            path.unlink(missing_ok=True)


def no_room(folder: Path, error: OSError) -> StorageError:
    """Return the error that images cannot be written into a folder."""
    variable = "XDG_CACHE_HOME" if folder.is_relative_to(machine.cache_folder()) else "TMPDIR"
    return StorageError(
        f"cannot write the images into {folder}: {system_reason(error)}; the variable {variable} names another folder"
    )


def _remove_orphans(folder: Path) -> None:
    paths = sorted(folder.glob(f"{_IMAGES}*"))
    with suppress(OSError):
        if paths and locks.weakness(folder) is None:
            for path in paths:
                with suppress(OSError, StorageError), path.open("rb") as file:
                    if locks.lock(file, wait=False):
                        path.unlink()
