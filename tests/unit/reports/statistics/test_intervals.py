"""Intervals against closed forms, scipy and slow reference implementations; their coverage is in test_statistics_coverage."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from reports.statistics.intervals import Array, Range
from reports.statistics.jackknife import NO_SPREAD, RARE_METHOD, SHARE_METHOD, WeightedMean, estimate, interval, resample_chunks
from reports.statistics.records import unit_names, unit_words

SHARE = Range((0.0, 1.0), 0.0, counted=True)


def ones(n: int) -> Array:
    return np.ones(n)


def ids(n: int) -> list[str]:
    return [f"i{i:03d}" for i in range(n)]


def without_each(figure: Callable[[list[int]], float], labels: Sequence[str]) -> Array:
    """The figure without each label's items, by a loop."""
    return np.array([figure([i for i, other in enumerate(labels) if other != one]) for one in sorted(set(labels))])


def test_equal_clusters_without_skew_give_students_interval() -> None:
    values = np.array([-3.0, -1.0, 1.0, 3.0, 0.0])
    found = interval(values, ones(5), ids(5))
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    # Ten items of each that all say the same are no more than one.
    tenfold = interval(np.repeat(values, 10), ones(50), np.repeat(ids(5), 10).tolist())
    assert (tenfold.low, tenfold.high, tenfold.n, tenfold.clusters) == (pytest.approx(low), pytest.approx(high), 50, 5)


def test_two_clusters_are_read_at_one_degree_of_freedom() -> None:
    found = interval([1.0, 2.0], [1.0, 1.0], ["a", "b"])
    assert found.high is not None and found.high - 1.5 == pytest.approx(stats.t.ppf(0.975, 1) * 0.5)


def test_the_error_is_the_jackknifes_and_the_skew_its_third_moment() -> None:
    rng = np.random.default_rng(5)
    values, weights = rng.gamma(2.0, 1.0, 40), rng.uniform(0.5, 3.0, 40)
    labels = [f"s{i % 7}" for i in range(40)]
    found = estimate([(1.0, WeightedMean(values, weights))], labels)
    left_out = without_each(lambda kept: float(np.average(values[kept], weights=weights[kept])), labels)
    moved = found.value - left_out
    assert found.value == pytest.approx(np.average(values, weights=weights))
    assert found.error == pytest.approx(math.sqrt(6 / 7 * (moved**2).sum()))
    parts = np.array([weights[[i for i in range(40) if labels[i] == s]].sum() for s in sorted(set(labels))]) / weights.sum()
    equal = 1 / (parts**2).sum()
    assert 6.5 < equal < 7
    assert found.skew == pytest.approx((moved**3).sum() / (moved**2).sum() ** 1.5 * math.sqrt(equal * (equal - 1)) / (equal - 2))


def test_degrees_of_freedom_by_a_slow_quadratic_form() -> None:
    sizes = [1, 2, 4, 8, 8]
    labels = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    found = estimate([(1.0, WeightedMean(np.arange(23.0), ones(23)))], labels)
    h = np.array(sizes) / 23
    spread = np.diag((h / (1 - h)) ** 2)
    centred = np.eye(5) - np.outer(ones(5), h)
    form = centred.T @ spread @ centred  # the jackknife's variance of cluster means u is u' form u, but for a factor
    products = [form @ np.diag(v) for v in (ones(5), 1 / h)]
    freedom = [np.trace(p) ** 2 / np.trace(p @ p) for p in products]
    assert found.freedom == pytest.approx(min(freedom)) and 1 < found.freedom < 3
    equal = estimate([(1.0, WeightedMean(np.arange(20.0), ones(20)))], [f"s{i % 5}" for i in range(20)])
    assert equal.freedom == 4


def test_the_long_side_reaches_further() -> None:
    values = np.random.default_rng(1).exponential(size=30)
    found = interval(values, ones(30), ids(30))
    assert found.low is not None and found.high is not None
    low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert found.low == pytest.approx(low) and found.high > high + 0.02
    mirrored = interval(-values, ones(30), ids(30))
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_one_cluster_has_no_interval() -> None:
    for clusters in (["a"], ["a", "a", "a"]):
        found = interval([2.0] * len(clusters), [1.0] * len(clusters), clusters)
        assert (found.value, found.low, found.high, found.clusters) == (2.0, None, None, 1)
        assert found.method.startswith("no interval: fewer than 2")
    weightless = interval([1.0, 2.0], [1.0, 0.0], ["a", "b"])
    assert weightless.low is None and "all the weight lies in one cluster" in weightless.method


def test_order_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=101), rng.uniform(1, 2, 101)
    labels = np.array([f"s{i % 17}" for i in range(101)])
    order = rng.permutation(101)
    assert interval(values[order], weights[order], labels[order].tolist()) == interval(values, weights, labels.tolist())


