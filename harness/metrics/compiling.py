"""Plain loops in machine code: what makes them so, and dynamic time warping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` by numba, compiled at its first call and kept on disk where a place can be written."""
    from numba import njit

    made: Callable[..., Any]
    try:
        made = njit(cache=True)(function)
    except RuntimeError:  # numba found no writable place for its cache: every process then compiles for itself, a few seconds
        made = njit(cache=False)(function)
    return made


@dataclass(frozen=True)
class Path:
    """The cheapest alignment.

    Args:
        cost: sum of the Euclidean distances along the path.
        steps: pairs of frames on it.
    """

    cost: float
    steps: int


def warp(a: Float64Array, b: Float64Array, half_width: int) -> Path:
    """Aligns ``a [T1, D]`` with ``b [T2, D]``, both ends fixed, steps (1, 0), (0, 1) and (1, 1) of weight one (Sakoe and Chiba 1978).

    Args:
        a: frames along which the band runs.
        b: the other frames.
        half_width: frames of ``b`` to either side of the diagonal from corner to corner that may be visited; widened where the slope of the
            diagonal would tear the band.

    Raises:
        ValueError: a side has no frame.
    """
    if a.shape[0] == 0 or b.shape[0] == 0:
        raise ValueError("time warping needs at least one frame on either side")
    slope = (b.shape[0] - 1) / max(a.shape[0] - 1, 1)
    cost, steps = compiled(banded_path)(np.ascontiguousarray(a), np.ascontiguousarray(b), slope, max(half_width, int(np.ceil(slope)) + 1))
    return Path(float(cost), int(steps))


def banded_path(a: Float64Array, b: Float64Array, slope: float, half_width: int) -> tuple[float, int]:
    """Cost and steps of the cheapest path, in two rows of memory. Plain loops, meant to be compiled. Of equal costs the diagonal wins."""
    n, m, d = a.shape[0], b.shape[0], a.shape[1]
    above = np.full(m, np.inf)
    above_steps = np.zeros(m, np.int64)
    for i in range(n):
        row = np.full(m, np.inf)
        row_steps = np.zeros(m, np.int64)
        centre = i * slope if n > 1 else 0.0
        first = max(0, int(np.ceil(centre - half_width)))
        last = min(m - 1, int(np.floor(centre + half_width)))
        if n == 1:
            last = m - 1
        for j in range(first, last + 1):
            square = 0.0
            for k in range(d):
                difference = a[i, k] - b[j, k]
                square += difference * difference
            distance = np.sqrt(square)
            if i == 0 and j == 0:
                row[j], row_steps[j] = distance, 1
                continue
            best, steps = np.inf, 0
            if i > 0 and j > 0 and above[j - 1] < best:
                best, steps = above[j - 1], above_steps[j - 1]
            if i > 0 and above[j] < best:
                best, steps = above[j], above_steps[j]
            if j > 0 and row[j - 1] < best:
                best, steps = row[j - 1], row_steps[j - 1]
            row[j], row_steps[j] = best + distance, steps + 1
        above, above_steps = row, row_steps
    return above[m - 1], above_steps[m - 1]
