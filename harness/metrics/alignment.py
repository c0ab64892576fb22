"""Which signals can be measured at all, and over which samples: the one length policy of every metric that compares two; time warping.

*Length policy.* A codec's output is as long as its input. Outputs made elsewhere may be padded to a whole frame, or lack the last
partial one. So a difference of up to 120 ms (one frame of the slowest codec here, 8.3 Hz) or 1 % of the reference (long recordings),
but never more than 10 % of it (short ones), is tolerated: both sides are cut to the common length and the ratio is kept in the
counts of the evidence as ``length_ratio``. Anything beyond is not scorable, by the output's fault. Nothing is stretched, padded or
shifted.

*Blame.* The reference is examined first: what is wrong with it is wrong for every system. Only then is the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray, NotScorable, Sample, Scalar, Side, Signal

SILENT_PEAK = 2.0**-15
"""One step of 16-bit audio: a signal that never leaves its own mean by more is silent."""

TOLERANCE_S = 0.12
TOLERANCE_SHARE = 0.01
TOLERANCE_MOST = 0.10

Float64Array = npt.NDArray[np.float64]

USUAL_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
RATE_TOLERANCE = 0.005

LENGTH_POLICY = "common length within min(max(120 ms, 1 %), 10 %)"
POLICY: Mapping[str, Scalar] = {"length": LENGTH_POLICY}
"""The policy as it stands in the signatures."""

SILENCE_DBFS = -80.0
"""RMS below which a model has nothing to judge, in dB re full scale: under the least step of 16-bit PCM almost everywhere."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two mono signals at one rate, finite and not silent."""

    reference: FloatArray  # float32 ``[N]``
    output: FloatArray  # float32 ``[N]``; of another length only from `unaligned_pair`
    sample_rate: int  # of both, in Hz
    length_ratio: float  # samples of the output over samples of the reference, before anything was cut

    @property
    def duration_s(self) -> float:
        return self.reference.size / self.sample_rate

    def counts(self, **more: float) -> dict[str, float]:
        """What every comparison keeps: the length ratio, and what the metric adds."""
        return {"length_ratio": self.length_ratio, **{name: float(value) for name, value in more.items()}}


def aligned_pair(sample: Sample, sample_rate: int, shortest_s: float = 0.0) -> Pair:
    """Reference and output over their common length, at ``sample_rate`` Hz.

    Raises:
        NotScorable: a side is empty, holds NaN or Inf, is silent or too short; or the lengths differ beyond the policy.
    """
    pair = unaligned_pair(sample, sample_rate)
    n_reference, n_output = pair.reference.size, pair.output.size
    if abs(n_output - n_reference) > length_tolerance(n_reference, sample_rate):
        seconds = f"{n_output / sample_rate:.3f} s against {n_reference / sample_rate:.3f} s of the reference"
        raise NotScorable(Side.OUTPUT, f"length ratio {pair.length_ratio:.4f}: {seconds}{_mislabelled(sample, pair.length_ratio)}")
    require_duration(n_reference / sample_rate, shortest_s, Side.REFERENCE)
    require_duration(n_output / sample_rate, shortest_s, Side.OUTPUT)
    n = min(n_reference, n_output)
    reference, output = pair.reference[:n], pair.output[:n]
    require_audible(reference, Side.REFERENCE)
    require_audible(output, Side.OUTPUT)
    return Pair(reference, output, sample_rate, pair.length_ratio)


def unaligned_pair(sample: Sample, sample_rate: int, shortest_s: float = 0.0) -> Pair:
    """Reference and output, each whole, for measures that do their own alignment or need none.

    Raises:
        NotScorable: a side is empty, holds NaN or Inf, is silent or shorter than ``shortest_s``.
    """
    reference = scorable(sample.require_reference(), Side.REFERENCE, sample_rate, shortest_s)
    output = scorable(sample.output, Side.OUTPUT, sample_rate, shortest_s)
    return Pair(reference, output, sample_rate, output.size / reference.size)


def _mislabelled(sample: Sample, length_ratio: float) -> str:
    """A hint where the lengths would agree if the output's samples were of another usual rate than the one it states, else ""."""
    stated = sample.output.audio.sample_rate
    for rate in USUAL_RATES:
        if rate != stated and abs(length_ratio * stated / rate - 1) < RATE_TOLERANCE:
            return f", as if samples at {rate / 1000:g} kHz were called {stated / 1000:g} kHz"
    return ""


