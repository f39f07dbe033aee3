"""Arrays of whatever numbers as images of 8 bits: what the numbers mean, and where the channels are."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aezoo.errors import AezooError

Bytes = NDArray[np.uint8]
Range = Literal["unit", "signed", "bytes"]
"""Floats in [0, 1], in [-1, 1], in [0, 255]."""
AxisOrder = Literal["NCHW", "NHWC"]
"""Where the channels of images are."""
BRIGHT = 64
"""Floats above 1 are taken for [0, 255] where one of them is at least this; else nobody knows what they are."""
ON_BOTH_SIDES = 0.25
"""Floats in [-1, 1] are taken for that where they reach so far on either side of 0."""


def of_16_bits(numbers: NDArray[Any]) -> Bytes:
    """Return whole numbers from 0 to 65535 as uint8: divided by 257, rounded."""
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


RANGES: dict[Range, tuple[float, float]] = {"unit": (0, 1), "signed": (-1, 1), "bytes": (0, 255)}


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
        return of_16_bits(array), f"16 bits became 8: divided by 257 (the greatest was {high})"
    numbers = as_numbers(array)
    low_end, high_end = RANGES[check_range(values or range_of(numbers), numbers)]
    scaled = (numbers - low_end) * (255 / (high_end - low_end))
    return np.rint(scaled).astype(np.uint8), f"floats in [{low_end:g}, {high_end:g}] became 0 to 255, rounded"


def check_range(kind: Range, numbers: NDArray[np.float64]) -> Range:
    """Return what floats are said to be.

    Raises:
        AezooError: they are no such numbers.
    """
    low, high = RANGES[kind]
    least, greatest = float(numbers.min()), float(numbers.max())
    if least < low or greatest > high:
        raise AezooError(f"values={kind} are from {low:g} to {high:g}, but these are {least:.6g} to {greatest:.6g}")
    return kind


def with_channels(array: NDArray[Any], layout: AxisOrder | None = None) -> tuple[NDArray[Any], str | None]:
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
