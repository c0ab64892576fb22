"""The floor: the right loudness and length, and nothing else."""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, SystemInfo
from harness.api.libraries import versions
from systems.classical.pcm import mono


class Noise:
    """White Gaussian noise of the input's RMS level.

    White rather than speech-shaped: a long-term speech spectrum already earns something from spectral distances and MOS
    predictors, while a flat one carries no formant, no pitch and no envelope, so what a metric gives it is given for nothing.

    The packet holds level and seed only, 12 bytes an utterance, whatever its length. The seed is made from the content, so that equal
    inputs give equal noise and different inputs different noise.

    Args:
        sample_rate: of input and output, in Hz.
        seed: mixed with the content.
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
