"""The images of a data set: what they are held to, and how they lie in a file."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.architecture import ImageShape
from aezoo.contract.pixels import (
    FilePixels,
    Pixels,
    Subset,
    array_chunks,
    no_room,
    scratch_file,
    write_all,
    write_pixels,
)
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.shared import SharedImages
from aezoo.errors import AezooError

Part = Literal["train", "test", "validation"]
_CALLED: dict[str, Part] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip


def part_of(name: str) -> Part | None:
    """Return the part of the data that people call so, ``train`` or ``val``; None where it is none."""
    return _CALLED.get(name.lower())


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of a data set.

    Pixels are an array, or whatever else has a shape, a dtype and a length, and gives an array for a slice: what is
    larger than memory is read as it is asked for, and asked for once, from the first image to the last.

    Args:
        train: (N, C, H, W), uint8, 0 to 255; the network sees them as float32 in [0, 1].
        test: (M, C, H, W), uint8, likewise.
        train_labels: (N,), whole numbers, for metrics that want them; no network sees them. None where there are none.
        test_labels: (M,), likewise.
        validation: (V, C, H, W), uint8, likewise: what learning rates are chosen by, where a recipe has several. None
            where the recipe's share of the training images is held out for it.
        notes: What was done to the images, a line each: told when they are loaded, and in every table.
        names: What each image is called, a file's name or a row's number, by part; nothing where nobody would know.
        label_names: What each label is called, by its number; nothing where the number says it.
        preprocessing: What makes such pixels of an image, a file or a row that comes later; by default the general one.
    """

    train: Pixels
    test: Pixels
    train_labels: NDArray[np.integer[Any]] | None = None
    test_labels: NDArray[np.integer[Any]] | None = None
    validation: Pixels | None = None
    notes: Sequence[str] = ()
    names: Mapping[Part, Sequence[str]] = field(default_factory=dict)
    label_names: Sequence[str] = ()
    preprocessing: Preprocessing | None = None

    @property
    def shape(self) -> ImageShape:
        """(channels, height, width)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def parts(self) -> list[Pixels]:
        """The train, the test and, where there are some, the validation images."""
        return [self.train, self.test, *([] if self.validation is None else [self.validation])]

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
        train, validation = (_some(self.train, np.flatnonzero(mask)) for mask in (~held, held))
        labels = None if self.train_labels is None else self.train_labels[~held]
        return replace(self, train=train, validation=validation, train_labels=labels)


def _some(pixels: Pixels, indices: NDArray[np.integer[Any]]) -> Pixels:
    return pixels[indices] if isinstance(pixels, np.ndarray) else Subset(pixels, indices)


def check_images(images: Images, name: str) -> None:
    """Check what a data set gave.

    Raises:
        AezooError: no images, mixed shapes, pixels that are not uint8, or not finite, or outside [0, 1]; or labels
            that do not fit.
    """
    parts: list[tuple[str, Any]] = [("train", images.train), ("test", images.test)]
    parts += [] if images.validation is None else [("validation", images.validation)]
    for part, pixels in parts:
        where = f"data set {name}: the {part} images"
        shape = getattr(pixels, "shape", None)
        is_array = shape is not None and hasattr(pixels, "dtype") and not hasattr(pixels, "numpy")
        if not is_array or len(pixels.shape) != 4:
            tensor = hasattr(pixels, "numpy") and "; give its .numpy()"
            got = f"shape {tuple(pixels.shape)}" if is_array else type(pixels).__name__
            raise AezooError(f"{where} must be an array of shape (N, C, H, W), but got {got}{tensor or ''}")
        if pixels.dtype != np.uint8:
            raise AezooError(f"{where} must be uint8, 0 to 255, but are {_describe(np.asarray(pixels[0:]))}")
        if 0 in pixels.shape:
            raise AezooError(f"{where} are empty: shape {tuple(pixels.shape)}")
    for part, pixels in parts[1:]:
        if images.train.shape[1:] != pixels.shape[1:]:
            shapes = f"{images.train.shape[1:]}, {pixels.shape[1:]}"
            raise AezooError(f"data set {name}: train and {part} images differ in shape: {shapes}")
    _check_labels(images, name)


def _check_labels(images: Images, name: str) -> None:
    parts: list[tuple[str, Pixels, Any]] = [
        ("train", images.train, images.train_labels),
        ("test", images.test, images.test_labels),
    ]
    if (images.train_labels is None) != (images.test_labels is None):
        raise AezooError(f"data set {name}: labels for the train and the test images, or for none of them")
    for part, pixels, labels in parts:
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
    parts: list[tuple[str, Pixels]] = [("train", images.train), ("test", images.test)]
    if max(int(chunk.max()) for _, pixels in parts for chunk in array_chunks(pixels)) <= 1:
        lines.append(
            "no pixel is above 1 of 255, so that the images are black: multiply them by 255 if 1 is meant to be white"
        )
    for part, pixels in parts:
        first = pixels[0:1]
        if len(pixels) > 1 and all((chunk == first).all() for chunk in array_chunks(pixels)):
            lines.append(f"all {len(pixels)} {part} images are equal: there is nothing to tell apart")
    if images.train.shape == images.test.shape and all(
        np.array_equal(train, test)
        for train, test in zip(array_chunks(images.train), array_chunks(images.test), strict=True)
    ):
        lines.append("the test images are the train images: their loss says nothing of images that were not seen")
    return [f"data set {name}: {line}" for line in lines]


def sha256(images: Images) -> str:
    """Return the hash of the shapes and the pixels of all parts, as `write_pixels` does."""
    with Path(os.devnull).open("wb", buffering=0) as nowhere:
        return write_pixels(images.parts, nowhere)


@contextmanager
def share(images: Images, folder: Path | None = None) -> Iterator[SharedImages]:
    """Write the images where other processes can map them, for as long as the context lasts.

    They lie in the folder, or in that for temporary files.

    Raises:
        StorageError: there is no room for them.
    """
    with scratch_file(folder) as file:
        try:
            shared = write(images, file)
        except OSError as error:
            raise no_room(Path(file.name).parent, error) from error
        # The caller may let go of its copy, and then nobody holds a second one.
        del images
        yield shared


def write(images: Images, file: FileIO) -> SharedImages:
    """Write the images to an open file, and return where they are then.

    Raises:
        OSError: there is no room for them.
    """
    digest = write_pixels(images.parts, file)
    labels = [part.astype(np.int64) for part in (images.train_labels, images.test_labels) if part is not None]
    for part in labels:
        write_all(file, part)
    return SharedImages(
        path=Path(file.name), train_shape=images.train.shape, test_shape=images.test.shape,
        validation_shape=(0,) if images.validation is None else images.validation.shape, labelled=bool(labels),
        sha256=digest,
    )  # fmt: skip


def read(shared: SharedImages, file: FileIO) -> Images:
    """Return images as they were written, read from an open file when they are asked for."""
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in (shared.train_shape, shared.test_shape)]
    validation = FilePixels(file, shared.validation_shape, sum(sizes)) if shared.validation_shape != (0,) else None
    labels = shared.load_labels()
    return Images(
        train=FilePixels(file, shared.train_shape),
        test=FilePixels(file, shared.test_shape, sizes[0]),
        validation=validation,
        train_labels=labels[0].numpy() if labels else None,
        test_labels=labels[1].numpy() if labels else None,
    )
