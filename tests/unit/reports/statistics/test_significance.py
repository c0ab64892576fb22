"""Tests of differences against scipy, closed forms and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from reports.statistics.intervals import Array, Estimate, Range
from reports.statistics.jackknife import WeightedMean, estimate
from reports.statistics.significance import (
    MOST_CLUSTERS,
    advice,
    clusters_needed,
    differing,
    exceeding_level,
    fewest_differing,
    holm,
    lower_bound,
    paired_power,
    sign_flip,
    too_few,
    visible_effect,
)


def ones(n: int) -> np.ndarray:
    return np.ones(n)


def ids(n: int) -> list[str]:
    return [f"i{i}" for i in range(n)]


def difference(values: Array, labels: list[str] | None = None) -> Estimate:
    """Of a figure whose items differ by so much."""
    return estimate([(1.0, WeightedMean(values, ones(values.size)))], labels or ids(values.size))


def test_sign_flip_agrees_with_scipy() -> None:
    found = np.random.default_rng(0).normal(0.4, 1, 10)
    theirs = stats.permutation_test((found,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater").pvalue
    assert sign_flip(found) == pytest.approx(theirs)


def test_sign_flip_by_hand() -> None:
    # Of the 8 patterns of 1, 2 and 3 one reaches a sum of 6; 1, 2 and -3 sums to 0, which four more than half reach.
    assert sign_flip([1, 2, 3]) == 1 / 8
    assert sign_flip([1, 2, -3]) == 5 / 8
    assert sign_flip([0, 0, 0, 5]) == 1 / 2  # only one difference: its sign says nothing
    assert sign_flip([0.0, 0.0]) == 1.0


def test_holm_by_hand_and_against_scipy() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError):
        holm([1.2])


def test_bounds_and_levels_belong_together() -> None:
    rng = np.random.default_rng(5)
    values = np.random.default_rng(12).normal(size=30)
    for figure in (
        difference(rng.normal(0.3, 1, 40)),
        difference(rng.exponential(size=40), [f"s{i % 9}" for i in range(40)]),
        estimate([(1.0, lambda counts: counts @ values)], ids(30), 500),
        estimate([(1.0, WeightedMean((np.arange(40) % 5 > 0) * 1.0, ones(40)))], ids(40), Range((0.0, 1.0))),
    ):
        found = figure.interval()
        assert (figure.bound(0.025), figure.bound(0.025, upper=True)) == pytest.approx((found.low, found.high), rel=1e-12)
        for level in (0.4, 0.1, 0.01, 1e-3):
            assert figure.exceeding(figure.bound(level)) == pytest.approx(level, rel=0.02)
        assert figure.exceeding(figure.value + 1) == 0.5
        bounds = [figure.bound(level) for level in (0.4, 0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-9)]
        assert bounds == sorted(bounds, reverse=True)


def test_far_levels_follow_student() -> None:
    found = np.random.default_rng(6).normal(size=30)
    figure = difference(found - found.mean())
    assert figure.error == pytest.approx(stats.sem(found))
    plain = replace(figure, skew=0.0)
    assert exceeding_level(plain, -6 * figure.error) == pytest.approx(stats.t.sf(6, 29), rel=0.01)


def test_mirrored_figure_swaps_its_bounds() -> None:
    for figure in (
        difference(np.random.default_rng(7).exponential(size=25), [f"s{i % 8}" for i in range(25)]),
        estimate([(1.0, WeightedMean(np.array([1.0] * 9 + [0.0]), ones(10)))], ids(10), Range((0.0, 1.0), 0.0, True)),
        estimate([(1.0, WeightedMean(ones(10), ones(10)))], ids(10), Range((0.0, 1.0), 0.0, True)),
    ):
        assert figure.mirrored().bound(0.05) == pytest.approx(-figure.bound(0.05, upper=True))
        assert figure.mirrored().mirrored().bound(0.01) == pytest.approx(figure.bound(0.01))


def test_one_cluster_has_no_bound() -> None:
    figure = difference(np.array([1.0, 2.0]), ["s", "s"])
    assert not figure.bounded and math.isnan(exceeding_level(figure)) and math.isnan(figure.error)
    assert figure.interval().low is None
    with pytest.raises(ValueError):
        figure.bound(0.05)


def test_signs_guard_where_few_of_many_differ() -> None:
    sparse = np.zeros(60)
    sparse[:4] = 1.0
    figure = difference(sparse)
    assert figure.exceeding(0.0) < 0.03 and exceeding_level(figure) == 1 / 16 and differing(figure) == 4
    # Where all point one way the signs have said what they can, and Student's t decides.
    six = difference(np.array([-0.41, -0.47, -0.45, -0.52, -0.44, -0.5])).mirrored()
    assert exceeding_level(six) == six.exceeding(0.0) < 1e-4
    mixed = difference(np.array([3.0, 2.1, 1.2, 0.8, 1.0, -0.1]))
    assert mixed.exceeding(0.0) < exceeding_level(mixed) == sign_flip([3.0, 2.1, 1.2, 0.8, 1.0, -0.1]) == 2 / 64
    assert [fewest_differing(level) for level in (0.05, 0.05 / 12)] == [6, 9]


def test_too_few_tells_what_would_do() -> None:
    assert too_few(difference(np.arange(6.0))) == ""
    assert too_few(difference(np.arange(5.0)), "items") == "5 items, a verdict takes at least 6"
    assert too_few(difference(np.array([1.0])), "speakers") == "1 speaker, a verdict takes at least 6"
    few = difference(np.array([0.0, 0.4, -0.2, 0.3]))
    needed = clusters_needed(few.value / (few.error * 2))
    assert too_few(few, "items", few.value) == f"4 items, a verdict takes at least 6 (about {needed} at the spread seen)"


def test_repeats_widen_the_bound_by_the_spread_from_run_to_run() -> None:
    figure = difference(np.full(20, 0.5))
    assert lower_bound(figure, 0.05) == 0.5  # no spread over items
    assert lower_bound(figure, 0.05, spread=0.1, repeats=3) == pytest.approx(0.5 - stats.t.ppf(0.95, 2) * 0.1 * math.sqrt(4 / 3))
    with pytest.raises(ValueError):
        lower_bound(figure, 0.05, spread=0.1, repeats=1)


def test_run_to_run_noise_keeps_the_level() -> None:
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(200):
        # All items of a run are off by the same amount, which the items cannot tell.
        runs = rng.normal(0, 0.1, 4)
        base = runs[:3]
        figure = difference(runs[3] - base.mean() + rng.normal(0, 0.01, 30))
        false += exceeding_level(figure, 0.0, float(np.std(base, ddof=1)), 3) <= 0.05
    assert false <= stats.binom.ppf(0.999, 200, 0.05)


def test_sample_sizes_of_the_textbook() -> None:
    # Cohen's d of .2, .5 and .8 in a paired t-test at 80 % power, as G*Power gives them.
    assert [clusters_needed(d) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert clusters_needed(1e-6) is None and MOST_CLUSTERS >= 10**6
    assert paired_power(0.0, 10) == pytest.approx(0.05)
    assert paired_power(0.5, 34) >= 0.8 > paired_power(0.5, 33)
    assert visible_effect(34) == pytest.approx(0.495, abs=0.001)
    assert paired_power(50.0, 1000) == 1.0
    with pytest.raises(ValueError):
        clusters_needed(0.0)


def test_advice_comes_true() -> None:
    rng = np.random.default_rng(10)
    values = rng.normal(0.0, 0.5, 60)
    found = advice(difference(values), effect=0.1)
    assert found is not None and found.items is not None and found.items == found.clusters
    assert found.items == pytest.approx((2.8 * values.std(ddof=1) / 0.1) ** 2, rel=0.1)
    seen = [stats.ttest_1samp(rng.normal(0.1, values.std(ddof=1), found.items), 0).pvalue <= 0.05 for _ in range(1000)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.05)


def test_advice_counts_speakers_where_items_hang_together() -> None:
    rng = np.random.default_rng(11)
    figure = difference(np.repeat(rng.normal(size=20), 5), [f"s{i // 5}" for i in range(100)])
    found = advice(figure, effect=0.5)
    assert found is not None and found.clusters is not None and found.items == 5 * found.clusters
    assert advice(difference(np.zeros(10)), 0.1) is None  # nothing varies


def test_refused_input() -> None:
    for shares in ([], [math.nan], list(range(1, 20))):
        with pytest.raises(ValueError):
            sign_flip(shares)
    for terms in ([], [(1.0, WeightedMean(ones(3), np.zeros(3)))], [(1.0, WeightedMean(ones(2), ones(2)))]):
        with pytest.raises(ValueError):
            estimate(terms, ids(3))
