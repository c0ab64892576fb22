"""Running an outside program that speaks a text into a WAV file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from harness.api import Audio
from systems.classical.pcm import from_int16

_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def plain_text(text: str) -> str:
    """One line without control characters, typographic quotes and dashes as ASCII: what programs of the nineties read well."""
    tame = unicodedata.normalize("NFC", text).translate(_PLAIN)
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in tame).split())


def language_of(tag: str) -> str:
    """The language of a tag: "zh" of "zh-CN"."""
    return tag.replace("_", "-").partition("-")[0].lower()


def absent(program: str, package: str) -> str | None:
    """Why a program cannot be run and how to get it, or None."""
    return None if shutil.which(program) else f"{program} not found on the PATH: apt-get install {package}"


def spoken(command: Callable[[Path, Path], Sequence[str]], text: str, sample_rate: int, timeout_s: float) -> Audio:
    """What a program says.

    The text reaches it as a file, never as an argument or through a shell: no text, however it begins, is an option or a command.

    Args:
        command: program and arguments, made from the path of the text (UTF-8) and of the WAV file to write (16-bit).
        text: to be spoken.
        sample_rate: that the program is expected to write, in Hz.
        timeout_s: after which it is ended.

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
