"""Numbers about numbers: means with intervals, medians with their spread. It knows no files and no trials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with the ends of its 95 % interval; the ends are None where one number says nothing about them."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the interquartile range as a fraction of it."""

    median: float
    iqr: float


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean of one error a seed, two or more, with Student's t interval (Gosset 1908), cut at 0.

    Two seeds give a very wide one: that is what two seeds tell.
    """
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean=mean, low=max(0.0, mean - half), high=mean + half)


def over_images(mean: float, image_std: float, num_images: int) -> Interval:
    """Return the mean error of one network with the normal interval over its test images."""
    half = 1.959964 * image_std / math.sqrt(num_images)
    return Interval(mean=mean, low=mean - half, high=mean + half)


def paired_ratio(values: Sequence[float], against: Sequence[float]) -> float | None:
    """Return the median of the ratios of measurements made in the same rounds; None where there is no such pair."""
    ratios = [value / other for value, other in zip(values, against, strict=False) if other]
    return float(np.median(ratios)) if ratios else None


def spread(values: Sequence[float]) -> Spread:
    """Return the median of repeated measurements, and how far they lie apart."""
    low, median, high = (float(x) for x in np.percentile(values, [25, 50, 75]))
    return Spread(median=median, iqr=(high - low) / median if median else 0.0)
