"""Tests of a paired difference and their correction for being many.

The test is the sign flip: if it makes no difference which of two systems an output came from, the differences of a cluster (a speaker's
items) may change sign together, and the observed mean is one of equally likely ones. It assumes nothing of their distribution but that
symmetry, and its p-value is exact with few clusters, where all sign patterns are gone through, and never too small with many, where
patterns are drawn (Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reports.intervals import Array, Resampled

EXACT_CLUSTERS = 13
"""Up to here all sign patterns are gone through; 2^13 are about as many as are drawn beyond."""
DRAWS = 10_000
LEVEL_STEPS = 60
LEAST_LEVEL = 1e-12
"""No p-value below this is told: nobody's tails are known so far out."""


def cluster_shares(left: Array, right: Array, left_weights: Array, right_weights: Array, clusters: Sequence[str]) -> Array:
    """What each cluster contributes to the difference of two weighted means; the contributions add up to it.

    With equal weights on both sides it is the cluster's sum of weighted differences. With unequal ones the flip of a sign stands for
    the exchange of the two sides to first order only.

    Args:
        left, right: ``[n]`` values of the same items.
        left_weights, right_weights: ``[n]``, not all zero.
        clusters: ``[n]`` labels.

    Returns:
        ``[clusters]``, of right minus left.
    """
    middle = ((left_weights * left).sum() + (right_weights * right).sum()) / (left_weights.sum() + right_weights.sum())
    each = right_weights * (right - middle) / right_weights.sum() - left_weights * (left - middle) / left_weights.sum()
    _, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return np.asarray(np.bincount(member, each), dtype=np.float64)


def sign_flip(shares: npt.ArrayLike, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of "the sum of the shares is zero".

    Args:
        shares: ``[clusters]``, see `cluster_shares`.
        draws: sign patterns drawn where not all are gone through.
        seed: of them.

    Raises:
        ValueError: no shares, or one that is not finite.
    """
    found = np.asarray(shares, dtype=np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"sign_flip wants finite shares [clusters], got {found}")
    # A cluster without a difference has no sign to flip.
    moved = found[found != 0]
    if not moved.size:
        return 1.0
    # Sums in another order differ in the last bits; what is equal in truth must count as reached.
    reached = abs(math.fsum(moved)) * (1 - 1e-12)
    if moved.size <= EXACT_CLUSTERS:
        # The first sign is held: the other half of the patterns mirrors this one.
        bits = (np.arange(1 << (moved.size - 1))[:, None] >> np.arange(moved.size - 1)) & 1
        sums = np.hstack([np.ones((len(bits), 1)), 1.0 - 2.0 * bits]) @ moved
        return float(np.mean(np.abs(sums) >= reached))
    generator = np.random.default_rng(seed)
    hits = 0
    rows = max(1, (1 << 20) // moved.size)
    for start in range(0, draws, rows):
        signs = generator.integers(0, 2, size=(min(rows, draws - start), moved.size), dtype=np.int8)
        hits += int((np.abs((2.0 * signs - 1.0) @ moved) >= reached).sum())
    return (hits + 1) / (draws + 1)


def exceeding_level(figure: Resampled, threshold: float = 0.0, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided p-value of "the true figure is ``threshold`` at most": the smallest level at which `lower_bound` still exceeds it.

    Args:
        figure: under its resamples.
        threshold: in its unit.
        spread, repeats: as in `lower_bound`.

    Returns:
        0.5 at most: what is above is no evidence of anything. NaN for a figure without spread.
    """
    if not figure.bounded:
        return math.nan
    if lower_bound(figure, 0.5, spread, repeats) <= threshold:
        return 0.5
    low, high = math.log(LEAST_LEVEL), math.log(0.5)
    if lower_bound(figure, LEAST_LEVEL, spread, repeats) > threshold:
        return LEAST_LEVEL
    for _ in range(LEVEL_STEPS):
        middle = (low + high) / 2
        if lower_bound(figure, math.exp(middle), spread, repeats) > threshold:
            high = middle
        else:
            low = middle
    return math.exp(high)


def lower_bound(figure: Resampled, level: float, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided lower bound of a difference whose one side was measured several times.

    The bound is the more cautious of two: that of the resamples, and Student's with the jackknife's error and the degrees of freedom of the
    effective number of clusters (Carter, Schnepel and Steigerwald 2017). With 25 speakers of 2 to 15 items the former alone was exceeded
    in 5.1 to 6.1 % of 1500 simulated cases where 5 % are stated, both together in 4.3 to 5.2 %. Strong skew between few speakers breaks
    either: 12 % with 25 exponential ones.

    The resamples hold what differs from item to item. What differs from one run to the next for all items alike (the machine's speed,
    a seed of the whole run) they cannot hold; repeats measure it, and both widths are added as independent errors are.

    Args:
        figure: the difference to the mean of the repeats, under resamples of the items.
        level: probability that the true figure lies below, in (0, 0.5].
        spread: standard deviation of the figure from repeat to repeat.
        repeats: how many there were; the spread of fewer than 2 is not known and must be 0.

    Raises:
        ValueError: as `Resampled.bound`, or a spread without repeats.
    """
    from scipy.special import stdtrit

    bound = figure.bound(level)
    if figure.jackknife is not None and level < 0.5:
        bound = min(bound, figure.value + float(stdtrit(figure.effective - 1, level)) * figure.jackknife)
    if not spread or level == 0.5:
        return bound
    if repeats < 2:
        raise ValueError(f"a spread of {spread:g} over {repeats} repeats: it takes at least 2")
    run = -float(stdtrit(repeats - 1, level)) * spread * math.sqrt(1 + 1 / repeats)
    return figure.value - math.hypot(max(0.0, figure.value - bound), run)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for being many (Holm 1979); rejecting those <= level keeps the chance of any false one below it.

    Raises:
        ValueError: one is not in [0, 1].
    """
    if not all(0 <= each <= 1 for each in p):
        raise ValueError(f"holm wants p-values in [0, 1], got {list(p)}")
    order = sorted(range(len(p)), key=p.__getitem__)
    out, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        out[index] = highest
    return out
