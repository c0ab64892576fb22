"""Estimates of weighted means and pooled values with their standard error, from the speakers (clusters) that the items come from.

Everything rests on one quantity: by how much the value moves when a cluster is left out. For a weighted mean (a corpus word error
rate, a ratio of sums) that is a closed form; a pooled value is formed once more without each cluster.

* Standard error: the jackknife over clusters, which is the cluster-robust CR3 (Bell and McCaffrey 2002; MacKinnon, Nielsen and Webb 2023).
* Satterthwaite's degrees of freedom (Bell and McCaffrey 2002; Cameron and Miller 2015, section VI): ``clusters - 1`` where all are
  equally large, fewer where some are larger, the smaller of what a model of independent items and one of speakers gives.
* Where nothing varies among what is counted, half of the variance is taken to lie between the clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reports.statistics.intervals import ANY, Array, Estimate, Interval, Range

METHOD = "Student's t over clusters (jackknife, corrected for skew)"
POOLED_METHOD = "Student's t over clusters left out in turn"
BOOTSTRAPPED = " and percentile bootstrap, the wider"
SHARE_METHOD = "exact binomial of the effective number of items"
NO_SPREAD = "no spread: all values are equal"
RARE_METHOD = "no spread: all values are equal; what was never seen is bounded by the binomial"
NONE = "no interval: fewer than 2 clusters"
RESAMPLED_FROM = 20
"""Clusters from which a pooled value is resampled as well; a bootstrap of fewer is too narrow by itself."""
LEFT_OUT = 200
"""Groups that are left out in turn where there are more clusters (the delete-a-group jackknife, Kott 2001)."""
BETWEEN = 0.5
"""Share of the variance that is taken to lie between the clusters where none is seen at all."""
ROUNDING = 1e-12
"""Relative size below which a spread is what rounding makes of equal values."""
COUNTED_AT_ONCE = 1 << 14
DRAWS_AT_ONCE = 1 << 21
"""Cluster draws held in memory at a time (16 MB of indices), whatever the number of items and resamples."""


@dataclass(frozen=True, eq=False)
class WeightedMean:
    """``sum(w v) / sum(w)`` as a function of how often each item counts; what `estimate` has a closed form for.

    Args:
        values: ``[n]``.
        weights: ``[n]``, >= 0, not all zero.
    """

    values: Array
    weights: Array

    @property
    def mean(self) -> float:
        """Of all items once; the same to the last bit in whatever order they come."""
        return math.fsum((self.weights * self.values).tolist()) / math.fsum(self.weights.tolist())

    def __call__(self, counts: Array) -> Array:
        """``[R, n] -> [R]``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((counts @ (self.weights * self.values)) / (counts @ self.weights), dtype=np.float64)


Statistic = Callable[[Array], Array]
"""``[R, n] -> [R]``: the value of n items when item i counts ``[r, i]`` times; a `WeightedMean`, or what a metric pools by itself."""
Term = tuple[float, Statistic]
"""A statistic and its coefficient in a sum of such."""


