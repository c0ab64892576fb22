"""What every table is read against: the ceiling, the floor, and a lower sample rate and nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Bitstream, CodecSpec, Encoded, FloatArray, SystemInfo
from harness.api.libraries import versions
from systems.pcm import from_int16, mono, to_int16


class Passthrough:
    """Sends the samples themselves, as float32 packets of 20 ms. Every metric's best value, and its error where the best is not perfect."""

    def __init__(self, sample_rate: int = 16000) -> None:
        self.info = SystemInfo(family="passthrough", version="1", description="float32 PCM, unchanged: the ceiling")
        self.spec = CodecSpec(sample_rate=sample_rate, hop_length=max(1, sample_rate // 50), causal=True)

    @classmethod
    def missing(cls, sample_rate: int = 16000) -> str | None:
        return None

    def encode(self, audio: Audio) -> Bitstream:
        samples = mono(audio, self.spec.sample_rate).astype("<f4")
        return Bitstream(_packets(samples, self.spec.hop_length), samples.size, self.spec.sample_rate)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        return Audio.mono(np.frombuffer(b"".join(encoded.packets), dtype="<f4"), self.spec.sample_rate)


class Noise:
    """White Gaussian noise of the input's RMS level.

    White rather than speech-shaped: a long-term speech spectrum already earns something from spectral distances and MOS
    predictors, while a flat one carries no formant, no pitch and no envelope, so what a metric gives it is given for nothing.

    The packet holds level and seed only, 12 bytes an utterance, whatever its length. The seed is made from the content, so that equal
    inputs give equal noise and different inputs different noise.
    """

    def __init__(self, sample_rate: int = 16000, seed: int = 0) -> None:
        self._seed = seed
        self.info = SystemInfo(
            family="noise", version="1", description="white noise at the input's RMS level: the floor", anchor=True, tools=versions("numpy")
        )
        # One packet an utterance: there are no frames, so the hop is one sample.
        self.spec = CodecSpec(sample_rate=sample_rate, hop_length=1)

    @classmethod
    def missing(cls, sample_rate: int = 16000, seed: int = 0) -> str | None:
        return None

    def encode(self, audio: Audio) -> Bitstream:
        samples = mono(audio, self.spec.sample_rate)
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0
        seed = hashlib.blake2b(f"{self._seed}:{audio.digest()}".encode(), digest_size=8).digest()
        return Bitstream((struct.pack("<f", level) + seed,), samples.size, self.spec.sample_rate)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        (packet,) = encoded.packets
        (level,) = struct.unpack("<f", packet[:4])
        noise = np.random.default_rng(int.from_bytes(packet[4:], "little")).standard_normal(encoded.num_samples)
        actual = float(np.sqrt(np.mean(noise**2))) if noise.size else 0.0
        return Audio.mono(noise * (level / actual if actual else 0.0), self.spec.sample_rate)


class Resampled:
    """Down to ``band_hz``, 16-bit PCM packets of 20 ms, and up again. soxr VHQ both ways: linear phase, no delay.

    Args:
        band_hz: sample rate in the middle, in Hz; half of it is what remains of the band.
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
        return Bitstream(_packets(narrow, max(1, self._band_hz // 50)), audio.num_samples, audio.sample_rate)

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


def _packets(samples: npt.NDArray[Any], hop: int) -> tuple[bytes, ...]:
    return tuple(samples[i : i + hop].tobytes() for i in range(0, samples.size, hop))
