"""The set of synthetic utterances that ships inside the package, checked against its own hashes, and how it is made.

``python -m harness.data.embedded_set OUT`` speaks its manifest anew. Needs Debian's ``flite`` and ``espeak-ng`` on the PATH and the
package ``hibari-tts``. Who says what stands in the manifest itself: to change a sentence, change it there and make the set again. Every
sentence is our own. Nothing is trimmed or levelled afterwards: flite's 16-kHz, 16-bit samples are stored as they come; hibari, a neural
voice, speaks with seed 0 at 24 kHz; espeak-ng speaks at amplitude 80, because at its default of 100 some peaks pass full scale once
resampled, and at 22.05 kHz. What is not at 16 kHz is resampled by the harness and rounded to 16 bits. espeak-ng's voice for Mandarin is
cmn-latn-pinyin: in version 1.51 plain cmn spells the pinyin of most characters as if it were English. The same programs give the same
bytes, hibari's network on the same kind of processor; each line of the manifest states voice, tool, processing and SHA-256.

The column ``split`` is "default" or "formant": English by espeak-ng, which no recogniser understands (Whisper base has a word error
rate of 36 % on it, of 4 % on flite), so that words say little of a codec there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Audio, FloatArray
from harness.api.libraries import version_of
from harness.data.audio import read_audio, resample
from harness.errors import HarnessError, ManifestError, MissingDependency, UsageError

ROOT = Path(__file__).parent / "embedded"
MANIFEST = "manifest.jsonl"
DESCRIPTION = "sentences of our own spoken by flite, hibari and espeak-ng: synthetic speech, for smoke tests and comparisons, not for published numbers"
LICENCE = (
    "sentences and audio: Apache-2.0, as this package; synthetic speech made with Flite (free licence of Carnegie Mellon University: "
    "use and distribution with notice), with hibari (Apache-2.0) and with espeak-ng (GPL-3.0-or-later, of which only the audio it "
    "produced is shipped)"
)


def rows(root: Path = ROOT) -> list[dict[str, Any]]:
    """The lines of the manifest."""
    return [json.loads(line) for line in (root / MANIFEST).read_text(encoding="utf-8").splitlines()]


@functools.cache
def verify(root: Path = ROOT) -> None:
    """Compare size and SHA-256 of every file with the manifest; once per process and folder.

    Raises:
        ManifestError: files missing or changed, all named.
    """
    wrong = {}
    for row in rows(root):
        for prefix in ("", "prompt_"):
            name, size, sha = row[f"{prefix}audio"], row[f"{prefix}bytes"], row[f"{prefix}sha256"]
            file = root / name
            if name in wrong:
                continue
            if not file.is_file():
                wrong[name] = "missing"
            elif file.stat().st_size != size or hashlib.sha256(file.read_bytes()).hexdigest() != sha:
                wrong[name] = "changed"
    if wrong:
        listed = "\n  ".join(f"{name}: {what}" for name, what in sorted(wrong.items()))
        raise ManifestError(f"the embedded set in {root} is damaged; install the package again:\n  {listed}")


SAMPLE_RATE = 16000
PROGRAMS = {"flite": r"version: flite-(\S+)", "espeak-ng": r"eSpeak NG text-to-speech: (\S+)"}
"""With where each tells its version."""


def make(out: Path) -> int:
    """Write ``out/manifest.jsonl`` and the FLAC files it names into a new or empty folder; how many items there are.

    Raises:
        UsageError: ``out`` is not empty.
        MissingDependency: flite, espeak-ng or hibari is not installed.
        HarnessError: a program failed, or its speech is not 2 to 6 s long or is clipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give a new folder")
    tools = tool_versions()
    spoken: dict[str, dict[str, Any]] = {}
    lines = []
    for row in rows():
        tool = row["tool"].partition(" ")[0]
        for prefix in ("", "prompt_"):
            name = row[f"{prefix}audio"]
            if name not in spoken:
                spoken[name] = _speak(out / name, tool, row["voice"], row[f"{prefix}text"])
            row |= {f"{prefix}{key}": value for key, value in spoken[name].items()}
        lines.append(json.dumps({**row, "tool": tools[tool]}, ensure_ascii=False) + "\n")
    (out / MANIFEST).write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(lines)