def interval(
    values: npt.ArrayLike,
    weights: npt.ArrayLike,
    clusters: Sequence[str],
    confidence: float = 0.95,
    within: Range = ANY,
) -> Interval:
    """Interval of ``sum(w v) / sum(w)``; the same to the last bit in whatever order the items come.

    Args:
        values: ``[n]``, finite.
        weights: ``[n]``, finite, >= 0, not all zero.
        clusters: ``[n]`` labels; items of one label are not independent of each other.

    Raises:
        ValueError: empty, lengths differ, or values and weights are not as above.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if v.ndim != 1 or v.shape != w.shape or v.shape != (len(clusters),) or not v.size:
        raise ValueError(f"interval wants [n] values, weights and clusters with n >= 1, got {v.shape}, {w.shape}, ({len(clusters)},)")
    if not (np.isfinite(v).all() and np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError("interval wants finite values and finite weights >= 0 that are not all zero")
    return _mean_estimate([(1.0, WeightedMean(v, w))], clusters, within).interval(confidence)


def estimate(terms: Sequence[Term], clusters: Sequence[str], resamples: int = 2000, seed: int = 0, within: Range = ANY) -> Estimate:
    """``sum(c * statistic)`` over statistics of the same items: one of them, or with the coefficients 1 and -1 a paired difference.

    In a paired difference what makes an item hard for both systems cancels; that of two plain means is the mean of the items' differences.
    A statistic that is no `WeightedMean` is formed anew without each cluster, and from `RESAMPLED_FROM` clusters on under resamples too.
    A resample holds some items twice and others not at all, so values that grow with variety (share of a codebook used, entropy) come
    out lower in every resample than in the sample; the resamples are therefore moved until their median is the value.

    Args:
        terms: coefficients and statistics of the same n items in the same order.
        clusters: ``[n]`` labels.

    Raises:
        ValueError: no items, no terms, means of another number of items or without weight, or a value of the whole sample that is not finite.
    """
    means = [(c, f) for c, f in terms if isinstance(f, WeightedMean)]
    if terms and len(means) == len(terms):
        return _mean_estimate(means, clusters, within)
    n = len(clusters)
    if not n or not terms:
        raise ValueError(f"an estimate wants at least one item and one term, got {n} and {len(terms)}")

    def combined(counts: Array) -> Array:
        total: Array = np.sum([coefficient * statistic(counts) for coefficient, statistic in terms], axis=0)
        return total

    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count = labels.size
    groups = min(count, LEFT_OUT)
    group = member % groups
    # Row 0 is the whole sample, each other row the sample without one group.
    kept = np.ones((groups + 1, n))
    kept[1:][group, np.arange(n)] = 0.0
    found = combined(kept if count > 1 else kept[:1])
    value = float(found[0])
    if not math.isfinite(value):
        raise ValueError(f"the figure of {n} items is {value}")
    blank = Estimate(value, n, count, NONE, bounds=_span(terms, within.bounds))
    if count < 2:
        return blank
    without = found[1:][np.isfinite(found[1:])]
    if without.size < 2:
        return replace(blank, method="no interval: there is no figure without one of the clusters")
    method = POOLED_METHOD if without.size == groups else f"{POOLED_METHOD}, {without.size} of {groups} with a figure"
    parts = np.bincount(group, minlength=groups)[np.isfinite(found[1:])]
    # About their mean: that a value grows with variety is no uncertainty. Where each cluster adds as much as any other there is no
    # spread about the mean, and yet every one of them matters.
    centre = float(without.mean()) if np.ptp(without) > ROUNDING * abs(value) else value
    known = _spread(replace(blank, method=method), centre - without, parts / parts.sum())
    if count < RESAMPLED_FROM or not known.error:
        return known if known.error else replace(known, method=NO_SPREAD)
    values = np.concatenate([combined(counts) for counts in resample_chunks(clusters, resamples, seed)])
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return known
    told = BOOTSTRAPPED if finite.size == values.size else f"{BOOTSTRAPPED}, {finite.size} of {values.size} resamples"
    return replace(known, method=method + told, resampled=np.sort(finite + (value - np.median(finite))))


def _mean_estimate(terms: Sequence[tuple[float, WeightedMean]], clusters: Sequence[str], within: Range = ANY) -> Estimate:
    """`estimate` of weighted means, in closed form."""
    n = len(clusters)
    if not n or not terms or any(m.values.shape != (n,) or m.weights.shape != (n,) or not m.weights.any() for _, m in terms):
        raise ValueError(f"an estimate wants terms of [{n}] values and weights that are not all zero, for {n} >= 1 items")
    labels = np.asarray(clusters, dtype=str)
    # Sums in another order differ in the last bits; sorted, the items come in one order always.
    order = np.lexsort((*(a for _, m in terms for a in (m.weights, m.values)), labels))
    _, member = np.unique(labels[order], return_inverse=True)
    count = int(member[-1]) + 1
    value = sum(c * m.mean for c, m in terms)
    blank = Estimate(value, n, count, NONE, bounds=_span(terms, within.bounds))
    if count < 2:
        return blank
    ordered = [(c, WeightedMean(m.values[order], m.weights[order])) for c, m in terms]
    moved, shares, parts = _gathered(ordered, member, count)
    if not np.isfinite(moved).all():
        return replace(blank, method="no interval: all the weight lies in one cluster")
    known = replace(blank, method=METHOD, shares=(shares, parts))
    if _equal(ordered, moved):
        return _without_spread(known, ordered, parts, within)
    known = _spread(known, moved, parts)
    if count < n:
        single, _, weights = _gathered(ordered, np.arange(n), n)
        known = replace(known, single=_spread(replace(blank, clusters=n), single, weights))
    if _is_share(ordered, within):
        return replace(known, share=(_independent(ordered[0][1].weights), *within.bounds), method=SHARE_METHOD)
    return _as_rate(known, ordered, within)


def _as_rate(known: Estimate, terms: Sequence[tuple[float, WeightedMean]], within: Range) -> Estimate:
    """One mean of rates, such as word error rates, bounded as a share is: what lies between two values varies no more than what is one of them.

    Student's t alone is too narrow where a few clusters happen to lie close to the lower end, as speakers without an error do. From
    `RESAMPLED_FROM` clusters on it is not, and items that vary far less than shares would be bounded too widely.
    """
    low, worst = within.bounds[0], within.worst
    if known.clusters >= RESAMPLED_FROM or not within.counted or worst is None or len(terms) > 1 or terms[0][0] != 1.0:
        return known
    mean = terms[0][1]
    high = max(worst, float(mean.values.max()))
    if not (math.isfinite(low) and low < known.value < high):
        return known
    return replace(known, share=(_independent(mean.weights), low, high), method=f"{METHOD}, or {SHARE_METHOD}, the wider")


def _gathered(terms: Sequence[tuple[float, WeightedMean]], member: npt.NDArray[np.int64], count: int) -> tuple[Array, Array, Array]:
    """Of each cluster ``[clusters]``: by how much the value falls without it, what it contributes, and its share of the weight."""
    moved, shares, parts = np.zeros((3, count))
    size = sum(abs(c) for c, _ in terms)
    for c, m in terms:
        whole, mean = math.fsum(m.weights.tolist()), m.mean
        part = np.bincount(member, m.weights, count) / whole
        parts += abs(c) / size * part
        shares += c * np.bincount(member, m.weights * m.values, count) / whole
        # mean - mean without g = sum_g w (v - mean) / (W - W_g); infinite or NaN where a cluster holds all the weight W.
        with np.errstate(invalid="ignore", divide="ignore"):
            moved += c * np.bincount(member, m.weights * (m.values - mean), count) / whole / (1 - part)
    return moved, shares, parts


def _equal(terms: Sequence[tuple[float, WeightedMean]], moved: Array) -> bool:
    """Whether nothing varies beyond what rounding makes of values of this size."""
    largest = max(float(np.abs(m.values).max()) for _, m in terms)
    if len(terms) > 1:
        return float(np.abs(moved).max()) <= ROUNDING * largest
    return float(np.ptp(terms[0][1].values)) <= ROUNDING * largest


def _span(terms: Sequence[Term], bounds: tuple[float, float]) -> tuple[float, float]:
    """What a sum of values within ``bounds`` can be."""
    ends = [sorted((c * bounds[0], c * bounds[1])) for c, _ in terms]
    return sum(e[0] for e in ends), sum(e[1] for e in ends)


def _spread(blank: Estimate, moved: Array, parts: Array) -> Estimate:
    """An estimate with its standard error, degrees of freedom and skew.

    Args:
        moved: ``[clusters]``, by how much each cluster moves the value: the value minus that without the cluster.
        parts: ``[clusters]``, their shares of the weight, which sum to 1.
    """
    count = moved.size
    squares = float((moved * moved).sum())
    error = math.sqrt((count - 1) / count * squares)
    skew = 0.0
    if count > 2 and squares > 0:
        # The usual small-sample factor of a sample's skewness, of as many equal clusters as say as much as these (Carter, Schnepel and
        # Steigerwald 2017); the sum is that of the value, so it shrinks with the clusters.
        equal = min(count, max(4.0, 1 / float(parts @ parts)))
        skew = float((moved**3).sum()) / squares**1.5 * math.sqrt(equal * (equal - 1)) / (equal - 2)
    return replace(blank, error=error, freedom=_freedom(parts), skew=skew)


def _freedom(parts: Array) -> float:
    """Satterthwaite's degrees of freedom of the jackknife's variance, for clusters of these shares of the weight.

    The variance is a quadratic form ``sum(b (u - mean)^2)`` of the clusters' means u, whose own variances are equal where speakers
    differ, and inverse to their sizes where items do; the smaller result stands. It is the number of clusters less one for equal ones.
    """
    count = parts.size
    if float(np.ptp(parts)) <= ROUNDING:
        return count - 1.0
    held = parts[parts > 0]
    if held.size < 2:
        return 1.0
    # A cluster left out moves the mean by p / (1 - p) times its distance from it: that squared is its place in the quadratic form.
    b = (held / (1 - held)) ** 2
    found = []
    for variance in (np.ones_like(held), 1 / held):
        # The covariance of u_g - mean and u_h - mean is (g = h) variance_g - a_g - a_h + both, with a = p variance and both = p' a.
        a = held * variance
        both = float((held * a).sum())
        diagonal = variance - 2 * a + both
        # (sum b_g C_gg)^2 / sum b_g b_h C_gh^2 is (trace BC)^2 / trace (BC)^2: twice the squared mean of the form over its variance.
        total, first, second = float(b.sum()), float(b @ a), float(b @ (a * a))
        squared = both**2 * total**2 + 2 * total * second + 2 * first**2 - 4 * both * total * first
        squared += float((b * b) @ (diagonal**2 - (both - 2 * a) ** 2))
        found.append(float(b @ diagonal) ** 2 / squared)
    return min(max(1.0, min(found)), count - 1.0)


def _is_share(terms: Sequence[tuple[float, WeightedMean]], within: Range) -> bool:
    """One mean of values that are all one of the two bounds."""
    low, high = within.bounds
    if len(terms) > 1 or terms[0][0] != 1.0 or not (math.isfinite(low) and math.isfinite(high)):
        return False
    values = terms[0][1].values
    return bool(((values == low) | (values == high)).all())


def _independent(weights: Array) -> float:
    """Number of equally weighted items that say as much as these (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _without_spread(known: Estimate, terms: Sequence[tuple[float, WeightedMean]], parts: Array, within: Range) -> Estimate:
    """Where all values are equal: certain of what is computed, bounded by what may not have been seen of what is counted."""
    plain = replace(known, error=0.0, freedom=known.clusters - 1.0, method=NO_SPREAD)
    if not within.counted:
        return plain
    low, high = within.bounds
    worst = within.worst if within.worst is not None else high
    ends = [e if math.isfinite(e) else worst for e in (low, high)]
    if not all(map(math.isfinite, ends)):
        return plain
    items = _independent(np.sum([m.weights for _, m in terms], axis=0))
    # Half of the variance between clusters: they count as fewer items.
    items = items / (1 + (max(1.0, items * float((parts * parts).sum())) - 1) * BETWEEN)
    reach = (abs(ends[1] - ends[0]),) * 2 if len(terms) > 1 else (max(0.0, known.value - ends[0]), max(0.0, ends[1] - known.value))
    return replace(plain, rare=items, reach=reach, method=RARE_METHOD)


def resample_chunks(clusters: Sequence[str], resamples: int, seed: int) -> Iterator[Array]:
    """How often each item counts in each resample, ``[r, n]`` at a time, ``resamples`` rows in all; memory is bounded."""
    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if resamples < 1 or not labels.size:
        raise ValueError(f"resampling wants at least one cluster and one resample, got {labels.size} and {resamples}")
    generator = np.random.default_rng(seed)
    drawn, given = (max(1, DRAWS_AT_ONCE // size) for size in (labels.size, member.size))
    # Counted a few rows at a time: a block that stays in the processor's cache is counted ten times as fast as the whole.
    counted = max(1, COUNTED_AT_ONCE // labels.size)
    for start in range(0, resamples, drawn):
        draws = generator.integers(0, labels.size, size=(min(drawn, resamples - start), labels.size))
        counts = np.empty(draws.shape)
        for first in range(0, len(draws), counted):
            part = draws[first : first + counted]
            flat = part + np.arange(len(part))[:, None] * labels.size
            counts[first : first + counted] = np.bincount(flat.ravel(), minlength=part.size).reshape(part.shape)
        for first in range(0, len(counts), given):
            yield counts[first : first + given][:, member]
