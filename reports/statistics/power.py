"""How many items it takes to see a difference, and what difference the items at hand can show.

The calculation is that of a two-sided paired t-test over clusters, by the non-central t distribution; what varies from cluster to
cluster is taken from the measured difference itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from reports.statistics.intervals import Estimate

POWER = 0.8
MOST_CLUSTERS = 1 << 23
"""Beyond this many the answer is "not with recordings"."""
STEPS = 60


@dataclass(frozen=True)
class Advice:
    """What it takes to see a difference.

    Args:
        effect: the difference, in the metric's stored unit.
        power: chance of a significant result if the true difference is that large.
        confidence: 1 minus the level of the test.
        clusters: speakers (items, where each is its own cluster) needed, None where more than `MOST_CLUSTERS`.
        items: needed at as many items a cluster as now, None likewise.
        visible: the smallest difference that the present clusters show with this power, None where they are too few.
    """

    effect: float
    power: float
    confidence: float
    clusters: int | None
    items: int | None
    visible: float | None


def advice(difference: Estimate, effect: float, power: float = POWER, confidence: float = 0.95) -> Advice | None:
    """Sample-size advice from a measured paired difference; None where nothing varies or there is but one cluster.

    Raises:
        ValueError: an effect that is not above 0, or a power or confidence outside (0, 1).
    """
    if not difference.bounded or difference.error <= 0:
        return None
    deviation = difference.error * math.sqrt(difference.clusters)
    clusters = clusters_needed(effect / deviation, power, confidence)
    items = None if clusters is None else math.ceil(clusters * difference.n / difference.clusters)
    return Advice(effect, power, confidence, clusters, items, deviation * visible_effect(difference.clusters, power, confidence))


def paired_power(effect: float, clusters: int, confidence: float = 0.95) -> float:
    """Chance that the two-sided t-test of ``clusters`` differences is significant.

    Args:
        effect: true mean difference over the standard deviation of the differences.
        clusters: >= 2.
        confidence: 1 minus the level.
    """
    from scipy.special import nctdtr, stdtrit

    edge = float(stdtrit(clusters - 1, (1 + confidence) / 2))
    shift = abs(effect) * math.sqrt(clusters)
    # The far tail counts as well: at no effect the chance is the level itself. Far from it scipy's series ends in NaN, where the chance is 1 or 0.
    above, below = (float(nctdtr(clusters - 1, shift, at)) for at in (edge, -edge))
    return 1.0 - (0.0 if math.isnan(above) else above) + (0.0 if math.isnan(below) else below)


def clusters_needed(effect: float, power: float = POWER, confidence: float = 0.95) -> int | None:
    """Smallest number of clusters with which a standardised effect is seen; None above `MOST_CLUSTERS`.

    Raises:
        ValueError: as `advice`.
    """
    if not (effect > 0 and 0 < power < 1 and 0 < confidence < 1):
        raise ValueError(f"sample-size advice wants effect > 0 and power and confidence in (0, 1), got {effect}, {power}, {confidence}")
    if paired_power(effect, MOST_CLUSTERS, confidence) < power:
        return None
    return bisect_left(range(MOST_CLUSTERS), power, lo=2, key=lambda clusters: paired_power(effect, clusters, confidence))


def visible_effect(clusters: int, power: float = POWER, confidence: float = 0.95) -> float:
    """The standardised effect that so many clusters show with this power."""
    low, high = 0.0, 1.0
    while paired_power(high, clusters, confidence) < power:
        high *= 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if paired_power(middle, clusters, confidence) >= power else (middle, high)
    return high
