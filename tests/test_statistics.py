"""Intervals, verdicts and spreads, against figures from elsewhere and by simulation."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from aezoo.harness.settle import Claim, error_of, judge
from aezoo.table import pairs as of_pairs
from aezoo.table.pairs import Pairs
from aezoo.table.statistics import Errors, Prior, fit_prior, holm, paired_ratio, spread

NARROW, WIDE = Prior(1.27, 0.0075**2), Prior(5.4, 0.04**2)
"""What 36 variants of eight seeds each gave (issue 16)."""


def draw(rng, logs, *, seeds, images, priors=(WIDE,), hard=0.5):
    """Draw the errors of variants whose seeds' variances are of the priors in turn, on the same images."""
    drawn = []
    of_images = rng.lognormal(0, hard, images)
    for place, log in enumerate(logs):
        prior = priors[place % len(priors)]
        deviation = math.sqrt(prior.variance * prior.freedom / rng.chisquare(prior.freedom))
        own = of_images * rng.lognormal(0, 0.1, images)
        drawn.append(np.exp(log + deviation * rng.standard_normal((seeds, 1))) * own / own.mean())
    return drawn


def of(tables, priors=(WIDE,)):
    return [Errors(table, [priors[place % len(priors)]]) for place, table in enumerate(tables)]


def test_without_a_calibration_the_interval_over_seeds_is_students_on_the_log():
    values = np.array([0.041, 0.043, 0.040, 0.047])
    low, high = stats.t.interval(0.95, 3, loc=np.log(values).mean(), scale=stats.sem(np.log(values)))
    estimate = Errors(values[:, None]).estimate()
    assert estimate.value == pytest.approx(np.log(values).mean(), rel=1e-12)
    assert estimate.half == pytest.approx((high - low) / 2, rel=1e-9)
    assert estimate.ratios() == pytest.approx((math.exp(low), math.exp(high)), rel=1e-9)


def test_a_calibration_moderates_the_variance_and_lends_its_degrees_of_freedom():
    values = np.array([0.041, 0.044])
    moderated = (5.4 * 0.04**2 + np.log(values).var(ddof=1)) / 6.4
    half = Errors(values[:, None], [WIDE]).estimate().half
    assert half == pytest.approx(stats.t.ppf(0.975, 6.4) * math.sqrt(moderated / 2), rel=1e-6)


def test_one_seed_has_an_interval_by_the_calibration_alone():
    half = Errors([[0.04]], [NARROW]).estimate().half
    assert half == pytest.approx(stats.t.ppf(0.975, 1.27) * 0.0075, rel=1e-6)
    assert not Errors([[0.04, 0.05]]).knows_seeds


def test_the_widest_prior_counts_where_no_group_is_declared():
    for values in ([0.04, 0.0401], [0.04, 0.06]):
        table = np.array(values)[:, None]
        halves = [Errors(table, [prior]).estimate().half for prior in (NARROW, WIDE)]
        assert Errors(table, [NARROW, WIDE]).estimate().half == pytest.approx(max(halves), rel=1e-9)


def test_no_randomness_is_no_variance_unless_the_seeds_say_otherwise():
    images = np.random.default_rng(0).gamma(2.0, 1.0, 400)
    fixed = Errors([images, images], [WIDE], fixed=True)
    assert fixed.estimate().half == pytest.approx(stats.t.ppf(0.975, 399) * stats.sem(images / images.mean()), rel=1e-6)
    assert Errors([images, 1.1 * images], [WIDE], fixed=True).estimate().half > 1.2 * fixed.estimate().half


def test_one_number_tells_nothing_of_its_spread():
    assert (Errors([[0.5]]).estimate().half, Errors([[0.5]]).estimate().p_value) == (None, 1.0)
    assert Errors([[0.5]]).over(Errors([[0.1]])).p_value == 1.0


def test_a_p_value_is_the_level_at_which_the_interval_reaches_zero():
    a, b = of(draw(np.random.default_rng(1), [0.0, 0.2], seeds=3, images=200))
    ratio = a.over(b)
    assert ratio.half_at(ratio.p_value) == pytest.approx(abs(ratio.value), rel=1e-3)