def length_tolerance(num_samples: int, sample_rate: int) -> float:
    """By how many samples an output may differ from a reference of ``num_samples``."""
    return min(max(TOLERANCE_S * sample_rate, TOLERANCE_SHARE * num_samples), TOLERANCE_MOST * num_samples)


def scorable(signal: Signal, side: Side, sample_rate: int, shortest_s: float = 0.0) -> FloatArray:
    """Mono ``[N]`` of one side at ``sample_rate``.

    Raises:
        NotScorable: empty, NaN or Inf, silent, or shorter than ``shortest_s``.
    """
    if signal.audio.num_samples == 0:
        raise NotScorable(side, "no samples")
    require_finite(signal, side)
    # Silence is looked for before resampling, whose ringing at the ends turns a constant into something that moves.
    require_audible(signal.at(signal.audio.sample_rate), side)
    samples = signal.at(sample_rate)
    require_duration(samples.size / sample_rate, shortest_s, side)
    return samples


def require_finite(signal: Signal, side: Side) -> None:
    """Raises NotScorable when a sample is NaN or Inf."""
    broken = signal.derive(
        "non-finite samples", lambda: int(signal.audio.samples.size - np.count_nonzero(np.isfinite(signal.audio.samples)))
    )
    if broken:
        raise NotScorable(side, f"{broken} of {signal.audio.samples.size} samples are NaN or Inf")


def require_duration(duration_s: float, shortest_s: float, side: Side) -> None:
    """Raises NotScorable below ``shortest_s``."""
    if duration_s < shortest_s:
        raise NotScorable(side, f"{duration_s:.3f} s, needs {shortest_s:g} s")


def require_audible(samples: FloatArray, side: Side) -> None:
    """Raises NotScorable when ``samples [N]`` are silent (a constant is silent too)."""
    if samples.size == 0:
        raise NotScorable(side, "no samples")
    peak = float(samples.max() - samples.min()) / 2
    if peak < SILENT_PEAK:
        raise NotScorable(side, f"silent: half the peak-to-peak range is {peak:.2g} of full scale, less than one 16-bit step")


def judged(signal: Signal, sample_rate: int, side: Side) -> FloatArray:
    """What a model is given of one side: mono ``[N]`` at ``sample_rate`` Hz, N >= 1, finite.

    Raises:
        NotScorable: no samples, or NaN or Inf among them; blamed on ``side``.
    """
    if signal.audio.num_samples == 0:
        raise NotScorable(side, "0 samples")
    if not np.isfinite(signal.audio.samples).all():
        raise NotScorable(side, f"{int((~np.isfinite(signal.audio.samples)).sum())} samples are NaN or Inf")
    samples = signal.at(sample_rate)
    if samples.size == 0:
        raise NotScorable(side, f"0 samples at {sample_rate} Hz")
    return samples


def audible(signal: Signal, sample_rate: int, side: Side, at_least_s: float = 0.0) -> FloatArray:
    """As `judged`, and neither silent nor shorter than ``at_least_s`` seconds.

    Raises:
        NotScorable: blamed on ``side``.
    """
    samples = judged(signal, sample_rate, side)
    duration_s = samples.size / sample_rate
    if duration_s < at_least_s:
        raise NotScorable(side, f"{duration_s:.3g} s, needs {at_least_s:g} s")
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    level_dbfs = 10 * float(np.log10(power)) if power > 0 else -float("inf")
    if level_dbfs < SILENCE_DBFS:
        raise NotScorable(side, f"silent ({level_dbfs:.0f} dBFS)")
    return samples


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


def warp(a: Float64Array, b: Float64Array, half_width: int) -> tuple[float, int]:
    """Dynamic time warping: the sum of the Euclidean distances along the cheapest path, and the pairs of frames on it.

    Aligns ``a [T1, D]`` with ``b [T2, D]``, both ends fixed, steps (1, 0), (0, 1) and (1, 1) of weight one (Sakoe and Chiba 1978).

    Args:
        a: frames along which the band runs.
        half_width: frames of ``b`` to either side of the diagonal from corner to corner that may be visited; widened where the slope of the
            diagonal would tear the band.

    Raises:
        ValueError: a side has no frame.
    """
    if a.shape[0] == 0 or b.shape[0] == 0:
        raise ValueError("time warping needs at least one frame on either side")
    slope = (b.shape[0] - 1) / max(a.shape[0] - 1, 1)
    found = compiled(banded_path)(np.ascontiguousarray(a), np.ascontiguousarray(b), slope, max(half_width, int(np.ceil(slope)) + 1))
    return float(found[0]), int(found[1])


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
