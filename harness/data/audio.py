"""Reading, writing, resampling and flagging audio (the only door through which sound files pass), and whether speech repeats a prompt."""

from __future__ import annotations

import io
import os
import struct
import uuid
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.api import FAR_OVER, Audio, FloatArray
from harness.data.containers import missing_bytes
from harness.data.digests import bytes_digest
from harness.data.documents import NotRegular, open_regular

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

OVER_FULL_SCALE = 1 + 2**-15
"""A sample beyond this is flagged "over_full_scale"; what 16 bits hold, and rounding, stays below."""
ONE_CHANNEL = 10 ** (-30 / 20)
"""Every other channel's RMS below this share of the loudest's (30 dB): there is one channel with sound, and the average is too quiet."""
CANCELLED = 10 ** (-6 / 20)
"""The average's RMS below this share of the loudest channel's (6 dB; uncorrelated stereo loses 3): the channels cancel in it."""

_BLOCK_FRAMES = 1 << 20
MOST_BYTES = 4 << 30
ENDED = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "SVX", "SDS", "HTK")
"""Formats of libsndfile of which it, or `harness.data.containers`, tells whether they are cut; it reads the others as shorter ones."""


class UnreadableAudio(Exception):
    """A file that cannot be used as audio, for a ``reason`` of one line without a traceback."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason

    def __reduce__(self) -> tuple[type[UnreadableAudio], tuple[Path, str]]:
        """Exceptions with two arguments need this to cross a process boundary."""
        return type(self), (self.path, self.reason)


class ChangedAudio(UnreadableAudio):
    """A file that is not what it was when the run was planned: what was asked about it is not what it would answer."""


def read_audio(path: Path | str) -> Audio:
    """A sound file as float32 at its own rate, every channel kept: the promises of `read_recording` but for level and channels.

    Raises:
        UnreadableAudio: as there.
    """
    path = Path(path)
    return _decoded(path, _bytes_of(path))


@dataclass(frozen=True, eq=False)
class Recording:
    """What one reading of a sound file gave."""

    audio: Audio  # float32 at its own rate, every channel of the file or the one that was asked for
    digest: str  # of the file's bytes (`harness.data.digests`), those that were decoded
    channels: int  # of the file

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """As `flags` of what was taken from the file."""
        return flags(self.audio)


def read_recording(path: Path | str, channel: int | None = None, planned: str = "") -> Recording:
    """The one reading of a sound file from outside: opened once, its bytes hashed, and those bytes decoded.

    Whatever libsndfile reads and whose end can be told is accepted (WAV, FLAC, Ogg, Opus, MP3, AIFF, AU, CAF, W64, SPHERE ...); integers
    are scaled to +-1. A cut file is found by the length that its header declares, or by the last page of an Ogg stream; an MP3 without
    a Xing header promises neither, so a cut there cannot be seen.

    Args:
        channel: to take, from 1; None keeps all of them. The only channel of a mono file is taken whatever is asked.
        planned: what `file_digest` found when the run was planned; "" where nothing was.

    Raises:
        ChangedAudio: the file is not what it was when the run was planned.
        UnreadableAudio: missing, not a regular file, not audio, empty (0 samples), truncated or corrupt, NaN or Inf samples, samples
            `FAR_OVER` full scale, a channel that it has not, or channels whose average is not what they say (`unmixable`).
    """
    path = Path(path)
    try:
        data = _bytes_of(path)
    except UnreadableAudio as error:
        if planned and ":" not in planned:
            raise ChangedAudio(path, f"{error.reason}; {changed(planned)}") from None
        raise
    digest = bytes_digest(data)
    if planned and digest != planned:
        raise ChangedAudio(path, changed(planned, digest))
    audio = _decoded(path, data)
    channels = audio.num_channels
    if channel is not None and channels > 1:
        if channel > channels:
            raise UnreadableAudio(path, f"channel {channel} is asked for (dataset.channel), the file has {channels}")
        audio = Audio(audio.samples[channel - 1 : channel], audio.sample_rate)
    if reason := out_of_scale(audio) or unmixable(audio):
        raise UnreadableAudio(path, reason)
    return Recording(audio, digest, channels)


def duration_s(path: Path | str) -> float | None:
    """How long a sound file says it is, from its header; None where it says nothing that libsndfile understands. For estimates only."""
    import soundfile

    try:
        with open_regular(Path(path)) as file:  # a named pipe would never be open
            return float(soundfile.info(file).duration)
    except (OSError, ValueError, soundfile.SoundFileError):
        return None


def changed(planned: str, found: str = "") -> str:
    """What is said of a file whose digest is another than when the run was planned; ``found`` is "" where there is none any more."""
    was = planned.partition(":")[0] if ":" in planned else f"of content {planned[:8]}"
    return (
        f"changed since the run was planned: it was {was}{f' and is of content {found[:8]}' if found else ''}; run the same command again"
    )


def out_of_scale(audio: Audio) -> str:
    """Why a finite signal cannot be meant for a full scale of +-1, or ""."""
    peak = float(max(audio.samples.max(initial=0.0), -audio.samples.min(initial=0.0)))
    if peak <= FAR_OVER:
        return ""
    kind = next((f"int{bits}" for bits in (8, 16, 24, 32) if peak <= 1.1 * 2.0 ** (bits - 1)), "")
    scale = 2 ** (int(kind[3:]) - 1) if kind else 0
    likely = f"{kind} values in a float file? Divide them by {scale}" if kind else "nothing of audio is so loud"
    return f"samples reach {peak:g} where full scale is 1: {likely}"


def unmixable(audio: Audio) -> str:
    """Why the average of the channels, which is what is listened to, is not what they hold, or ""."""
    if audio.num_channels == 1 or audio.num_samples == 0:
        return ""
    levels = audio.samples.std(axis=1, dtype=np.float64)
    loudest = int(levels.argmax())
    if levels[loudest] < SILENCE_RMS:
        return ""
    others = np.delete(levels, loudest)
    if others.max() < levels[loudest] * ONE_CHANNEL:
        what = f"only channel {loudest + 1} of {audio.num_channels} holds sound"
    elif audio.mixed().std(dtype=np.float64) < levels[loudest] * CANCELLED:
        what = f"the {audio.num_channels} channels cancel in their average (opposite phase, or speech on a few of them)"
    else:
        return ""
    return f"{what}; give it as mono (of a dataset: dataset.channel={loudest + 1} takes that one, counted from 1)"


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
    header = struct.pack("<4s4sI", b"WAVE", b"fmt ", len(form)) + form + struct.pack("<4sII4sI", b"fact", 4, frames, b"data", data_bytes)
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
    """What is odd about a finite signal, by the thresholds above; () for ordinary audio.

    "dc": a channel's mean is off zero. "clipped": a channel is often at full scale. "over_full_scale": samples beyond it, which integers
    cannot hold. "silent": nothing is heard. "channels_averaged": it has several channels, and their average is what is measured.
    """
    if audio.num_samples == 0:
        return ("silent",)
    samples = audio.samples
    found = []
    mean = samples.mean(axis=1, dtype=np.float64)
    if np.abs(mean).max() > DC_OFFSET:
        found.append("dc")
    size = np.abs(samples)
    if (size >= FULL_SCALE).mean(axis=1).max() > CLIPPED_SHARE:
        found.append("clipped")
    if size.max() > OVER_FULL_SCALE:
        found.append("over_full_scale")
    rms = samples.std(axis=1, dtype=np.float64)
    if rms.max() < SILENCE_RMS:
        found.append("silent")
    if audio.num_channels > 1:
        found.append("channels_averaged")
    return tuple(found)


def _bytes_of(path: Path) -> bytes:
    """A regular file whole."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise UnreadableAudio(path, f"more than {MOST_BYTES >> 30} GiB, which is no utterance")
            data = file.read()
    except FileNotFoundError:
        raise UnreadableAudio(path, "missing: no such file") from None
    except NotRegular as error:
        raise UnreadableAudio(path, str(error)) from None
    except (OSError, ValueError) as error:
        raise UnreadableAudio(path, f"cannot be opened ({_one_line(error)})") from None
    if not data:
        raise UnreadableAudio(path, "empty file (0 bytes)")
    return data


