"""Encoded images: which files are taken for images, their heads, and how Pillow decodes them to 8 bits."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.levels import Bytes, of_16_bits
from aezoo.errors import AezooError, reason_of

if TYPE_CHECKING:
    from PIL import Image

Background = Literal["white", "black"]
ENDINGS = (
    ".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""The endings of files that are taken for images."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What such a file may be, whatever its ending: Pillow knows others, and starts programs for some of them."""


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
    return of_16_bits(numbers)


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
        raise AezooError(
            f"no images in {folder}, nor in the folders in it; give a folder of files whose names end in "
            f"{', '.join(ENDINGS)}"
        )
    return images, others
