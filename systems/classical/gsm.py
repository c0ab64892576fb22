"""GSM 06.10 full rate through libsndfile."""

from __future__ import annotations

import importlib.util
import io

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, SystemInfo
from systems.pcm import compensated, framed, frames_for, from_int16, mono, to_int16

_RATE_HZ, _FRAME, _PACKET_BYTES = 8000, 160, 33


class Gsm:
    """GSM 06.10 full rate, 8 kHz. Packets are libsndfile's: 33 bytes per 20 ms, which is the standard's 260 bits (13.0 kbps) after a nibble
    of signature, so 13.2 kbps are counted. Its filters leave no whole sample of delay.
    """

    def __init__(self) -> None:
        import soundfile

        self.info = SystemInfo(
            family="gsm",
            version="1",
            description="GSM 06.10 full rate, 13.2 kbps, 8 kHz",
            tools=(("libsndfile", str(soundfile.__libsndfile_version__)),),
        )
        self.spec = CodecSpec(sample_rate=_RATE_HZ, hop_length=_FRAME, causal=True)

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("soundfile") is None:
            return "the package soundfile is not installed: pip install soundfile"
        import soundfile

        if "GSM610" not in soundfile.available_subtypes("RAW"):
            return f"libsndfile {soundfile.__libsndfile_version__} was built without GSM 06.10; the soundfile wheels from PyPI have it"
        return None

    def encode(self, audio: Audio) -> Bitstream:
        import soundfile

        samples = mono(audio, _RATE_HZ)
        frames = framed(samples, _FRAME, frames_for(samples.size, 0, _FRAME))
        if not samples.size:
            return Bitstream((), 0, _RATE_HZ)
        sink = io.BytesIO()
        soundfile.write(sink, to_int16(frames.reshape(-1)), _RATE_HZ, format="RAW", subtype="GSM610")
        coded = sink.getvalue()[: len(frames) * _PACKET_BYTES]
        return Bitstream(tuple(coded[i : i + _PACKET_BYTES] for i in range(0, len(coded), _PACKET_BYTES)), samples.size, _RATE_HZ)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        if not encoded.packets:
            return compensated(np.zeros(0), 0, encoded.num_samples, _RATE_HZ)
        import soundfile

        coded = io.BytesIO(b"".join(encoded.packets))
        samples, _ = soundfile.read(coded, samplerate=_RATE_HZ, channels=1, format="RAW", subtype="GSM610", dtype="int16")
        return compensated(from_int16(samples), 0, encoded.num_samples, _RATE_HZ)
