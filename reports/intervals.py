"""Bootstrap intervals of weighted means and of pooled figures, resampled by cluster.

The method is the percentile bootstrap with expanded levels (Hesterberg 2015, "What Teachers Should Know About the Bootstrap",
section 3.3): the plain percentile interval of n clusters is too narrow by the factor ``sqrt((n - 1) / n)`` and by z in place
of Student's t, so the levels are moved out until both are made good. BCa was the alternative; it needs a jackknife, which for a
pooled metric is one more pass per cluster, and its acceleration is erratic when most clusters are equal (word error rates of zero).
One method serves every cell of a table this way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
METHOD = "expanded percentile bootstrap"
POOLED_METHOD = "expanded percentile bootstrap, re-centred"
TAIL = 10
"""Resamples beyond a bound from which it is read; further out, where fewer lie, Student's t with the resamples' own spread goes on."""
COUNTED_AT_ONCE = 1 << 14
DRAWS_AT_ONCE = 1 << 21
"""Cluster draws held in memory at a time (16 MB of indices), whatever the number of items and resamples."""


@dataclass(frozen=True)
class Statistics:
    """How intervals are made: confidence, number of resamples and seed of the draws."""

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
        clusters: independent units resampled.
        method: how the bounds were made, from how many resamples where not all had a figure, or why there are none.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str


Term = tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Coefficient, values ``[n]`` and weights ``[n]`` of one weighted mean."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure of the whole sample, and the same figure under each resample; bounds at any level are read from it.

    Args:
        value: of the whole sample.
        figures: ``[R]``, sorted, finite.
        n: items.
        clusters: independent units resampled.
        drawn: resamples, of which those without a figure are not in ``figures``.
        method: how the figures came about.
        jackknife: standard error by leaving out one cluster after the other, None where it was not made.
        effective: number of equally large clusters that say as much as these do, ``n^2 / sum(size^2)``.
    """

    value: float
    figures: Array
    n: int
    clusters: int
    drawn: int
    method: str = METHOD
    jackknife: float | None = None
    effective: float = math.nan

    @property
    def bounded(self) -> bool:
        """Whether there are bounds at all: two clusters and two resamples make the least spread."""
        return self.clusters >= 2 and self.figures.size >= 2

    @cached_property
    def error(self) -> float:
        """Standard error of the figure: the spread of the resamples, made good for the number of clusters; NaN where unbounded."""
        return float(self.figures.std() * math.sqrt(self.clusters / (self.clusters - 1))) if self.bounded else math.nan

    def mirrored(self) -> Resampled:
        """The figure with the other sign."""
        return replace(self, value=0.0 - self.value, figures=0.0 - self.figures[::-1])

    def bound(self, level: float, upper: bool = False) -> float:
        """One-sided bound: below it (above it, if ``upper``) the true figure lies with probability ``level`` at most.

        Raises:
            ValueError: a level outside (0, 0.5], or a figure without spread (`bounded`).
        """
        from scipy.special import stdtrit

        if not (self.bounded and 0 < level <= 0.5):
            raise ValueError(f"a bound wants 0 < level <= 0.5 and a figure of at least 2 clusters, got {level} and {self.clusters}")
        tail = percentile_levels(self.clusters, 1 - 2 * level)[0] if level < 0.5 else 0.5
        far = min(0.5, TAIL / self.figures.size)
        read = self._quantile(1 - max(tail, far) if upper else max(tail, far))
        if tail >= far:
            return read
        beyond = float(stdtrit(self.clusters - 1, level)) * self.error
        return max(read, self.value - beyond) if upper else min(read, self.value + beyond)

    def _quantile(self, level: float) -> float:
        """As numpy's, which would look for the order again."""
        place = level * (self.figures.size - 1)
        low = min(int(place), self.figures.size - 2)
        one, two = float(self.figures[low]), float(self.figures[low + 1])
        return one + (two - one) * (place - low)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided, with ``(1 - confidence) / 2`` on either side."""
        if self.clusters < 2:
            return Interval(self.value, None, None, self.n, self.clusters, "no interval: fewer than 2 clusters")
        found = _read(self.value, self.figures, self.n, self.clusters, confidence)
        return found if found.low is None else replace(found, method=_method(self.method, self.figures.size, self.drawn))


def percentile_levels(clusters: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper quantile level at which the resamples of ``clusters`` units are read.

    Raises:
        ValueError: fewer than two clusters, or a confidence outside (0, 1).
    """
    from scipy.special import ndtr, stdtrit

    if clusters < 2 or not 0 < confidence < 1:
        raise ValueError(f"an interval wants >= 2 clusters and 0 < confidence < 1, got {clusters} and {confidence}")
    tail = float(ndtr(math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 - confidence) / 2)))
    return tail, 1 - tail


