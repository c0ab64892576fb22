"""Linear pulse code modulation."""

from __future__ import annotations

import numpy as np

from harness.api import Audio, CodecSpec, Codes, SystemInfo


class Pcm:
    """Every sample rounded to one of 2^bits values, evenly spaced within full scale.

    Args:
        bits: per sample, 2 to 16.
        sample_rate: in Hz.

    Raises:
        ValueError: impossible bits.
    """

    def __init__(self, bits: int = 8, sample_rate: int = 16000) -> None:
        if not 2 <= bits <= 16:
            raise ValueError(f"bits is 2 to 16, got {bits}")
        self._half = 2 ** (bits - 1)
        self.info = SystemInfo(family="pcm", version="1", description=f"{bits}-bit linear PCM")
        self.spec = CodecSpec(sample_rate=sample_rate, hop_length=1, codebook_sizes=(2**bits,), causal=True)

    def encode(self, audio: Audio) -> Codes:
        """One index a sample.

        Raises:
            ValueError: another sample rate.
        """
        if audio.sample_rate != self.spec.sample_rate:
            raise ValueError(f"wants {self.spec.sample_rate} Hz, got {audio.sample_rate}")
        levels = np.clip(np.round(audio.samples[0] * self._half), -self._half, self._half - 1)
        return Codes(levels.astype(np.int64)[None] + self._half, self.spec, audio.num_samples)

    def decode(self, codes: Codes) -> Audio:
        """The samples again, as many as there were."""
        return Audio.mono((codes.indices[0] - self._half) / self._half, self.spec.sample_rate)
