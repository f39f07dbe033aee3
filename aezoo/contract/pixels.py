"""How the images of a data set are held: in one file, written once, that every process maps. One copy in memory.

What is larger than `STREAMED_ABOVE` is never in memory as a whole: whoever walks through it lets go of what was read.
"""

import hashlib
import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from aezoo import machine
from aezoo.errors import StorageError, system_reason

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Shape = tuple[int, ...]
Index = slice | NDArray[np.integer[Any]]
STREAMED_ABOVE = 2**28
"""Bytes of a data set's images above which they are streamed."""
CHUNK = 2**24
"""Bytes of images that are read at a time by whoever walks through all of them."""
_IMAGES = "aezoo-images-"
_STARTING = "aezoo-starting-"


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
            _read_into(part, self._file, self._offset + int(indices[run[0]]) * size)
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


_mappings: "WeakValueDictionary[int, _Mapping]" = WeakValueDictionary()
"""What tensors map, by the address of their first byte."""


class _Mapping(mmap.mmap):
    """A file that a tensor maps: what is written into it is this process's own."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where the images lie; it is what travels to a trial's process.

    A trial that writes into its images changes its own copy of a page, and nobody else's. `sha256` is that of the
    pixels, as `write_pixels` returns it.
    """

    path: Path
    train_shape: Shape
    test_shape: Shape
    validation_shape: Shape = (0,)
    labelled: bool = False
    sha256: str = ""

    @property
    def streamed(self) -> bool:
        """Whether they are too large to be held in memory as a whole."""
        return sum(map(_size, (self.train_shape, self.test_shape, self.validation_shape))) > STREAMED_ABOVE

    def load(self) -> "tuple[Tensor, Tensor]":
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        train, test, *_ = self._parts()
        return train.view(self.train_shape), test.view(self.test_shape)

    def load_validation(self) -> "Tensor":
        """Return the validation images, uint8, (V, C, H, W), on the host; (0,) where there are none."""
        return self._parts()[2].view(self.validation_shape)

    def load_labels(self) -> "tuple[Tensor, Tensor] | None":
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        if not self.labelled:
            return None
        import torch

        # They follow the pixels, at any byte: a copy lies where int64 must.
        labels = self._parts()[3].clone().view(torch.int64)
        return labels[: self.train_shape[0]], labels[self.train_shape[0] :]

    def _sizes(self) -> list[int]:
        sizes = [_size(shape) for shape in (self.train_shape, self.test_shape, self.validation_shape)]
        return [*sizes, 8 * (self.train_shape[0] + self.test_shape[0]) if self.labelled else 0]

    def _parts(self) -> "list[Tensor]":
        sizes = self._sizes()
        ends = [0, *itertools.accumulate(sizes)]
        everything = map_file(self.path, sum(sizes), streamed=self.streamed)
        return [everything[start:end] for start, end in itertools.pairwise(ends)]


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def map_file(path: Path, size: int, *, streamed: bool) -> "Tensor":
    """Return the bytes of a file as a tensor, uint8: what is written into it stays in this process.

    Of one that is `streamed`, `let_go` lets go of what was read.
    """
    import torch

    with path.open("rb") as file:
        mapping = _Mapping(file.fileno(), size, access=mmap.ACCESS_COPY)
    mapping.path = path
    tensor = torch.frombuffer(mapping, dtype=torch.uint8)
    if streamed:
        _mappings[tensor.data_ptr()] = mapping
    return tensor


def _mapping_of(images: "Tensor") -> _Mapping | None:
    return _mappings.get(images.untyped_storage().data_ptr()) if images.device.type == "cpu" else None


def is_streamed(images: "Tensor") -> bool:
    """Say whether images map a file that is too large to be held in memory as a whole."""
    return _mapping_of(images) is not None


def let_go(images: "Tensor") -> None:
    """Let go of what was read of images that are streamed, and of what was written into them; others are left alone."""
    mapping = _mapping_of(images)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def chunks(images: "Tensor", size: int, device: "torch.device | str | None" = None) -> "Iterator[Tensor]":
    """Yield images in parts of `size` that follow each other, as ``torch.split`` does, on a device.

    Of images that are streamed no more than a part is in memory, as long as nobody keeps one.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield part if device is None else part.to(device)
        let_go(images)


def some(images: "Tensor", places: "Sequence[int]", into: "Tensor | None" = None) -> "Tensor":
    """Return some images, (M, C, H, W), by their places: a copy, on the device of the others.

    Those that are streamed are read from their file, into a tensor that is given or a new one: through the mapping each
    would bring in, and keep, all that the system caches around it.
    """
    import torch

    mapping = _mapping_of(images)
    if mapping is None:
        return images[list(places)]
    into = torch.empty((len(places), *images.shape[1:]), dtype=images.dtype) if into is None else into
    array: NDArray[np.uint8] = into.numpy()
    whole, size, start = array.reshape(-1).data, math.prod(images.shape[1:]), int(images.storage_offset())
    with mapping.path.open("rb", buffering=0) as file:
        for number, place in enumerate(places):
            _read_into(whole[number * size : (number + 1) * size], file, start + place * size)
    return into


def _read_into(left: memoryview, file: FileIO, offset: int) -> None:
    while left:
        count = os.preadv(file.fileno(), [left], offset)
        if not count:
            raise StorageError(f"{file.name} ends before its images do")
        left, offset = left[count:], offset + count


def resident(images: "Tensor", device: "torch.device | str") -> "Tensor":
    """Return images on a device; those that are streamed stay where they are, and come to it a part at a time."""
    return images if is_streamed(images) else images.to(device)


class TensorPixels:
    """Images of a tensor on the host as arrays, copies: of those that are streamed nothing stays in memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, images: "Tensor") -> None:
        self._images = images
        self.shape: Shape = tuple(images.shape)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return some of them as an array."""
        if not isinstance(index, slice) and is_streamed(self._images):
            return np.asarray(some(self._images, np.arange(len(self))[index].tolist()).numpy())
        images = np.array(self._images[index].numpy())
        let_go(self._images)
        return images


def own_copy(images: "Tensor") -> "Tensor":
    """Return images that may be written into, and nobody else sees it: a copy, or another mapping of their file."""
    mapping = _mapping_of(images)
    if mapping is None:
        return images.clone()
    again = map_file(mapping.path, len(mapping), streamed=True)
    return again[images.storage_offset() :][: images.numel()].view(images.shape)


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

    It is locked as long: one that nobody locks was left by a process that was killed, and is removed.

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
        machine.lock(locked, wait=True)
        # From here on it would be taken for an orphan if it were not locked.
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
    for path in folder.glob(f"{_IMAGES}*"):
        with suppress(OSError, StorageError), path.open("rb") as file:
            if machine.lock(file, wait=False):
                path.unlink()
