"""Speech coders at 8 kHz that FFmpeg does not have: Codec 2 through its command line programs, GSM 06.10 through libsndfile."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, SystemInfo
from systems.pcm import compensated, framed, frames_for, from_int16, mono, to_int16

_RATE_HZ = 8000


@dataclass(frozen=True)
class _Mode:
    """How a mode frames its bits."""

    frame: int  # samples per frame
    bits: int  # per frame
    delay: int = 160  # from input to output, in samples


# The delays were measured, not derived. The waveform cannot be correlated, because the decoder makes up its phases; the energies of 15
# bands can: over four voices their correlation peaks at 155 samples (3200), 156 (2400), 152 (1300) and 232 (700C). The values here are the
# nearest whole 10 ms steps of the codec's analysis; with them the median of what remains over 20 utterances of the embedded set is -6 to 0
# samples in every mode, which is within a millisecond.
_MODES = {
    "3200": _Mode(160, 64),
    "2400": _Mode(160, 48),
    "1600": _Mode(320, 64),
    "1400": _Mode(320, 56),
    "1300": _Mode(320, 52),
    "1200": _Mode(320, 48),
    "700C": _Mode(320, 28, delay=240),
}


class Codec2:
    """Codec 2, a parametric vocoder at 8 kHz, through ``c2enc`` and ``c2dec``.

    The programs pad each frame to whole bytes; the padding is not sent. Frames of 52 or 28 bits make no whole bytes, so two
    travel in one packet, and the bit rate counted from packets is the mode's own (a last single frame is padded to bytes).

    Args:
        mode: bits per second as the programs name them: 3200, 2400, 1600, 1400, 1300, 1200 or 700C.

    Raises:
        ValueError: another mode.
        RuntimeError: the programs are not here.
    """

    def __init__(self, mode: str | int = "3200") -> None:
        self._name = str(mode).upper()
        if self._name not in _MODES:
            raise ValueError(f"Codec 2 has no mode {mode!r} here; there are {', '.join(_MODES)}")
        if reason := self.missing(mode):
            raise RuntimeError(reason)
        self._mode = _MODES[self._name]
        self.info = SystemInfo(
            family="codec2", version="1", description=f"Codec 2 mode {self._name}, 8 kHz", tools=(("codec2", _library_version()),)
        )
        # What is heard at a sample was sent in the frame that its input, `delay` later, ends in.
        lookahead = -(-self._mode.delay // self._mode.frame) * self._mode.frame
        self.spec = CodecSpec(sample_rate=_RATE_HZ, hop_length=self._mode.frame, causal=True, lookahead=lookahead)

    @classmethod
    def missing(cls, mode: str | int = "3200") -> str | None:
        absent = [program for program in ("c2enc", "c2dec") if shutil.which(program) is None]
        return f"{' and '.join(absent)} not found on the PATH: apt-get install codec2" if absent else None

    def encode(self, audio: Audio) -> Bitstream:
        samples, mode = mono(audio, _RATE_HZ), self._mode
        count = frames_for(samples.size, mode.delay, mode.frame)
        if not count:
            return Bitstream((), 0, _RATE_HZ)
        coded = self._run("c2enc", to_int16(framed(samples, mode.frame, count).reshape(-1)).tobytes())
        width = -(-mode.bits // 8)
        if len(coded) != count * width:
            raise RuntimeError(f"c2enc {self._name} gave {len(coded)} bytes for {count} frames of {width}")
        bits = np.unpackbits(np.frombuffer(coded, dtype=np.uint8).reshape(count, width), axis=1)[:, : mode.bits]
        group = 1 if mode.bits % 8 == 0 else 2
        return Bitstream(tuple(np.packbits(bits[i : i + group]).tobytes() for i in range(0, count, group)), samples.size, _RATE_HZ)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        mode = self._mode
        if not encoded.num_samples:
            return Audio.mono(np.zeros(0), _RATE_HZ)
        rows = []
        for packet in encoded.packets:
            flat = np.unpackbits(np.frombuffer(packet, dtype=np.uint8))
            rows.append(flat[: flat.size // mode.bits * mode.bits].reshape(-1, mode.bits))
        coded = np.packbits(np.concatenate(rows), axis=1).tobytes()  # rows are padded to whole bytes again
        heard = np.frombuffer(self._run("c2dec", coded), dtype="<i2")
        return compensated(from_int16(heard), mode.delay, encoded.num_samples, _RATE_HZ)

    def _run(self, program: str, data: bytes) -> bytes:
        done = subprocess.run([program, self._name, "-", "-"], input=data, capture_output=True, check=False)
        if done.returncode != 0:
            complaint = done.stderr.decode(errors="replace").strip()[-200:]
            raise RuntimeError(f"{program} {self._name} ended with status {done.returncode}: {complaint}")
        return done.stdout


def _library_version() -> str:
    """The programs do not tell their version: the name and the content of the library they load do."""
    for folder in (Path("/usr/lib"), Path("/usr/local/lib"), Path("/lib")):
        for path in sorted([*folder.glob("libcodec2.so.*"), *folder.glob("*/libcodec2.so.*")]):
            return f"{path.resolve().name} blake2b:{hashlib.blake2b(path.read_bytes(), digest_size=4).hexdigest()}"
    return "unknown"


_GSM_FRAME, _GSM_PACKET_BYTES = 160, 33


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
        self.spec = CodecSpec(sample_rate=_RATE_HZ, hop_length=_GSM_FRAME, causal=True)

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
        frames = framed(samples, _GSM_FRAME, frames_for(samples.size, 0, _GSM_FRAME))
        if not samples.size:
            return Bitstream((), 0, _RATE_HZ)
        sink = io.BytesIO()
        soundfile.write(sink, to_int16(frames.reshape(-1)), _RATE_HZ, format="RAW", subtype="GSM610")
        coded = sink.getvalue()[: len(frames) * _GSM_PACKET_BYTES]
        return Bitstream(tuple(coded[i : i + _GSM_PACKET_BYTES] for i in range(0, len(coded), _GSM_PACKET_BYTES)), samples.size, _RATE_HZ)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        if not encoded.packets:
            return compensated(np.zeros(0), 0, encoded.num_samples, _RATE_HZ)
        import soundfile

        coded = io.BytesIO(b"".join(encoded.packets))
        samples, _ = soundfile.read(coded, samplerate=_RATE_HZ, channels=1, format="RAW", subtype="GSM610", dtype="int16")
        return compensated(from_int16(samples), 0, encoded.num_samples, _RATE_HZ)
