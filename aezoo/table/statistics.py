"""Numbers about numbers: means with intervals, what separates two of them, medians with their spread.

An error has two sources of chance: the seed that a network was trained from, and the images that it was scored on. Both
are resampled, as a bootstrap over rows and columns does (Owen 2007, "The pigeonhole bootstrap"). What is resampled is a
mean, so the bootstrap's variance is known without drawing: that of the seeds' means, and that of the images' means.
With the two to five seeds that people train, the plain bootstrap's intervals are far too narrow. So each variance is
taken over one less than its count, each source has Student's t at its own degrees of freedom, and the half widths of
the two add up as squares do (Howe 1974; Zou & Donner 2008). By simulation the intervals hold the truth in 95 to 99 of
100 cases.

Two variants are judged on the same images: those are paired. Their seeds are not. It knows no files and no trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Sums in float64 of the same errors in another order differ by less, relative to them."""
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the interquartile range as a fraction of it."""

    median: float
    iqr: float


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two. `sources` holds a variance and its degrees of freedom for each source of chance.

    There is no source where the numbers do not tell: one seed and one image.
    """

    value: float
    sources: tuple[tuple[float, float], ...]

    @property
    def half(self) -> float | None:
        """Half the width of the 95 % interval; None where nothing is known."""
        return self._half(1 - CONFIDENCE) if self.sources else None

    @property
    def p_value(self) -> float:
        """How often chance alone would give a value as far from 0, either way; 1 where nothing is known."""
        if self.value == 0 or not self.sources:
            return 1.0
        # Bisection: scipy.optimize would find it too, but takes longer to import than a table takes.
        low, high = -16.0, 0.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if self._half(10**middle) > abs(self.value) else (low, middle)
        return float(10**high)

    def _half(self, p_value: float) -> float:
        from scipy.special import stdtrit

        return math.sqrt(sum(float(stdtrit(free, p_value / 2)) ** 2 * variance for variance, free in self.sources))


class Errors:
    """The squared errors of one variant: a row a seed, a column an image, all seeds on the same images."""

    def __init__(self, errors: ArrayLike) -> None:
        table = np.asarray(errors, dtype=np.float64)
        self.by_seed: Vector = table.mean(axis=1)
        self.by_image: Vector = table.mean(axis=0)

    @cached_property
    def mean(self) -> float:
        """The mean over seeds and images."""
        return float(self.by_seed.mean())

    def estimate(self) -> Estimate:
        """Return the mean with its sources of chance."""
        return _estimate(self.mean, [self.by_seed], self.by_image)

    def less(self, other: "Errors") -> Estimate:
        """Return this mean less another's, on the same images; 0 where they differ by rounding alone."""
        difference = 0.0 if math.isclose(self.mean, other.mean, rel_tol=ROUNDING) else self.mean - other.mean
        return _estimate(difference, [self.by_seed, other.by_seed], self.by_image - other.by_image)


def _estimate(value: float, seeds: Sequence[Vector], images: Vector) -> Estimate:
    """Add up variances. One number says nothing of its spread, and adds none."""
    sources = []
    for means in (seeds, [images]):
        spreads = [(float(part.var(ddof=1)) / len(part), len(part) - 1) for part in means if len(part) > 1]
        total = sum(variance for variance, _ in spreads)
        # Welch 1947, Satterthwaite 1946: the freedom of a sum of variances.
        weights = sum(variance**2 / freedom for variance, freedom in spreads)
        if spreads:
            sources.append((total, total**2 / weights if weights else 1.0))
    return Estimate(value, tuple(sources))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979): below 0.05, the chance of one false among all is 5 %."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p_values) else scaled
    return [float(p_value) for p_value in corrected]


def rank_intervals(variants: Sequence[Errors | None]) -> list[tuple[int, int]]:
    """Return the best and the worst rank of each that the evidence allows, Holm-corrected over all pairs.

    None stands for a variant whose errors are not known: nothing separates it from any other.
    """
    count = len(variants)
    pairs = combinations(range(count), 2)
    differences = [first.less(second) if first and second else None for first, second in combinations(variants, 2)]
    low, high = [1] * count, [count] * count
    # Whatever is not told apart on its own is not told apart in company: its p value need not be known.
    corrected = holm([each.p_value if each and abs(each.value) > (each.half or 0.0) else 1.0 for each in differences])
    for (a, b), difference, p_value in zip(pairs, differences, corrected, strict=True):
        if difference and p_value < 1 - CONFIDENCE:
            better, worse = (a, b) if difference.value < 0 else (b, a)
            high[better] -= 1
            low[worse] += 1
    return list(zip(low, high, strict=True))


def paired_ratio(values: Sequence[float], against: Sequence[float]) -> float | None:
    """Return the median of the ratios of measurements made in the same rounds; None where there is no such pair."""
    ratios = [value / other for value, other in zip(values, against, strict=False) if other]
    return float(np.median(ratios)) if ratios else None


def spread(values: Sequence[float]) -> Spread:
    """Return the median of repeated measurements, and how far they lie apart."""
    low, median, high = (float(x) for x in np.percentile(values, [25, 50, 75]))
    return Spread(median=median, iqr=(high - low) / median if median else 0.0)
