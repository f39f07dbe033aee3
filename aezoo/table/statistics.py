"""Numbers about numbers: how sure a loss is, what separates two, ranks that the evidence allows, medians with spread.

All is on the log of the MSE, where seeds spread alike whatever the loss is. A loss has two sources of chance: the seed
that a network was trained from, and the images that it was scored on. With two to five seeds their own variance says
little: it is moderated (Smyth 2004), shrunk to what a calibration run found in architectures of the same declared
group, and so gains that prior's degrees of freedom. Each source has Student's t at its own degrees of freedom, and half
widths add up as squares do (Howe 1974; Zou & Donner 2008). Two variants are judged on the same images: those are
paired. Their seeds are not. benchmarks/statistics.md says what is assumed, and what of it holds by simulation.

It knows no files and no trials.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from aezoo.run.means import Means, Vector

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Sums in float64 of the same errors in another order differ by less, relative to them."""
TINY = 1e-300
"""Stands for a loss of 0, which has no log."""
LEVELS: Vector = np.unique(np.append(np.logspace(-16, -1e-4, 320), 1 - CONFIDENCE))
"""The p values at which half widths are known; what lies between is interpolated."""
AT_CONFIDENCE = int(np.searchsorted(LEVELS, 1 - CONFIDENCE))
"""The place of 5 % among them."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the interquartile range as a fraction of it."""

    median: float
    iqr: float


class Prior(NamedTuple):
    """How far the seeds of a declared group spread: a variance of the log MSE, worth so many degrees of freedom."""

    freedom: float
    variance: float


@dataclass(frozen=True)
class Estimate:
    """A difference of logs, and the squares of its half widths at LEVELS; None where nothing is known of chance."""

    value: float
    squares: Vector | None

    @property
    def half(self) -> float | None:
        """Half the width of the 95 % interval."""
        return None if self.squares is None else math.sqrt(self.squares[AT_CONFIDENCE])

    def half_at(self, p_value: float) -> float | None:
        """Half the width of the interval at another level."""
        if self.squares is None:
            return None
        return math.exp(float(np.interp(math.log(p_value), np.log(LEVELS), 0.5 * np.log(self.squares + TINY))))

    @property
    def p_value(self) -> float:
        """How often chance alone would give a value as far from 0, either way; 1 where nothing is known."""
        if self.value == 0 or self.squares is None:
            return 1.0
        logs = np.log(self.squares[::-1] + TINY)
        return math.exp(float(np.interp(2 * math.log(abs(self.value)), logs, np.log(LEVELS[::-1]))))

    def ratios(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the ratio that this is the log of."""
        return None if self.half is None else (math.exp(self.value - self.half), math.exp(self.value + self.half))


class Errors:
    """The squared errors of one variant: a row a seed, a column an image, all seeds on the same images.

    Args:
        errors: (seeds, images), or what they come to.
        priors: That of the variant's group; of several, for one whose group is not declared, the widest counts. None
            where there was no calibration: then seeds count as they are.
        fixed: Whether the variant has no randomness, so that seeds that agree tell that there is no chance in them.
    """

    def __init__(self, errors: ArrayLike | Means, priors: Sequence[Prior] = (), *, fixed: bool = False) -> None:
        means = errors if isinstance(errors, Means) else Means.of(np.asarray(errors, dtype=np.float64))
        self.by_seed = means.by_seed
        self.by_image = means.by_image / max(self.mean, TINY)
        self.fixed = fixed and bool(np.ptp(self.by_seed) <= 1e-9 * self.by_seed.max())
        self.priors = tuple(priors)

    @cached_property
    def mean(self) -> float:
        """The mean over seeds and images."""
        return float(self.by_seed.mean())

    @cached_property
    def log(self) -> float:
        """The mean over seeds of the log."""
        return float(np.log(np.maximum(self.by_seed, TINY)).mean())

    @property
    def knows_seeds(self) -> bool:
        """Whether anything is known of how another seed would do."""
        return self.fixed or bool(self.priors) or len(self.by_seed) > 1

    @cached_property
    def of_seeds(self) -> Vector:
        """The squares of the half widths that come from the seeds."""
        count = len(self.by_seed)
        freedom = count - 1
        variance = float(np.log(np.maximum(self.by_seed, TINY)).var(ddof=1)) if freedom else 0.0
        if self.fixed or not self.knows_seeds:
            return np.zeros_like(LEVELS)
        if not self.priors:
            return variance / count * t_squared(freedom)
        moderated = [
            ((prior.freedom * prior.variance + freedom * variance) / (prior.freedom + freedom), prior.freedom + freedom)
            for prior in self.priors
        ]
        squares = [variance / count * t_squared(freedom) for variance, freedom in moderated]
        return np.asarray(np.max(squares, axis=0))

    def estimate(self) -> Estimate:
        """Return the log of the loss, with what is known of chance in it."""
        return self._estimate(self.log, self.of_seeds, self.by_image)

    def over(self, other: "Errors") -> Estimate:
        """Return the log of this loss over another's, on the same images; 0 where they differ by rounding alone."""
        value = 0.0 if math.isclose(self.mean, other.mean, rel_tol=ROUNDING) else self.log - other.log
        return self._estimate(value, self.of_seeds + other.of_seeds, self.by_image - other.by_image)

    def _estimate(self, value: float, of_seeds: Vector, images: Vector) -> Estimate:
        squares = of_seeds
        if len(images) > 1:
            squares = squares + images.var(ddof=1) / len(images) * t_squared(len(images) - 1)
        known = self.knows_seeds or len(images) > 1
        return Estimate(value, squares if known else None)


@cache
def t_squared(freedom: float) -> Vector:
    """Return the squares of Student's t at LEVELS, either way."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(min(freedom, 1e9), LEVELS / 2)) ** 2


def fit_prior(variances: ArrayLike, freedom: ArrayLike) -> Prior:
    """Fit a scaled inverse chi-squared to sample variances, by the moments of their logs (Smyth 2004, section 6.2).

    Args:
        variances: Of a group's members, each from normal draws; all above 0.
        freedom: The degrees of freedom of each.
    """
    from scipy.special import digamma, polygamma

    variances, freedom = np.asarray(variances, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean())
    if excess <= 0:
        # They spread no more than chance would have it: one variance for all.
        return Prior(1e6, math.exp(logs.mean()))
    half = 0.5 + 1 / excess
    for _ in range(50):  # Newton's method on the trigamma function (Smyth 2004, appendix)
        trigamma = float(polygamma(1, half))
        half += trigamma * (1 - trigamma / excess) / float(polygamma(2, half))
    return Prior(2 * half, math.exp(logs.mean() + float(digamma(half)) - math.log(half)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979): below 0.05, the chance of one false among all is 5 %."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p_values) else scaled
    return [float(p_value) for p_value in corrected]


def paired_ratio(values: Sequence[float], against: Sequence[float]) -> float | None:
    """Return the median of the ratios of measurements made in the same rounds; None where there is no such pair."""
    ratios = [value / other for value, other in zip(values, against, strict=False) if other]
    return statistics.median(ratios) if ratios else None


def spread(values: Sequence[float]) -> Spread:
    """Return the median of repeated measurements, and how far they lie apart."""
    ordered = sorted(values)
    # NumPy's percentiles take a hundred times as long for so few.
    low, median, high = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Spread(median=median, iqr=(high - low) / median if median else 0.0)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    part = place - math.floor(place)
    # From the nearer of the two, as NumPy does.
    return below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part)