def interval(
    values: npt.ArrayLike,
    weights: npt.ArrayLike,
    clusters: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of ``sum(w v) / sum(w)``; the same to the last bit in whatever order the items come.

    Args:
        values: ``[n]``, finite.
        weights: ``[n]``, finite, >= 0, not all zero.
        clusters: ``[n]`` labels; items of one label are resampled together.
        confidence: of the interval.
        resamples: R.
        seed: of the draws; cells with the same clusters get the same draws.

    Raises:
        ValueError: empty, lengths differ, or values and weights are not as above.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    labels = np.asarray(clusters, dtype=str)
    if v.ndim != 1 or v.shape != w.shape or v.shape != labels.shape or not v.size:
        raise ValueError(f"interval wants [n] values, weights and clusters with n >= 1, got {v.shape}, {w.shape}, {labels.shape}")
    if not (np.isfinite(v).all() and np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError("interval wants finite values and finite weights >= 0 that are not all zero")
    order = np.lexsort((w, v, labels))
    v, w, labels = v[order], w[order], labels[order]
    value = math.fsum(v * w) / math.fsum(w)
    _, member = np.unique(labels, return_inverse=True)
    count = int(member.max()) + 1
    if count < 2:
        return Interval(value, None, None, v.size, count, "no interval: fewer than 2 clusters")
    total, mass = np.bincount(member, v * w), np.bincount(member, w)
    figures = []
    for draw in _draws(count, resamples, seed):
        top = total[draw].sum(axis=1)
        # Equal cluster weights (a plain mean over items, by far the commonest case) need no second gather.
        bottom = mass[0] * count if (mass == mass[0]).all() else mass[draw].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            figures.append(top / bottom)
    return _read(value, np.concatenate(figures), v.size, count, confidence)


def pooled_interval(
    pool: Callable[[Array], Array],
    clusters: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Interval of a figure that is not a mean of its items.

    A resample holds some items twice and others not at all, so figures that grow with variety (share of a codebook used,
    entropy) come out lower in every resample than in the sample, and their plain percentile interval may not even hold the
    value. The resamples are therefore moved until their median is the value; their spread is kept.

    Args:
        pool: ``[R, n] -> [R]``, the figure when item i counts ``[r, i]`` times (`harness.api.PooledMetric.pool`).
        clusters: ``[n]`` labels.
        confidence, resamples, seed: as in `interval`.
        bounds: of the figure, which the moved interval must not leave.

    Raises:
        ValueError: no items, or the figure of the whole sample is not finite.
    """
    n = len(clusters)
    if not n:
        raise ValueError("pooled_interval wants at least one item")
    value = float(pool(np.ones((1, n)))[0])
    if not math.isfinite(value):
        raise ValueError(f"the pooled figure of {n} items is {value}")
    count = len(set(clusters))
    if count < 2:
        return Interval(value, None, None, n, count, "no interval: fewer than 2 clusters")
    figures = np.concatenate([pool(counts) for counts in resample_chunks(clusters, resamples, seed)])
    finite = figures[np.isfinite(figures)]
    moved = finite + (value - np.median(finite)) if finite.size else finite
    found = _read(value, np.clip(moved, *bounds), n, count, confidence)
    return found if found.low is None else replace(found, method=_method(POOLED_METHOD, finite.size, figures.size))


def paired_interval(
    terms: Sequence[tuple[float, Callable[[Array], Array]]],
    clusters: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    recentred: bool = False,
) -> Interval:
    """Interval of ``sum(c * figure)`` over figures of the same items, all of them taken under the same resamples.

    With the coefficients 1 and -1 it is the paired difference of two systems: what makes an item hard for both cancels. Of two
    plain means it equals `interval` of the items' differences.

    Args:
        terms: coefficients and figures, each ``[R, n] -> [R]`` as in `pooled_interval`, of the same n items in the same order.
        clusters: ``[n]`` labels.
        confidence, resamples, seed: as in `interval`.
        recentred: the resamples are moved until their median is the value, as in `pooled_interval`; for figures that are no means.

    Raises:
        ValueError: no items, no terms, or a figure of the whole sample that is not finite.
    """
    return resampled(terms, clusters, resamples, seed, recentred).interval(confidence)


def resampled(
    terms: Sequence[tuple[float, Callable[[Array], Array]]],
    clusters: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    recentred: bool = False,
) -> Resampled:
    """``sum(c * figure)`` under resamples; arguments and errors as in `paired_interval`."""
    n = len(clusters)
    if not n or not terms:
        raise ValueError(f"paired_interval wants at least one item and one term, got {n} and {len(terms)}")

    def combined(counts: Array) -> Array:
        total: Array = np.sum([coefficient * figure(counts) for coefficient, figure in terms], axis=0)
        return total

    value = float(combined(np.ones((1, n)))[0])
    if not math.isfinite(value):
        raise ValueError(f"the paired figure of {n} items is {value}")
    count = len(set(clusters))
    method = POOLED_METHOD if recentred else METHOD
    if count < 2:
        return Resampled(value, np.empty(0), n, count, 0, method)
    figures = np.concatenate([combined(counts) for counts in resample_chunks(clusters, resamples, seed)])
    finite = figures[np.isfinite(figures)]
    moved = finite + (value - np.median(finite)) if recentred and finite.size else finite
    return Resampled(value, np.sort(moved), n, count, figures.size, method)


def resampled_means(sums: Sequence[Sequence[Term]], clusters: Sequence[str], resamples: int = 10_000, seed: int = 0) -> list[Resampled]:
    """Many sums of weighted means of the same items under the same resamples: one draw and one matrix product for all.

    Args:
        sums: S sums of terms; the mean of a term is ``sum(w v) / sum(w)``.
        clusters: ``[n]`` labels.
        resamples: R.
        seed: of the draws; those of `interval` and `paired_interval`.

    Returns:
        S figures.

    Raises:
        ValueError: no items, arrays of another length, or weights that are all zero.
    """
    if not sums:
        return []
    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count, n = labels.size, member.size
    terms = [term for terms in sums for term in terms]
    if not n or not all(terms_of for terms_of in sums) or any(v.shape != (n,) or w.shape != (n,) or not w.any() for _, v, w in terms):
        raise ValueError(f"resampled_means wants terms of [{n}] values and weights that are not all zero, for {n} >= 1 items")
    # [clusters, 2 T]: numerators, then denominators.
    parts = [np.bincount(member, w * v, count) for _, v, w in terms] + [np.bincount(member, w, count) for _, _, w in terms]
    matrix, size = np.asarray(np.stack(parts, axis=1), dtype=np.float64), len(terms)
    coefficients = np.array([c for c, _, _ in terms])
    edges = np.cumsum([0, *(len(terms_of) for terms_of in sums)])[:-1]

    def figures(counts: Array) -> Array:
        both = counts @ matrix
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.add.reduceat(coefficients * both[:, :size] / both[:, size:], edges, axis=1))

    whole = [math.fsum(c * math.fsum(w * v) / math.fsum(w) for c, v, w in terms_of) for terms_of in sums]
    if count < 2:
        return [Resampled(value, np.empty(0), n, count, 0) for value in whole]
    drawn = np.concatenate([figures(counts) for counts in cluster_counts(count, resamples, seed)])
    columns = (np.sort(column[np.isfinite(column)]) for column in drawn.T)
    errors = _jackknife(matrix, coefficients, edges, np.array(whole))
    effective = n**2 / float((np.bincount(member) ** 2.0).sum())
    return [
        Resampled(value, column, n, count, len(drawn), METHOD, error if math.isfinite(error) else None, effective)
        for value, column, error in zip(whole, columns, errors, strict=True)
    ]


def _jackknife(matrix: Array, coefficients: Array, edges: npt.NDArray[np.int64], whole: Array) -> list[float]:
    """Standard errors of `resampled_means` from each cluster left out once; not finite where a mean is gone with one cluster."""
    left, size = matrix.sum(axis=0) - matrix, coefficients.size
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = np.add.reduceat(coefficients * left[:, :size] / left[:, size:], edges, axis=1)
    count = len(matrix)
    errors: list[float] = np.sqrt((count - 1) / count * ((figures - whole) ** 2).sum(axis=0)).tolist()
    return errors


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


def _method(name: str, used: int, drawn: int) -> str:
    """The method's name, and how many resamples it rests on where some had no figure (a costly metric stops before the last)."""
    return name if used == drawn else f"{name}, {used} of {drawn} resamples"


def _read(value: float, figures: Array, n: int, clusters: int, confidence: float) -> Interval:
    # A resample without any weight (all drawn clusters weigh nothing) has no figure and is left out.
    drawn = figures.size
    figures = figures[np.isfinite(figures)]
    if figures.size < 2:
        return Interval(value, None, None, n, clusters, "no interval: the resamples have no finite figure")
    low, high = np.quantile(figures, percentile_levels(clusters, confidence))
    return Interval(value, float(low), float(high), n, clusters, _method(METHOD, figures.size, drawn))