def _decoded(path: Path, data: bytes) -> Audio:
    """What the bytes of a sound file say, whole and finite."""
    import soundfile

    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise UnreadableAudio(path, f"not audio that libsndfile reads ({_one_line(error)})") from None
    with file:
        if file.format not in ENDED:
            raise UnreadableAudio(
                path,
                f"nobody can tell whether a file of format {file.format} is whole: convert it to WAV or FLAC, or one of {', '.join(ENDED)}",
            )
        declared, rate = int(file.frames), int(file.samplerate)
        samples = _decode(file, path)
    decoded = samples.shape[1]
    if decoded < declared < 2**62:  # an unknown length is reported as 2**63 - 1
        raise UnreadableAudio(path, f"truncated: the header declares {declared} frames, {decoded} could be decoded")
    if cut := missing_bytes(data):
        raise UnreadableAudio(path, f"truncated: {cut} ({decoded} frames)")
    if decoded == 0:
        raise UnreadableAudio(path, "empty (0 samples)")
    if not np.isfinite(samples).all():
        bad = int(samples.size - np.isfinite(samples).sum())
        raise UnreadableAudio(path, f"{bad} of {samples.size} samples are NaN or Inf")
    return Audio(samples, rate)


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


def _one_line(error: BaseException) -> str:
    """What libsndfile says without the name of what it was given, which is an address in memory here and never twice the same."""
    said = getattr(error, "error_string", None) or error
    return " ".join(str(said).split()) or type(error).__name__


