"""Outside programs that speak a text into a WAV file: espeak-ng (formants by rule, a hundred languages) and Flite (English only)."""

from __future__ import annotations

import abc
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.api import Audio, MissingOutput, Speech, SystemInfo, Utterance, language_code
from systems.pcm import from_int16

_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def plain_text(text: str) -> str:
    """One line without control characters, typographic quotes and dashes as ASCII: what programs of the nineties read well."""
    tame = unicodedata.normalize("NFC", text).translate(_PLAIN)
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in tame).split())


def absent(program: str, package: str) -> str | None:
    """Why a program cannot be run and how to get it, or None."""
    return None if shutil.which(program) else f"{program} not found on the PATH: apt-get install {package}"


def spoken(command: Callable[[Path, Path], Sequence[str]], text: str, sample_rate: int, timeout_s: float) -> Audio:
    """What a program says.

    The text reaches it as a file, never as an argument or through a shell: no text, however it begins, is an option or a command.

    Args:
        command: program and arguments, made from the path of the text (UTF-8) and of the WAV file to write (16-bit).
        sample_rate: that the program is expected to write, in Hz.

    Returns:
        Mono; empty where the program found nothing to say.

    Raises:
        RuntimeError: it failed, took too long, or wrote something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "text", Path(folder) / "speech.wav"
        source.write_text(text, encoding="utf-8")
        words = command(source, target)
        name = Path(words[0]).name
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{name} was ended after {timeout_s:g} s without having spoken {len(text)} characters") from None
        if done.returncode:
            raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr.decode(errors='replace').strip()[-200:]}")
        if not target.exists():  # espeak-ng writes no file for a text without words
            return Audio.mono(np.zeros(0), sample_rate)
        import soundfile

        samples, rate = soundfile.read(target, dtype="int16", always_2d=True)
    if rate != sample_rate or samples.shape[1] != 1:
        raise RuntimeError(f"{name} wrote {samples.shape[1]} channels at {rate} Hz, wanted one at {sample_rate}")
    return Audio.mono(from_int16(samples[:, 0]), sample_rate)


class SpeakingProgram(abc.ABC):
    """A program with voices of its own, which does not sample: the prompt and the seed change nothing."""

    @abc.abstractmethod
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the program's own pace."""

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """One chunk: the program hands over its file when it has finished."""
        yield self.synthesize(utterance, seed).audio


_ESPEAK_RATE_HZ, _ESPEAK_TELLS = 22050, "text-to-speech: "
_ESPEAK_AMPLITUDE = 80  # of 100, its default, at which some peaks reach full scale
_ESPEAK_VOICES = {"en": "en-us", "zh": "cmn-latn-pinyin"}
"""Plain cmn of version 1.51 spells the pinyin of most characters as if it were English; cmn-latn-pinyin does not."""


class Espeak(SpeakingProgram):
    """Text through ``espeak-ng``.

    Args:
        voices: espeak-ng's voice (with a variant such as ``en-us+f3``) for each language, by ISO 639-1 code. A language that is not
            here it does not speak.
        words_per_minute: pace, 80 to 450.

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
        self.sample_rate = _ESPEAK_RATE_HZ
        self.info = SystemInfo(
            family="espeak",
            version="1",
            description=f"espeak-ng, formant synthesis ({told}); no voice cloning, the prompt is ignored",
            tools=(("espeak-ng", _version(self._program, _ESPEAK_TELLS)),),
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
                    f"espeak-ng {_version(program, _ESPEAK_TELLS)} has no voice '{voice}': see `espeak-ng --voices` and "
                    f"`espeak-ng --voices=variant`, or leave the language out with voices.{language}=null"
                )
        return None

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the program's own pace.

        Raises:
            MissingOutput: no voice was chosen for the language.
            RuntimeError: the program failed or took too long.
        """
        language = language_code(utterance.language)
        if language not in self._voices:
            raise MissingOutput(f"espeak speaks {', '.join(sorted(self._voices))} as configured, asked for '{utterance.language}'")
        voice = self._voices[language]
        # Between double brackets it reads phoneme names instead of words.
        text = plain_text(utterance.text).replace("[[", "[ [")

        def command(source: Path, target: Path) -> list[str]:
            pace = ["-s", str(self._words_per_minute), "-a", str(_ESPEAK_AMPLITUDE)]
            return [self._program, "-v", voice, *pace, "-b", "1", "-f", str(source), "-w", str(target)]

        return Speech(spoken(command, text, self.sample_rate, self._timeout_s))


