"""Flite: diphone and small statistical voices, English only."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from harness.api import Audio, MissingOutput, Speech, SystemInfo, Utterance
from systems.classical.speech_program import absent, language_of, plain_text, spoken

_RATES_HZ = {"slt": 16000, "rms": 16000, "awb": 16000, "kal16": 16000, "kal": 8000}
"""The general English voices built into the program: kal and kal16 are diphone voices, the others are clustergen."""


class Flite:
    """Text through ``flite``. The prompt and the seed change nothing: it has voices of its own and does not sample.

    Args:
        voice: slt, rms, awb (clustergen, 16 kHz), kal16 (diphones, 16 kHz) or kal (diphones, 8 kHz).
        duration_stretch: 1 is the voice's own pace, 2 takes twice as long; .3 to 3.
        timeout_s: for one utterance.

    Raises:
        ValueError: another voice, or an impossible pace.
        RuntimeError: the program is not here, or lacks the voice.
    """

    def __init__(self, voice: str = "slt", duration_stretch: float = 1.0, timeout_s: float = 60.0) -> None:
        if voice not in _RATES_HZ:
            raise ValueError(f"flite has no voice {voice!r} here; there are {', '.join(_RATES_HZ)}")
        if not 0.3 <= duration_stretch <= 3.0:
            raise ValueError(f"duration_stretch is .3 to 3, got {duration_stretch}")
        if reason := self.missing(voice):
            raise RuntimeError(reason)
        self._program = str(shutil.which("flite"))
        self._voice, self._stretch, self._timeout_s = voice, duration_stretch, timeout_s
        self.sample_rate = _RATES_HZ[voice]
        self.info = SystemInfo(
            family="flite",
            version="1",
            description=f"Flite, voice {voice}, English only; no voice cloning, the prompt is ignored",
            tools=(("flite", _version(self._program)),),
        )

    @classmethod
    def missing(cls, voice: str = "slt", duration_stretch: float = 1.0, timeout_s: float = 60.0) -> str | None:
        if reason := absent("flite", "flite"):
            return reason
        # Asked for a voice it has not, flite takes another one without a word.
        listed = subprocess.run([str(shutil.which("flite")), "-lv"], capture_output=True, text=True, check=False).stdout
        there = listed.partition(":")[2].split()
        return None if voice in there else f"this flite was built without the voice '{voice}'; it has {', '.join(there) or 'none'}"

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the voice's own pace, sentence by sentence as the program divides it.

        Raises:
            MissingOutput: another language than English.
            RuntimeError: the program failed or took too long.
        """
        if language_of(utterance.language) != "en":
            raise MissingOutput(f"flite speaks English only, asked for '{utterance.language}'")

        def command(source: Path, target: Path) -> list[str]:
            pace = ["--setf", f"duration_stretch={self._stretch}"]
            return [self._program, "-voice", self._voice, *pace, "-f", str(source), "-o", str(target)]

        return Speech(spoken(command, _ascii(utterance.text), self.sample_rate, self._timeout_s))

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """One chunk: the program hands over its file when it has finished."""
        yield self.synthesize(utterance, seed).audio


def _ascii(text: str) -> str:
    """Letters without their accents; flite knows no others and leaves out whole words that have them."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", plain_text(text)) if not unicodedata.combining(c))
    return bare.encode("ascii", "ignore").decode()


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version: flite-(\S+)", said.stdout + said.stderr)
    return match[1] if match else "unknown"
