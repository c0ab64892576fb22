"""Tests of differences against scipy, closed forms and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reports.intervals import Resampled, paired_interval, resampled_means
from reports.power import MOST_CLUSTERS, advice, clusters_needed, paired_power, visible_effect
from reports.significance import EXACT_CLUSTERS, LEAST_LEVEL, cluster_shares, exceeding_level, holm, lower_bound, sign_flip


def ones(n: int) -> np.ndarray:
    return np.ones(n)


def ids(n: int) -> list[str]:
    return [f"i{i}" for i in range(n)]


def test_sign_flip_agrees_with_scipy_where_all_patterns_are_gone_through() -> None:
    found = np.random.default_rng(0).normal(0.4, 1, 10)
    theirs = stats.permutation_test((found,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(found) == pytest.approx(theirs)


def test_sign_flip_by_hand() -> None:
    # Of the 8 patterns of 1, 2 and 3 two reach a sum of 6 in size; 1, 2 and -3 sums to 0, which all reach.
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([1, 2, -3]) == 1.0
    assert sign_flip([0, 0, 0, 5]) == 1.0  # only one difference: its sign says nothing
    assert sign_flip([0.0, 0.0]) == 1.0


def test_drawn_patterns_agree_with_all_patterns() -> None:
    found = np.random.default_rng(3).normal(0.5, 1, EXACT_CLUSTERS + 1)
    signs = np.array(list(itertools.product((-1, 1), repeat=found.size)))
    exact = np.mean(np.abs(signs @ found) >= abs(found.sum()) - 1e-12)
    assert sign_flip(found, draws=40_000) == pytest.approx(exact, abs=0.01)
    assert sign_flip(np.full(40, 1.0), draws=999) == 1 / 1000  # never zero


def test_sign_flip_keeps_its_level() -> None:
    rng = np.random.default_rng(1)
    found = [sign_flip(rng.standard_t(3, 9) * rng.choice([-1, 1], 9)) for _ in range(1000)]
    # Binomial noise of 1000 trials at 5 % is 0.7 %; exact tests of few clusters are a little below.
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.071


def test_shares_add_up_to_the_difference_of_weighted_means() -> None:
    rng = np.random.default_rng(2)
    left, right, w, v = rng.normal(size=(4, 30))
    w, v = abs(w), abs(v)
    labels = [f"s{i % 7}" for i in range(30)]
    shares = cluster_shares(left, right, w, v, labels)
    assert shares.shape == (7,)
    assert shares.sum() == pytest.approx(np.average(right, weights=v) - np.average(left, weights=w))
    # With equal weights they are the clusters' sums of differences.
    equal = cluster_shares(left, right, w, w, labels)
    mine = [sum(w[i] * (right[i] - left[i]) for i in range(s, 30, 7)) / w.sum() for s in range(7)]
    assert equal == pytest.approx(mine)


def test_holm_by_hand_and_against_scipy() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError):
        holm([1.2])


def test_means_under_shared_draws_equal_the_paired_interval() -> None:
    rng = np.random.default_rng(4)
    n = 80
    a, b, w = rng.normal(size=n), rng.normal(size=n), rng.uniform(1, 2, n)
    labels = [f"s{i % 11}" for i in range(n)]
    first, second = resampled_means([[(1.0, a, w), (-1.0, b, w)], [(1.0, a, w)]], labels, 500, seed=3)
    slow = paired_interval(
        [(1.0, lambda c: (c @ (w * a)) / (c @ w)), (-1.0, lambda c: (c @ (w * b)) / (c @ w))], labels, resamples=500, seed=3
    )
    fast = first.interval()
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))
    assert second.value == pytest.approx(np.average(a, weights=w))


def test_one_sided_bounds_and_levels_belong_together() -> None:
    rng = np.random.default_rng(5)
    (figure,) = resampled_means([[(1.0, rng.normal(0.3, 1, 40), ones(40))]], ids(40))
    assert figure.bound(0.025) == pytest.approx(figure.interval().low, abs=1e-9)
    assert figure.bound(0.025, upper=True) == pytest.approx(figure.interval().high, abs=1e-9)
    for below in (0.05, 0.15, 0.35, 0.65):
        threshold = figure.value - below
        level = exceeding_level(figure, threshold)
        assert LEAST_LEVEL < level < 0.5
        assert lower_bound(figure, level * 1.01) > threshold >= lower_bound(figure, level * 0.99)
        assert lower_bound(figure, level) <= figure.bound(level)
    assert exceeding_level(figure, 5.0) == 0.5
    bounds = [figure.bound(level) for level in (0.4, 0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-9)]
    assert bounds == sorted(bounds, reverse=True)


def test_far_levels_follow_student() -> None:
    found = np.random.default_rng(6).normal(size=30)
    (figure,) = resampled_means([[(1.0, found, ones(30))]], ids(30), 10_000)
    assert figure.error == pytest.approx(stats.sem(found), rel=0.03)
    assert exceeding_level(figure, found.mean() - 6 * stats.sem(found)) == pytest.approx(stats.t.sf(6, 29), rel=0.5)


def test_jackknife_error_is_that_of_the_mean() -> None:
    values = np.random.default_rng(12).normal(size=30)
    (plain,) = resampled_means([[(1.0, values, ones(30))]], ids(30), 10)
    assert plain.jackknife == pytest.approx(stats.sem(values)) and plain.effective == 30
    (uneven,) = resampled_means([[(1.0, values, ones(30))]], ["a"] * 20 + ids(10), 10)
    assert uneven.effective == pytest.approx(900 / 410)


def test_one_sided_level_with_speakers_of_unequal_size() -> None:
    rng, false = np.random.default_rng(13), 0
    for seed in range(600):
        sizes = rng.choice([15, 10, 6, 5, 2], 25)
        labels = np.repeat(ids(25), sizes)
        values = rng.normal(size=labels.size) + np.repeat(rng.normal(0, 0.5, 25), sizes)
        (figure,) = resampled_means([[(1.0, values, ones(labels.size))]], labels.tolist(), 400, seed=seed)
        false += lower_bound(figure, 0.05) > 0
    assert false <= stats.binom.ppf(0.999, 600, 0.05)


def test_mirrored_figure_swaps_its_bounds() -> None:
    (figure,) = resampled_means([[(1.0, np.random.default_rng(7).exponential(size=25), ones(25))]], ids(25), 2000)
    assert figure.mirrored().bound(0.05) == pytest.approx(-figure.bound(0.05, upper=True))
    assert figure.mirrored().mirrored().bound(0.01) == pytest.approx(figure.bound(0.01))


def test_one_cluster_has_no_bound() -> None:
    (figure,) = resampled_means([[(1.0, np.array([1.0, 2.0]), ones(2))]], ["s", "s"])
    assert not figure.bounded and math.isnan(exceeding_level(figure)) and math.isnan(figure.error)
    assert figure.interval().low is None
    with pytest.raises(ValueError):
        figure.bound(0.05)


def test_repeats_widen_the_bound_by_the_spread_from_run_to_run() -> None:
    (figure,) = resampled_means([[(1.0, np.full(20, 0.5), ones(20))]], ids(20), 500)
    assert lower_bound(figure, 0.05) == 0.5  # no spread over items
    assert lower_bound(figure, 0.05, spread=0.1, repeats=3) == pytest.approx(0.5 - stats.t.ppf(0.95, 2) * 0.1 * math.sqrt(4 / 3))
    with pytest.raises(ValueError):
        lower_bound(figure, 0.05, spread=0.1, repeats=1)


def test_run_to_run_noise_keeps_the_level() -> None:
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(400):
        # All items of a run are off by the same amount, which the items cannot tell.
        runs = rng.normal(0, 0.1, 4)
        base = runs[:3]
        (figure,) = resampled_means([[(1.0, runs[3] - base.mean() + rng.normal(0, 0.01, 30), ones(30))]], ids(30), 200)
        false += exceeding_level(figure, 0.0, float(np.std(base, ddof=1)), 3) <= 0.05
    assert false <= stats.binom.ppf(0.999, 400, 0.05)


def test_coverage_of_the_paired_interval_with_25_speakers_of_unequal_size() -> None:
    rng = np.random.default_rng(9)
    sizes = rng.integers(2, 12, 25)
    labels = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    n, inside = len(labels), 0
    for trial in range(500):
        # Skewed from speaker to speaker, noisy from item to item; the true difference is 1.
        difference = np.repeat(rng.gamma(4, 0.25, 25), sizes) + rng.normal(0, 0.5, n)
        left = rng.normal(3, 1, n)
        (figure,) = resampled_means([[(1.0, left + difference, ones(n)), (-1.0, left, ones(n))]], labels, 500, seed=trial)
        found = figure.interval()
        assert found.low is not None and found.high is not None
        inside += found.low <= 1.0 <= found.high
    assert 0.92 <= inside / 500 <= 0.98


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
    difference = rng.normal(0.0, 0.5, 60)
    (figure,) = resampled_means([[(1.0, difference, ones(60))]], ids(60), 4000)
    found = advice(figure, effect=0.1)
    assert found is not None and found.items is not None and found.items == found.clusters
    assert found.items == pytest.approx((2.8 * difference.std(ddof=1) / 0.1) ** 2, rel=0.1)
    seen = [stats.ttest_1samp(rng.normal(0.1, difference.std(ddof=1), found.items), 0).pvalue <= 0.05 for _ in range(1000)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.05)


def test_advice_counts_speakers_where_items_hang_together() -> None:
    rng = np.random.default_rng(11)
    labels = [f"s{i // 5}" for i in range(100)]
    (figure,) = resampled_means([[(1.0, np.repeat(rng.normal(size=20), 5), ones(100))]], labels, 4000)
    found = advice(figure, effect=0.5)
    assert found is not None and found.clusters is not None and found.items == 5 * found.clusters
    assert advice(Resampled(0.0, np.zeros(10), 10, 10, 10), 0.1) is None  # nothing varies


def test_refused_input() -> None:
    for shares in ([], [math.nan]):
        with pytest.raises(ValueError):
            sign_flip(shares)
    for terms in ([], [[(1.0, ones(3), np.zeros(3))]], [[(1.0, ones(2), ones(2))]]):
        if terms:
            with pytest.raises(ValueError):
                resampled_means(terms, ids(3))
    assert resampled_means([], ids(3), 10) == []
