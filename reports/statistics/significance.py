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
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reports.statistics.intervals import FEW, ROUNDING, Array, Estimate, least_level
from reports.statistics.power import clusters_needed

FEWEST = FEW
"""The smallest number of clusters whose signs, all alike, are significant two-sided at 5 % (2 / 2^6)."""
EXACT_CLUSTERS = 13
"""Up to here all sign patterns are gone through; so many signs and more leave a normal difference to Student's t."""


def sign_flip(shares: npt.ArrayLike) -> float:
    """One-sided p-value of "the sum of the shares is zero at most", of `EXACT_CLUSTERS` shares other than 0 at most.

    Args:
        shares: ``[clusters]`` contributions to a difference (`reports.statistics.intervals.Estimate.shares`); one without a difference has no
            sign to flip.

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


def exceeding_level(figure: Estimate, threshold: float = 0.0, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided p-value of "the true figure is ``threshold`` at most".

    Args:
        figure: the difference.
        threshold: in its unit.
        spread, repeats: as in `lower_bound`.

    Returns:
        0.5 at most: what is above is no evidence of anything. NaN for a figure without spread.
    """
    if not figure.bounded:
        return math.nan
    p = least_level(lambda level: lower_bound(figure, level, spread, repeats) > threshold) if spread else figure.exceeding(threshold)
    return min(0.5, max(p, _signs(figure, threshold)))


def _signs(figure: Estimate, threshold: float) -> float:
    """The sign flip's p-value; 0 where it has nothing to add: all clusters point one way, or they are many."""
    if figure.shares is None or figure.value <= threshold:
        return 0.0
    moved = _moved(figure, threshold)
    if (moved > 0).all() or np.count_nonzero(moved) > EXACT_CLUSTERS:
        return 0.0
    return sign_flip(moved)


def _moved(figure: Estimate, threshold: float) -> Array:
    """``[clusters]``: what each contributes to the figure beyond a threshold, rounding taken away."""
    assert figure.shares is not None
    shares, parts = figure.shares
    moved = shares - threshold * parts
    return np.where(np.abs(moved) <= ROUNDING * np.abs(shares).max(initial=0.0), 0.0, moved)


def differing(figure: Estimate) -> int:
    """Clusters with any difference; all of them for a pooled figure, which has no contributions of each."""
    return figure.clusters if figure.shares is None else int(np.count_nonzero(_moved(figure, 0.0)))


def fewest_differing(level: float) -> int:
    """How many of many clusters must differ for the sign flip to be significant two-sided at ``level``."""
    return max(FEWEST, math.ceil(math.log2(2 / level)))


def lower_bound(figure: Estimate, level: float, spread: float = 0.0, repeats: int = 1) -> float:
    """One-sided lower bound of a difference whose one side was measured several times.

    The estimate holds what differs from item to item. What differs from one run to the next for all items alike (the machine's speed,
    a seed of the whole run) it cannot hold; repeats measure it, and both widths are added as independent errors are.

    Args:
        figure: the difference to the mean of the repeats.
        level: probability that the true figure lies below, in (0, 0.5].
        spread: standard deviation of the figure from repeat to repeat.
        repeats: how many there were; the spread of fewer than 2 is not known and must be 0.

    Raises:
        ValueError: as `Estimate.bound`, or a spread without repeats.
    """
    from scipy.special import stdtrit

    bound = figure.bound(level)
    if not spread or level == 0.5:
        return bound
    if repeats < 2:
        raise ValueError(f"a spread of {spread:g} over {repeats} repeats: it takes at least 2")
    run = -float(stdtrit(repeats - 1, level)) * spread * math.sqrt(1 + 1 / repeats)
    return figure.value - math.hypot(max(0.0, figure.value - bound), run)


def too_few(figure: Estimate, units: str = "independent items", effect: float | None = None, confidence: float = 0.95) -> str:
    """Why a figure decides nothing at all, with the number that could; "" where it may decide.

    Args:
        figure: the difference.
        units: what its clusters are, "speakers" or "items".
        effect: how far the figure lies from where it would decide nothing, None where it is unknown.
        confidence: of the test, two-sided.
    """
    if figure.clusters >= FEWEST and figure.bounded:
        return ""
    told = f"{figure.clusters} {units if figure.clusters != 1 else units.removesuffix('s')}, a verdict takes at least {FEWEST}"
    if effect and figure.bounded and figure.error > 0:
        needed = clusters_needed(abs(effect) / (figure.error * math.sqrt(figure.clusters)), confidence=confidence)
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
    order = sorted(range(len(p)), key=p.__getitem__)
    out, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        out[index] = highest
    return out