_ALIKE = 0.7
"""Correlation of two spectrograms from which one is the other. Different sentences of one voice reach .57 at most (624 pairs of 10
LibriSpeech speakers, the embedded speech .39); a recording through Opus at 6 kbit/s keeps .96, through a neural codec at 2 kbit/s .98,
at .5 kbit/s .69 to .80."""
_RATE_HZ, _WINDOW, _HOP, _BANDS = 8000, 256, 80, 20
_SHORTEST, _REACH, _DEPTH = 100, 50, 1e-4
"""npt.NDArray[np.float64] (of 10 ms) that are compared at least; that one may begin before the other; and the power under the loudest frame's at which
speech begins."""


def repeated(prompt: Audio, output: Audio) -> str:
    """What an output repeats of its prompt instead of speaking, at any level and rate, after any silence and through a codec.

    Spectrograms are compared, not samples: a codec or a resampler in between changes every sample.

    Returns:
        "prompt_copied" where it is little else, "begins_with_prompt" where it goes on, "" for speech of its own.
    """
    wanted, given = _spectrogram(prompt), _spectrogram(output)
    lags = range(-_REACH, _REACH + 1)
    if not any(_correlation(wanted[max(0, -lag) :], given[max(0, lag) :]) >= _ALIKE for lag in lags):
        return ""
    return "begins_with_prompt" if len(given) >= len(wanted) + _SHORTEST else "prompt_copied"


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Of the frames that both have, each band about its own mean, so that neither level nor a filter matters; 0 for too few frames."""
    count = min(len(a), len(b))
    if count < _SHORTEST:
        return 0.0
    a, b = (x[:count] - x[:count].mean(axis=0) for x in (a, b))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def _spectrogram(audio: Audio) -> npt.NDArray[np.float64]:
    """Log power in `_BANDS` bands, silence before and after the speech cut off."""
    mono = resample(audio.mixed(), audio.sample_rate, _RATE_HZ)
    if mono.size < _WINDOW:
        return np.zeros((0, _BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames))) @ _bands().T
    loud = power.sum(axis=1)
    spoken = np.flatnonzero(loud > loud.max() * _DEPTH)
    if not spoken.size:
        return np.zeros((0, _BANDS))
    power = power[spoken[0] : spoken[-1] + 1]
    return np.asarray(np.log(np.maximum(power, power.max() * _DEPTH / 10)))


@cache
def _bands() -> npt.NDArray[np.float64]:
    """Triangles equally spaced in the logarithm of frequency, ``[_BANDS, _WINDOW / 2 + 1]``."""
    edges = np.geomspace(120, 3800, _BANDS + 2)[:, None]
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE_HZ)[None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)
