"""What is measured on: items of a dataset, and the request a synthesizer gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.api.audio import Audio


@dataclass(frozen=True)
class Item:
    """One utterance of a dataset, as its manifest describes it. Audio is read by the harness when it is needed.

    Args:
        id: unique in the dataset.
        dataset: name of the dataset.
        path: recording of the utterance (the reference), or None where there is none.
        text: what is said, or "" where unknown.
        language: ISO 639-1 code ("en", "zh"), or "" where unknown.
        speaker: speaker id, or ""; items are resampled by speaker in every interval.
        prompt_path: recording of the same speaker saying something else, for zero-shot TTS.
        prompt_text: what the prompt says.
        synthetic: the recording itself is synthetic speech; every table says so.
        notes: further columns of the manifest, kept for filtering.
        channel: which channel of its recording and prompt is taken, from 1; None averages them.
    """

    id: str
    dataset: str
    path: Path | None = None
    text: str = ""
    language: str = ""
    speaker: str = ""
    prompt_path: Path | None = None
    prompt_text: str = ""
    synthetic: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    channel: int | None = None


@dataclass(frozen=True, eq=False)
class Utterance:
    """What a synthesizer is asked to say, and in whose voice.

    Args:
        text: to be spoken.
        language: ISO 639-1 code.
        prompt: recording of the voice to follow, at its own rate; None for systems without cloning.
        prompt_text: transcript of the prompt, "" where unknown.
    """

    text: str
    language: str
    prompt: Audio | None = None
    prompt_text: str = ""
