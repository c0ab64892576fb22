"""Sample by sample: scale-invariant SDR and the delay that spoils it, level, clipping, length. Nothing is ever normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FloatArray, MetricInfo, Need, NotScorable, Sample, Scalar, Side, Signal
from harness.metrics.alignment import POLICY, Pair, aligned_pair, require_finite, unaligned_pair
from harness.metrics.declaration import ON_ARRAYS, Measured, declared, on_arrays, signal_of

SAMPLE_RATE_HZ = 16000
SATURATION_DB = 100.0
"""Beyond +-100 dB the ratio says more about rounding than about the system; float32 identity would be infinite."""

MAX_LAG_S = 1.0
"""Delays are looked for within +-1 s: the slowest codec's look-ahead, the silence that a recorder puts before, a stream's first chunk."""

MEANINGFUL_PEAK = 0.3
"""Correlation below which a lag says nothing: -10 dB of SI-SDR. The best over +-1 s of another sentence is .06 (median of 130 pairs, embedded
and human) and .26 at most, of noise .02."""

SHORTEST_S = 0.02


@dataclass(frozen=True)
class LagEstimate:
    """A delay found by cross-correlation."""

    lag_samples: int  # positive when the output is late
    correlation: float  # normalised cross-correlation at that lag, -1..1; near 0 the lag means nothing, negative says inverted polarity

    @property
    def meaningful(self) -> bool:
        """Whether the two signals have so much in common that one can be called late."""
        return abs(self.correlation) >= MEANINGFUL_PEAK


def scale_invariant_db(reference: npt.NDArray[np.floating], output: npt.NDArray[np.floating]) -> float:
    """Scale-invariant signal-to-distortion ratio of ``[N]`` and ``[N]`` in dB, limited to +-`SATURATION_DB`.

    After Le Roux et al. 2019 ("SDR - half-baked or well done?", eq. 3-5).

    Means are removed first, as the definition's zero-mean signals demand: a DC offset of 0.02 otherwise costs 12 dB.

    Raises:
        ValueError: lengths differ or a side has no energy.
    """
    if reference.shape != output.shape:
        raise ValueError(f"SI-SDR wants equal lengths, got {reference.shape} and {output.shape}")
    s = reference.astype(np.float64) - np.mean(reference, dtype=np.float64)
    y = output.astype(np.float64) - np.mean(output, dtype=np.float64)
    s_energy, y_energy = _inner(s, s), _inner(y, y)
    if s_energy == 0.0 or y_energy == 0.0:
        raise ValueError("SI-SDR is undefined for a constant signal")
    target = (_inner(y, s) / s_energy) * s
    error = y - target
    target_energy, error_energy = _inner(target, target), _inner(error, error)
    floor = 10 ** (-SATURATION_DB / 10) * y_energy
    return float(np.clip(10 * np.log10(max(target_energy, floor) / max(error_energy, floor)), -SATURATION_DB, SATURATION_DB))


def _inner(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Inner product by numpy's own summation: that of the linear algebra library depends on its number of threads in the last bits."""
    return float(np.sum(a * b))


def estimate_lag(reference: npt.NDArray[np.floating], output: npt.NDArray[np.floating], max_lag: int) -> LagEstimate:
    """The delay of ``output [N]`` behind ``reference [N]``: the largest magnitude of the cross-correlation of the zero-mean signals.

    The magnitude, so that a system that inverts the polarity is aligned as well. Searched within
    +-max_lag samples; of equal peaks the smallest delay wins.
    """
    s = reference.astype(np.float64) - np.mean(reference, dtype=np.float64)
    y = output.astype(np.float64) - np.mean(output, dtype=np.float64)
    max_lag = min(max_lag, s.size - 1)
    from scipy import fft

    size = fft.next_fast_len(s.size + max_lag, real=True)  # room for max_lag zeros: no wrap-around into the searched lags
    circular = fft.irfft(np.conj(fft.rfft(s, size)) * fft.rfft(y, size), size)
    lags = np.arange(-max_lag, max_lag + 1)
    correlation = circular[lags]
    # Rounding of the transform must not decide between equal peaks.
    best = np.flatnonzero(np.abs(correlation) >= np.abs(correlation).max() * (1 - 1e-9))
    at = best[np.argmin(np.abs(lags[best]))]
    energy = float(np.sqrt(_inner(s, s) * _inner(y, y)))
    return LagEstimate(int(lags[at]), float(np.clip(correlation[at] / energy, -1, 1)) if energy > 0 else 0.0)


