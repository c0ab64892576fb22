"""Test signals that sound enough like speech: voiced pulses through formants, fricatives and pauses. Seeded, numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Signal

_VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (660, 1720, 2410))
"""First three formants of six vowels, rounded means of men's voices as commonly tabulated (Peterson and Barney, 1952)."""


def speechlike(duration_s: float = 1.5, sample_rate: int = 16000, seed: int = 0, rms: float = 0.07) -> Audio:
    """A babble of syllables: 110-200 Hz glottal pulses with a moving pitch, six vowels, fricative bursts, pauses.

    Args:
        duration_s: of the whole, at least 0.
        sample_rate: in Hz, 8000 or more.
        seed: same seed, same signal.
        rms: level of the whole, full scale 1.
    """
    rng = np.random.default_rng(seed)
    count = round(duration_s * sample_rate)
    out = np.zeros(count)
    at = round(0.05 * sample_rate)
    while at < count:
        if rng.random() < 0.4:
            at = _add(out, at, _fricative(rng, sample_rate))
        at = _add(out, at, _vowel(rng, sample_rate))
        if rng.random() < 0.25:
            at += round(rng.uniform(0.08, 0.2) * sample_rate)
    level = float(np.sqrt(np.mean(out**2))) if count else 0.0
    # A faint noise floor, as any recording has: digital silence between the syllables is an input of its own.
    out = out * (rms / level if level else 0.0) + rng.normal(0.0, 1e-4, count)
    return Audio.mono(out, sample_rate)


def noisy(audio: Audio, snr_db: float, seed: int = 0) -> Audio:
    """``audio`` with white noise at ``snr_db`` below its RMS level."""
    level = float(np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64))))
    noise = np.random.default_rng(seed).normal(0.0, level * 10 ** (-snr_db / 20), audio.samples.shape)
    return Audio((audio.samples + noise).astype(np.float32), audio.sample_rate)


def silence(num_samples: int, sample_rate: int) -> Audio:
    """Digital silence."""
    return Audio(np.zeros((1, num_samples), dtype=np.float32), sample_rate)


def signal(audio: Audio) -> Signal:
    """``audio`` as metrics see it, with the harness's resampler."""
    from harness.data.audio import resample

    return Signal(audio, resample)


def _add(out: npt.NDArray[np.float64], at: int, part: npt.NDArray[np.float64]) -> int:
    room = max(0, min(part.size, out.size - at))
    out[at : at + room] += part[:room]
    return at + part.size


def _vowel(rng: np.random.Generator, sample_rate: int) -> npt.NDArray[np.float64]:
    count = round(rng.uniform(0.09, 0.22) * sample_rate)
    pitch_hz = np.linspace(rng.uniform(110, 200), rng.uniform(110, 200), count)
    phase = np.cumsum(pitch_hz / sample_rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    seconds = np.arange(round(0.04 * sample_rate)) / sample_rate
    formants = _VOWELS_HZ[int(rng.integers(len(_VOWELS_HZ)))]
    response = sum(
        gain * np.exp(-np.pi * width * seconds) * np.sin(2 * np.pi * hz * seconds)
        for hz, width, gain in zip(formants, (80.0, 110.0, 160.0), (1.0, 0.5, 0.25), strict=True)
    )
    envelope = np.sin(np.pi * np.linspace(0, 1, count)) ** 0.5
    return np.convolve(pulses, np.asarray(response))[:count] * envelope * rng.uniform(0.5, 1.0)


def _fricative(rng: np.random.Generator, sample_rate: int) -> npt.NDArray[np.float64]:
    count = round(rng.uniform(0.05, 0.1) * sample_rate)
    hiss = np.diff(rng.normal(0.0, 1.0, count + 1))  # a first difference tilts white noise towards the top
    return hiss * np.sin(np.pi * np.linspace(0, 1, count)) * 0.06
