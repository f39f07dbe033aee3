"""The images of a run, written once and mapped, copy-on-write, into every trial's process: one copy in memory."""

import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aezoo.contract.dataset import Images
from aezoo.errors import StorageError, told

Shape = tuple[int, ...]
_IMAGES = "aezoo-images-"
_STARTING = "aezoo-starting-"


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where the images lie; it is what travels to a trial's process.

    A trial that writes into its images changes its own copy of a page, and nobody else's.
    """

    path: Path
    train_shape: Shape
    test_shape: Shape
    labelled: bool = False

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        train, test, _ = self._parts()
        return train.view(self.train_shape), test.view(self.test_shape)

    def load_labels(self) -> tuple[Tensor, Tensor] | None:
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        if not self.labelled:
            return None
        # They follow the pixels, at any byte: a copy lies where int64 must.
        labels = self._parts()[2].clone().view(torch.int64)
        return labels[: self.train_shape[0]], labels[self.train_shape[0] :]

    def _parts(self) -> list[Tensor]:
        sizes = [int(np.prod(shape)) for shape in (self.train_shape, self.test_shape)]
        sizes.append(8 * (self.train_shape[0] + self.test_shape[0]) if self.labelled else 0)
        everything = torch.from_file(str(self.path), shared=False, size=sum(sizes), dtype=torch.uint8)
        ends = np.cumsum([0, *sizes])
        return [everything[start:end] for start, end in itertools.pairwise(ends)]


@contextmanager
def share(images: Images) -> Iterator[SharedImages]:
    """Write the images where other processes can map them, for as long as the context lasts.

    The file is locked as long: one that nobody locks was left by a process that was killed, and is removed.

    Raises:
        StorageError: there is no room for them.
    """
    _remove_orphans()
    shapes = {"train_shape": images.train.shape, "test_shape": images.test.shape}
    with _locked_file() as file:
        try:
            labels = [one.astype(np.int64) for one in (images.train_labels, images.test_labels) if one is not None]
            for array in (images.train, images.test, *labels):
                left = np.ascontiguousarray(array).data.cast("B")
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise _no_room(error) from error
        # The caller may let go of its copy, and then nobody holds a second one.
        del images, array
        yield SharedImages(path=Path(file.name), labelled=bool(labels), **shapes)


@contextmanager
def _locked_file() -> Iterator[FileIO]:
    """Open a file for images, locked, that is removed in the end."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=_STARTING)
    except OSError as error:
        raise _no_room(error) from error
    os.close(descriptor)
    path = Path(name).with_name(Path(name).name.replace(_STARTING, _IMAGES))
    with Path(name).open("wb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        # From here on it would be taken for an orphan if it were not locked.
        Path(name).rename(path)
        try:
            with path.open("wb", buffering=0) as file:
                yield file
        finally:
            path.unlink(missing_ok=True)


def _no_room(error: OSError) -> StorageError:
    folder = tempfile.gettempdir()
    return StorageError(
        f"cannot write the images into {folder}: {told(error)}; the variable TMPDIR names another folder"
    )


def _remove_orphans() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_IMAGES}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
