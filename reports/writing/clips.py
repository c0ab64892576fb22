"""Saved audio as small self-contained clips for a page: 16-bit FLAC at its own rate, base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.audio import UnreadableAudio, read_recording
from harness.data.documents import open_regular
from harness.errors import DamagedFile
from harness.storing.files import read_json
from harness.storing.store import DESCRIPTION

FULL_SCALE = 32767


@dataclass(frozen=True)
class Clip:
    """Audio that a browser plays, or why there is none.

    Args:
        flac: base64 text, "" where ``problem`` is set.
        sample_rate: in Hz.
        duration_s: in seconds.
        clipped: samples beyond +-1, which 16-bit integers cannot hold.
        problem: why it cannot be played, "" otherwise.
    """

    flac: str = ""
    sample_rate: int = 0
    duration_s: float = 0.0
    clipped: int = 0
    problem: str = ""

    @property
    def num_bytes(self) -> int:
        """What it adds to the page."""
        return len(self.flac)


@dataclass
class Shelf:
    """The clips that a page takes along, by number, never more than ``limit`` bytes of base64."""

    limit: int
    clips: list[str] = field(default_factory=list)
    used: int = 0
    full: bool = False

    def take(self, clips: Collection[Clip]) -> bool:
        """Whether there is room for all of some clips; once there was none, nothing more is taken."""
        wanted = sum(clip.num_bytes for clip in clips)
        self.full = self.full or self.used + wanted > self.limit
        self.used += 0 if self.full else wanted
        return not self.full

    def place(self, clip: Clip) -> int:
        """The number of a clip that was taken."""
        self.clips.append(clip.flac)
        return len(self.clips) - 1


def encoded(path: Path, digest: str = "") -> Clip:
    """The clip of an audio file. What cannot be read or played comes back as a clip with its problem, to be shown in its place.

    Args:
        path: of the file. The audio of a stored prediction is compared with the description beside it.
        digest: of the recording that was measured, where it is one: whoever wrote the run's manifest chose the name, not the content,
            and a page that is sent holds no other file of this machine.
    """
    import soundfile

    try:
        recording = read_recording(path)
    except UnreadableAudio as problem:
        return Clip(problem=f"cannot be read: {problem.reason}")
    if digest and recording.digest != digest:
        return Clip(problem="is another file than the one that was measured")
    audio = recording.audio
    if not digest and (path.parent / DESCRIPTION).exists():
        try:
            if read_json(path.parent / DESCRIPTION)["audio"] != audio.digest():
                return Clip(problem="was altered after it was measured")
        except (OSError, DamagedFile, KeyError) as problem:
            return Clip(problem=f"cannot be compared with what was measured ({problem})")
    samples, rate = audio.samples.T, audio.sample_rate
    clipped = int((np.abs(samples) > 1).sum())
    whole = np.round(np.clip(samples, -1, 1) * FULL_SCALE).astype(np.int16)
    stream = io.BytesIO()
    try:
        soundfile.write(stream, whole, rate, format="FLAC", subtype="PCM_16")
    except (soundfile.LibsndfileError, ValueError) as problem:
        return Clip(sample_rate=rate, problem=f"cannot be written as FLAC ({samples.shape[1]} channels, {rate} Hz): {problem}")
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return Clip(text, rate, len(samples) / rate, clipped)


def duration_s(path: Path) -> float | None:
    """Seconds of an audio file by its header, None where it cannot be read."""
    import soundfile

    try:
        with open_regular(path) as file:
            return float(soundfile.info(file).duration)
    except (OSError, ValueError, soundfile.LibsndfileError):
        return None
