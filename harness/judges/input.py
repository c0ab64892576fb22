"""What every model-based metric asks of audio before a model hears it."""

from __future__ import annotations

import numpy as np

from harness.api import FloatArray, NotScorable, Side, Signal

SILENCE_DBFS = -80.0
"""RMS below which audio counts as silent, in dB relative to full scale: under the least step of 16-bit PCM almost everywhere."""


class NoSpeechError(ValueError):
    """A backend found nothing in the audio that it could judge (its own voice activity detection left nothing, say)."""


def judged(signal: Signal, sample_rate: int, side: Side) -> FloatArray:
    """Mono ``[N]`` at ``sample_rate`` Hz, N >= 1, finite.

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
    level_dbfs = rms_dbfs(samples)
    if level_dbfs < SILENCE_DBFS:
        raise NotScorable(side, f"silent ({level_dbfs:.0f} dBFS)")
    return samples


def rms_dbfs(samples: FloatArray) -> float:
    """RMS level of ``samples [N]`` in dB relative to full scale; -inf for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * float(np.log10(power)) if power > 0 else -float("inf")
