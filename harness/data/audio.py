"""Reading, writing, resampling and flagging audio: the only door through which sound files pass."""

from __future__ import annotations

import os
import stat
import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api import Audio, FloatArray

if TYPE_CHECKING:
    import soundfile

DC_OFFSET = 0.01
"""A channel whose mean is further from zero than this (-40 dBFS) is flagged "dc"; clean speech stays below 0.001."""
FULL_SCALE = 0.999
"""Samples at or beyond this magnitude are at full scale (covers 16-bit's 32767/32768)."""
CLIPPED_SHARE = 0.01
"""More than this share of a channel's samples at full scale is flagged "clipped"."""
SILENCE_RMS = 10 ** (-70 / 20)
"""Every channel's RMS about its mean below this (-70 dBFS) is flagged "silent"; a constant signal is "dc" and "silent"."""

_BLOCK_FRAMES = 1 << 20
_STREAMED_SIZE = 0x7FFF0000
"""RIFF data sizes from here on are placeholders of programs that write to a pipe (0x7FFFF000, 0xFFFFFFFF ...), not promises."""


class UnreadableAudio(Exception):
    """A file that cannot be used as audio.

    Args:
        path: the file.
        reason: one line, without a traceback.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason

    def __reduce__(self) -> tuple[type[UnreadableAudio], tuple[Path, str]]:
        """Exceptions with two arguments need this to cross a process boundary."""
        return type(self), (self.path, self.reason)


def read_audio(path: Path | str) -> Audio:
    """A sound file as float32 at its own rate, every channel kept.

    Whatever libsndfile reads is accepted (WAV, FLAC, Ogg, Opus, MP3, AIFF ... of any subtype); integers are scaled to +-1.
    Truncation is found where the format tells the length: WAV (by its data chunk) and FLAC and others whose decoder stops early.
    MP3 and Ogg streams do not promise a length, so a cut there cannot be seen.

    Raises:
        UnreadableAudio: missing, not a regular file, not audio, empty (0 samples), truncated or corrupt, NaN or Inf samples.
    """
    import soundfile

    path = Path(path)
    size = _regular_size(path)
    if size == 0:
        raise UnreadableAudio(path, "empty file (0 bytes)")
    try:
        # An absolute name, because libsndfile takes "-" for standard input. TypeError: soundfile asks for parameters for ".raw".
        file = soundfile.SoundFile(os.path.abspath(path))  # noqa: PTH100  (no symlink is to be resolved in messages)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise UnreadableAudio(path, f"not audio that libsndfile reads ({_one_line(error)})") from None
    with file:
        declared, rate = int(file.frames), int(file.samplerate)
        samples = _decode(file, path)
    decoded = samples.shape[1]
    if decoded < declared < 2**62:  # an unknown length is reported as 2**63 - 1
        raise UnreadableAudio(path, f"truncated: the header declares {declared} frames, {decoded} could be decoded")
    cut = _missing_wav_bytes(path, size)
    if cut is not None:
        raise UnreadableAudio(path, f"truncated: the header declares {cut[0]} bytes of samples, the file holds {cut[1]} ({decoded} frames)")
    if decoded == 0:
        raise UnreadableAudio(path, "empty (0 samples)")
    if not np.isfinite(samples).all():
        bad = int(samples.size - np.isfinite(samples).sum())
        raise UnreadableAudio(path, f"{bad} of {samples.size} samples are NaN or Inf")
    return Audio(samples, rate)


def write_audio(path: Path | str, audio: Audio) -> None:
    """Write ``audio`` as a float32 WAV, whole or not at all: to a temporary name beside ``path``, then renamed.

    The header is made here because libsndfile stamps the time of day into float files; equal audio gives equal bytes.

    Raises:
        ValueError: more than 4 GiB.
        OSError: the folder is missing, read-only or full; nothing is left behind.
    """
    path = Path(path)
    channels, frames = audio.samples.shape
    data_bytes = 4 * channels * frames
    if data_bytes > 0xFFFFFFFF - 64:
        raise ValueError(f"{data_bytes} bytes do not fit into a WAV file")
    # WAVE_FORMAT_IEEE_FLOAT with the extension size and the fact chunk the format asks for.
    form = struct.pack("<HHIIHHH", 3, channels, audio.sample_rate, 4 * channels * audio.sample_rate, 4 * channels, 32, 0)
    header = (
        b"WAVE"
        + b"fmt "
        + struct.pack("<I", len(form))
        + form
        + b"fact"
        + struct.pack("<II", 4, frames)
        + b"data"
        + struct.pack("<I", data_bytes)
    )
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as out:
            out.write(b"RIFF" + struct.pack("<I", len(header) + data_bytes) + header)
            out.write(np.ascontiguousarray(audio.samples.T, dtype="<f4").tobytes())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def resample(samples: FloatArray, source_hz: int, target_hz: int) -> FloatArray:
    """The one resampler: soxr VHQ, band-limited, linear phase (no delay).

    Args:
        samples: float32 ``[..., N]`` at ``source_hz``.
        source_hz: positive.
        target_hz: positive.

    Returns:
        float32 ``[..., round(N * target_hz / source_hz)]`` (half to even, as Python rounds). ``samples`` itself when the rates are equal.
    """
    if source_hz <= 0 or target_hz <= 0:
        raise ValueError(f"sample rates must be positive, got {source_hz} and {target_hz}")
    if source_hz == target_hz:
        return samples
    import soxr

    samples = np.asarray(samples, dtype=np.float32)
    lead, count = samples.shape[:-1], samples.shape[-1]
    wanted = round(count * target_hz / source_hz)
    out = np.zeros((int(np.prod(lead, dtype=np.int64)), wanted), dtype=np.float32)
    if count and wanted:
        for row, signal in enumerate(samples.reshape(-1, count)):
            # soxr rounds the length its own way: half a sample at the end is cut or stays zero.
            made = soxr.resample(signal, source_hz, target_hz, quality="VHQ")[:wanted]
            out[row, : made.shape[0]] = made
    return out.reshape(*lead, wanted)


def flags(audio: Audio) -> tuple[str, ...]:
    """What is odd about a finite signal: any of "dc", "clipped", "silent", by the thresholds above; () for ordinary audio."""
    if audio.num_samples == 0:
        return ("silent",)
    samples = audio.samples
    found = []
    mean = samples.mean(axis=1, dtype=np.float64)
    if np.abs(mean).max() > DC_OFFSET:
        found.append("dc")
    if (np.abs(samples) >= FULL_SCALE).mean(axis=1).max() > CLIPPED_SHARE:
        found.append("clipped")
    rms = samples.std(axis=1, dtype=np.float64)
    if rms.max() < SILENCE_RMS:
        found.append("silent")
    return tuple(found)


def _regular_size(path: Path) -> int:
    """Bytes of a regular file. A named pipe or device would block the reader for ever, so nothing else is opened."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnreadableAudio(path, "missing: no such file") from None
    except (OSError, ValueError) as error:
        raise UnreadableAudio(path, f"cannot be opened ({_one_line(error)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableAudio(path, "not a file" if not stat.S_ISDIR(status.st_mode) else "a folder, not a file")
    return status.st_size


def _decode(file: soundfile.SoundFile, path: Path) -> FloatArray:
    """All samples ``[C, N]``, read in blocks: a header that lies about its length must not decide how much memory is asked for."""
    blocks: list[FloatArray] = []
    try:
        while True:
            block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            blocks.append(block)
            if block.shape[0] < _BLOCK_FRAMES:
                break
    except (RuntimeError, OSError) as error:
        got = sum(b.shape[0] for b in blocks)
        raise UnreadableAudio(
            path, f"truncated or corrupt: decoding failed after {got} of {file.frames} frames ({_one_line(error)})"
        ) from None
    return np.ascontiguousarray(np.concatenate(blocks).T)


def _missing_wav_bytes(path: Path, size: int) -> tuple[int, int] | None:
    """(declared, present) bytes of a WAV's data chunk when whole frames are missing, else None.

    libsndfile silently clips the declared length to the size of the file, so a cut WAV reads as a shorter one.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[8:] != b"WAVE" or head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
            return None
        endian = ">" if head[:4] == b"RIFX" else "<"
        block, wide = 1, None
        while len(chunk := file.read(8)) == 8:
            length: int = struct.unpack(endian + "I", chunk[4:])[0]
            start = file.tell()
            if chunk[:4] == b"fmt " and len(form := file.read(min(length, 16))) == 16:
                block = max(1, struct.unpack(endian + "H", form[12:14])[0])
            elif chunk[:4] == b"ds64" and len(sizes := file.read(16)) == 16:
                wide = struct.unpack("<Q", sizes[8:])[0]
            elif chunk[:4] == b"data":
                declared = wide if wide is not None and length == 0xFFFFFFFF else length
                if wide is None and length >= _STREAMED_SIZE and size < _STREAMED_SIZE:
                    return None
                present = size - start
                return (declared, present) if declared // block > present // block else None
            file.seek(start + length + length % 2)
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