_PAIR: dict[str, Any] = {"version": "2", "sample_rate": SAMPLE_RATE_HZ}
_RATIO: dict[str, Any] = {**_PAIR, "unit": "dB", "better": Better.HIGHER, "bounds": (-SATURATION_DB, SATURATION_DB)}


@on_arrays(lambda: {"zero_mean": True, **POLICY}, **_RATIO)
def si_sdr_db(sample: Sample) -> Evidence:
    """Scale-invariant SDR of the output as it is, in dB within +-100, higher is better; at 16 kHz, means removed (Le Roux et al. 2019).

    One sample of delay costs several dB. So that a delay is not taken for distortion, each item's counts in a run say how late the output
    is: ``lag_samples`` (at 16 kHz, positive when late, within +-1 s) and ``correlation`` (at that lag, -1..1). The same lag on every item
    with a peak of `MEANINGFUL_PEAK` or more is a constant delay; peaks below it are of outputs that keep no waveform, or of delays beyond
    the search, and their lags mean nothing. ``aligned_db`` is the figure without the delay, where the lag is not 0 and means something.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than 20 ms, or lengths differ beyond the policy.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> round(si_sdr_db(clean.samples, noisy(clean, 20).samples, 16000))
    20
    """
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, SHORTEST_S)
    found = _lag(sample, pair)
    told: dict[str, float] = {"lag_samples": found.lag_samples, "correlation": found.correlation}
    if found.lag_samples and found.meaningful:
        reference, output = _overlap(pair, found.lag_samples)
        if np.ptp(reference) > 0 and np.ptp(output) > 0:
            told["aligned_db"] = scale_invariant_db(reference, output)
    return _evidence(scale_invariant_db(pair.reference, pair.output), pair, {}, **told)


@on_arrays(lambda: {"zero_mean": True, "max_lag_s": MAX_LAG_S, **POLICY}, **_RATIO)
def si_sdr_aligned_db(sample: Sample) -> Evidence:
    """SI-SDR after the whole-sample delay of the output has been taken out; the difference to `si_sdr_db` is the delay's doing.

    Raises:
        NotScorable: as `si_sdr_db`, or a side is silent where both still are once the delay is out.

    >>> import numpy as np
    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> late = np.roll(noisy(clean, 20).samples, 5)
    >>> round(si_sdr_db(clean.samples, late, 16000)) < round(si_sdr_aligned_db(clean.samples, late, 16000))
    True
    """
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, SHORTEST_S)
    found = _lag(sample, pair)
    lag = found.lag_samples
    reference, output = _overlap(pair, lag)
    for samples, side in ((reference, Side.REFERENCE), (output, Side.OUTPUT)):
        if not np.ptp(samples) > 0:
            raise NotScorable(side, f"silent over the overlap left after removing a lag of {lag} samples")
    return _evidence(scale_invariant_db(reference, output), pair, _meaningless(found), lag_samples=lag, correlation=found.correlation)


