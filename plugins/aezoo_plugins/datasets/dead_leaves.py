"""dead-leaves: made images of any size, discs and squares that cover one another. No download.

Sizes follow a power law, and nearer leaves hide farther ones: so edges occur at many scales, and spectra fall as those
of photographs do (Lee, Mumford & Huang 2001). What networks learn from such images is of use on photographs, if less
than what they learn from photographs (Baradad et al. 2021, arXiv:2106.05963): a loss on them is no photograph's.

The pixels are the same on every machine: NumPy's RandomState has a frozen stream (NEP 19), and all that is done to its
numbers are the operations that IEEE 754 rounds in one way: + - * / and the square root.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import aezoo

Floats = NDArray[np.float64]
LEAVES = 32
"""Of an image, the first ones mostly hidden."""
SMALLEST, LARGEST = 1 / 16, 1 / 2
"""Half the breadth of a leaf, over the image's side; of 64 pixels the smallest is 8 broad."""
MARGIN = 1 / 8
"""How far outside the image a leaf's middle may lie, over the side."""
SHADE = 0.3
"""By how much a leaf may darken or brighten from its middle to its rim, in all channels alike."""
SIZES = (8, 512)
TEST_SHARE = 8
"""There is one image that tests for so many that train."""


def load(
    data_dir: Path,  # noqa: ARG001 - nothing is kept in a folder
    *,
    size: int = 64,
    channels: Literal[1, 3] = 3,
    count: int = 4000,
) -> aezoo.Images:
    """Draw `count` images to train and an eighth as many to test, (channels, size, size), each from its own stream.

    Raises:
        AezooError: a number is out of its range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise aezoo.AezooError(f"size must be {SIZES[0]} to {SIZES[1]} pixels, but is {size}")
    if count < TEST_SHARE:
        raise aezoo.AezooError(f"count must be at least {TEST_SHARE}, of which one tests, but is {count}")
    images = np.stack([draw(number, channels, size) for number in range(count + count // TEST_SHARE)])
    return aezoo.Images(train=images[:count], test=images[count:])


def draw(number: int, channels: int, size: int) -> NDArray[np.uint8]:
    """Draw the image of a number, (channels, size, size)."""
    random = np.random.RandomState(number)
    # Of a density that falls as the cube, the inverse square is uniform between its ends.
    near, far = SMALLEST**-2, LARGEST**-2
    radii = size / np.sqrt(far + (near - far) * random.random_sample(LEAVES))
    middles = size * (random.random_sample((LEAVES, 2)) * (1 + 2 * MARGIN) - MARGIN)
    # A point of the unit circle, from the slope of a line through it: no sine, whose last digit machines disagree on.
    slopes = 2 * random.random_sample(LEAVES) - 1
    directions = np.stack([1 - slopes**2, 2 * slopes], axis=1) / (1 + slopes**2)[:, None]
    is_square = random.random_sample(LEAVES) < 1 / 2
    colours = random.random_sample((LEAVES + 1, channels))
    shades = SHADE * (2 * random.random_sample(LEAVES) - 1)
    image = np.empty((channels, size, size))
    image[:] = colours[-1][:, None, None]
    for radius, middle, direction, square, colour, shade in zip(
        radii, middles, directions, is_square, colours, shades, strict=False
    ):
        _cover(image, radius, middle, direction, square, colour, shade)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _cover(
    image_CHW: Floats, radius: float, middle: Floats, direction: Floats, is_square: bool, colour: Floats, shade: float
) -> None:
    """Lay one leaf on an image, in place; of a pixel on its rim it covers a part."""
    # Half a square's diagonal is below 1.5 of its half side.
    reach = radius * (1.5 if is_square else 1) + 1
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.ceil(middle + reach).astype(int)
    part = image_CHW[:, low[0] : high[0], low[1] : high[1]]
    y = np.arange(low[0], low[0] + part.shape[1])[:, None] + 0.5 - middle[0]
    x = np.arange(low[1], low[1] + part.shape[2]) + 0.5 - middle[1]
    along = direction[0] * y + direction[1] * x
    if is_square:
        distance = np.maximum(np.abs(along), np.abs(direction[0] * x - direction[1] * y))
    else:
        distance = np.sqrt(y * y + x * x)
    cover = np.clip(radius + 0.5 - distance, 0, 1)
    paint = colour[:, None, None] + shade / radius * along
    part += cover * (paint - part)


def signature(data_dir: Path, **settings: object) -> str:  # noqa: ARG001 - drawn from these settings, which are named
    """Return that the images follow from the settings and this file alone: they are drawn once, and kept."""
    return "drawn"


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `dead-leaves`."""
    yield aezoo.Dataset(
        name="dead-leaves",
        load=load,
        bundled=True,
        signature=signature,
        summary="Made: discs and squares that cover one another, 3x64x64 or any size, 4,000 to train, 500 to test; "
        "no download",
        reference="Lee, Mumford & Huang 2001, IJCV 41; as training data: Baradad et al. 2021, arXiv:2106.05963",
    )
