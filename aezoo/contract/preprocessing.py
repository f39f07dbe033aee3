"""What makes pixels, as a network sees them, of an image file, a picture, an array or a row: for data and for use.

The rules, each of them told where it was applied:

- files are decoded by Pillow, the first frame alone, and turned as their orientation says;
- 16 bits become 8 by dividing by 257, of 48-bit colour the high byte, as Pillow reads it; palettes become their
  colours, and what is transparent is laid on the background; files of floats are refused;
- grey is ITU-R 601-2 luma; a grey image among coloured ones has three equal channels;
- another size is cut to the middle of the wanted shape and resized (Lanczos), or stretched, or padded;
- floats are told by their range: in [0, 1], in [-1, 1], or in [0, 255], and refused where that is unclear;
- rows are scaled, a column each, from the training rows' least to their greatest number; beyond that they are clipped.
"""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from aezoo.errors import AezooError, reason_of
from aezoo.machine import Count, FrozenModel

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "stretch", "pad"]
Background = Literal["white", "black"]
Range = Literal["unit", "signed", "bytes"]
"""Floats in [0, 1], in [-1, 1], in [0, 255]."""
Layout = Literal["NCHW", "NHWC"]
BRIGHT = 64
"""Floats above 1 are taken for [0, 255] where one of them is at least this; else nobody knows what they are."""
ON_BOTH_SIDES = 0.25
"""Floats in [-1, 1] are taken for that where they reach so far on either side of 0."""
ENDINGS = (
    ".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""The endings of files that are taken for images."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What such a file may be, whatever its ending: Pillow knows others, and starts programs for some of them."""
Bytes = NDArray[np.uint8]


class Preprocessing(FrozenModel):
    """How an image becomes the pixels that a network sees.

    Args:
        image_shape: (channels, height, width) of what comes out.
        fit: How an image of another size becomes one of this: cut to the middle of its shape and resized, stretched to
            it, or resized whole and padded with the background.
        background: What lies behind what is transparent, and beside what is padded.
        low: Of rows, the least number of each column in the training part; None of images.
        high: Likewise the greatest.
    """

    image_shape: tuple[Count, Count, Count]
    fit: Fit = "crop"
    background: Background = "white"
    low: list[float] | None = None
    high: list[float] | None = None

    @pydantic.model_validator(mode="after")
    def _a_range_for_each_column(self) -> "Preprocessing":
        for side in (self.low, self.high):
            if side is not None and len(side) != math.prod(self.image_shape):
                raise ValueError(f"{len(side)} columns are scaled, but a row has {math.prod(self.image_shape)}")
        return self

    def of_image(self, image: "Image.Image") -> Bytes:
        """Return the pixels of an image, (C, H, W), uint8.

        Raises:
            AezooError: there is no rule for such an image, or the network takes other channels than grey or colour.
        """
        from PIL import Image, ImageOps

        channels, height, width = self.image_shape
        if self.low is not None or channels not in (1, 3):
            what = "rows of numbers" if self.low is not None else f"arrays of {channels} channels"
            raise AezooError(f"the network takes {what}, and no image files or pictures")
        flat = flatten(image, channels, self.background)
        size = (width, height)
        if flat.size != size:
            how = Image.Resampling.LANCZOS
            if self.fit == "crop":
                flat = ImageOps.fit(flat, size, how)
            elif self.fit == "pad":
                flat = ImageOps.pad(flat, size, how, color=self.background)
            else:
                flat = flat.resize(size, how)
        return np.ascontiguousarray(np.asarray(flat, np.uint8).reshape(height, width, channels).transpose(2, 0, 1))

    def of_file(self, path: Path) -> Bytes:
        """Return the pixels of an image file, (C, H, W), uint8.

        Raises:
            AezooError: it cannot be decoded, in one line that does not name it.
        """
        return self.of_image(open_image(path))

    def of_array(self, array: NDArray[Any], *, values: Range | None = None) -> Bytes:
        """Return the pixels of an array of images, (N, C, H, W), uint8; one image may come without N, grey without C.

        Raises:
            AezooError: they are of another shape, or it is unclear what their numbers mean.
        """
        if self.low is not None:
            return self.of_rows(array)
        pixels: Bytes = self._placed(as_pixels(array, values)[0])
        return pixels

    def floats_of(self, array: NDArray[Any], *, values: Range | None = None) -> NDArray[np.float32]:
        """Return an array of images as a network takes them, (N, C, H, W), float32, in [0, 1].

        Floats are moved into that range, and not rounded; all else is what `of_array` makes of it, over 255.

        Raises:
            AezooError: as `of_array`.
        """
        if self.low is not None or not np.issubdtype(array.dtype, np.floating):
            return self.of_array(array).astype(np.float32) / np.float32(255)
        numbers = as_numbers(array)
        if not numbers.size:
            return self._placed(numbers).astype(np.float32)
        low, high = _RANGES[_checked(values or range_of(numbers), numbers)]
        placed = self._placed(numbers if (low, high) == (0, 1) else (numbers - low) / (high - low))
        return placed.astype(np.float32)

    def _placed(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of images as (N, C, H, W); one image may come without N, grey without C.

        Raises:
            AezooError: they are of another shape.
        """
        channels, height, width = self.image_shape
        accepted: list[tuple[int, ...]] = [(channels, height, width), (height, width, channels)]
        accepted += [(height, width)] if channels == 1 else []
        accepted += [(channels * height * width,)]
        shape = next((shape for shape in accepted if array.shape[-len(shape) :] == shape), None)
        if shape is None or array.ndim > len(shape) + 1:
            raise AezooError(
                f"the network takes images of shape {channels}x{height}x{width}, but got an array of {array.shape}"
            )
        images = array.reshape(-1, *shape)
        if len(shape) == 3 and shape != accepted[0]:
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images.reshape(-1, channels, height, width))

    def of_rows(self, rows: NDArray[Any]) -> Bytes:
        """Return rows (N, D), or one (D,), as pixels (N, 1, 1, D), uint8, scaled and clipped as the training part says.

        Raises:
            AezooError: they have another number of columns, or something in them is no finite number.
        """
        low, high = np.asarray(self.low or ()), np.asarray(self.high or ())
        columns = len(low)
        if rows.ndim == 0 or rows.size % columns or columns not in (rows.shape[-1], math.prod(rows.shape[1:])):
            raise AezooError(f"the network takes rows of {columns} columns, but got an array of {rows.shape}")
        numbers = as_numbers(rows).reshape(-1, columns)
        span = np.where(high > low, high - low, 1.0)
        scaled = np.clip((numbers - low) / span, 0.0, 1.0)
        pixels: Bytes = np.rint(scaled * 255).astype(np.uint8)
        return pixels.reshape(-1, *self.image_shape)


