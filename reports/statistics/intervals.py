"""Intervals of weighted means, shares and pooled figures from few independent units, by the speakers (clusters) they come from.

Everything rests on one quantity: by how much the figure moves when a cluster is left out. For a weighted mean (a corpus word error
rate, a ratio of sums) that is a closed form; for a pooled figure the metric is pooled once more without each cluster.

* Standard error: the jackknife over clusters, which is the cluster-robust CR3 (Bell and McCaffrey 2002; MacKinnon, Nielsen and Webb 2023).
* Student's t with Satterthwaite's degrees of freedom (Bell and McCaffrey 2002; Cameron and Miller 2015, section VI): ``clusters - 1``
  where all are equally large, fewer where some are larger, the smaller of what a model of independent items and one of speakers gives.
* Skew: Hall's (1992) transformation of t, whose bounds lie further out on the long side. Few clusters tell little of their skew, so the
  wider of it and Student's own bound stands.
* Items: no bound lies within that of the same items taken as independent, for two speakers may agree by chance.
* Shares (each value is one of two bounds): the exact binomial interval of an effective number of items (Korn and Graubard 1998), so that 21
  of 21 is not certainty. Where nothing varies half of the variance is taken to lie between the clusters.
* Pooled figures of many clusters: the percentile bootstrap as well, the wider of the two; the jackknife alone is wrong for quantiles.

A plain cluster bootstrap, which these replace, covered .52 with 2 clusters, .75 with 3 and .86 with 4 where .95 is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
METHOD = "Student's t over clusters (jackknife, corrected for skew)"
POOLED_METHOD = "Student's t over clusters left out in turn"
BOOTSTRAPPED = " and percentile bootstrap, the wider"
SHARE_METHOD = "exact binomial of the effective number of items"
NO_SPREAD = "no spread: all values are equal"
RARE_METHOD = "no spread: all values are equal; what was never seen is bounded by the binomial"
NONE = "no interval: fewer than 2 clusters"
RESAMPLED_FROM = 20
"""Clusters from which a pooled figure is resampled as well; a bootstrap of fewer is too narrow by itself."""
LEFT_OUT = 200
"""Groups that are left out in turn where there are more clusters (the delete-a-group jackknife, Kott 2001)."""
BETWEEN = 0.5
"""Share of the variance that is taken to lie between the clusters where none is seen at all."""
ROUNDING = 1e-12
"""Relative size below which a spread is what rounding makes of equal values."""
LEAST_LEVEL = 1e-12
"""No p-value below this is told: nobody's tails are known so far out."""
LEVEL_STEPS = 40
COUNTED_AT_ONCE = 1 << 14
DRAWS_AT_ONCE = 1 << 21
"""Cluster draws held in memory at a time (16 MB of indices), whatever the number of items and resamples."""
FEW = 6
"""Clusters below which no verdict is given (`reports.statistics.significance.FEWEST`)."""
SKEW_TRUSTED = 0.95
"""How far towards its turning point Hall's transformation of t is followed with `FEW` clusters or more; at the point it says nothing."""
UNNAMED = "no speaker"
"""The unit of items without a speaker among others that have one."""
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are made: confidence, and number of resamples and seed of the draws where a pooled figure is resampled."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval.

    Args:
        value: of the whole sample.
        low, high: bounds, or None where there are fewer than two clusters: nothing is known of the spread then, which an
            interval of zero width would deny.
        n: items.
        clusters: independent units.
        method: how the bounds were made, from how many resamples where not all had a figure, or why there are none.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str


@dataclass(frozen=True)
class Range:
    """What values a metric can take.

    Args:
        bounds: closed; no interval leaves them.
        worst: what an output that is lost counts as, None where there is no such value.
        counted: each value is a ratio of counts (words wrong, outcomes), so that equal ones say little of the next; False for what is
            computed from a waveform, where equal outputs are equal for a reason.
    """

    bounds: tuple[float, float] = UNBOUNDED
    worst: float | None = None
    counted: bool = False


ANY = Range()


