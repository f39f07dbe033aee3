"""Intervals and spreads, against figures from elsewhere."""

import numpy as np
import pytest

from aezoo.statistics import over_images, over_seeds, paired_ratio, spread


def test_the_interval_over_seeds_is_students():
    from scipy import stats

    values = [0.041, 0.043, 0.040, 0.047]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = over_seeds(values)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-9)


def test_the_interval_over_seeds_covers_the_truth_as_often_as_it_says():
    rng = np.random.RandomState(0)
    draws = [over_seeds(list(0.05 + 0.002 * rng.randn(3))) for _ in range(4000)]
    assert np.mean([one.low <= 0.05 <= one.high for one in draws]) == pytest.approx(0.95, abs=0.012)


def test_an_error_is_never_said_to_be_below_zero():
    assert over_seeds([0.01, 0.03]).low == 0


def test_the_interval_over_images_is_the_normal_one():
    found = over_images(0.05, 0.02, 400)
    assert (found.low, found.high) == pytest.approx((0.05 - 0.00196, 0.05 + 0.00196), abs=1e-6)


def test_a_paired_ratio_is_taken_round_by_round():
    # The machine ran at half its speed in the second round, for both.
    assert paired_ratio([30.0, 15.0, 33.0], [10.0, 5.0, 10.0]) == 3
    assert paired_ratio([30.0], []) is None


def test_the_spread_is_the_interquartile_range_over_the_median():
    assert spread([10, 11, 12, 13, 14]).median == 12
    assert spread([10, 11, 12, 13, 14]).iqr == pytest.approx(2 / 12)
    assert spread([5.0]).iqr == 0