@dataclass(frozen=True, kw_only=True)
class ImageHead:
    """What the head of an image file says: (height, width) as it is shown, and how its pixels are written."""

    size: tuple[int, int]
    mode: str
    grey: bool
    transparent: bool
    turned: bool
    frames: int


def read_head(source: Path | IO[bytes]) -> ImageHead:
    """Read the head of an image file.

    Raises:
        AezooError: it has none that can be read: one line that says why.
    """
    with _reading(source) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        sides = (image.width, image.height) if orientation in _ON_ITS_SIDE else (image.height, image.width)
        return ImageHead(
            size=sides, mode=image.mode, grey=is_grey(image), transparent=has_transparency(image),
            turned=orientation not in (0, 1), frames=getattr(image, "n_frames", 1),
        )  # fmt: skip


def open_image(source: Path | IO[bytes]) -> "Image.Image":
    """Decode an image file, turned as its orientation says.

    Raises:
        AezooError: it cannot be decoded: one line that says why.
    """
    from PIL import ImageOps

    with _reading(source) as image:
        image.load()
        return ImageOps.exif_transpose(image)


_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)
"""Of EXIF: the tag, and its values for images that lie on their side."""


@contextmanager
def _reading(source: Path | IO[bytes]) -> "Iterator[Image.Image]":
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, Path) and not source.is_file():
        raise AezooError("it is no file" if source.exists() else "there is no such file")
    try:
        with warnings.catch_warnings():
            # An image of a few bytes that unfolds to gigabytes is refused, and not only warned of.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            Image.init()
            with Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                yield image
    except UnidentifiedImageError as error:
        raise AezooError(f"it is no image: none of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise AezooError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels, the most that is decoded") from error
    except Exception as error:
        # Decoders raise OSError, SyntaxError, struct.error and more for what is damaged.
        raise AezooError(f"it is damaged: {reason_of(error)}") from error