@on_arrays(
    lambda: {"max_lag_s": MAX_LAG_S, **POLICY},
    unit="samples",
    bounds=(-MAX_LAG_S * SAMPLE_RATE_HZ, MAX_LAG_S * SAMPLE_RATE_HZ),
    **_PAIR,
)
def lag_samples(sample: Sample) -> Evidence:
    """Delay of the output in samples at 16 kHz, positive when late, within +-1 s: the peak of the cross-correlation (`estimate_lag`).

    Raises:
        NotScorable: as `si_sdr_db`.

    >>> import numpy as np
    >>> from harness.testing.laws import speechlike
    >>> clean = speechlike(1.0, sample_rate=48000).samples
    >>> lag_samples(clean, np.roll(clean, 30), 48000)
    10.0
    """
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, SHORTEST_S)
    found = _lag(sample, pair)
    return Evidence(float(found.lag_samples), counts=pair.counts(correlation=found.correlation), detail=_meaningless(found))


def _lag(sample: Sample, pair: Pair) -> LagEstimate:
    """The lag of a sample's pair, found once however many metrics ask."""
    return sample.output.derive(
        ("lag", sample.require_reference()), lambda: estimate_lag(pair.reference, pair.output, round(MAX_LAG_S * pair.sample_rate))
    )


def _overlap(pair: Pair, lag: int) -> tuple[FloatArray, FloatArray]:
    """Reference and output where both are, once the output has been moved by ``lag`` samples."""
    n = pair.reference.size
    return pair.reference[max(0, -lag) : n - max(0, lag)], pair.output[max(0, lag) : n - max(0, -lag)]


def _meaningless(found: LagEstimate) -> dict[str, Scalar]:
    return {} if found.meaningful else {"lag_meaningless": True}


def _evidence(value_db: float, pair: Pair, detail: Mapping[str, Scalar], **counts: float) -> Evidence:
    saturated = {"saturated": True} if abs(value_db) >= SATURATION_DB else {}
    return Evidence(value_db, counts=pair.counts(**counts), detail={**detail, **saturated})


LUFS_RATE_HZ = 48000
"""The rate for which BS.1770 gives its filter coefficients."""

BLOCK_S = 0.4
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0

SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
"""K-weighting at 48 kHz: numerators and denominators of ITU-R BS.1770-4, tables 1 and 2."""

CLIP_LEVEL = 32767 / 32768
"""The largest positive value of 16-bit audio: a sample at or beyond it, of either sign, is counted as clipped."""


def rms_db(samples: FloatArray) -> float:
    """Root mean square of ``samples [N]`` without their mean, in dB re full scale (a full-scale sine is -3.01)."""
    return float(20 * np.log10(np.std(samples, dtype=np.float64)))


