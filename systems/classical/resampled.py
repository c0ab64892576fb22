"""A lower sample rate and nothing else: what the missing upper band costs."""

from __future__ import annotations

import importlib.util

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, FloatArray, SystemInfo
from systems.classical.pcm import from_int16, mono, to_int16


class Resampled:
    """Down to ``band_hz``, 16-bit PCM packets of 20 ms, and up again. soxr VHQ both ways: linear phase, no delay.

    Args:
        band_hz: sample rate in the middle, in Hz; half of it is what remains of the band.
        sample_rate: of input and output, in Hz.
    """

    def __init__(self, band_hz: int = 8000, sample_rate: int = 16000) -> None:
        if not 0 < band_hz < sample_rate:
            raise ValueError(f"band_hz must lie between 0 and sample_rate {sample_rate}, got {band_hz}")
        import soxr

        self._band_hz = band_hz
        self.info = SystemInfo(
            family="resampled", version="1", description=f"16-bit PCM at {band_hz} Hz and back", tools=(("soxr", str(soxr.__version__)),)
        )
        self.spec = CodecSpec(sample_rate=sample_rate, hop_length=max(1, sample_rate // 50))

    @classmethod
    def missing(cls, band_hz: int = 8000, sample_rate: int = 16000) -> str | None:
        return None if importlib.util.find_spec("soxr") else "the package soxr is not installed: pip install soxr"

    def encode(self, audio: Audio) -> Bitstream:
        narrow = to_int16(_resampled(mono(audio, self.spec.sample_rate), self.spec.sample_rate, self._band_hz))
        hop = max(1, self._band_hz // 50)
        return Bitstream(tuple(narrow[i : i + hop].tobytes() for i in range(0, narrow.size, hop)), audio.num_samples, audio.sample_rate)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        narrow = from_int16(np.frombuffer(b"".join(encoded.packets), dtype="<i2"))
        wide = _resampled(narrow, self._band_hz, self.spec.sample_rate)
        samples = np.zeros(encoded.num_samples, dtype=np.float32)  # the two roundings of the length may leave the last sample open
        samples[: wide.size] = wide[: samples.size]
        return Audio.mono(samples, self.spec.sample_rate)


def _resampled(samples: FloatArray, source_hz: int, target_hz: int) -> FloatArray:
    import soxr

    out: FloatArray = soxr.resample(samples, source_hz, target_hz, quality="VHQ") if samples.size else samples
    return out