@dataclass(frozen=True, eq=False)
class WeightedMean:
    """``sum(w v) / sum(w)`` as a function of how often each item counts; what `paired_interval` has a closed form for.

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


Term = tuple[float, Callable[[Array], Array]]
"""Coefficient and figure, ``[R, n] -> [R]``: of n items when item i counts ``[r, i]`` times."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure with what its clusters say of its uncertainty; bounds and p-values at any level follow from it.

    Args:
        value: of the whole sample.
        n: items.
        clusters: independent units.
        method: how bounds are made, or why there are none.
        error: standard error, NaN where there is none.
        freedom: degrees of freedom, > 0.
        skew: of the figure: third central moment over the cube of the standard deviation.
        bounds: that no bound may leave.
        rare: one of ``rare`` more items might have shown ``reach`` (below, above) of the figure; 0 for no such allowance. It stands in for
            the spread where all values are equal.
        reach: see above.
        share: effective number of items and span of the two values of a share, None for other figures.
        shares: ``[clusters]`` contributions that add up to the value, and the clusters' shares of the weight; None for a pooled figure.
        resampled: ``[R]`` sorted, the figure under resamples moved to the value, None where it is not resampled.
        single: the same as if each item were a cluster, None where it is one. No bound lies within its bounds: by chance two speakers can
            agree, and the same items under fewer labels must not look surer.
    """

    value: float
    n: int
    clusters: int
    method: str = METHOD
    error: float = math.nan
    freedom: float = 1.0
    skew: float = 0.0
    bounds: tuple[float, float] = UNBOUNDED
    rare: float = 0.0
    reach: tuple[float, float] = (0.0, 0.0)
    share: tuple[float, float, float] | None = None
    shares: tuple[Array, Array] | None = field(default=None, repr=False)
    resampled: Array | None = field(default=None, repr=False)
    single: Estimate | None = field(default=None, repr=False)

    @property
    def bounded(self) -> bool:
        """Whether there are bounds at all."""
        return math.isfinite(self.error)

    def mirrored(self) -> Estimate:
        """The figure with the other sign."""
        share = None if self.share is None else (self.share[0], -self.share[2], -self.share[1])
        return replace(
            self,
            value=0.0 - self.value,
            skew=-self.skew,
            bounds=(0.0 - self.bounds[1], 0.0 - self.bounds[0]),
            reach=(self.reach[1], self.reach[0]),
            share=share,
            shares=None if self.shares is None else (0.0 - self.shares[0], self.shares[1]),
            resampled=None if self.resampled is None else 0.0 - self.resampled[::-1],
            single=None if self.single is None else self.single.mirrored(),
        )

    def bound(self, level: float, upper: bool = False) -> float:
        """One-sided bound: below it (above it, if ``upper``) the true figure lies with probability ``level`` at most.

        Raises:
            ValueError: a level outside (0, 0.5], or a figure without spread (`bounded`).
        """
        if not (self.bounded and 0 < level <= 0.5):
            raise ValueError(f"a bound wants 0 < level <= 0.5 and a figure of at least 2 clusters, got {level} and {self.clusters}")
        if upper:
            return -self.mirrored().bound(level)
        return max(self._below(level), self.bounds[0])

    def _below(self, level: float) -> float:
        from scipy.special import stdtrit

        if self.rare:
            return self.value - self.reach[0] * _unseen(self.rare, level)
        t = -float(stdtrit(self.freedom, level))
        found = self.value - self.error * max(t, _skewed(t, self.skew, self.clusters))
        if self.single is not None:
            found = min(found, self.single._below(level))
        if self.share is not None:
            found = min(found, self._share_below(level))
        if self.resampled is not None:
            found = min(found, float(np.quantile(self.resampled, _expanded(self.clusters, level))))
        return found

    def _share_below(self, level: float) -> float:
        from scipy.special import betaincinv

        assert self.share is not None
        items, low, high = self.share
        n = min(items, _effective(self, items, level))
        successes = (self.value - low) / (high - low) * n
        return low + (high - low) * float(betaincinv(successes, n - successes + 1, level)) if successes > 0 else low

    def exceeding(self, threshold: float) -> float:
        """One-sided p-value of "the true figure is ``threshold`` at most": the least level at which `bound` exceeds it, 0.5 at most.

        What is above 0.5 is no evidence of anything. NaN for a figure without spread.
        """
        if not self.bounded:
            return math.nan
        return least_level(lambda level: self.bound(level) > threshold)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided, with ``(1 - confidence) / 2`` on either side."""
        if not self.bounded:
            return Interval(self.value, None, None, self.n, self.clusters, self.method)
        level = (1 - confidence) / 2
        low, high = self.bound(level), self.bound(level, upper=True)
        return Interval(self.value, min(low, self.value), max(high, self.value), self.n, self.clusters, self.method)


