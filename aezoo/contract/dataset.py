"""The contract of a data set, the check that every one passes, and its images as all trials share them.

They are written once and mapped, copy-on-write, into every trial's process: one copy in memory.
"""

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aezoo import machine
from aezoo.contract.architecture import ImageShape
from aezoo.contract.hyperparameters import NAME
from aezoo.errors import AezooError, ContractError, StorageError, reason_of, system_reason

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of a data set.

    Args:
        train: (N, C, H, W), uint8, 0 to 255; the network sees them as float32 in [0, 1].
        test: (M, C, H, W), uint8, likewise.
        train_labels: (N,), whole numbers, for metrics that want them; no network sees them. None where there are none.
        test_labels: (M,), likewise.
        validation: (V, C, H, W), uint8, likewise: what learning rates are chosen by, where a recipe has several. None
            where the recipe's share of the training images is held out for it.
    """

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    train_labels: NDArray[np.integer[Any]] | None = None
    test_labels: NDArray[np.integer[Any]] | None = None
    validation: NDArray[np.uint8] | None = None

    @property
    def shape(self) -> ImageShape:
        """(channels, height, width)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def hold_out(self, share: float) -> "Images":
        """Return the images with a share of the training images, evenly spaced among them, moved to `validation`.

        Nothing is moved where the share is 0, or where the data set has validation images of its own.

        Raises:
            AezooError: the share is no image, or all of them.
        """
        if not share or self.validation is not None:
            return self
        counts = np.floor(np.arange(len(self.train) + 1) * share)
        held = np.diff(counts) > 0
        if not 0 < held.sum() < len(held):
            raise AezooError(
                f"validation: {share:g} of {len(held)} training images is {held.sum()} of them; give a share that "
                "leaves some on either side"
            )
        labels = None if self.train_labels is None else self.train_labels[~held]
        return replace(self, train=self.train[~held], validation=self.train[held], train_labels=labels)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named data set, as a plugin declares it.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``.
        load: Takes the data folder and returns the images. It may download into that folder what is not there, and
            raises `aezoo.AezooError` with one line that names the file where something is missing or wrong.
        summary: One line that says what the images are, and what was done to them.
        reference: Author and year, or a URL.
    """

    name: str
    load: Callable[[Path], Images]
    summary: str
    reference: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"a data set's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if not callable(self.load):
            raise ContractError(f"{self.name}: load must be callable, but is {type(self.load).__name__}")

    def checked(self, data_dir: Path) -> Images:
        """Load the images and check them.

        Raises:
            AezooError: something is missing or wrong; one line that names it.
        """
        try:
            images = self.load(data_dir)
        except AezooError as error:
            raise AezooError(f"data set {self.name}: {error}") from error
        except Exception as error:
            raise AezooError(f"data set {self.name} could not be loaded: {reason_of(error)}") from error
        if not isinstance(images, Images):
            raise AezooError(f"data set {self.name}: load must return aezoo.Images, but returned {images!r:.60}")
        check_images(images, self.name)
        return images


def check_images(images: Images, name: str) -> None:
    """Check what a data set gave.

    Raises:
        AezooError: no images, mixed shapes, pixels that are not uint8, or not finite, or outside [0, 1]; or labels
            that do not fit.
    """
    parts = [("train", images.train), ("test", images.test)]
    parts += [] if images.validation is None else [("validation", images.validation)]
    for part, pixels in parts:
        where = f"data set {name}: the {part} images"
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 4:
            tensor = hasattr(pixels, "numpy") and "; give its .numpy()"
            got = f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise AezooError(f"{where} must be an array of shape (N, C, H, W), but got {got}{tensor or ''}")
        if pixels.dtype != np.uint8:
            raise AezooError(f"{where} must be uint8, 0 to 255, but are {_describe(pixels)}")
        if 0 in pixels.shape:
            raise AezooError(f"{where} are empty: shape {pixels.shape}")
    for part, pixels in parts[1:]:
        if images.train.shape[1:] != pixels.shape[1:]:
            shapes = f"{images.train.shape[1:]}, {pixels.shape[1:]}"
            raise AezooError(f"data set {name}: train and {part} images differ in shape: {shapes}")
    _check_labels(images, name)


def _check_labels(images: Images, name: str) -> None:
    if (images.train_labels is None) != (images.test_labels is None):
        raise AezooError(f"data set {name}: labels for the train and the test images, or for none of them")
    for part, pixels, labels in (
        ("train", images.train, images.train_labels),
        ("test", images.test, images.test_labels),
    ):
        if labels is None:
            continue
        if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
            got = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
            raise AezooError(f"data set {name}: the {part} labels must be an array of whole numbers, but are {got}")
        if labels.shape != pixels.shape[:1]:
            raise AezooError(
                f"data set {name}: {len(pixels)} {part} images need labels of shape ({len(pixels)},), "
                f"but got {labels.shape}"
            )


def _describe(pixels: NDArray[np.generic]) -> str:
    """Return what pixels are that are not uint8, and how they become it."""
    if pixels.dtype == np.bool_:
        return "bool: multiply by 255 as uint8"
    if not np.issubdtype(pixels.dtype, np.number) or np.issubdtype(pixels.dtype, np.complexfloating):
        return str(pixels.dtype)
    if not np.isfinite(pixels).all():
        return f"{pixels.dtype} with NaN or infinite pixels: choose what they stand for before they become uint8"
    low, high = float(pixels.min()), float(pixels.max())
    whole = not np.issubdtype(pixels.dtype, np.floating)
    if low >= 0 and high <= 1:
        remedy = "multiply by 255, as uint8" if whole else "round 255 times them to uint8"
    elif low >= 0 and high <= 255:
        remedy = "they fit: astype(uint8)" if whole else "outside [0, 1]; round them to uint8"
    elif low >= -1 and high <= 1:
        remedy = "outside [0, 1]; round 127.5 * (1 + pixels) to uint8"
    elif low < 0:
        remedy = (
            "choose the window of values to be seen, such as Hounsfield units -160 to 240, and scale it to 0 to 255"
        )
    else:
        remedy = "scale them to 0 to 255, such as pixels // 257 of 16 bits"
    return f"{pixels.dtype} from {low:g} to {high:g}: {remedy}"


def warnings_of(images: Images, name: str) -> list[str]:
    """Return what is well-formed in a data set and yet hardly meant, a line each, with the remedy."""
    lines = []
    channels, height, width = images.shape
    if width in (1, 3, 4) and channels > 4 and height > 4:
        lines.append(
            f"{channels} channels of {height}x{width} pixels look like (N, H, W, C), but images are (N, C, H, W): "
            "transpose them, pixels.transpose(0, 3, 1, 2)"
        )
    if max(images.train.max(), images.test.max()) <= 1:
        lines.append(
            "no pixel is above 1 of 255, so that the images are black: multiply them by 255 if 1 is meant to be white"
        )
    for part, pixels in (("train", images.train), ("test", images.test)):
        if len(pixels) > 1 and (pixels == pixels[0]).all():
            lines.append(f"all {len(pixels)} {part} images are equal: there is nothing to tell apart")
    if images.train.shape == images.test.shape and np.array_equal(images.train, images.test):
        lines.append("the test images are the train images: their loss says nothing of images that were not seen")
    return [f"data set {name}: {line}" for line in lines]


def sha256(images: Images) -> str:
    """Hash the shapes and the pixels of all parts: what two runs must share for their losses to be compared.

    Labels are not among it: no network sees them.
    """
    digest = hashlib.sha256()
    for pixels in (images.train, images.test, *([] if images.validation is None else [images.validation])):
        digest.update(repr(pixels.shape).encode())
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


Shape = tuple[int, ...]
_IMAGES = "aezoo-images-"
_STARTING = "aezoo-starting-"


def find_data_dir(path: str | Path | None) -> Path:
    """Return the folder of the data sets.

    Raises:
        AezooError: the folder is not there.
    """
    if path is None:
        return Path(os.environ.get("AEZOO_DATA_DIR") or machine.cache_folder())
    path = Path(path)
    if not path.is_dir():
        raise AezooError(f"no folder {path} for data sets (--data-dir); make it, or give one that is there")
    return path


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where the images lie; it is what travels to a trial's process.

    A trial that writes into its images changes its own copy of a page, and nobody else's.
    """

    path: Path
    train_shape: Shape
    test_shape: Shape
    validation_shape: Shape = (0,)
    labelled: bool = False

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

    def _parts(self) -> "list[Tensor]":
        import torch

        sizes = [int(np.prod(shape)) for shape in (self.train_shape, self.test_shape, self.validation_shape)]
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
    validation = np.empty(0, dtype=np.uint8) if images.validation is None else images.validation
    shapes = {
        "train_shape": images.train.shape, "test_shape": images.test.shape, "validation_shape": validation.shape,
    }  # fmt: skip
    with _locked_file() as file:
        try:
            labels = [part.astype(np.int64) for part in (images.train_labels, images.test_labels) if part is not None]
            for array in (images.train, images.test, validation, *labels):
                left = np.ascontiguousarray(array).data.cast("B")
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise _no_room(error) from error
        # The caller may let go of its copy, and then nobody holds a second one.
        del images, array, validation
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
        machine.lock(locked, wait=True)
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
        f"cannot write the images into {folder}: {system_reason(error)}; the variable TMPDIR names another folder"
    )


def _remove_orphans() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_IMAGES}*"):
        with suppress(OSError, StorageError), path.open("rb") as file:
            if machine.lock(file, wait=False):
                path.unlink()