def loudness_lufs(samples: npt.NDArray[np.floating]) -> float | None:
    """Integrated loudness of mono ``samples [N]`` at 48 kHz after ITU-R BS.1770-4, or None where every block lies below the absolute gate.

    K-weighting, 400 ms blocks overlapping by 75 %, gates at -70 LUFS and 10 LU below the mean of what passed. A 997 Hz sine of full scale
    gives -3.01.

    Raises:
        ValueError: shorter than one block.
    """
    from scipy.signal import lfilter

    block, hop = round(BLOCK_S * LUFS_RATE_HZ), round(BLOCK_S * LUFS_RATE_HZ / 4)
    if samples.size < block:
        raise ValueError(f"loudness wants at least {BLOCK_S} s")
    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples.astype(np.float64)))
    quarters = np.square(weighted[: samples.size // hop * hop]).reshape(-1, hop).sum(axis=1)
    energy = (quarters[:-3] + quarters[1:-2] + quarters[2:-1] + quarters[3:]) / block
    energy = energy[energy > 10 ** ((ABSOLUTE_GATE_LUFS + 0.691) / 10)]
    if energy.size == 0:
        return None
    energy = energy[energy > energy.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return float(-0.691 + 10 * np.log10(energy.mean()))


def _info(sample_rate: int | None, unit: str, low: float = -math.inf) -> dict[str, Any]:
    return {"sample_rate": sample_rate, "unit": unit, "bounds": (low, math.inf)}


@on_arrays(**_info(SAMPLE_RATE_HZ, "dB"))
def level_rms_db(sample: Sample) -> Evidence:
    """Level of the output minus that of the reference, in dB: root mean squares without means, over each whole length, at 16 kHz.

    Raises:
        NotScorable: a side is empty, silent or not finite.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(level_rms_db(speech, speech / 2, 16000), 2)
    -6.02
    """
    pair = unaligned_pair(sample, SAMPLE_RATE_HZ)
    reference, output = rms_db(pair.reference), rms_db(pair.output)
    return Evidence(output - reference, counts=pair.counts(reference_db=reference, output_db=output))


@on_arrays(lambda: {"block_s": BLOCK_S, "gates": "-70 LUFS, -10 LU"}, **_info(LUFS_RATE_HZ, "dB"))
def level_lufs_db(sample: Sample) -> Evidence:
    """Loudness of the output minus that of the reference, in LU: integrated loudness after ITU-R BS.1770-4 (`loudness_lufs`), at 48 kHz.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .4 s, or has no 400 ms above the gate of -70 LUFS.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(level_lufs_db(speech, speech / 2, 16000), 2)
    -6.02
    """
    pair = unaligned_pair(sample, LUFS_RATE_HZ, BLOCK_S)
    reference = _loudness(sample.require_reference(), Side.REFERENCE)
    output = _loudness(sample.output, Side.OUTPUT)
    return Evidence(output - reference, counts=pair.counts(reference_lufs=reference, output_lufs=output))


def _loudness(signal: Signal, side: Side) -> float:
    value = signal.derive("BS.1770 loudness", lambda: loudness_lufs(signal.at(LUFS_RATE_HZ)))
    if value is None:
        raise NotScorable(side, f"no 400 ms above the gate of {ABSOLUTE_GATE_LUFS:g} LUFS")
    return value


@on_arrays(**_info(None, "", 0.0))
def length_ratio(sample: Sample) -> Evidence:
    """Duration of the output over that of the reference, each at its own rate.

    Raises:
        NotScorable: a side is empty or not finite.

    >>> length_ratio([0.1] * 16000, [0.1] * 12000, 16000)
    0.75
    """
    reference_s, output_s = sample.require_reference().audio.duration_s, sample.output.audio.duration_s
    for side, signal in ((Side.REFERENCE, sample.require_reference()), (Side.OUTPUT, sample.output)):
        require_finite(signal, side)
        if signal.audio.num_samples == 0:
            raise NotScorable(side, "no samples")
    return Evidence(output_s / reference_s, counts={"reference_s": reference_s, "output_s": output_s})


def _clipped_info() -> MetricInfo:
    about = {**_info(None, "samples", 0.0), "better": Better.LOWER, "params": {"level": CLIP_LEVEL}}
    return declared("clipped_samples", Need.OUTPUT, **about)


def _clipped(sample: Sample) -> Evidence:
    samples = sample.output.audio.samples
    if samples.size == 0:
        raise NotScorable(Side.OUTPUT, "no samples")
    require_finite(sample.output, Side.OUTPUT)
    magnitude = np.abs(samples)
    counts = {"samples": float(samples.size), "beyond_full_scale": float(np.count_nonzero(magnitude > 1))}
    if sample.reference is not None:
        counts["clipped_in_reference"] = float(np.count_nonzero(np.abs(sample.reference.audio.samples) >= CLIP_LEVEL))
    return Evidence(float(np.count_nonzero(magnitude >= CLIP_LEVEL)), counts=counts)


def clipped_samples(output: npt.ArrayLike) -> float:
    """Samples of the output at or beyond 32767/32768 of full scale, of either sign, in all its channels.

    Args:
        output: float ``[N]`` or ``[C, N]``, full scale at +-1.

    Raises:
        NotScorable: empty or not finite.

    >>> clipped_samples([0.5, 1.0, -1.2, 0.99])
    2.0
    """
    return _clipped(Sample(ON_ARRAYS, signal_of(output, LUFS_RATE_HZ))).value


clipped_samples.metric = partial(Measured, _clipped_info, _clipped)  # type: ignore[attr-defined]