def _checked(voices: Mapping[str, str] | None) -> dict[str, str]:
    chosen = {language: voice for language, voice in (_ESPEAK_VOICES if voices is None else voices).items() if voice is not None}
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
    return frozenset(row[column] for row in map(str.split, _said(program, option).splitlines()[1:]) if len(row) > column)


def _version(program: str, pattern: str) -> str:
    """What follows ``pattern`` where a program tells its version."""
    said = _said(program, "--version")
    match = re.search(pattern + r"(\S+)", said)
    return match[1] if match else "unknown"


def _said(program: str, option: str) -> str:
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


_FLITE_RATES_HZ = {"slt": 16000, "rms": 16000, "awb": 16000, "kal16": 16000, "kal": 8000}
"""The general English voices built into the program: kal and kal16 are diphone voices, the others are clustergen."""


class Flite(SpeakingProgram):
    """Text through ``flite``.

    Args:
        voice: slt, rms, awb (clustergen, 16 kHz), kal16 (diphones, 16 kHz) or kal (diphones, 8 kHz).
        duration_stretch: 1 is the voice's own pace, 2 takes twice as long; .3 to 3.

    Raises:
        ValueError: another voice, or an impossible pace.
        RuntimeError: the program is not here, or lacks the voice.
    """

    def __init__(self, voice: str = "slt", duration_stretch: float = 1.0, timeout_s: float = 60.0) -> None:
        if voice not in _FLITE_RATES_HZ:
            raise ValueError(f"flite has no voice {voice!r} here; there are {', '.join(_FLITE_RATES_HZ)}")
        if not 0.3 <= duration_stretch <= 3.0:
            raise ValueError(f"duration_stretch is .3 to 3, got {duration_stretch}")
        if reason := self.missing(voice):
            raise RuntimeError(reason)
        self._program = str(shutil.which("flite"))
        self._voice, self._stretch, self._timeout_s = voice, duration_stretch, timeout_s
        self.sample_rate = _FLITE_RATES_HZ[voice]
        self.info = SystemInfo(
            family="flite",
            version="1",
            description=f"Flite, voice {voice}, English only; no voice cloning, the prompt is ignored",
            tools=(("flite", _version(self._program, "version: flite-")),),
        )

    @classmethod
    def missing(cls, voice: str = "slt", duration_stretch: float = 1.0, timeout_s: float = 60.0) -> str | None:
        if reason := absent("flite", "flite"):
            return reason
        # Asked for a voice it has not, flite takes another one without a word.
        there = _said(str(shutil.which("flite")), "-lv").partition(":")[2].split()
        return None if voice in there else f"this flite was built without the voice '{voice}'; it has {', '.join(there) or 'none'}"

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the voice's own pace, sentence by sentence as the program divides it.

        Raises:
            MissingOutput: another language than English.
            RuntimeError: the program failed or took too long.
        """
        if language_code(utterance.language) != "en":
            raise MissingOutput(f"flite speaks English only, asked for '{utterance.language}'")

        def command(source: Path, target: Path) -> list[str]:
            pace = ["--setf", f"duration_stretch={self._stretch}"]
            return [self._program, "-voice", self._voice, *pace, "-f", str(source), "-o", str(target)]

        return Speech(spoken(command, _ascii(utterance.text), self.sample_rate, self._timeout_s))


def _ascii(text: str) -> str:
    """Letters without their accents; flite knows no others and leaves out whole words that have them."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", plain_text(text)) if not unicodedata.combining(c))
    return bare.encode("ascii", "ignore").decode()
