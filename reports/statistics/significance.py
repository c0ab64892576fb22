"""When a difference is called one: the one rule of comparisons, gates and verdicts on claims.

The p-value of "the true difference is so much at most" is the larger of two. The first is Student's over clusters, corrected for skew
(`reports.statistics.intervals.Estimate.exceeding`). The second is that of the sign flip: if it makes no difference which of two systems an output
came from, the differences of a cluster may change sign, and the observed sum is one of equally likely ones. It guards the first where
few of many clusters differ at all: three words of sixty recordings have no more than three signs. Where all clusters point one way it has
no more to say, however few they are, and the first decides alone.

With fewer than `FEWEST` clusters nothing is called: five agree by chance in one case of sixteen, which no test at 5 % can tell from a
difference without taking the shape of their distribution on trust.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.statistics.intervals import FEWEST, Array, Estimate, least_level
from reports.statistics.jackknife import ROUNDING

POWER = 0.8
"""Chance of a significant result that sample sizes are told for."""
MOST_CLUSTERS = 1 << 23
"""Beyond this many the answer is "not with recordings"."""
STEPS = 60


@dataclass(frozen=True)
class Advice:
    """What it takes to see a difference.

    Args:
        clusters: speakers (items, where each is its own cluster) needed, None where more than `MOST_CLUSTERS`.
        items: needed at as many items a cluster as now, None likewise.
        visible: the smallest difference that the present clusters show with this power, None where they are too few.
    """

    clusters: int | None
    items: int | None
    visible: float | None


def advice(difference: Estimate, effect: float, confidence: float = 0.95) -> Advice | None:
    """Sample-size advice from a measured paired difference; None where nothing varies or there is but one cluster.

    Raises:
        ValueError: an effect that is not above 0, or a confidence outside (0, 1).
    """
    if not difference.bounded or difference.error <= 0:
        return None
    deviation = difference.error * math.sqrt(difference.clusters)
    clusters = clusters_needed(effect / deviation, confidence)
    items = None if clusters is None else math.ceil(clusters * difference.n / difference.clusters)
    return Advice(clusters, items, deviation * visible_effect(difference.clusters, confidence))


def paired_power(effect: float, clusters: int, confidence: float = 0.95) -> float:
    """Chance that the two-sided t-test of two clusters or more is significant.

    ``effect`` is the true mean difference over the standard deviation of the differences.
    """
    from scipy.special import nctdtr, stdtrit

    edge = float(stdtrit(clusters - 1, (1 + confidence) / 2))
    shift = abs(effect) * math.sqrt(clusters)
    # The far tail counts as well: at no effect the chance is the level itself. Far from it scipy's series ends in NaN, where the chance is 1 or 0.
    above, below = (float(nctdtr(clusters - 1, shift, at)) for at in (edge, -edge))
    return 1.0 - (0.0 if math.isnan(above) else above) + (0.0 if math.isnan(below) else below)


def clusters_needed(effect: float, confidence: float = 0.95) -> int | None:
    """Smallest number of clusters with which a standardised effect is seen; None above `MOST_CLUSTERS`.

    Raises:
        ValueError: as `advice`.
    """
    if not (effect > 0 and 0 < confidence < 1):
        raise ValueError(f"sample-size advice wants effect > 0 and confidence in (0, 1), got {effect}, {confidence}")
    if paired_power(effect, MOST_CLUSTERS, confidence) < POWER:
        return None
    return bisect_left(range(MOST_CLUSTERS), POWER, lo=2, key=lambda clusters: paired_power(effect, clusters, confidence))


def visible_effect(clusters: int, confidence: float = 0.95) -> float:
    """The standardised effect that so many clusters show with this power."""
    low, high = 0.0, 1.0
    while paired_power(high, clusters, confidence) < POWER:
        high *= 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if paired_power(middle, clusters, confidence) >= POWER else (middle, high)
    return high


EXACT_CLUSTERS = 13
"""Up to here all sign patterns are gone through; so many signs and more leave a normal difference to Student's t."""


def sign_flip(shares: npt.ArrayLike) -> float:
    """One-sided p-value of "the sum of the shares is zero at most", of `EXACT_CLUSTERS` shares other than 0 at most.

    Shares are ``[clusters]`` contributions to a difference (`reports.statistics.intervals.Estimate.shares`); one of 0 has no sign to flip.

    Raises:
        ValueError: no shares, one that is not finite, or too many.
    """
    found = np.asarray(shares, dtype=np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"sign_flip wants finite shares [clusters], got {found}")
    moved = found[found != 0]
    if moved.size > EXACT_CLUSTERS:
        raise ValueError(f"sign_flip goes through the patterns of {EXACT_CLUSTERS} clusters at most, got {moved.size}")
    # Sums in another order differ in the last bits; what is equal in truth must count as reached.
    reached = math.fsum(moved.tolist()) - ROUNDING * float(np.abs(moved).sum())
    bits = (np.arange(1 << moved.size)[:, None] >> np.arange(moved.size)) & 1
    return float(np.mean((1.0 - 2.0 * bits) @ moved >= reached))


