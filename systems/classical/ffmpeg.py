"""Classical codecs through the FFmpeg that PyAV's wheel carries: Opus, MP3, AAC, AMR-NB, G.722, G.723.1, G.711.

Packets are what the encoder emits, without any container. What a decoder must know beside them (the Opus header, AAC's
AudioSpecificConfig, AMR's mode byte) follows from the construction parameters and is rebuilt, not sent and not counted.

Delays were measured by cross-correlating the 0.8-2.5 kHz band (and by GCC-PHAT) on four voices. The full band misleads: a
high-pass filter moves its peak by its phase, and the peak may sit one pitch period off (AMR-NB at 8 kHz: 40 samples, its 5 ms
look-ahead, where one voice seems to say 79).
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Bitstream, CodecSpec, Encoded, FloatArray, SystemInfo
from harness.api.libraries import versions
from systems.pcm import compensated, framed, frames_for, from_int16, mono, to_int16


@dataclass(frozen=True)
class _Coder:
    """One codec as FFmpeg knows it."""

    encoder: str  # FFmpeg's name
    decoder: str
    sample_rate: int  # of input and output, in Hz
    frame: int  # samples per packet
    delay: int  # of encoder and decoder together, in samples
    sample_format: str = "s16"  # taken by the encoder
    bitrates_bps: tuple[int, ...] = ()  # accepted values, or (lowest, highest) when any_between; empty where there is only one rate
    default_bps: int = 0  # used when none is asked for; 0 where FFmpeg takes none
    any_between: bool = False  # every rate between two ends is possible
    causal: bool = True  # packet t depends on nothing behind it but the look-ahead
    tail: int = 0  # frames of silence that make the encoder give its last packets


_CODERS = {
    # libopus takes 16 kHz as it is and looks 104 samples ahead (its pre-skip of 312 at 48 kHz).
    "opus": _Coder("libopus", "libopus", 16000, 320, 104, "flt", (6000, 256000), 16000, any_between=True),
    # LAME's 576 and the decoder's 529. Packets draw on bits saved in earlier ones, and the encoder looks ahead.
    "mp3": _Coder("libmp3lame", "mp3float", 16000, 576, 1105, "fltp", (8000, *range(16000, 64001, 8000)), 32000, causal=False, tail=2),
    "aac": _Coder("aac", "aac", 16000, 1024, 1024, "fltp", (8000, 96000), 24000, any_between=True, causal=False, tail=2),
    "amrnb": _Coder(
        "libopencore_amrnb", "libopencore_amrnb", 8000, 160, 40, "s16", (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200), 12200
    ),
    "g722": _Coder("g722", "g722", 16000, 320, 22, "s16", (64000,)),
    "g723_1": _Coder("g723_1", "g723_1", 8000, 240, 60, "s16", (6300,), 6300),
    "g711": _Coder("pcm_mulaw", "pcm_mulaw", 8000, 160, 0, "s16", (64000,)),
}
_OPUS_PRE_SKIP_48K = 312
_OPUS_OUTPUT_HZ = 48000
_AAC_16_KHZ = 8  # the index of that frequency in ISO 14496-3


class FFmpegCodec:
    """A classical codec, its delay compensated.

    Args:
        codec: opus, mp3, aac, amrnb, g722, g723_1 (6.3 kbps) or g711 (mu-law).
        bitrate_bps: asked of the encoder; each codec has a default. What is emitted is counted from the packets.
        application: Opus only: voip, audio or lowdelay.
        complexity: Opus only: 0 to 10.
        vbr: Opus only: variable bit rate.

    Raises:
        ValueError: no such codec, or a rate it does not have.
        RuntimeError: PyAV is not installed or was built without the codec.
    """

    def __init__(
        self, codec: str = "opus", bitrate_bps: int | None = None, application: str = "voip", complexity: int = 10, vbr: bool = True
    ) -> None:
        if codec not in _CODERS:
            raise ValueError(f"no codec {codec!r} here; there are {', '.join(_CODERS)}")
        if reason := self.missing(codec):
            raise RuntimeError(reason)
        self._codec, self._coder = codec, _CODERS[codec]
        self._bitrate_bps = _checked_bitrate(codec, self._coder, bitrate_bps)
        self._options: dict[str, str] = {}
        if codec == "opus":
            if application not in ("voip", "audio", "lowdelay"):
                raise ValueError(f"Opus's application is voip, audio or lowdelay, got {application!r}")
            if not 0 <= complexity <= 10:
                raise ValueError(f"Opus's complexity is 0 to 10, got {complexity}")
            self._options = {
                "application": application, "compression_level": str(complexity), "vbr": "on" if vbr else "off", "frame_duration": "20"
            }  # fmt: skip
        told = [f"{codec} ({self._coder.encoder}) at {self._bitrate_bps / 1000:g} kbps", *(f"{k} {v}" for k, v in self._options.items())]
        told.append(f"{self._coder.sample_rate} Hz")
        self.info = SystemInfo(family="ffmpeg", version="1", description=", ".join(told), tools=_tools())
        lookahead = 0
        if self._coder.causal:
            # Whole frames are sent: what makes a sample is complete when the frame that its delayed input falls into is.
            # (The filter that brings Opus's 48 kHz down to 16 finds room in the same frame: 216 samples.)
            lookahead = -(-self._coder.delay // self._coder.frame) * self._coder.frame
        self.spec = CodecSpec(
            sample_rate=self._coder.sample_rate, hop_length=self._coder.frame, causal=self._coder.causal, lookahead=lookahead
        )

    @classmethod
    def missing(cls, codec: str = "opus", **others: Any) -> str | None:
        if importlib.util.find_spec("av") is None:
            return "the package PyAV is not installed: pip install av"
        import av.codec

        coder = _CODERS.get(codec)
        absent = sorted({coder.encoder, coder.decoder} - av.codec.codecs_available) if coder else []
        if not absent:
            return None
        return f"this build of PyAV has no {' and no '.join(absent)}; the wheels from PyPI do: pip install --force-reinstall av"

    def encode(self, audio: Audio) -> Bitstream:
        samples, coder = mono(audio, self._coder.sample_rate), self._coder
        count = frames_for(samples.size, coder.delay, coder.frame)
        if not count:
            return Bitstream((), samples.size, coder.sample_rate)
        packets = self._encoded(framed(samples, coder.frame, count + coder.tail))[:count]
        if len(packets) < count:
            raise RuntimeError(f"{coder.encoder} gave {len(packets)} packets for {count} frames")
        return Bitstream(tuple(self._stripped(p) for p in packets), samples.size, coder.sample_rate)

    def decode(self, encoded: Encoded) -> Audio:
        assert isinstance(encoded, Bitstream)
        coder = self._coder
        if not encoded.num_samples:
            return Audio.mono(np.zeros(0), coder.sample_rate)
        samples = self._decoded([self._restored(p) for p in encoded.packets])
        if self._codec == "opus":
            return _opus_output(samples, encoded, coder.sample_rate)
        return compensated(samples, coder.delay, encoded.num_samples, coder.sample_rate)

    def _context(self, name: str, mode: str) -> Any:
        import av

        create: Any = av.CodecContext.create  # its stub enumerates literal names
        context = create(name, mode)
        context.sample_rate, context.layout, context.thread_count = self._coder.sample_rate, "mono", 1
        return context

    def _encoded(self, frames: npt.NDArray[np.float32]) -> list[bytes]:
        import av

        context = self._context(self._coder.encoder, "w")
        context.format = self._coder.sample_format
        if self._coder.default_bps:
            context.bit_rate = self._bitrate_bps
        context.options = dict(self._options)
        context.open()
        if context.options:  # FFmpeg takes what it knows and leaves the rest
            raise RuntimeError(f"{self._coder.encoder} does not know the options {sorted(context.options)}")
        if context.frame_size not in (0, self._coder.frame):
            raise RuntimeError(f"{self._coder.encoder} wants frames of {context.frame_size} samples, not {self._coder.frame}")
        packets = []
        for i, samples in enumerate(frames):
            block = to_int16(samples) if self._coder.sample_format == "s16" else samples
            frame = av.AudioFrame.from_ndarray(block[None], format=self._coder.sample_format, layout="mono")
            frame.sample_rate, frame.pts = self._coder.sample_rate, i * self._coder.frame
            packets += [bytes(p) for p in context.encode(frame)]
        return packets + [bytes(p) for p in context.encode(None)]

    def _decoded(self, packets: Sequence[bytes]) -> FloatArray:
        import av

        context = self._context(self._coder.decoder, "r")
        if self._codec == "opus":
            # RFC 7845: version 1, one channel, pre-skip, input rate, no gain, mapping family 0. The decoder would drop the
            # pre-skip itself; it is 0 here because what must be dropped depends on the band (see `_opus_output`).
            context.extradata = b"OpusHead" + struct.pack("<BBHIHB", 1, 1, 0, self._coder.sample_rate, 0, 0)
        if self._codec == "aac":
            # AudioSpecificConfig: object type 2 (LC) in 5 bits, frequency index in 4, one channel in 4.
            context.extradata = struct.pack(">H", 2 << 11 | _AAC_16_KHZ << 7 | 1 << 3)
        context.open()
        blocks = [f.to_ndarray()[0] for p in packets for f in context.decode(av.Packet(p))]
        blocks += [f.to_ndarray()[0] for f in context.decode(None)]
        samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
        return from_int16(samples.astype(np.int16)) if samples.dtype == np.int16 else samples.astype(np.float32)

    def _amr_mode_byte(self) -> bytes:
        """RFC 4867's table-of-contents byte: frame type in bits 6-3, quality bit 2."""
        return bytes([self._coder.bitrates_bps.index(self._bitrate_bps) << 3 | 4])

    def _stripped(self, packet: bytes) -> bytes:
        if self._codec != "amrnb":
            return packet
        if packet[:1] != self._amr_mode_byte():
            raise RuntimeError(f"AMR-NB changed its mode: byte {packet[:1].hex()} instead of {self._amr_mode_byte().hex()}")
        return packet[1:]

    def _restored(self, packet: bytes) -> bytes:
        return self._amr_mode_byte() + packet if self._codec == "amrnb" else packet