@pytest.mark.cases("B1", before="five files labelled with 2 speakers instead of 5 have an interval a tenth as wide", after="wider by far")
def test_fewer_speakers_never_look_surer() -> None:
    ratios = []
    for seed in range(50):
        values = np.random.default_rng(seed).normal(3.0, 0.1, 5)
        five = interval(values, ones(5), list("abcde"))
        two = interval(values, ones(5), list("aabba"))
        assert two.high is not None and two.low is not None and five.high is not None and five.low is not None
        assert two.high - two.low >= five.high - five.low - 1e-12  # the same sums in another order
        ratios.append((two.high - two.low) / (five.high - five.low))
    assert np.median(ratios) > 2


# ---- shares and what does not vary -------------------------------------------------------------------------------------------


@pytest.mark.cases("B4", before="21 of 21 gives [1, 1]", after="[.84, 1], the exact binomial's")
def test_all_of_a_few_is_not_certainty() -> None:
    found = interval(ones(21), ones(21), ids(21), within=SHARE)
    assert (found.low, found.high, found.method) == (pytest.approx(stats.binomtest(21, 21).proportion_ci().low), 1.0, RARE_METHOD)
    none = interval(np.zeros(21), ones(21), ids(21), within=SHARE)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - found.low))
    # The same of three speakers, who may each be of one kind.
    speakers = interval(ones(21), ones(21), [f"s{i % 3}" for i in range(21)], within=SHARE)
    assert speakers.low is not None and found.low is not None and speakers.low < found.low - 0.2


def test_a_share_of_independent_items_is_near_the_exact_binomial() -> None:
    values = np.array([1.0] * 45 + [0.0] * 15)
    found = interval(values, ones(60), ids(60), within=SHARE)
    exact = stats.binomtest(45, 60).proportion_ci()
    assert found.method == SHARE_METHOD and found.low is not None and found.high is not None
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.02)
    alike = interval(np.tile([1.0, 1.0, 0.0], 4), ones(12), np.repeat(list("abcd"), 3).tolist(), within=SHARE)
    twelve = stats.binomtest(8, 12).proportion_ci()  # speakers that are all alike say no more than their items
    assert alike.low is not None and alike.high is not None and alike.low <= twelve.low + 1e-9 and alike.high >= twelve.high - 1e-9
    percent = interval(100 * values, ones(60), ids(60), within=Range((0.0, 100.0), 0.0, counted=True))
    assert (percent.low, percent.high) == pytest.approx((100 * found.low, 100 * found.high))


def test_what_is_computed_and_equal_is_certain_and_what_is_counted_is_not() -> None:
    ceiling = interval(ones(30), ones(30), ids(30), within=Range((-1.0, 1.0), 0.0))
    assert (ceiling.low, ceiling.high, ceiling.method) == (1.0, 1.0, NO_SPREAD)
    words = Range((0.0, math.inf), 1.0, counted=True)
    spotless = interval(np.zeros(60), ones(60), ids(60), within=words)
    assert spotless.low == 0.0 and spotless.high == pytest.approx(1 - 0.025 ** (1 / 60)) and spotless.method == RARE_METHOD
    zero = WeightedMean(np.zeros(60), ones(60))
    apart = estimate([(1.0, zero), (-1.0, zero)], ids(60), within=words).interval()
    assert (apart.low, apart.high) == pytest.approx((-spotless.high, spotless.high))


def test_bounds_of_the_metric_are_kept() -> None:
    found = interval([0.1, 0.9], [1.0, 1.0], ["a", "b"], within=Range((0.0, 1.0)))
    assert (found.low, found.high) == (0.0, 1.0)


# ---- differences and pooled figures ------------------------------------------------------------------------------------------


def test_a_paired_difference_is_the_interval_of_the_items_differences() -> None:
    rng = np.random.default_rng(4)
    left, right, weights = rng.normal(3, 1, 30), rng.normal(2, 1, 30), rng.uniform(1, 3, 30)
    labels = [f"s{i % 8}" for i in range(30)]
    found = estimate([(1.0, WeightedMean(left, weights)), (-1.0, WeightedMean(right, weights))], labels).interval()
    plain = interval(left - right, weights, labels)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_a_pooled_mean_has_the_means_error() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=60), rng.uniform(1, 2, 60)
    labels = [f"s{i % 13}" for i in range(60)]
    mean = WeightedMean(values, weights)
    plain = estimate([(1.0, mean)], labels)
    pooled = estimate([(1.0, lambda counts: mean(counts))], labels)
    assert (pooled.value, pooled.error) == pytest.approx((plain.value, plain.error), rel=0.02)
    with pytest.raises(ValueError):
        estimate([], labels)
    with pytest.raises(ValueError):
        estimate([(1.0, lambda counts: counts[:, 0] * math.nan)], labels)


