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
from harness.api.libraries import library
from harness.metrics.shared import Library, judged_once

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

TOP_HZ = 7000.0
FLOOR_DB = 60.0
"""Where the envelope is read: up to 7 kHz, and in each frame not below 60 dB under that frame's own maximum; see `mel_cepstrum`."""

POINTS = 256
"""At which an envelope is read off the warped axis; with 4,096 no cepstrum moves by more than .01 dB of distortion."""

LEVEL_WINDOW_SAMPLES = 400

SHORTEST_S = 0.1

Float64Array = npt.NDArray[np.float64]

_WORLD = Library()


@dataclass(frozen=True, eq=False)
class MelCepstra:
    """Spectral envelopes as mel-cepstra."""

    coefficients: Float64Array  # float64 ``[T, 24]``, c1 to c24 of the natural-log magnitude, one row every 5 ms from time 0
    level_db: Float64Array  # ``[T]``, variance of the samples over 25 ms around each frame, in dB re full scale (-inf for digital silence)


def f0_hz(signal: Signal) -> Float64Array:
    """Fundamental frequency ``[T]`` in Hz every 5 ms, 0 where unvoiced. Computed once per audio."""
    return judged_once(_WORLD, signal, "world f0", lambda: _f0(_samples(signal)))


def mel_cepstra(signal: Signal) -> MelCepstra:
    """Mel-cepstra of the CheapTrick envelope. Computed once per audio."""
    return judged_once(_WORLD, signal, "world mel-cepstra", lambda: _mel_cepstra(_samples(signal), f0_hz(signal)))


def analysis_params() -> Mapping[str, Scalar]:
    """The analysis of F0 and envelope as parameters of a metric's signature."""
    return {"backend": library("pyworld-prebuilt"), "f0": f"dio+stonemask {F0_FLOOR_HZ:g}-{F0_CEIL_HZ:g} Hz", "frame_s": FRAME_S}


def mel_cepstrum(power: Float64Array, top_hz: float = TOP_HZ, floor_db: float = FLOOR_DB) -> Float64Array:
    """Mel-cepstra c1 to c24, ``[T, 24]``, of power spectra ``[T, F]`` (F = FFT size / 2 + 1 bins from 0 to half of 16 kHz).

    In each frame the log power up to ``top_hz`` is raised to no less than ``floor_db`` below its own maximum there, read at 256 mid-points
    ``(i + .5) / 256`` that lie equally far apart on the frequency axis of a first-order all-pass (Oppenheim and Johnson 1972; linearly
    between two bins) from 0 to the warped ``top_hz``, and ``c_n = (2 / 256) sum ln|H| cos(pi n (i + .5) / 256)``.

    What comes before the cosines decides what a distance of cepstra hears. A log spectrum knows no "almost nothing": a hole at -120 dB
    weighs twice what one at -60 dB does, and no listener hears either. With the band up to 8 kHz and no floor (version 1 of the metrics)
    a signal that had only been resampled to 24 kHz and back was 3.0 dB from itself, for the resampler's edge empties 7.3 to 8 kHz, and
    one low-passed at 6 kHz 18 to 21 dB, more than a sentence is from another in another voice (10 to 13). The band takes care of the
    edge, the floor of every other cut-off; it hangs on the frame, not on the recording, since one loud 50-ms tone moves the floor of a
    whole recording by 4 dB.

    Args:
        power: positive.
        top_hz: upper edge of the band, a whole number of bins.
        floor_db: below a frame's maximum; infinite for none.
    """
    matrix = _log_power_to_cepstra(power.shape[1], top_hz)
    log_power = np.log(power[:, : matrix.shape[1]])
    np.maximum(log_power, log_power.max(axis=1, keepdims=True) - floor_db * np.log(10) / 10, out=log_power)
    # No @ here: a linear algebra library may add in another order with other threads, which shows in the last bit.
    cepstra: Float64Array = np.einsum("tf,cf->tc", log_power, matrix)
    return cepstra


@lru_cache(maxsize=4)
def _log_power_to_cepstra(bins: int, top_hz: float) -> Float64Array:
    """``[24, F']`` for the F' bins up to ``top_hz`` of ``bins``: reading, cosines and the half that makes a magnitude of a power."""
    nyquist_hz = SAMPLE_RATE_HZ / 2
    top = np.pi * top_hz / nyquist_hz
    at = (np.arange(POINTS) + 0.5) / POINTS
    warped = at * _warped(top, WARPING)
    place = _warped(warped, -WARPING) / np.pi * (bins - 1)  # in bins: the all-pass of -a undoes that of a
    used = round(top_hz / nyquist_hz * (bins - 1)) + 1
    below = np.minimum(place.astype(np.int64), used - 2)
    reading = np.zeros((POINTS, used))
    reading[np.arange(POINTS), below] = 1 - (place - below)
    reading[np.arange(POINTS), below + 1] = place - below
    cosines = np.cos(np.pi * np.arange(1, ORDER + 1)[:, None] * at)
    matrix: Float64Array = (2 / POINTS) * cosines @ reading / 2
    return matrix


def _warped(omega: float | Float64Array, warping: float) -> Float64Array:
    """Where the all-pass puts an angular frequency, in radians."""
    place: Float64Array = omega + 2 * np.arctan(warping * np.sin(omega) / (1 - warping * np.cos(omega)))
    return place


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
    return MelCepstra(mel_cepstrum(power), _level_db(samples, f0.size))


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
