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

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
METHOD = "expanded percentile bootstrap"
POOLED_METHOD = "expanded percentile bootstrap, re-centred"
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
    if count < 2:
        return Interval(value, None, None, n, count, "no interval: fewer than 2 clusters")
    figures = np.concatenate([combined(counts) for counts in resample_chunks(clusters, resamples, seed)])
    finite = figures[np.isfinite(figures)]
    moved = finite + (value - np.median(finite)) if recentred and finite.size else finite
    found = _read(value, moved, n, count, confidence)
    return found if found.low is None else replace(found, method=_method(POOLED_METHOD if recentred else METHOD, finite.size, figures.size))


def resample_chunks(clusters: Sequence[str], resamples: int, seed: int) -> Iterator[Array]:
    """How often each item counts in each resample, ``[r, n]`` at a time, ``resamples`` rows in all; memory is bounded."""
    labels, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    rows = max(1, DRAWS_AT_ONCE // max(1, member.size))
    for draw in _draws(labels.size, resamples, seed):
        for start in range(0, len(draw), rows):
            part = draw[start : start + rows]
            flat = part + np.arange(len(part))[:, None] * labels.size
            counts = np.bincount(flat.ravel(), minlength=len(part) * labels.size).reshape(len(part), labels.size)
            yield counts[:, member].astype(np.float64)


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
