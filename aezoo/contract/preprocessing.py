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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from aezoo.contract.encoded import Background, flatten, open_image
from aezoo.contract.levels import RANGES, Bytes, Range, as_numbers, as_pixels, check_range, range_of
from aezoo.errors import AezooError
from aezoo.machine import Count, FrozenModel

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "stretch", "pad"]


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
        low, high = RANGES[check_range(values or range_of(numbers), numbers)]
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
