"""First-order entropy, of a histogram and of what a histogram of few tokens is a sample of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Float64Array = npt.NDArray[np.float64]


def figures_of(counts: csr_array, weights: Float64Array, size: int) -> Float64Array:
    """Tokens, use, entropy in bits and coverage under each of r resamples: ``[4, r]``.

    An item that counts twice brings no token twice into the estimate of what was not seen: its tokens would no longer be singletons, and
    the entropy of every resample would come out too low. So the correction is that of the items present, each once, and the repetitions
    move the histogram only.

    Args:
        counts: ``[entries, n]``.
        weights: ``[n, r]``, how often each item counts.
        size: V of the codebook.
    """
    histogram = counts @ weights
    present = (weights > 0).astype(np.float64)
    seen = histogram if np.array_equal(present, weights) else counts @ present
    entropy = first_order_entropy(seen)
    if seen is not histogram:
        entropy += _plug_in(histogram) - _plug_in(seen)
    tokens, distinct = histogram.sum(axis=0), seen.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        coverage = 1 - np.count_nonzero(seen == 1, axis=0) / distinct
    use = np.where(tokens > 0, np.count_nonzero(histogram > 0, axis=0) / size, np.nan)
    return np.stack([tokens, use, np.clip(entropy, 0.0, math.log2(size)), coverage])


def _plug_in(histogram: Float64Array) -> Float64Array:
    """Entropy in bits of the histogram itself, of each column of ``[entries, r]``; NaN of an empty one."""
    n = histogram.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if most := _whole_up_to(histogram):
            x = np.arange(most + 1, dtype=np.float64)
            terms: Float64Array = (x * np.log2(np.maximum(x, 1.0)))[histogram.astype(np.int32)]
        else:
            terms = histogram * np.log2(np.where(histogram > 0, histogram, 1.0))
        entropy: Float64Array = np.log2(n) - terms.sum(axis=0) / n
    return entropy


def _whole_up_to(histogram: Float64Array) -> int:
    """The largest count where all are whole numbers and few enough to be looked up (a logarithm each costs five times that), else 0."""
    most = float(histogram.max(initial=1.0))
    return int(most) if most <= 1 << 20 and np.array_equal(histogram, np.rint(histogram)) else 0


def first_order_entropy(histogram: npt.NDArray[Any]) -> Float64Array:
    """Entropy in bits per token of what each column of ``histogram [entries, r]`` is a sample of: ``[r]``, NaN of an empty one.

    Whole numbers are wanted, of independent tokens.

    After Chao, Wang and Jost 2013 ("Entropy and the species accumulation curve for sampled communities"): what the sample can know is taken
    without bias, and the rest is carried on from the numbers of entries seen once and twice. Simulated for 200 to 5,000 tokens of 256 to
    16,384 entries (uniform, Zipf, log-normal) the bias where coverage is at least one half is -.7 to 0 bits, against -1.2 to +.2 of Chao
    and Shen 2003, -1.6 to 0 of Miller and Madow and -2.0 to 0 of the plain histogram; from .7 on -.25 to 0. Of QDAC-16 over 60 recordings
    (10,400 tokens a codebook, 10.5 bits) 8 recordings gave 10.4 and 16 gave 10.5; the plain histogram 9.5, 9.9 and 10.4 of all.
    """
    from scipy.special import digamma

    x = np.asarray(histogram, dtype=np.int64)
    n = x.sum(axis=0).astype(np.float64)
    most = int(x.max(initial=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        if most <= 1 << 20:
            times = np.arange(most + 1) * digamma(np.maximum(np.arange(most + 1), 1))
            nats = digamma(n) - times[x].sum(axis=0) / n
        else:
            nats = digamma(n) - (x * digamma(np.maximum(x, 1))).sum(axis=0) / n
    once, twice = np.count_nonzero(x == 1, axis=0), np.count_nonzero(x == 2, axis=0)
    # Mean share of one unseen entry among those seen once; without an entry seen twice the numbers are those of one more.
    rarity = np.where(twice > 0, 2 * twice / np.maximum((n - 1) * once + 2 * twice, 1), 2 / np.maximum((n - 1) * (once - 1) + 2, 2))
    some = (once > 0) & (n > 1) & (rarity < 1)
    f1, m, a = once[some], n[some], rarity[some]
    nats[some] += f1 / m * (1 - a) * _lerch(1 - a, m)
    bits: Float64Array = nats / math.log(2)
    return bits


def _lerch(q: Float64Array, m: Float64Array) -> Float64Array:
    """Sum over j >= 0 of ``q^j / (m + j)``, 0 < q < 1 <= m; to about 1e-8 of it: 40 terms, then Euler and Maclaurin."""
    from scipy.special import exp1

    terms = 40
    j = np.arange(terms)[:, None]
    rate, start = -np.log(q), m + terms
    x = rate * start
    with np.errstate(over="ignore", invalid="ignore"):
        # exp(x) E1(x), whose factors over- and underflow where the expansion takes over.
        integral = np.where(x < 100, np.exp(np.minimum(x, 100)) * exp1(np.minimum(x, 100)), (1 - 1 / x + 2 / x**2 - 6 / x**3) / x)
    beyond = integral + 0.5 / start + (rate / start + start**-2) / 12
    total: Float64Array = (q**j / (m + j)).sum(axis=0) + q**terms * beyond
    return total
