"""The ceiling: nothing is lost."""

from __future__ import annotations

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, SystemInfo
from systems.classical.pcm import mono


class Passthrough:
    """Sends the samples themselves, as float32 packets of 20 ms. Every metric's best value, and its error where the best is not perfect.

    Args:
        sample_rate: of input and output, in Hz.
    """

    def __init__(self, sample_rate: int = 16000) -> None:
        self.info = SystemInfo(family="passthrough", version="1", description="float32 PCM, unchanged: the ceiling")
        self.spec = CodecSpec(sample_rate=sample_rate, hop_length=max(1, sample_rate // 50), causal=True)

    @classmethod
    def missing(cls, sample_rate: int = 16000) -> str | None:
        return None

    def encode(self, audio: Audio) -> Bitstream:
        samples, hop = mono(audio, self.spec.sample_rate).astype("<f4"), self.spec.hop_length
        return Bitstream(tuple(samples[i : i + hop].tobytes() for i in range(0, samples.size, hop)), samples.size, self.spec.sample_rate)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        return Audio.mono(np.frombuffer(b"".join(encoded.packets), dtype="<f4"), self.spec.sample_rate)