def least_level(shown: Callable[[float], bool]) -> float:
    """The least level in [LEAST_LEVEL, 0.5] at which something is shown, by bisection."""
    if not shown(0.5):
        return 0.5
    if shown(LEAST_LEVEL):
        return LEAST_LEVEL
    low, high = math.log(LEAST_LEVEL), math.log(0.5)
    for _ in range(LEVEL_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _skewed(t: float, skew: float, clusters: int) -> float:
    """What t becomes where the figure is skewed: the inverse of Hall's (1992) cubic transformation of Student's t.

    A figure with a long tail below (a skew < 0) may lie further above the truth than t says. Near ``skew t = -1`` the transformation
    is flat and its inverse would explode, on the word of a skew that is estimated from a handful of clusters; it is trusted as far as
    `SKEW_TRUSTED`, and with so few clusters that nothing is decided by them anyway, up to that point.
    """
    furthest = (1.0 if clusters < FEW else SKEW_TRUSTED) / t if t > 0 else 0.0
    a = min(furthest, max(-furthest, skew))
    return t if abs(a) < 1e-9 else 3 / a * (float(np.cbrt(1 + a * (t - a / 6))) - 1)


def _unseen(n: float, level: float) -> float:
    """Upper bound of the share of what was seen in none of n items (Clopper and Pearson 1934)."""
    return 1 - float(level ** (1 / n))


def _effective(figure: Estimate, items: float, level: float) -> float:
    """Number of independent items that say as much of a share as its clusters do, at Student's tails (Korn and Graubard 1998)."""
    from scipy.special import stdtrit

    assert figure.share is not None
    _, low, high = figure.share
    share = (figure.value - low) / (high - low)
    if level == 0.5 or not figure.error:
        return items
    tails = float(stdtrit(max(items - 1, 1.0), level) / stdtrit(figure.freedom, level)) ** 2
    variance = (figure.error / (high - low)) ** 2
    return share * (1 - share) / variance * tails


def _expanded(clusters: int, level: float) -> float:
    """Quantile level at which resamples of ``clusters`` units are read (Hesterberg 2015, section 3.3)."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, level)))


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
        confidence: of the interval.
        within: values that are possible.

    Raises:
        ValueError: empty, lengths differ, or values and weights are not as above.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if v.ndim != 1 or v.shape != w.shape or v.shape != (len(clusters),) or not v.size:
        raise ValueError(f"interval wants [n] values, weights and clusters with n >= 1, got {v.shape}, {w.shape}, ({len(clusters)},)")
    if not (np.isfinite(v).all() and np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError("interval wants finite values and finite weights >= 0 that are not all zero")
    return mean_estimate([(1.0, WeightedMean(v, w))], clusters, within).interval(confidence)


def mean_estimate(terms: Sequence[tuple[float, WeightedMean]], clusters: Sequence[str], within: Range = ANY) -> Estimate:
    """``sum(c * mean)`` over weighted means of the same items: one mean, or the paired difference of two.

    Args:
        terms: coefficients and means, each of the n items in the same order.
        clusters: ``[n]`` labels.
        within: values of the metric that are possible.

    Raises:
        ValueError: no items or terms, arrays of another length, or weights that are all zero.
    """
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
    figure = replace(blank, method=METHOD, shares=(shares, parts))
    if _equal(ordered, moved):
        return _without_spread(figure, ordered, parts, within)
    figure = _spread(figure, moved, parts)
    if count < n:
        single, _, weights = _gathered(ordered, np.arange(n), n)
        figure = replace(figure, single=_spread(replace(blank, clusters=n), single, weights))
    return _as_share(figure, ordered, within) if _is_share(ordered, within) else figure


def _gathered(terms: Sequence[tuple[float, WeightedMean]], member: npt.NDArray[np.int64], count: int) -> tuple[Array, Array, Array]:
    """Of each cluster ``[clusters]``: by how much the figure falls without it, what it contributes, and its share of the weight.

    Args:
        terms: coefficients and means of n items.
        member: ``[n]``, the cluster of each.
        count: of clusters.
    """
    moved, shares, parts = np.zeros((3, count))
    size = sum(abs(c) for c, _ in terms)
    for c, m in terms:
        whole, mean = math.fsum(m.weights.tolist()), m.mean
        part = np.bincount(member, m.weights, count) / whole
        parts += abs(c) / size * part
        shares += c * np.bincount(member, m.weights * m.values, count) / whole
        with np.errstate(invalid="ignore", divide="ignore"):
            moved += c * np.bincount(member, m.weights * (m.values - mean), count) / whole / (1 - part)
    return moved, shares, parts


def _equal(terms: Sequence[tuple[float, WeightedMean]], moved: Array) -> bool:
    """Whether nothing varies beyond what rounding makes of values of this size."""
    largest = max(float(np.abs(m.values).max()) for _, m in terms)
    if len(terms) > 1:
        return float(np.abs(moved).max()) <= ROUNDING * largest
    return float(np.ptp(terms[0][1].values)) <= ROUNDING * largest


def unit_names(speakers: Mapping[str, str]) -> dict[str, str]:
    """The unit that each item is judged with, by item.

    Its speaker where more than one is named; items without a speaker among such are one unit together, since they may all be of one
    voice. Where no more than one speaker is named each item stands for itself: what is said then holds of these voices only.

    Args:
        speakers: by item, "" where none is named.
    """
    if len(set(speakers.values()) - {""}) < 2:
        return {item: f"item {item}" for item in speakers}
    return {item: f"speaker {speaker}" if speaker else UNNAMED for item, speaker in speakers.items()}


def unit_noun(clusters: Sequence[str]) -> str:
    """What units are, in the plural: speakers, or items."""
    return "speakers" if any(c.startswith("speaker ") for c in clusters) else "items"


def unit_words(units: Mapping[str, str]) -> str:
    """How many units there are: ``14 speakers``, ``2 speakers and 3 items without one (taken as one)``, ``1 item``."""
    names = set(units.values())
    speakers = sum(name.startswith("speaker ") for name in names)
    noun, count = ("speaker", speakers) if speakers else ("item", len(names))
    words = f"{count:,} {noun}{'' if count == 1 else 's'}"
    if UNNAMED in names:
        unnamed = sum(name == UNNAMED for name in units.values())
        words += f" and {unnamed:,} item{'' if unnamed == 1 else 's'} without a speaker (together as one more)"
    return words


def _span(terms: Sequence[tuple[float, WeightedMean]], bounds: tuple[float, float]) -> tuple[float, float]:
    """What a sum of figures within ``bounds`` can be."""
    ends = [sorted((c * bounds[0], c * bounds[1])) for c, _ in terms]
    return sum(e[0] for e in ends), sum(e[1] for e in ends)


def _spread(figure: Estimate, moved: Array, parts: Array) -> Estimate:
    """The estimate with standard error, degrees of freedom and skew.

    Args:
        figure: without them.
        moved: ``[clusters]``, by how much each cluster moves the figure: the figure minus that without the cluster.
        parts: ``[clusters]``, their shares of the weight, which sum to 1.
    """
    count = moved.size
    squares = float((moved * moved).sum())
    error = math.sqrt((count - 1) / count * squares)
    skew = 0.0
    if count > 2 and squares > 0:
        # The usual small-sample factor of a sample's skewness, of as many equal clusters as say as much as these (Carter, Schnepel and
        # Steigerwald 2017); the sum is that of the figure, so it shrinks with the clusters.
        equal = min(count, max(4.0, 1 / float(parts @ parts)))
        skew = float((moved**3).sum()) / squares**1.5 * math.sqrt(equal * (equal - 1)) / (equal - 2)
    return replace(figure, error=error, freedom=_freedom(parts), skew=skew)


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
    b = (held / (1 - held)) ** 2
    found = []
    for variance in (np.ones_like(held), 1 / held):
        a = held * variance
        both = float((held * a).sum())
        diagonal = variance - 2 * a + both
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


def _as_share(figure: Estimate, terms: Sequence[tuple[float, WeightedMean]], within: Range) -> Estimate:
    weights = terms[0][1].weights
    items = float(weights.sum() ** 2 / (weights**2).sum())
    return replace(figure, share=(items, *within.bounds), method=SHARE_METHOD)


def _without_spread(figure: Estimate, terms: Sequence[tuple[float, WeightedMean]], parts: Array, within: Range) -> Estimate:
    """Where all values are equal: certain of what is computed, bounded by what may not have been seen of what is counted."""
    plain = replace(figure, error=0.0, freedom=figure.clusters - 1.0, method=NO_SPREAD)
    if not within.counted:
        return plain
    low, high = within.bounds
    worst = within.worst if within.worst is not None else high
    ends = [e if math.isfinite(e) else worst for e in (low, high)]
    if not all(map(math.isfinite, ends)):
        return plain
    weights = np.sum([m.weights for _, m in terms], axis=0)
    items = float(weights.sum() ** 2 / (weights**2).sum())
    if all(_is_share([(1.0, m)], within) for _, m in terms):
        # Half of the variance between clusters: they count as fewer items.
        items = items / (1 + (max(1.0, items * float((parts * parts).sum())) - 1) * BETWEEN)
    reach = (abs(ends[1] - ends[0]),) * 2 if len(terms) > 1 else (max(0.0, figure.value - ends[0]), max(0.0, ends[1] - figure.value))
    return replace(plain, rare=items, reach=reach, method=RARE_METHOD)


def pooled_interval(
    pool: Callable[[Array], Array],
    clusters: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Interval:
    """Interval of a figure that is not a mean of its items.

    Args:
        pool: ``[R, n] -> [R]``, the figure when item i counts ``[r, i]`` times (`harness.api.PooledMetric.pool`).
        clusters: ``[n]`` labels.
        confidence: of the interval.
        resamples, seed: of the draws, from `RESAMPLED_FROM` clusters on.
        bounds: of the figure, which the interval must not leave.

    Raises:
        ValueError: no items, or the figure of the whole sample is not finite.
    """
    return estimate([(1.0, pool)], clusters, resamples, seed, Range(bounds)).interval(confidence)


def paired_interval(
    terms: Sequence[Term], clusters: Sequence[str], confidence: float = 0.95, resamples: int = 2000, seed: int = 0, within: Range = ANY
) -> Interval:
    """Interval of ``sum(c * figure)`` over figures of the same items; arguments and errors as in `estimate`.

    With the coefficients 1 and -1 it is the paired difference of two systems: what makes an item hard for both cancels. Of two
    plain means it equals `interval` of the items' differences.
    """
    return estimate(terms, clusters, resamples, seed, within).interval(confidence)


def estimate(terms: Sequence[Term], clusters: Sequence[str], resamples: int = 2000, seed: int = 0, within: Range = ANY) -> Estimate:
    """``sum(c * figure)`` over figures of the same items.

    A figure that is no `WeightedMean` is formed anew without each cluster, and from `RESAMPLED_FROM` clusters on under resamples too.
    A resample holds some items twice and others not at all, so figures that grow with variety (share of a codebook used, entropy) come
    out lower in every resample than in the sample; the resamples are therefore moved until their median is the value.

    Args:
        terms: coefficients and figures of the same n items in the same order.
        clusters: ``[n]`` labels.
        resamples, seed: of the draws.
        within: values of the metric that are possible.

    Raises:
        ValueError: no items, no terms, or a figure of the whole sample that is not finite.
    """
    means = [(c, f) for c, f in terms if isinstance(f, WeightedMean)]
    if terms and len(means) == len(terms):
        return mean_estimate(means, clusters, within)
    n = len(clusters)
    if not n or not terms:
        raise ValueError(f"an estimate wants at least one item and one term, got {n} and {len(terms)}")

    def combined(counts: Array) -> Array:
        total: Array = np.sum([coefficient * figure(counts) for coefficient, figure in terms], axis=0)
        return total

    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count = labels.size
    groups = min(count, LEFT_OUT)
    group = member % groups
    kept = np.ones((groups + 1, n))
    kept[1:][group, np.arange(n)] = 0.0
    if count < 2:
        kept = kept[:1]
    found = combined(kept)
    value = float(found[0])
    if not math.isfinite(value):
        raise ValueError(f"the figure of {n} items is {value}")
    bounds = _span([(c, WeightedMean(np.empty(0), np.empty(0))) for c, _ in terms], within.bounds)
    blank = Estimate(value, n, count, NONE, bounds=bounds)
    if count < 2:
        return blank
    without = found[1:][np.isfinite(found[1:])]
    if without.size < 2:
        return replace(blank, method="no interval: there is no figure without one of the clusters")
    method = POOLED_METHOD if without.size == groups else f"{POOLED_METHOD}, {without.size} of {groups} with a figure"
    parts = np.bincount(group, minlength=groups)[np.isfinite(found[1:])]
    # About their mean: that a figure grows with variety is no uncertainty. Where each cluster adds as much as any other there is no
    # spread about the mean, and yet every one of them matters.
    centre = float(without.mean()) if np.ptp(without) > ROUNDING * abs(value) else value
    figure = _spread(replace(blank, method=method), centre - without, parts / parts.sum())
    if count < RESAMPLED_FROM or not figure.error:
        return figure if figure.error else replace(figure, method=NO_SPREAD)
    figures = np.concatenate([combined(counts) for counts in resample_chunks(clusters, resamples, seed)])
    finite = figures[np.isfinite(figures)]
    if finite.size < 2:
        return figure
    told = BOOTSTRAPPED if finite.size == figures.size else f"{BOOTSTRAPPED}, {finite.size} of {figures.size} resamples"
    return replace(figure, method=method + told, resampled=np.sort(finite + (value - np.median(finite))))


def resample_chunks(clusters: Sequence[str], resamples: int, seed: int) -> Iterator[Array]:
    """How often each item counts in each resample, ``[r, n]`` at a time, ``resamples`` rows in all; memory is bounded."""
    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    rows = max(1, DRAWS_AT_ONCE // max(1, member.size))
    for counts in cluster_counts(labels.size, resamples, seed):
        for start in range(0, len(counts), rows):
            yield counts[start : start + rows][:, member]


def cluster_counts(clusters: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of ``clusters`` units is drawn in each resample, ``[r, clusters]`` at a time, ``resamples`` rows in all."""
    # Counted a few rows at a time: a block that stays in the processor's cache is counted ten times as fast as the whole.
    rows = max(1, COUNTED_AT_ONCE // max(1, clusters))
    for draw in _draws(clusters, resamples, seed):
        counts = np.empty(draw.shape)
        for start in range(0, len(draw), rows):
            part = draw[start : start + rows]
            flat = part + np.arange(len(part))[:, None] * clusters
            counts[start : start + rows] = np.bincount(flat.ravel(), minlength=part.size).reshape(part.shape)
        yield counts


def resample_counts(clusters: Sequence[str], resamples: int, seed: int) -> Array:
    """`resample_chunks` joined: ``[R, n]`` float64, which is 8 R n bytes."""
    return np.concatenate(list(resample_chunks(clusters, resamples, seed)))


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """``[r, clusters]`` cluster indices, ``resamples`` rows in all."""
    if resamples < 1 or clusters < 1:
        raise ValueError(f"resampling wants at least one cluster and one resample, got {clusters} and {resamples}")
    generator = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_ONCE // clusters)
    for start in range(0, resamples, rows):
        yield generator.integers(0, clusters, size=(min(rows, resamples - start), clusters))
