"""Intervals of means, shares and pooled values from few independent units (clusters): what bounds follow from an estimate.

* Student's t with the degrees of freedom of the estimate, `reports.statistics.jackknife`.
* Skew: Hall's (1992) transformation of t, whose bounds lie further out on the long side. Few clusters tell little of their skew, so the
  wider of it and Student's own bound stands.
* Items: no bound lies within that of the same items taken as independent, for two speakers may agree by chance.
* Shares (each value is one of two bounds): the exact binomial interval of an effective number of items (Korn and Graubard 1998), so that 21
  of 21 is not certainty. Rates of counts (word error rates) of fewer than 20 clusters likewise, the wider of it and Student's: what lies between
  two values varies no more than what is one of them.
* Pooled values of many clusters: the percentile bootstrap as well, the wider of the two; the jackknife alone is wrong for quantiles.

A plain cluster bootstrap, which these replace, covered .52 with 2 clusters, .75 with 3 and .86 with 4 where .95 is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LEAST_LEVEL = 1e-12
"""No p-value below this is told: nobody's tails are known so far out."""
LEVEL_STEPS = 40
FEWEST = 6
"""Clusters below which nothing is decided: the smallest number whose signs, all alike, are significant two-sided at 5 % (2 / 2^6)."""
SKEW_TRUSTED = 0.95
"""How far towards its turning point Hall's transformation of t is followed with `FEWEST` clusters or more; at the point it says nothing."""
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are made: two-sided, of a confidence in (0, 1), of pooled values from so many resamples, drawn by a seed."""

    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval.

    Args:
        value: of the whole sample, in the unit of what was estimated.
        low, high: bounds, or None where there are fewer than two clusters: nothing is known of the spread then, which an
            interval of zero width would deny.
        clusters: independent units.
        method: in words, how the bounds were made, from how many resamples where not all had a value, or why there are none.
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
        bounds: smallest and largest value, both possible; no interval leaves them.
        worst: the value that a lost output counts as, None where there is no such value.
        counted: whether each value is a ratio of counts (words wrong, outcomes), so that equal values say little of the next. False for
            what is computed from a waveform, where equal outputs are equal for a reason.
    """

    bounds: tuple[float, float] = UNBOUNDED
    worst: float | None = None
    counted: bool = False


ANY = Range()


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with what its clusters say of its uncertainty; bounds and p-values at any level follow from it.

    Args:
        method: in words, how bounds are made, or why there are none.
        error: standard error in the unit of the value, NaN where there is none.
        freedom: degrees of freedom, > 0.
        skew: third central moment of the value over the cube of its standard deviation.
        bounds: smallest and largest possible value; no bound leaves them.
        rare: number of items whose equal values stand in for the spread, 0 where there is a spread or none is to be allowed for: one more
            item might have been another.
        reach: how far below and above the value such an item might have moved it.
        share: for a share or rate, the effective number of items and the two values that an item lies at or between; None for others.
        shares: ``[clusters]`` contributions that add up to the value, and the clusters' shares of the weight; None for a pooled one.
        resampled: ``[R]`` bootstrap values, sorted and moved so that their median is the value; None where it is not resampled.
        single: the estimate as if each item were a cluster, None where each is. No bound lies within its bounds: two speakers can agree
            by chance, and the same items under fewer labels must not look surer.
    """

    value: float
    n: int
    clusters: int
    method: str = ""
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
        """The estimate of the value with the other sign."""
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
        """One-sided bound: below it (above it, if ``upper``) the true value lies with probability ``level`` at most.

        Raises:
            ValueError: a level outside (0, 0.5], or an estimate without spread (`bounded`).
        """
        if not (self.bounded and 0 < level <= 0.5):
            raise ValueError(f"a bound wants 0 < level <= 0.5 and a figure of at least 2 clusters, got {level} and {self.clusters}")
        if upper:
            return -self.mirrored().bound(level)
        return max(self._below(level), self.bounds[0])

    def _below(self, level: float) -> float:
        from scipy.special import stdtrit

        if self.rare:
            # The share of what was seen in none of so many items is no larger (Clopper and Pearson 1934).
            return self.value - self.reach[0] * (1 - float(level ** (1 / self.rare)))
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
        """One-sided p-value of "the true value is ``threshold`` at most": the least level at which `bound` exceeds it, 0.5 at most.

        What is above 0.5 is no evidence of anything. NaN for an estimate without spread.
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
    """What t becomes where the estimate is skewed: the inverse of Hall's (1992) cubic transformation of Student's t.

    An estimate with a long tail below (a skew < 0) may lie further above the truth than t says. Near ``skew t = -1`` the transformation
    is flat and its inverse would explode, on the word of a skew that is estimated from a handful of clusters; it is trusted as far as
    `SKEW_TRUSTED`, and with so few clusters that nothing is decided by them anyway, up to that point.
    """
    furthest = (1.0 if clusters < FEWEST else SKEW_TRUSTED) / t if t > 0 else 0.0
    a = min(furthest, max(-furthest, skew))
    return t if abs(a) < 1e-9 else 3 / a * (float(np.cbrt(1 + a * (t - a / 6))) - 1)


def _effective(known: Estimate, items: float, level: float) -> float:
    """Number of independent items that say as much of a share as its clusters do, at Student's tails (Korn and Graubard 1998)."""
    from scipy.special import stdtrit

    assert known.share is not None
    _, low, high = known.share
    share = (known.value - low) / (high - low)
    if level == 0.5 or not known.error:
        return items
    tails = float(stdtrit(max(items - 1, 1.0), level) / stdtrit(known.freedom, level)) ** 2
    variance = (known.error / (high - low)) ** 2
    return share * (1 - share) / variance * tails


def _expanded(clusters: int, level: float) -> float:
    """Quantile level at which resamples of ``clusters`` units are read (Hesterberg 2015, section 3.3)."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, level)))