def flatten(image: "Image.Image", channels: int, background: Background = "white") -> "Image.Image":
    """Return an image as grey (mode L) or as colour (mode RGB), 8 bits, nothing in it transparent.

    Raises:
        AezooError: its numbers are of a kind for which there is no rule.
    """
    from PIL import Image

    if image.mode == "F":
        raise AezooError("its pixels are floats, and what they mean no file says: give an array, with values=...")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(_of_deep(np.asarray(image)))
    if has_transparency(image):
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(behind, image).convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    wanted = "L" if channels == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def has_transparency(image: "Image.Image") -> bool:
    """Say whether an image may have something transparent in it, by its mode."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def is_grey(image: "Image.Image") -> bool:
    """Say whether an image is grey by its mode: 1 or 8 bits, 16 bits, with or without transparency."""
    if image.mode == "P":
        palette = np.asarray(image.getpalette() or [], dtype=np.int64).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def _of_deep(numbers: NDArray[Any]) -> Bytes:
    """Return an image of 16 bits, (H, W), as uint8."""
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high > 65_535:
        raise AezooError(f"its numbers are from {low} to {high}, and neither 8 nor 16 bits")
    return _of_16_bits(numbers)


def _of_16_bits(numbers: NDArray[Any]) -> Bytes:
    return ((numbers.astype(np.uint32) + 128) // 257).astype(np.uint8)


def as_numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array as float64.

    Raises:
        AezooError: it is of no numbers, or some are not finite.
    """
    if array.dtype != np.bool_ and not _is_real(array.dtype):
        raise AezooError(f"numbers are asked for, but these are {array.dtype}")
    numbers = array.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(numbers)))
    if bad:
        raise AezooError(not_finite(bad, numbers.size))
    return numbers


def not_finite(count: int, total: int) -> str:
    """Return what is wrong with numbers that are none."""
    return f"{count:,} of {total:,} numbers are NaN or infinite: put numbers in their place first"


def _is_real(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.number) and not np.issubdtype(dtype, np.complexfloating)


def range_of(array: NDArray[Any]) -> Range:
    """Tell what floats mean by their least and greatest.

    Raises:
        AezooError: it is unclear.
    """
    if not array.size:
        raise AezooError("there are no images: the array is empty")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return "unit"
    if low >= 0 and BRIGHT <= high <= 255:
        return "bytes"
    if low >= -1 and high <= 1 and low <= -ON_BOTH_SIDES and high >= ON_BOTH_SIDES:
        return "signed"
    raise AezooError(
        f"it is unclear what floats from {low:.6g} to {high:.6g} are: pixels are in [0, 1], in [-1, 1] (on both sides "
        f"of 0) or in [0, 255] (some above {BRIGHT}); say values=unit, signed or bytes, or scale them"
    )


_RANGES: dict[Range, tuple[float, float]] = {"unit": (0, 1), "signed": (-1, 1), "bytes": (0, 255)}