def test_a_loss_of_nothing_has_an_interval_and_a_place():
    zero, other = Errors(np.zeros((2, 3)), [WIDE]), Errors(np.full((2, 3), 0.1), [WIDE])
    assert zero.over(other).p_value < 1e-9
    assert Pairs([zero, other]).ranks([0, 1]) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    rng = np.random.default_rng(2)
    tables = draw(rng, [0.0] * 1000, seeds=seeds, images=2, priors=(NARROW, WIDE), hard=0.0)
    # Images that add no chance: what is held is the part of the seeds.
    errors = of([table.mean(axis=1, keepdims=True) for table in tables], (NARROW, WIDE))
    covered = np.mean([abs(each.log) <= each.estimate().half for each in errors])
    # 1,000 draws of 95 % lie in 93.2 to 96.8 % in all but 1 of 100 cases.
    assert 0.932 < covered < 0.968


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_variants_are_told_apart_no_more_often_than_said(seeds):
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(300):
        variants = of(draw(rng, [0.0] * 5, seeds=seeds, images=100, priors=(NARROW, WIDE)), (NARROW, WIDE))
        false += any(interval != (1, 5) for interval in Pairs(variants).ranks(range(5)))
    # 300 draws of an event of 5 % lie below 8.4 % in all but 5 of 1,000 cases.
    assert false / 300 < 0.084


def test_looking_often_settles_nothing_that_is_equal_more_often_than_said():
    """Six looks, from 2 to 14 seeds; the same claim is judged at each, as `settle` does."""
    rng = np.random.default_rng(4)
    claim = Claim("a", "b")
    false = 0
    for _ in range(300):
        pair = of(draw(rng, [0.0, 0.0], seeds=14, images=20), (WIDE,))
        verdicts = []
        for look, seeds in enumerate((2, 3, 5, 8, 12, 14), start=1):
            begun = {
                name: Errors(each.by_seed[:seeds, None].repeat(2, 1), [WIDE])
                for name, each in zip("ab", pair, strict=True)
            }
            verdicts += [found.verdict for found in judge([claim], begun, look=look, margin=0.01)]
        false += bool({"better", "worse"} & set(verdicts))
    assert false / 300 < 0.084
    assert sum(error_of(look) for look in range(1, 10_000)) == pytest.approx(0.05, abs=1e-4)


def test_a_claim_is_better_worse_the_same_or_open():
    rng = np.random.default_rng(5)
    tables = draw(rng, [0.0, 0.3, 0.0, 0.0], seeds=12, images=500)
    errors = dict(zip("abcd", of(tables), strict=True)) | {"e": None}
    verdicts = [
        judge([Claim(*claim)], errors, look=1, margin=margin)[0].verdict
        for claim, margin in (("ab", 1), ("ba", 1), ("ac", 20), ("cd", 1e-6), ("ae", 1))
    ]
    assert verdicts == ["better", "worse", "the same", "not decided", "not decided"]


def test_a_claim_among_many_is_decided_where_its_interval_says_so():
    rng = np.random.default_rng(6)
    names = "abcdefgh"
    tables = draw(rng, [0.08 * place for place in range(len(names))], seeds=6, images=500)
    errors = dict(zip(names, of(tables, (WIDE,)), strict=True))
    found = judge([Claim(*pair) for pair in itertools.permutations(names, 2)], errors, look=2)
    signs = {"better": (-1, -1), "worse": (1, 1), "not decided": (-1, 1)}
    assert {one.verdict for one in found} == set(signs)
    assert {(one.verdict, np.sign(one.percent_low), np.sign(one.percent_high)) for one in found} == {
        (verdict, *of_interval) for verdict, of_interval in signs.items()
    }


def test_pairing_over_images_separates_what_lies_within_each_others_intervals():
    rng = np.random.default_rng(4)
    hard = rng.gamma(2.0, 1.0, 500)
    a, b = Errors([hard, hard * (1 + 1e-6)]), Errors([hard * 1.02, hard * 1.02 * (1 + 1e-6)])
    assert a.estimate().half > math.log(1.02)
    assert a.over(b).p_value < 1e-4


def test_rounding_is_no_difference():
    """The mean of three equal numbers is not always the number."""
    errors = np.random.default_rng(6).gamma(2.0, 1.0, 400)
    again = errors * (1 + 1e-15)
    ratio = Errors([errors, errors, errors]).over(Errors([again]))
    assert (ratio.value, ratio.p_value) == (0.0, 1.0)


