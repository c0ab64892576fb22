"""The bootstrap against simulation, against scipy and against its own counts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from reports.intervals import Array, interval, percentile_levels, pooled_interval, resample_chunks, resample_counts


def test_coverage_of_the_95_percent_interval_with_40_speakers() -> None:
    rng = np.random.default_rng(11)
    trials, speakers, each = 400, 40, 5
    labels = np.repeat([f"s{i}" for i in range(speakers)], each)
    inside = 0
    for trial in range(trials):
        # Skewed, and alike within a speaker: treating items as independent would cover about 60 %.
        values = np.repeat(rng.exponential(1.0, speakers), each) + rng.normal(0, 0.2, speakers * each)
        found = interval(values, np.ones(values.size), labels, resamples=400, seed=trial)
        assert found.low is not None and found.high is not None
        inside += found.low <= 1.0 <= found.high
    # Binomial noise of 400 trials is 1.1 %; the exponential's skew costs a per cent or two.
    assert 0.905 <= inside / trials <= 0.985


def test_bounds_agree_with_scipy() -> None:
    rng = np.random.default_rng(5)
    values, weights = rng.gamma(2.0, 1.0, 30), rng.uniform(0.5, 3.0, 30)
    found = interval(values, weights, [f"i{i}" for i in range(30)], resamples=20000, seed=1)
    low, _ = percentile_levels(30)

    def ratio(v: Array, w: Array, axis: int = -1) -> Array:
        return (v * w).sum(axis=axis) / w.sum(axis=axis)

    theirs = stats.bootstrap(
        (values, weights), ratio, paired=True, vectorized=True, method="percentile", n_resamples=20000, confidence_level=1 - 2 * low, rng=2
    ).confidence_interval
    assert found.value == pytest.approx(np.average(values, weights=weights))
    assert (found.low, found.high) == (pytest.approx(theirs.low, abs=0.02), pytest.approx(theirs.high, abs=0.02))


def test_expanded_levels_reproduce_the_t_interval() -> None:
    # Of normal data the bootstrap distribution is normal with s * sqrt((n - 1) / n) / sqrt(n): read at the levels it is Student's interval.
    n, s = 8, 1.7
    z = stats.norm.ppf(percentile_levels(n)[1])
    assert z * s * np.sqrt((n - 1) / n) / np.sqrt(n) == pytest.approx(stats.t.ppf(0.975, n - 1) * s / np.sqrt(n))
    assert percentile_levels(10**6)[0] == pytest.approx(0.025, rel=1e-4)


def test_one_cluster_has_no_interval() -> None:
    for clusters in (["a"], ["a", "a", "a"]):
        found = interval([2.0] * len(clusters), [1.0] * len(clusters), clusters)
        assert (found.value, found.low, found.high, found.clusters) == (2.0, None, None, 1)
        assert found.method.startswith("no interval")


def test_order_changes_no_bit_and_seed_changes_the_draws() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=101), rng.uniform(1, 2, 101)
    labels = np.array([f"s{i % 17}" for i in range(101)])
    order = rng.permutation(101)
    first = interval(values, weights, labels, seed=4)
    assert interval(values[order], weights[order], labels[order], seed=4) == first
    assert interval(values, weights, labels, seed=5).low != first.low


def test_counts_are_the_same_resamples_as_the_interval() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=60), rng.uniform(1, 2, 60)
    labels = [f"s{i % 13}" for i in range(60)]
    counts = resample_counts(labels, 500, seed=9)
    assert counts.shape == (500, 60)
    by_speaker = {label: [i for i in range(60) if labels[i] == label] for label in set(labels)}
    for members in by_speaker.values():
        assert (counts[:, members] == counts[:, members[:1]]).all()
    assert (sum(counts[:, members[0]] for members in by_speaker.values()) == 13).all()
    plain = interval(values, weights, labels, resamples=500, seed=9)
    pooled = pooled_interval(lambda c: (c @ (values * weights)) / (c @ weights), labels, resamples=500, seed=9)
    means = (counts @ (values * weights)) / (counts @ weights)
    assert np.quantile(means, percentile_levels(13)) == pytest.approx([plain.low, plain.high])
    # The pooled interval is the same one, moved to the value.
    shift = plain.value - np.median(means)
    assert plain.low is not None and plain.high is not None
    assert (pooled.value, pooled.low, pooled.high) == pytest.approx((plain.value, plain.low + shift, plain.high + shift))


def test_pooled_interval_holds_a_figure_that_every_resample_lowers() -> None:
    rng = np.random.default_rng(2)
    seen = (rng.uniform(size=(40, 200)) < 0.02).astype(float)  # 40 items, which of 200 entries each uses
    labels = [f"i{i}" for i in range(40)]

    def use(counts: Array) -> Array:
        return ((counts @ seen) > 0).mean(axis=1)

    plain = np.quantile(use(resample_counts(labels, 500, 0)), [0.025, 0.975])
    found = pooled_interval(use, labels, resamples=500, bounds=(0.0, 1.0))
    assert plain[1] < found.value  # what the moving is for
    assert found.low is not None and found.high is not None and found.low < found.value < found.high <= 1
    assert found.high - found.low == pytest.approx(plain[1] - plain[0], rel=0.3)


def test_memory_is_bounded() -> None:
    n = 100_000
    labels = np.char.add("i", np.arange(n).astype(str))
    values = np.random.default_rng(0).normal(size=n)
    tracemalloc.start()
    found = interval(values, np.ones(n), labels, resamples=100)
    rows = sum(len(part) for part in resample_chunks(labels, 50, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All 100 resamples of 10^5 items at once would be 80 MB of indices and as much again of gathered values, twice over.
    assert peak < 120e6 and rows == 50
    assert found.low is not None and found.high is not None and found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(n), rel=0.25)


@pytest.mark.parametrize(
    ("values", "weights", "clusters"),
    [([], [], []), ([1.0], [0.0], ["a"]), ([np.nan], [1.0], ["a"]), ([1.0], [-1.0], ["a"]), ([1.0, 2.0], [1.0], ["a", "b"])],
)
def test_bad_input_is_refused(values: list[float], weights: list[float], clusters: list[str]) -> None:
    with pytest.raises(ValueError):
        interval(values, weights, clusters)


def test_resamples_without_a_figure_are_counted():
    values = np.arange(12.0)

    def pool(counts):
        figures = counts @ values / 12
        figures[50:] = np.nan  # a costly metric that stops early
        return figures

    found = pooled_interval(pool, [str(i) for i in range(12)], resamples=200)
    assert found.low is not None
    assert found.method.endswith("re-centred, 50 of 200 resamples")
    assert pooled_interval(lambda counts: counts @ values / 12, [str(i) for i in range(12)], resamples=200).method.endswith("re-centred")
