"""What the errors of a variant's seeds on the test images come to: all that tables need of them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


class Means(NamedTuple):
    """The mean of each seed's squared errors, (seeds,), and their sum over the seeds on each image, (images,).

    Seeds can be added, and all comes out, bit for bit, as if they had been there.
    """

    by_seed: Vector
    image_sums: Vector

    @property
    def by_image(self) -> Vector:
        """The mean over the seeds on each image."""
        return self.image_sums / len(self.by_seed)

    @classmethod
    def of(cls, errors: Iterable[ArrayLike]) -> "Means":
        """Take the means of errors, a row a seed, a column an image; at least one row."""
        first, *others = errors
        row = np.asarray(first, dtype=np.float64)
        return cls(np.array([row.mean()]), row).plus(others)

    def plus(self, errors: Iterable[ArrayLike]) -> "Means":
        """Return the means with those of more seeds."""
        seeds, sums = list(self.by_seed), self.image_sums
        for each in errors:
            row = np.asarray(each, dtype=np.float64)
            seeds.append(row.mean())
            sums = sums + row
        return Means(np.array(seeds), sums)

    def pack(self) -> tuple[int, bytes]:
        """Return the number of seeds, and all numbers as bytes."""
        return len(self.by_seed), np.concatenate(self).astype("<f8").tobytes()

    @classmethod
    def unpack(cls, seeds: int, content: bytes) -> "Means":
        """Return what `pack` took."""
        numbers = np.frombuffer(content, "<f8")
        return cls(numbers[:seeds], numbers[seeds:])
