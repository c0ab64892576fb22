"""Speech-like audio, what is done to it, and the signal metrics of such pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from scipy.signal import lfilter

import harness.metrics
from harness.api import Audio, Item, Metric, NotScorable, Sample, Signal
from harness.data import embedded_set
from harness.data.audio import read_audio

RATE = 16000
Wave = npt.NDArray[np.float32]

INTRUSIVE = (
    "pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr_db", "si_sdr_aligned_db", "lag_samples", "mcd_db", "mcd_dtw_db", "log_mel_distance_db",
    "visqol_speech", "visqol_audio", "mel_distance_dac", "stft_distance_dac", "stft_distance_pwg",
    "f0_rmse_cents", "voicing_error", "vuv_f1", "gross_pitch_error", "f0_correlation", "level_rms_db", "level_lufs_db",
)  # fmt: skip
OF_REAL_WORDS = {"gross_pitch_error": "espeak-cmn-latn-pinyin-m3/01.flac"}
"""Embedded recordings in which noise moves what it does not move in made-up speech: there frames lose their voice before their octave."""
FREE_LENGTH = {"pesq_wb", "pesq_nb", "mcd_dtw_db", "level_rms_db", "level_lufs_db"}


def sides(key: str) -> tuple[Audio, Audio] | None:
    """What `harness.testing.check_metric` is to judge a metric's direction by, where it is not speech-like audio."""
    if key not in OF_REAL_WORDS:
        return None
    audio = read_audio(embedded_set.ROOT / OF_REAL_WORDS[key])
    return audio, audio


def build(key: str) -> Metric:
    metric: Metric = getattr(harness.metrics, key).metric()
    return metric


def resample(samples: npt.NDArray[np.float32], source_hz: int, target_hz: int) -> npt.NDArray[np.float32]:
    return np.asarray(soxr.resample(samples, source_hz, target_hz, quality="VHQ"), dtype=np.float32)


def signal(samples: npt.ArrayLike, rate: int = RATE) -> Signal:
    array = np.asarray(samples, dtype=np.float32)
    return Signal(Audio(array, rate) if array.ndim == 2 else Audio.mono(array, rate), resample)


def sample(output: npt.ArrayLike | Signal, reference: npt.ArrayLike | Signal | None, rate: int = RATE) -> Sample:
    sides = [x if isinstance(x, Signal) or x is None else signal(x, rate) for x in (output, reference)]
    assert sides[0] is not None
    return Sample(Item("item", "test"), sides[0], sides[1])


def speech(duration_s: float = 2.4, seed: int = 7) -> Wave:
    """Syllables: glottal pulses of gliding pitch or noise through three formants, with pauses over a faint noise floor."""
    rng = np.random.default_rng(seed)
    out = 1e-4 * rng.standard_normal(round(duration_s * RATE))
    at = round(0.08 * RATE)
    while at < out.size - round(0.3 * RATE):
        n = round(rng.uniform(0.12, 0.26) * RATE)
        f0 = rng.uniform(105, 170) * 2 ** np.linspace(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), n)
        pulses = (np.diff(np.floor(np.cumsum(f0) / RATE), prepend=0) > 0).astype(float)
        source = pulses + 0.01 * rng.standard_normal(n)
        if rng.random() < 0.25:
            source = 0.08 * rng.standard_normal(n)
        for hz, width in ((rng.uniform(300, 800), 90), (rng.uniform(1000, 2200), 120), (rng.uniform(2400, 3200), 180)):
            r = math.exp(-math.pi * width / RATE)
            source = lfilter([1.0], [1, -2 * r * math.cos(2 * math.pi * hz / RATE), r * r], source)
        source *= np.hanning(n) ** 0.5 / np.abs(source).max()
        out[at : at + n] += 0.4 * rng.uniform(0.5, 1) * source[: out.size - at]
        at += n + round(rng.uniform(0.02, 0.18) * RATE)
    return out.astype(np.float32)


def noisy(clean: Wave, snr_db: float, seed: int = 1) -> Wave:
    noise = np.random.default_rng(seed).standard_normal(clean.size)
    return (clean + noise * np.std(clean) * 10 ** (-snr_db / 20)).astype(np.float32)


def value(key: str, output: npt.ArrayLike | Signal, reference: npt.ArrayLike | Signal, rate: int = RATE) -> float:
    return build(key).measure(sample(output, reference, rate)).value


def blame(key: str, output: npt.ArrayLike, reference: npt.ArrayLike) -> NotScorable:
    with pytest.raises(NotScorable) as caught:
        build(key).measure(sample(output, reference))
    return caught.value


FAULTS: dict[str, Callable[[Wave], Wave]] = {
    "nan": lambda x: np.where(np.arange(x.size) == 1000, np.nan, x).astype(np.float32),
    "inf": lambda x: np.where(np.arange(x.size) == 1000, np.inf, x).astype(np.float32),
    "silent": lambda x: np.zeros_like(x),
    "dc only": lambda x: np.full_like(x, 0.3),
    "below one step": lambda x: (x * 1e-5 / np.abs(x).max()).astype(np.float32),
    "empty": lambda x: x[:0],
    "half missing": lambda x: x[: x.size // 2],
}