def _checked_bitrate(codec: str, coder: _Coder, asked: int | None) -> int:
    if asked is None:
        return coder.default_bps or coder.bitrates_bps[0]
    if coder.any_between:
        low, high = coder.bitrates_bps
        if not low <= asked <= high:
            raise ValueError(f"{codec} takes {low} to {high} bit/s, got {asked}")
    elif asked not in coder.bitrates_bps:
        raise ValueError(f"{codec} has {', '.join(map(str, coder.bitrates_bps))} bit/s, not {asked}")
    return asked


def _tools() -> tuple[tuple[str, str], ...]:
    import av

    codec_version = ".".join(map(str, av.library_versions["libavcodec"]))
    own = (("PyAV", str(av.__version__)), ("FFmpeg", str(av.ffmpeg_version_info)), ("libavcodec", codec_version))
    return (*own, *versions("soxr"))


def _opus_output(samples: FloatArray, encoded: Bitstream, sample_rate: int) -> Audio:
    """The decoder's 48 kHz without its delay, at the input's rate.

    libopus compensates its own resamplers (16 kHz to SILK's rate, and from there to 48 kHz) only to about a sample: SILK at
    16 kHz was measured 2 samples of 48 kHz early, at 8 kHz 1 late. The band stands in the first five bits of every
    packet (RFC 6716, table 2); the commonest decides for the utterance.
    """
    import soxr

    configs = [p[0] >> 3 for p in encoded.packets if p]
    usual = max(set(configs), key=configs.count)
    early = -1 if usual < 4 else 2 if 8 <= usual < 12 else 0
    start = _OPUS_PRE_SKIP_48K - early
    wide = samples[start : start + encoded.num_samples * _OPUS_OUTPUT_HZ // sample_rate]
    narrow = soxr.resample(wide, _OPUS_OUTPUT_HZ, sample_rate, quality="VHQ")
    return compensated(narrow, 0, encoded.num_samples, sample_rate)