def test_pooled_interval_holds_a_figure_that_every_resample_lowers() -> None:
    rng = np.random.default_rng(2)
    seen = (rng.uniform(size=(40, 200)) < 0.02).astype(float)  # 40 items, which of 200 entries each uses

    def use(counts: Array) -> Array:
        return np.asarray(((counts @ seen) > 0).mean(axis=1))

    plain = np.quantile(use(np.concatenate(list(resample_chunks(ids(40), 500, 0)))), [0.025, 0.975])
    found = estimate([(1.0, use)], ids(40), 500, within=Range((0.0, 1.0))).interval()
    assert plain[1] < found.value  # what the moving is for
    assert found.low is not None and found.high is not None and found.low < found.value < found.high <= 1
    assert found.high - found.low >= 0.9 * (plain[1] - plain[0])


def test_a_quantile_of_many_clusters_is_resampled() -> None:
    # Left out one after the other, most items do not move a median at all: the jackknife alone is no guide.
    values = np.sort(np.random.default_rng(3).normal(size=61))
    found = estimate(
        [(1.0, lambda counts: np.array([np.median(np.repeat(values, c.astype(int))) for c in counts]))], ids(61), 400
    ).interval()
    assert found.low is not None and found.high is not None
    assert found.high - found.low > 2 * 1.96 * 1.2 / math.sqrt(61) * 0.7  # the median's own error is 1.25 / sqrt(n)


def test_clusters_that_each_add_the_same_are_not_called_equal() -> None:
    found = estimate([(1.0, lambda counts: (counts > 0).sum(axis=1).astype(float))], ids(4)).interval()
    assert found.value == 4.0 and found.low is not None and found.low < 4.0


def test_resamples_without_a_figure_are_counted() -> None:
    values = np.arange(24.0)

    def pool(counts: Array) -> Array:
        figures = counts @ values / 24
        figures[50:] = np.nan  # a costly metric that stops early
        return figures

    found = estimate([(1.0, pool)], ids(24), 200).interval()
    assert found.low is not None and found.method.endswith("the wider, 50 of 200 resamples")
    assert estimate([(1.0, lambda counts: counts @ values / 24)], ids(24), 200).method.endswith("the wider")
    few = estimate([(1.0, lambda counts: np.where(counts[:, 0] > 0, counts @ values, np.nan))], ids(24)[:6] * 4).interval()
    assert "5 of 6 with a figure" in few.method


def test_counts_hold_speakers_together() -> None:
    labels = [f"s{i % 13}" for i in range(60)]
    counts = np.concatenate(list(resample_chunks(labels, 500, seed=9)))
    assert counts.shape == (500, 60)
    by_speaker = {label: [i for i in range(60) if labels[i] == label] for label in set(labels)}
    for members in by_speaker.values():
        assert (counts[:, members] == counts[:, members[:1]]).all()
    assert (sum(counts[:, members[0]] for members in by_speaker.values()) == 13).all()


def test_memory_is_bounded() -> None:
    n = 100_000
    labels = np.char.add("i", np.arange(n).astype(str)).tolist()
    values = np.random.default_rng(0).normal(size=n)
    tracemalloc.start()
    found = interval(values, ones(n), labels)
    rows = sum(len(part) for part in resample_chunks(labels, 50, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6 and rows == 50
    assert found.low is not None and found.high is not None and found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(n), rel=0.05)


@pytest.mark.parametrize(
    ("values", "weights", "clusters"),
    [([], [], []), ([1.0], [0.0], ["a"]), ([np.nan], [1.0], ["a"]), ([1.0], [-1.0], ["a"]), ([1.0, 2.0], [1.0], ["a", "b"])],
)
def test_bad_input_is_refused(values: list[float], weights: list[float], clusters: list[str]) -> None:
    with pytest.raises(ValueError):
        interval(values, weights, clusters)


# ---- what the units are ------------------------------------------------------------------------------------------------------


@pytest.mark.cases("B7", before='2 speakers and 2 items without a speaker are "over 4 speakers"', after="told apart; the two are one unit")
def test_items_without_a_speaker_are_no_speakers() -> None:
    units = unit_names({"i1": "ann", "i2": "bob", "i3": "", "i4": ""})
    assert unit_words(units) == "2 speakers and 2 items without a speaker (together as one more)" and len(set(units.values())) == 3
    assert unit_words(unit_names({"i1": "ann", "i2": "bob"})) == "2 speakers"
    assert unit_words(unit_names({"i1": "ann", "i2": ""})) == "2 items"
    assert unit_words(unit_names({"i1": ""})) == "1 item"
