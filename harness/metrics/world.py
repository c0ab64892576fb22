"""The one WORLD analysis of a signal, shared by the cepstral and the pitch measures of every system.

DIO with StoneMask and not Harvest: 39 times cheaper and the cepstral distortion moves by 1 %. No aperiodicity is computed: nothing
here needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.api import Scalar, Signal
from harness.metrics.libraries import library

SAMPLE_RATE_HZ = 16000
FRAME_S = 0.005
FRAME_SAMPLES = 80
F0_FLOOR_HZ = 71.0
F0_CEIL_HZ = 800.0
FFT_SIZE = 1024
"""CheapTrick's own choice at 16 kHz and a floor of 71 Hz."""

WARPING = 0.42
ORDER = 24
"""All-pass constant and order that follow the mel scale at 16 kHz."""

LEVEL_WINDOW_SAMPLES = 400

SHORTEST_S = 0.1

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MelCepstra:
    """Spectral envelopes as mel-cepstra.

    Args:
        coefficients: float64 ``[T, 25]``, c0 to c24 of the natural-log magnitude, one row every 5 ms from time 0.
        level_db: ``[T]``, variance of the samples over 25 ms around each frame, in dB re full scale (-inf for digital silence).
    """

    coefficients: Float64Array
    level_db: Float64Array


def f0_hz(signal: Signal) -> Float64Array:
    """Fundamental frequency ``[T]`` in Hz every 5 ms, 0 where unvoiced. Computed once per signal."""
    return signal.derive("world f0", lambda: _f0(_samples(signal)))


def mel_cepstra(signal: Signal) -> MelCepstra:
    """Mel-cepstra of the CheapTrick envelope. Computed once per signal."""
    return signal.derive("world mel-cepstra", lambda: _mel_cepstra(_samples(signal), f0_hz(signal)))


def analysis_params() -> Mapping[str, Scalar]:
    """The analysis as parameters of a metric's signature."""
    return {"backend": library("pyworld-prebuilt"), "f0": f"dio+stonemask {F0_FLOOR_HZ:g}-{F0_CEIL_HZ:g} Hz", "frame_s": FRAME_S}


def warped_cepstra(power: Float64Array, order: int = ORDER, warping: float = WARPING) -> Float64Array:
    """Mel-cepstra ``[T, order + 1]`` of power spectra ``[T, F]`` (F = FFT size / 2 + 1 bins from 0 to half the rate).

    The cepstrum of the log magnitude, taken as minimum phase, is transformed to the frequency scale of a first-order all-pass
    (Oppenheim and Johnson 1972; Tokuda et al. 1994). Both steps are linear in the log spectrum, so they are one matrix here.
    """
    # No @ here: a linear algebra library may add in another order with other threads, which shows in the last bit.
    cepstra: Float64Array = np.einsum("tf,cf->tc", np.log(power), _log_spectrum_to_cepstra(power.shape[1], order, warping))
    return cepstra


@lru_cache(maxsize=4)
def _log_spectrum_to_cepstra(bins: int, order: int, warping: float) -> Float64Array:
    """``[order + 1, bins]``: from a log power spectrum to its mel-cepstra."""
    # Row b: the real cepstrum of a log spectrum that is 1 in bin b (and its mirror image). One-sided, so every coefficient but the
    # first and the last counts twice, and the log power is twice the log magnitude: the factors cancel.
    cepstra = np.fft.irfft(np.eye(bins), axis=1)[:, :bins]
    cepstra[:, [0, -1]] /= 2
    matrix: Float64Array = allpass_matrix(bins, order, warping) @ cepstra.T
    return matrix


def allpass_matrix(length: int, order: int, warping: float) -> Float64Array:
    """``[order + 1, length]``: column n holds the first powers of the n-th power of ``(a + z) / (1 + a z)``, which a unit delay becomes."""
    matrix = np.zeros((order + 1, length))
    column = np.zeros(order + 1)
    column[0] = 1.0
    for n in range(length):
        matrix[:, n] = column
        numerator = warping * column
        numerator[1:] += column[:-1]
        column[0] = numerator[0]
        for m in range(1, order + 1):
            column[m] = numerator[m] - warping * column[m - 1]
    return matrix


def _samples(signal: Signal) -> Float64Array:
    """Float64 ``[N]`` at 16 kHz. WORLD takes out a DC offset by itself, window by window."""
    return signal.at(SAMPLE_RATE_HZ).astype(np.float64)


def _f0(samples: Float64Array) -> Float64Array:
    import pyworld

    coarse, times = pyworld.dio(samples, SAMPLE_RATE_HZ, f0_floor=F0_FLOOR_HZ, f0_ceil=F0_CEIL_HZ, frame_period=FRAME_S * 1000)
    refined: Float64Array = pyworld.stonemask(samples, coarse, times, SAMPLE_RATE_HZ)
    return refined


def _mel_cepstra(samples: Float64Array, f0: Float64Array) -> MelCepstra:
    import pyworld

    times = np.arange(f0.size) * FRAME_S
    power = pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE_HZ, f0_floor=F0_FLOOR_HZ, fft_size=FFT_SIZE)
    return MelCepstra(warped_cepstra(power), _level_db(samples, f0.size))


def _level_db(samples: Float64Array, num_frames: int) -> Float64Array:
    """Variance within 25 ms: the mean of the window is left out, or an offset would fill the pauses."""
    centres = np.arange(num_frames) * FRAME_SAMPLES
    start = np.clip(centres - LEVEL_WINDOW_SAMPLES // 2, 0, samples.size)
    stop = np.clip(centres + LEVEL_WINDOW_SAMPLES // 2, 0, samples.size)
    count = np.maximum(stop - start, 1)
    sums = (np.concatenate([[0.0], np.cumsum(x)]) for x in (np.square(samples), samples))
    mean_square, mean = ((s[stop] - s[start]) / count for s in sums)
    # Differences of running sums may come out a rounding below zero.
    with np.errstate(divide="ignore"):
        level: Float64Array = 10 * np.log10(np.maximum(mean_square - np.square(mean), 0.0))
    return level
