"""The contract of a data set, and the check that every one passes before anything is trained on it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.architecture import NAME, ImageShape
from aezoo.errors import AezooError, ContractError, reason_of


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of a data set.

    Args:
        train: (N, C, H, W), uint8, 0 to 255; the network sees them as float32 in [0, 1].
        test: (M, C, H, W), uint8, likewise.
        train_labels: (N,), whole numbers, for metrics that want them; no network sees them. None where there are none.
        test_labels: (M,), likewise.
    """

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    train_labels: NDArray[np.integer[Any]] | None = None
    test_labels: NDArray[np.integer[Any]] | None = None

    @property
    def shape(self) -> ImageShape:
        """(channels, height, width)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width


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
    for part, pixels in (("train", images.train), ("test", images.test)):
        where = f"data set {name}: the {part} images"
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 4:
            given = f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise AezooError(f"{where} must be an array of shape (N, C, H, W), but got {given}")
        if pixels.dtype != np.uint8:
            raise AezooError(f"{where} must be uint8, 0 to 255, but are {_describe(pixels)}")
        if 0 in pixels.shape:
            raise AezooError(f"{where} are empty: shape {pixels.shape}")
    if images.train.shape[1:] != images.test.shape[1:]:
        raise AezooError(
            f"data set {name}: train and test images differ in shape: {images.train.shape[1:]}, {images.test.shape[1:]}"
        )
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
            given = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
            raise AezooError(f"data set {name}: the {part} labels must be an array of whole numbers, but are {given}")
        if labels.shape != pixels.shape[:1]:
            raise AezooError(
                f"data set {name}: {len(pixels)} {part} images need labels of shape ({len(pixels)},), "
                f"but got {labels.shape}"
            )


def _describe(pixels: NDArray[np.generic]) -> str:
    if not np.issubdtype(pixels.dtype, np.floating):
        return str(pixels.dtype)
    if not np.isfinite(pixels).all():
        return f"{pixels.dtype} with NaN or infinite pixels"
    low, high = float(pixels.min()), float(pixels.max())
    inside = "round 255 times them to uint8" if low >= 0 and high <= 1 else "outside [0, 1]"
    return f"{pixels.dtype} from {low:g} to {high:g}: {inside}"


def sha256(images: Images) -> str:
    """Hash the shapes and the pixels of both parts: what two runs must share for their losses to be compared.

    Labels are not among it: no network sees them.
    """
    digest = hashlib.sha256()
    for pixels in (images.train, images.test):
        digest.update(repr(pixels.shape).encode())
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
