"""Whether intervals and verdicts keep what they say, by simulation through the functions that make them.

    python -m pytest tests/unit/test_statistics_coverage.py -m slow -s

prints the tables: coverage of 95 % intervals, and how often a verdict is false, for 2 to 40 speakers of equal and unequal sizes. The
quick tests beside it run a part of the same with fewer draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from reports.intervals import Array, Interval, Range, WeightedMean, interval, paired_interval, pooled_interval

SPEAKERS = (2, 3, 4, 5, 6, 8, 10, 20, 40)
SIZES: dict[str, Callable[[int], list[int]]] = {
    "equal": lambda count: [6] * count,
    "1:2:4": lambda count: [min(2**i, 32) for i in range(count)],
    "one large": lambda count: [40] + [4] * (count - 1),
}
WORDS = 10
SHARE = Range((0.0, 1.0), 0.0, counted=True)
ERRORS = Range((0.0, math.inf), 1.0, counted=True)
LEAST = 0.93


@dataclass(frozen=True)
class Draw:
    """Items of one simulated corpus.

    Args:
        latent: ``[n]`` standard normal, correlated within speakers.
        noise: ``[n]`` standard normal, independent.
        labels: ``[n]`` speakers.
    """

    latent: Array
    noise: Array
    labels: list[str]


def drawn(rng: np.random.Generator, sizes: Sequence[int], icc: float) -> Draw:
    member = np.repeat(np.arange(len(sizes)), sizes)
    latent = math.sqrt(icc) * rng.standard_normal(len(sizes))[member] + math.sqrt(1 - icc) * rng.standard_normal(member.size)
    return Draw(latent, rng.standard_normal(member.size), [f"s{m:02d}" for m in member])


def errors(latent: Array) -> Array:
    """Word error rates: two thirds of the items without an error, the others up to all words and more."""
    return np.asarray(np.round(WORDS * np.maximum(0.0, 0.35 * (latent - 0.25))) / WORDS)


def words(noise: Array) -> Array:
    """Reference words of each item, 3 to 25 or so."""
    return np.asarray(np.round(np.exp(0.5 * noise + 2.2)))


def mean_of(function: Callable[[Array], Array]) -> float:
    """The expectation over a standard normal, by quadrature."""
    grid = np.linspace(-8, 8, 160_001)
    density = np.exp(-grid * grid / 2)
    return float((function(grid) * density).sum() / density.sum())


ERROR_RATE = mean_of(errors)
WEIGHTED = mean_of(lambda z: z * words(z)) / mean_of(words)
"""Mean of a latent value weighted by its own `words`."""


def normal(d: Draw) -> tuple[Interval, float]:
    return interval(d.latent, np.ones(d.latent.size), d.labels), 0.0


def skewed(d: Draw) -> tuple[Interval, float]:
    """Items of a lognormal (skewness 1.75) whose logarithm is correlated within speakers."""
    return interval(np.exp(0.5 * d.latent), np.ones(d.latent.size), d.labels), math.exp(0.125)


def macro_wer(d: Draw) -> tuple[Interval, float]:
    return interval(errors(d.latent), np.ones(d.latent.size), d.labels, within=ERRORS), ERROR_RATE


def corpus_wer(d: Draw) -> tuple[Interval, float]:
    return interval(errors(d.latent), words(d.noise), d.labels, within=ERRORS), ERROR_RATE


def share(of: float) -> Callable[[Draw], tuple[Interval, float]]:
    def figure(d: Draw) -> tuple[Interval, float]:
        return interval((ndtr(d.latent) < of).astype(float), np.ones(d.latent.size), d.labels, within=SHARE), of

    return figure


def pooled(d: Draw) -> tuple[Interval, float]:
    """Root mean square over all items: no mean of them."""
    squares = (3 + d.latent) ** 2
    return pooled_interval(lambda c: np.sqrt((c @ squares) / c.sum(axis=1)), d.labels, resamples=200), math.sqrt(10)


def paired(d: Draw) -> tuple[Interval, float]:
    """Two systems on the same items, much harder ones among them; corpus figures with weights."""
    hard, w = 3 * d.noise, words(d.latent)
    right = WeightedMean(hard + 0.3 + d.latent - WEIGHTED, w)
    return paired_interval([(1.0, right), (-1.0, WeightedMean(hard, w))], d.labels), 0.3


FIGURES: dict[str, Callable[[Draw], tuple[Interval, float]]] = {
    "mean": normal,
    "mean, skewed": skewed,
    "macro WER": macro_wer,
    "corpus WER": corpus_wer,
    "share of .8": share(0.8),
    "share of .95": share(0.95),
    "pooled": pooled,
    "difference": paired,
}


def coverage(name: str, sizes: Sequence[int], icc: float, trials: int, seed: int = 0) -> float:
    rng, inside = np.random.default_rng(seed), 0
    for _ in range(trials):
        found, truth = FIGURES[name](drawn(rng, sizes, icc))
        assert found.low is not None and found.high is not None
        inside += found.low - 1e-9 <= truth <= found.high + 1e-9
    return inside / trials


QUICK = (
    ("mean", "equal", 0.5),
    ("mean", "1:2:4", 0.5),
    ("macro WER", "equal", 0.2),
    ("share of .95", "one large", 0.2),
    ("difference", "1:2:4", 0.2),
)


@pytest.mark.cases("B1", before="95 % intervals cover .52 with 2 speakers, .75 with 3, .86 with 4", after=".93 and more from 2 on")
@pytest.mark.parametrize(("name", "sizes", "icc"), QUICK)
def test_intervals_of_few_speakers_cover(name: str, sizes: str, icc: float) -> None:
    for count in (2, 3, 4, 6, 10):
        # Three standard errors of 150 trials below .93, which the bootstrap missed by far.
        assert coverage(name, SIZES[sizes](count), icc, 150, seed=count) >= LEAST - 3 * math.sqrt(0.93 * 0.07 / 150)
