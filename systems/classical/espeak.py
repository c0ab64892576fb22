"""espeak-ng: formant synthesis by rule, a hundred languages, no voice but its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.api import Audio, MissingOutput, Speech, SystemInfo, Utterance
from systems.classical.speech_program import absent, language_of, plain_text, spoken

_SAMPLE_RATE_HZ = 22050
_AMPLITUDE = 80  # of 100, its default, at which some peaks reach full scale
_VOICES = {"en": "en-us", "zh": "cmn-latn-pinyin"}
"""Plain cmn of version 1.51 spells the pinyin of most characters as if it were English; cmn-latn-pinyin does not."""


class Espeak:
    """Text through ``espeak-ng``. The prompt and the seed change nothing: it has voices of its own and does not sample.

    Args:
        voices: espeak-ng's voice (with a variant such as ``en-us+f3``) for each language, by ISO 639-1 code. A language that is not
            here it does not speak.
        words_per_minute: pace, 80 to 450.
        timeout_s: for one utterance.

    Raises:
        ValueError: no voices, a name that is none, or an impossible pace.
        RuntimeError: the program or one of the voices is not here.
    """

    def __init__(self, voices: Mapping[str, str] | None = None, words_per_minute: int = 175, timeout_s: float = 60.0) -> None:
        self._voices = _checked(voices)
        if not 80 <= words_per_minute <= 450:
            raise ValueError(f"words_per_minute is 80 to 450, got {words_per_minute}")
        if reason := self.missing(voices):
            raise RuntimeError(reason)
        self._program = str(shutil.which("espeak-ng"))
        self._words_per_minute, self._timeout_s = words_per_minute, timeout_s
        told = ", ".join(f"{language} {voice}" for language, voice in sorted(self._voices.items()))
        self.sample_rate = _SAMPLE_RATE_HZ
        self.info = SystemInfo(
            family="espeak",
            version="1",
            description=f"espeak-ng, formant synthesis ({told}); no voice cloning, the prompt is ignored",
            tools=(("espeak-ng", _version(self._program)),),
        )

    @classmethod
    def missing(cls, voices: Mapping[str, str] | None = None, words_per_minute: int = 175, timeout_s: float = 60.0) -> str | None:
        if reason := absent("espeak-ng", "espeak-ng"):
            return reason
        program = str(shutil.which("espeak-ng"))
        # Asked for a voice it has not it takes one with a similar name, and an unknown variant it passes over, without a word.
        known, variants = _listed(program, "--voices", 1), _listed(program, "--voices=variant", 4)
        for language, voice in _checked(voices).items():
            name, plus, variant = voice.partition("+")
            if name not in known or (plus and f"!v/{variant}" not in variants):
                return (
                    f"espeak-ng {_version(program)} has no voice '{voice}': see `espeak-ng --voices` and `espeak-ng --voices=variant`, "
                    f"or leave the language out with voices.{language}=null"
                )
        return None

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the program's own pace.

        Raises:
            MissingOutput: no voice was chosen for the language.
            RuntimeError: the program failed or took too long.
        """
        language = language_of(utterance.language)
        if language not in self._voices:
            raise MissingOutput(f"espeak speaks {', '.join(sorted(self._voices))} as configured, asked for '{utterance.language}'")
        voice = self._voices[language]
        # Between double brackets it reads phoneme names instead of words.
        text = plain_text(utterance.text).replace("[[", "[ [")

        def command(source: Path, target: Path) -> list[str]:
            pace = ["-s", str(self._words_per_minute), "-a", str(_AMPLITUDE)]
            return [self._program, "-v", voice, *pace, "-b", "1", "-f", str(source), "-w", str(target)]

        return Speech(spoken(command, text, self.sample_rate, self._timeout_s))

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """One chunk: the program hands over its file when it has finished."""
        yield self.synthesize(utterance, seed).audio


def _checked(voices: Mapping[str, str] | None) -> dict[str, str]:
    chosen = {language: voice for language, voice in (_VOICES if voices is None else voices).items() if voice is not None}
    if not chosen:
        raise ValueError("espeak wants at least one voice, e.g. voices={en: en-us}")
    for language, voice in chosen.items():
        if not re.fullmatch(r"[a-z]{2,3}", str(language)):
            raise ValueError(f"voices go by ISO 639 code such as en or zh, got {language!r}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*(\+[A-Za-z0-9_-]+)?", str(voice)):
            raise ValueError(f"'{voice}' is not the name of an espeak-ng voice, such as en-us or en-us+f3")
    return chosen


def _listed(program: str, option: str, column: int) -> frozenset[str]:
    """One column of a list of voices."""
    said = subprocess.run([program, option], capture_output=True, text=True, check=False).stdout
    return frozenset(row[column] for row in map(str.split, said.splitlines()[1:]) if len(row) > column)


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"text-to-speech: (\S+)", said)
    return match[1] if match else "unknown"
