"""Whether speech is another recording over again: what a synthesizer gives back that repeats its prompt instead of speaking."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from harness.api import Audio
from harness.data.audio import resample

Frames = npt.NDArray[np.float64]
"""``[T, BANDS]``."""
ALIKE = 0.7
"""Correlation of two spectrograms from which one is the other. Different sentences of one voice reach .57 at most (624 pairs of 10
LibriSpeech speakers, the embedded speech .39); a recording through Opus at 6 kbit/s keeps .96, through a neural codec at 2 kbit/s .98,
at .5 kbit/s .69 to .80."""
RATE_HZ, WINDOW, HOP, BANDS = 8000, 256, 80, 20
SHORTEST, REACH, DEPTH = 100, 50, 1e-4
"""Frames (of 10 ms) that are compared at least; that one may begin before the other; and the power under the loudest frame's at which
speech begins."""


def repeated(prompt: Audio, output: Audio) -> str:
    """What an output repeats of its prompt, at any level and rate, after any silence and through a codec.

    Spectrograms are compared, not samples: a codec or a resampler in between changes every sample.

    Returns:
        "prompt_copied" where it is little else, "begins_with_prompt" where it goes on, "" for speech of its own.
    """
    wanted, given = _spectrogram(prompt), _spectrogram(output)
    lags = range(-REACH, REACH + 1)
    if not any(_correlation(wanted[max(0, -lag) :], given[max(0, lag) :]) >= ALIKE for lag in lags):
        return ""
    return "begins_with_prompt" if len(given) >= len(wanted) + SHORTEST else "prompt_copied"


def _correlation(a: Frames, b: Frames) -> float:
    """Of the frames that both have, each band about its own mean, so that neither level nor a filter matters; 0 for too few frames."""
    count = min(len(a), len(b))
    if count < SHORTEST:
        return 0.0
    a, b = (x[:count] - x[:count].mean(axis=0) for x in (a, b))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def _spectrogram(audio: Audio) -> Frames:
    """Log power in `BANDS` bands, silence before and after the speech cut off."""
    mono = resample(audio.mixed(), audio.sample_rate, RATE_HZ)
    if mono.size < WINDOW:
        return np.zeros((0, BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(mono, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames))) @ _bands().T
    loud = power.sum(axis=1)
    spoken = np.flatnonzero(loud > loud.max() * DEPTH)
    if not spoken.size:
        return np.zeros((0, BANDS))
    power = power[spoken[0] : spoken[-1] + 1]
    return np.asarray(np.log(np.maximum(power, power.max() * DEPTH / 10)))


@cache
def _bands() -> npt.NDArray[np.float64]:
    """Triangles equally spaced in the logarithm of frequency, ``[BANDS, WINDOW / 2 + 1]``."""
    edges = np.geomspace(120, 3800, BANDS + 2)[:, None]
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)[None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)