def tool_versions() -> dict[str, str]:
    """Name and version of each that speaks.

    Raises:
        MissingDependency: one is not installed.
    """
    if (version := version_of("hibari-tts")) == "absent":
        raise MissingDependency("the embedded set is made with hibari, which is not installed: pip install hibari-tts==0.2.1")
    return {**program_versions(), "hibari": f"hibari {version}"}


def program_versions() -> dict[str, str]:
    """Name and version of each speech program of Debian's.

    Raises:
        MissingDependency: one is not installed.
    """
    found = {}
    for tool, pattern in PROGRAMS.items():
        if shutil.which(tool) is None:
            raise MissingDependency(f"the embedded set is made with {tool}, which is not on the PATH; on Debian: apt install {tool}")
        said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
        match = re.search(pattern, said.stdout + said.stderr)
        found[tool] = f"{tool} {match[1] if match else 'of unknown version'}"
    return found


def spoken_by(tool: str, voice: str, text: str, settings: Sequence[str] = ()) -> Audio:
    """``text`` as a program speaks it.

    Args:
        tool: "flite", "espeak-ng" (at amplitude 80 of 100) or "hibari" (with seed 0, and no settings).
        settings: further words of its command line.

    Raises:
        HarnessError: the program failed.
    """
    if tool == "hibari":
        speaker = _hibari(voice)
        return Audio.mono(speaker(text, seed=0), speaker.sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "speech.wav"
        if tool == "flite":
            command, said = ["flite", "-voice", voice, *settings, "-t", text, "-o", str(raw)], ""
        else:
            command, said = ["espeak-ng", "-v", voice, "-a", "80", *settings, "--stdin", "-b", "1", "-w", str(raw)], text
        done = subprocess.run(command, input=said, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode or not raw.is_file():
            raise HarnessError(f"{' '.join(command)} failed with {done.returncode} on {text!r}: {done.stderr.strip()}")
        return read_audio(raw)


@functools.cache
def _hibari(voice: str) -> Any:
    return importlib.import_module("hibari").Hibari(voice=voice)


def write_flac(file: Path, samples: FloatArray, full_scale: int, compression: float) -> None:
    """``samples [N]`` at 16 kHz, rounded to 16 bits."""
    import soundfile

    file.parent.mkdir(exist_ok=True)
    whole = np.round(samples * full_scale).astype(np.int16)
    soundfile.write(file, whole, SAMPLE_RATE, format="FLAC", subtype="PCM_16", compression_level=compression)


def _speak(file: Path, tool: str, voice: str, text: str) -> dict[str, Any]:
    """Speaks into a file; what its row says of it."""
    audio = spoken_by(tool, voice, text)
    samples = resample(audio.samples[0], audio.sample_rate, SAMPLE_RATE)
    duration_s, peak = samples.size / SAMPLE_RATE, float(np.abs(samples).max())
    if not 2 <= duration_s <= 6 or peak >= 1:
        name = f"{file.parent.name} {file.stem}"
        raise HarnessError(f"{name}: {duration_s:.2f} s with peak {peak:.3f}; wanted 2 to 6 s and no clipping ({text})")
    write_flac(file, samples, 32768, 1.0)
    data = file.read_bytes()
    return {"duration_s": round(duration_s, 4), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: one argument, the folder to write."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: python -m harness.data.embedded_set OUT", file=sys.stderr)
        return 2
    try:
        for version in tool_versions().values():
            print(version)
        print(f"{make(Path(words[0]))} items in {words[0]}")
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