def as_pixels(
    array: NDArray[Any], values: Range | None = None, *, greatest: int | None = None
) -> tuple[Bytes, str | None]:
    """Return an array of any numbers as uint8, 0 to 255, in the same shape, and what was done to it, if anything.

    Args:
        array: uint8 as it is; bool; whole numbers of 8 or 16 bits' range; floats in one of three ranges.
        values: What floats are; None to tell it by their range.
        greatest: Of whole numbers, the greatest of all that go together, where these are some of them.

    Raises:
        AezooError: it is of no numbers, or it is unclear what they mean, or some are out of the range that was given.
    """
    if array.dtype == np.uint8:
        return array, None
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255), "true became 255, false 0"
    if not _is_real(array.dtype):
        raise AezooError(f"pixels are numbers, but these are {array.dtype}")
    if not array.size:
        return array.astype(np.uint8), None
    if np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), max(int(array.max()), greatest or 0)
        if low < 0 or high > 65_535:
            raise AezooError(f"whole numbers are 0 to 255, or 0 to 65535 of 16 bits, but these are {low} to {high}")
        if high <= 255:
            return array.astype(np.uint8), None
        return _of_16_bits(array), f"16 bits became 8: divided by 257 (the greatest was {high})"
    numbers = as_numbers(array)
    low_end, high_end = _RANGES[_checked(values or range_of(numbers), numbers)]
    scaled = (numbers - low_end) * (255 / (high_end - low_end))
    return np.rint(scaled).astype(np.uint8), f"floats in [{low_end:g}, {high_end:g}] became 0 to 255, rounded"


def _checked(kind: Range, numbers: NDArray[np.float64]) -> Range:
    """Return what floats are said to be.

    Raises:
        AezooError: they are no such numbers.
    """
    low, high = _RANGES[kind]
    least, greatest = float(numbers.min()), float(numbers.max())
    if least < low or greatest > high:
        raise AezooError(f"values={kind} are from {low:g} to {high:g}, but these are {least:.6g} to {greatest:.6g}")
    return kind


def with_channels(array: NDArray[Any], layout: Layout | None = None) -> tuple[NDArray[Any], str | None]:
    """Return an array of images as (N, C, H, W), and what was done to it, if anything.

    Args:
        array: (N, H, W) of grey images; (N, C, H, W); (N, H, W, C) with 1, 3 or 4 channels; or rows, (N, D).
        layout: Which of the two it is where both are possible.

    Raises:
        AezooError: it is neither, or it is unclear which.
    """
    if array.ndim == 2:
        return array[:, None, None, :], None
    if array.ndim == 3:
        return array[:, None], None
    if array.ndim != 4:
        raise AezooError(f"images are of shape (N, H, W), (N, C, H, W) or (N, H, W, C), but these are {array.shape}")
    first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
    if layout is None and first and last:
        raise AezooError(f"it is unclear where the channels of images {array.shape} are: say layout=NCHW or NHWC")
    if layout == "NHWC" or (layout is None and last and not first):
        return array.transpose(0, 3, 1, 2), "(N, H, W, C) became (N, C, H, W)"
    return (
        array,
        None if first else f"taken for (N, C, H, W), images of {array.shape[1]} channels: else say layout=NHWC",
    )


def list_image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a folder, and of folders in it, that are images by their names, and the other files.

    Both are relative to it and sorted. What begins with a dot is nobody's. Links are followed, each folder once.

    Raises:
        AezooError: there is no image in it.
    """
    images: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(place, name).relative_to(folder)
                (images if path.suffix.lower() in ENDINGS else others).append(path)
    if not images:
        raise AezooError(f"no images in {folder}: their names end in {', '.join(ENDINGS)}")
    return images, others


def counted(count: int, what: str, total: int | None = None) -> str:
    """Return a count with its noun: ``3 of 2,000 images``."""
    whole = total if total is not None else count
    noun = what if whole == 1 else f"{what}s"
    return f"{count:,} {noun}" if total is None else f"{count:,} of {total:,} {noun}"