def test_ranks_are_intervals_with_ties_where_the_evidence_separates_nothing():
    rng = np.random.default_rng(5)
    variants = of(draw(rng, [0.0, 0.0, 1.0, 2.0], seeds=5, images=300))
    pairs = Pairs(variants)
    assert pairs.ranks(range(4)) == [(1, 2), (1, 2), (3, 3), (4, 4)]
    assert pairs.ranks([0, 3]) == [(1, 1), (2, 2)]
    assert Pairs([*variants[2:], None]).ranks(range(3)) == [(1, 2), (2, 3), (1, 3)]
    assert Pairs([]).ranks([]) == []


def ranks_by_definition(variants):
    """Hold each pair on its own, and correct their p values."""
    places = list(itertools.combinations(range(len(variants)), 2))
    found = [variants[a].over(variants[b]) if variants[a] and variants[b] else None for a, b in places]
    low, high = [1] * len(variants), [len(variants)] * len(variants)
    for (a, b), ratio, p_value in zip(places, found, holm([r.p_value if r else 1.0 for r in found]), strict=True):
        if ratio and p_value < 0.05:
            better, worse = (a, b) if ratio.value < 0 else (b, a)
            high[better] -= 1
            low[worse] += 1
    return list(zip(low, high, strict=True))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    seed=st.integers(0, 10**6), count=st.integers(0, 24), seeds=st.integers(2, 5), images=st.sampled_from([2, 5, 60]),
    spread=st.sampled_from([0.0, 0.03, 0.3]), block=st.sampled_from([1, 3, 256]), prior=st.booleans(),
)  # fmt: skip
def test_ranks_are_those_of_all_pairs_one_by_one_whatever_the_blocks(seed, count, seeds, images, spread, block, prior):
    rng = np.random.default_rng(seed)
    tables = draw(rng, rng.normal(0, spread, count), seeds=seeds, images=images)
    tables[1:2] = tables[:1] * len(tables[1:2])
    variants = [Errors(table, [WIDE] if prior else []) for table in tables]
    variants[2:3] = [None] * len(variants[2:3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_pairs, "BLOCK", block)
        assert Pairs(variants).ranks(range(count)) == ranks_by_definition(variants)


def test_the_p_values_against_one_variant_are_those_of_its_pairs():
    variants = of(draw(np.random.default_rng(8), [0.0, 0.1, 0.2, 0.4, 0.0], seeds=5, images=100))
    expected = [each.over(variants[2]).p_value for each in variants]
    found = Pairs([*variants, None]).p_values([0, 1, 3, 4, 5], 2)
    told = [p_value if p_value < 0.05 else 1.0 for p_value in (*expected[:2], *expected[3:])]
    assert found == pytest.approx([*told, 1.0], rel=1e-9)


def test_of_more_variants_than_are_judged_no_rank_has_an_interval(monkeypatch):
    variants = of(draw(np.random.default_rng(8), [0.0, 1.0, 2.0], seeds=5, images=100))
    monkeypatch.setattr(of_pairs, "MOST", 2)
    assert Pairs(variants).ranks(range(3)) == [(None, None)] * 3
    assert Pairs(variants).ranks([0, 2]) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("prior", [NARROW, WIDE])
def test_a_fitted_prior_is_that_from_which_variances_were_drawn(prior):
    rng = np.random.default_rng(7)
    variances = prior.variance * prior.freedom / rng.chisquare(prior.freedom, 4000)
    samples = variances * rng.chisquare(7, 4000) / 7
    fitted = fit_prior(samples, [7] * 4000)
    assert fitted.freedom == pytest.approx(prior.freedom, rel=0.1)
    assert fitted.variance == pytest.approx(prior.variance, rel=0.1)


def test_variances_that_differ_by_chance_alone_have_one_prior():
    assert fit_prior([0.9, 1.0, 1.1, 1.2], [7] * 4).freedom == 1e6


def test_holms_correction_is_the_published_one():
    # Holm 1979: .01 * 4, .02 * 3, .03 * 2, .04 * 1, none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_paired_ratio_is_taken_round_by_round():
    # The machine ran at half its speed in the second round, for both.
    assert paired_ratio([30.0, 15.0, 33.0], [10.0, 5.0, 10.0]) == 3
    assert paired_ratio([30.0], []) is None


def test_the_spread_is_the_interquartile_range_over_the_median():
    assert spread([10, 11, 12, 13, 14]).median == 12
    assert spread([10, 11, 12, 13, 14]).iqr == pytest.approx(2 / 12)
    assert spread([5.0]).iqr == 0
