"""The contract of a data set: its images, how it is loaded, its hyperparameters, and the check that all pass."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aezoo import machine
from aezoo.contract.architecture import ImageShape
from aezoo.contract.hyperparameters import (
    NAME,
    Hyperparameter,
    canonical,
    changed,
    check_defaults,
    complete,
    declared_by,
)
from aezoo.contract.pixels import (
    FilePixels,
    Pixels,
    SharedImages,
    Subset,
    array_chunks,
    no_room,
    scratch_file,
    write_all,
    write_pixels,
)
from aezoo.contract.preprocessing import Preprocessing
from aezoo.errors import AezooError, ContractError, reason_of

SKIP = "skip_bad"
"""The hyperparameter by which a data set leaves out what cannot be read."""
FOLDER = "folder"
"""What a data set takes that is read from a folder."""
Part = Literal["train", "test", "validation"]


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


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named data set, as a plugin declares it.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``.
        load: Takes the data folder, and hyperparameters as keywords, and returns the images. It may download into that
            folder what is not there, and raises `aezoo.AezooError` with one line that names the file where something
            is missing or wrong. A hyperparameter that says where something lies is annotated as a ``pathlib.Path``: it
            stands in the record, and not in the fingerprint, where the hash of the pixels stands for it.
        summary: One line that says what the images are, and what was done to them.
        reference: Author and year, or a URL.
        takes: The endings of files, such as ``.npz``, or `"folder"`: a path of that kind alone, ``./x.npz``, is short
            for this data set with it as the hyperparameter ``path``.
        signature: Takes what `load` takes, and returns a text that is another one when the images would be, without
            reading them: what they come from, sizes and times. Then they are prepared once, and kept in the cache.
            None for what is loaded anew each time.

    Raises:
        ContractError: a field is of the wrong kind.
    """

    name: str
    load: Callable[..., Images]
    summary: str
    reference: str
    takes: Sequence[str] = ()
    signature: Callable[..., str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes", tuple(self.takes))
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"a data set's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if not callable(self.load):
            raise ContractError(f"{self.name}: load must be callable, but is {type(self.load).__name__}")
        check_defaults(self.hyperparameters, self.name)
        if self.takes and "path" not in self.hyperparameters:
            raise ContractError(f"{self.name}: it takes {', '.join(self.takes)}, but load has no hyperparameter path")

    @cached_property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """The keyword arguments of ``load``, by name, in the order in which it declares them."""
        return declared_by(self.load, self.name, called="load(data_dir, *, ...)", first="the data folder")


@dataclass(frozen=True, kw_only=True)
class DatasetVariant:
    """A data set with all of its hyperparameters, from a known distribution."""

    dataset: Dataset
    hyperparameters: Mapping[str, Any]
    label: str
    """The data set's name, with the distribution before it where it was asked for so."""

    @classmethod
    def of(cls, dataset: Dataset, settings: Mapping[str, Any], label: str) -> "DatasetVariant":
        """Return a data set with these hyperparameters, and the defaults of the rest.

        Raises:
            AezooError: a name is unknown, a value is of the wrong type, or a required one is missing.
        """
        values = complete(dataset.hyperparameters, settings, dataset.name)
        return cls(dataset=dataset, hyperparameters=values, label=label)

    @property
    def text(self) -> str:
        """The canonical text: ``images[path=photos,size=64]``, sorted, with defaults left out."""
        return canonical(self.label, self._changed())

    @property
    def identity(self) -> str:
        """The canonical text without where things lie: what the fingerprint holds beside the hash of the pixels."""
        declared = self.dataset.hyperparameters
        return canonical(
            self.label, {name: value for name, value in self._changed().items() if not declared[name].is_location}
        )

    def skipping(self) -> "DatasetVariant":
        """Return the same with files that cannot be read left out.

        Raises:
            AezooError: it has no such files.
        """
        if SKIP not in self.dataset.hyperparameters:
            raise AezooError(f"data set {self.label} has no files to leave out (--skip-bad): it has no {SKIP}")
        return replace(self, hyperparameters={**self.hyperparameters, SKIP: True})

    def _changed(self) -> dict[str, Any]:
        return changed(self.dataset.hyperparameters, self.hyperparameters)

    def signature(self, data_dir: Path) -> str | None:
        """Return a text that is another one when the images would be, or None where nobody knows without reading them.

        Raises:
            AezooError: something is missing; one line that names it.
        """
        if self.dataset.signature is None:
            return None
        return str(self._call(self.dataset.signature, data_dir, "could not be looked at"))

    def checked(self, data_dir: Path) -> Images:
        """Load the images and check them.

        Raises:
            AezooError: something is missing or wrong; one line that names it.
        """
        images = self._call(self.dataset.load, data_dir, "could not be loaded")
        if not isinstance(images, Images):
            raise AezooError(f"data set {self.label}: load must return aezoo.Images, but returned {images!r:.60}")
        check_images(images, self.label)
        return images

    def _call(self, function: Callable[..., Any], data_dir: Path, failure: str) -> Any:
        try:
            return function(data_dir, **self.hyperparameters)
        except AezooError as error:
            error.args = (f"data set {self.label}: {error}",)
            raise
        except Exception as error:
            raise AezooError(f"data set {self.label} {failure}: {reason_of(error)}") from error


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