def exceeding_level(difference: Estimate, threshold: float = 0.0, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided p-value of "the true value is ``threshold`` at most".

    It is 0.5 at most: what is above is no evidence of anything. NaN for an estimate without spread. Repeats are as in `lower_bound`.
    """
    if not difference.bounded:
        return math.nan
    p = (
        least_level(lambda level: lower_bound(difference, level, spread, repeats) > threshold)
        if spread
        else difference.exceeding(threshold)
    )
    return min(0.5, max(p, _signs(difference, threshold)))


def _signs(difference: Estimate, threshold: float) -> float:
    """The sign flip's p-value; 0 where it has nothing to add: all clusters point one way, or they are many."""
    if difference.shares is None or difference.value <= threshold:
        return 0.0
    moved = _moved(difference, threshold)
    if (moved > 0).all() or np.count_nonzero(moved) > EXACT_CLUSTERS:
        return 0.0
    return sign_flip(moved)


def _moved(difference: Estimate, threshold: float) -> Array:
    """``[clusters]``: what each contributes to the difference beyond a threshold, rounding taken away."""
    assert difference.shares is not None
    shares, parts = difference.shares
    moved = shares - threshold * parts
    return np.where(np.abs(moved) <= ROUNDING * np.abs(shares).max(initial=0.0), 0.0, moved)


def differing(difference: Estimate) -> int:
    """Clusters with any difference; all of them for a pooled value, which has no contributions of each."""
    return difference.clusters if difference.shares is None else int(np.count_nonzero(_moved(difference, 0.0)))


def fewest_differing(level: float) -> int:
    """How many of many clusters must differ for the sign flip to be significant two-sided at ``level``."""
    return max(FEWEST, math.ceil(math.log2(2 / level)))


def lower_bound(difference: Estimate, level: float, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided lower bound of a difference whose one side was measured several times.

    The estimate holds what differs from item to item. What differs from one run to the next for all items alike (the machine's speed,
    a seed of the whole run) it cannot hold; repeats measure it, and both widths are added as independent errors are.

    Args:
        difference: to the mean of the repeats.
        level: probability that the true value lies below, in (0, 0.5].
        spread: standard deviation of the difference from repeat to repeat.
        repeats: how many there were; the spread of fewer than 2 is not known and must be 0.

    Raises:
        ValueError: as `Estimate.bound`, or a spread without repeats.
    """
    from scipy.special import stdtrit

    bound = difference.bound(level)
    if not spread or level == 0.5:
        return bound
    if repeats < 2:
        raise ValueError(f"a spread of {spread:g} over {repeats} repeats: it takes at least 2")
    run = -float(stdtrit(repeats - 1, level)) * spread * math.sqrt(1 + 1 / repeats)
    return difference.value - math.hypot(max(0.0, difference.value - bound), run)


def too_few(difference: Estimate, units: str = "independent items", effect: float | None = None, confidence: float = 0.95) -> str:
    """Why a difference decides nothing at all, with the number that could; "" where it may decide.

    Args:
        units: what its clusters are, "speakers" or "items".
        effect: how far it lies from where it would decide nothing, None where it is unknown.
        confidence: of the test, two-sided.
    """
    if difference.clusters >= FEWEST and difference.bounded:
        return ""
    told = f"{difference.clusters} {units if difference.clusters != 1 else units.removesuffix('s')}, a verdict takes at least {FEWEST}"
    if effect and difference.bounded and difference.error > 0:
        needed = clusters_needed(abs(effect) / (difference.error * math.sqrt(difference.clusters)), confidence)
        if needed is not None and needed > FEWEST:
            told += f" (about {needed:,} at the spread seen)"
    return told


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for being many (Holm 1979); rejecting those <= level keeps the chance of any false one below it.

    Raises:
        ValueError: one is not in [0, 1].
    """
    if not all(0 <= each <= 1 for each in p):
        raise ValueError(f"holm wants p-values in [0, 1], got {list(p)}")
    found = np.asarray(p, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    out = np.empty_like(found)
    # The least is multiplied by the number of all, the next by one fewer; no corrected value is below one of a smaller p.
    out[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(found.size, 0, -1) * found[order]))
    return [float(each) for each in out]
