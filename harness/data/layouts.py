"""Corpora that are folder trees: plain folders, LibriSpeech, LibriTTS, VCTK, AISHELL-1, and where SeedTTS keeps its lists.

Trees have no voice prompts of their own. Each utterance gets the next one of its speaker, in order of id and round to the first,
whose text differs; a speaker's only utterance gets none. This does not depend on ``limit`` or ``items``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.entries import Entry, Problems, id_from_path
from harness.data.tables import read_text

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph")
)

Reader = Callable[[Path, str | None, Problems], list[Entry]]
"""``(root, split, problems) -> entries``."""

_LISTED_LANGUAGES = frozenset(
    ("en", "zh", "ja", "ko", "de", "fr", "es", "it", "pt", "ru", "ar", "hi", "nl", "pl", "tr", "vi", "th", "cs", "sv")
)


def folder(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """Every sound file below ``root`` (below ``root/split``), sorted; a ``.txt`` of the same stem beside it is its text."""
    start = root / split if split else root
    if not start.is_dir():
        problems.add(str(start), 0, "no such folder")
        return []
    entries = []
    for audio in _sound_files(start, root):
        text = _optional_text(root, audio.rpartition(".")[0] + ".txt", problems).strip()
        entries.append(Entry(source=audio, line=0, id=id_from_path(audio), audio=audio, text=text))
    return entries


def librispeech(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """``[LibriSpeech/][SPLIT/]SPEAKER/CHAPTER/{ID.flac, SPEAKER-CHAPTER.trans.txt}``; the text as it stands (upper case)."""
    start, entries = _subset(root, split, "LibriSpeech", problems), []
    for chapter, files in _chapters(start, root):
        texts: dict[str, tuple[str, int, str]] = {}
        for name in files:
            if name.endswith(".trans.txt"):
                texts.update(_transcript(root, f"{chapter}/{name}", problems))
        sounds = {name.rpartition(".")[0]: name for name in files if Path(name).suffix in (".flac", ".wav")}
        for key in sorted(texts.keys() | sounds.keys()):
            source, line, text = texts.get(key, (f"{chapter}/{sounds.get(key)}", 0, ""))
            audio = f"{chapter}/{sounds.get(key, key + '.flac')}"
            entries.append(Entry(source, line, key, audio=audio, text=text, language="en", speaker=_speaker_of(chapter)))
    return _with_prompts(entries)


def libritts(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """``[LibriTTS/][SPLIT/]SPEAKER/CHAPTER/{ID.wav, ID.normalized.txt, ID.original.txt}``; the text is the normalized one."""
    start, entries = _subset(root, split, "LibriTTS", problems), []
    for chapter, files in _chapters(start, root):
        sounds = {name.rpartition(".")[0]: name for name in files if Path(name).suffix in (".wav", ".flac")}
        stated = {name.removesuffix(".normalized.txt") for name in files if name.endswith(".normalized.txt")}
        for key in sorted(sounds.keys() | stated):
            audio = f"{chapter}/{sounds.get(key, key + '.wav')}"
            text = _optional_text(root, f"{chapter}/{key}.normalized.txt", problems).strip()
            entries.append(Entry(audio, 0, key, audio=audio, text=text, language="en", speaker=_speaker_of(chapter)))
    return _with_prompts(entries)


def vctk(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """VCTK 0.92 (``wav48_silence_trimmed/p225/p225_001_mic1.flac``) or older (``wav48/p225/p225_001.wav``) with ``txt/p225/p225_001.txt``.

    ``split`` is the microphone, mic1 (default) or mic2. p315 has no transcripts: its texts are empty.
    """
    microphone = split or "mic1"
    if microphone not in ("mic1", "mic2"):
        problems.add(str(root), 0, f"split '{split}' is no microphone of VCTK; there are mic1 and mic2")
        return []
    tree = next((t for t in ("wav48_silence_trimmed", "wav48") if (root / t).is_dir()), None)
    if tree is None:
        problems.add(str(root), 0, f"no wav48_silence_trimmed and no wav48 folder; saw {seen(root)}")
        return []
    entries = []
    for audio in _sound_files(root / tree, root):
        speaker, name = audio.split("/")[-2:]
        match = re.fullmatch(r"(.+?)(?:_(mic[12]))?\.(?:flac|wav)", name)
        if match and match[2] in (None, microphone):
            text = _optional_text(root, f"txt/{speaker}/{match[1]}.txt", problems).strip()
            entries.append(Entry(audio, 0, match[1], audio=audio, text=text, language="en", speaker=speaker))
    return _with_prompts(entries)


def aishell(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """``[data_aishell/]wav/[SPLIT/]SPEAKER/ID.wav`` with ``transcript/aishell_transcript_v0.8.txt``.

    The transcript's spaces only mark words and are dropped. A few hundred recordings of the official corpus have no line: their
    text is empty.
    """
    top = root / "data_aishell" if (root / "data_aishell").is_dir() else root
    start = top / "wav" / split if split else top / "wav"
    if not start.is_dir():
        problems.add(str(start), 0, f"no such folder; saw {seen(start.parent if start.parent.is_dir() else root)}")
        return []
    texts: dict[str, tuple[str, int, str]] = {}
    for file in sorted((top / "transcript").glob("*.txt")):
        texts.update(_transcript(root, file.relative_to(root).as_posix(), problems))
    entries = []
    for audio in _sound_files(start, root):
        key = Path(audio).stem
        source, line, text = texts.get(key, (audio, 0, ""))
        entries.append(Entry(source, line, key, audio=audio, text=text.replace(" ", ""), language="zh", speaker=_speaker_of(audio)))
    return _with_prompts(entries)


def seedtts_lists(root: Path) -> list[str]:
    """The `.lst` files of a SeedTTS folder, relative: those at its top, then those one level down (``en/meta.lst``)."""
    return [p.relative_to(root).as_posix() for pattern in ("*.lst", "*/*.lst") for p in sorted(root.glob(pattern))]


def chosen_lists(found: Sequence[str], split: str | None, language: str) -> list[str]:
    """Which lists are meant: those at the top if any, named ``meta*`` (or by ``split``), in ``language`` if one is asked for.

    ``split`` is a list's stem (``meta_en``, ``hardcase``) or the beginning of a word in it (``hard``).
    """
    level = min((name.count("/") for name in found), default=0)
    found = [name for name in found if name.count("/") == level]
    if split:
        exact = [name for name in found if Path(name).stem == split]
        found = exact or [name for name in found if any(w.startswith(split) for w in re.split(r"[^A-Za-z0-9]+", Path(name).stem))]
    else:
        found = [name for name in found if Path(name).stem.startswith("meta")]
    return [name for name in found if not language or listed_language(name) in ("", language)]


def listed_language(name: str) -> str:
    """The language that a list's name states: a word of its stem (meta_zh_hard) or its folder (zh/meta.lst), else ""."""
    folder_name, _, stem = Path(name).with_suffix("").as_posix().rpartition("/")
    words = [*re.split(r"[^a-z]+", stem.lower()), folder_name.rpartition("/")[2].lower()]
    return next((w for w in words if w in _LISTED_LANGUAGES), "")


def guess(root: Path) -> str | None:
    """The kind of dataset that a file or folder looks like, or None."""
    if root.is_file():
        return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".lst": "seedtts"}.get(root.suffix.lower())
    if not root.is_dir():
        return None
    if chosen_lists(seedtts_lists(root), None, ""):
        return "seedtts"
    if any((root / t).is_dir() for t in ("wav48_silence_trimmed", "wav48")):
        return "vctk"
    if any((top / "transcript").is_dir() and (top / "wav").is_dir() for top in (root, root / "data_aishell")):
        return "aishell"
    for depth in ("*/*/*", "*/*/*/*", "*/*/*/*/*"):
        if next(root.glob(f"{depth}.normalized.txt"), None):
            return "libritts"
        if next(root.glob(f"{depth}.trans.txt"), None):
            return "librispeech"
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() in (".jsonl", ".csv", ".tsv")]
    for preferred in ("manifest.jsonl", "manifest.csv", "manifest.tsv"):
        if root / preferred in tables:
            return guess(root / preferred)
    if len(tables) == 1:
        return guess(tables[0])
    return "folder" if next(_sound_files(root, root), None) else None


def seen(path: Path) -> str:
    """What a folder holds, for a message that has to say so."""
    if not path.exists():
        return f"nothing: {path} does not exist"
    if path.is_file():
        return f"the file {path.name}"
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "an empty folder"


def _sound_files(start: Path, root: Path) -> Iterator[str]:
    """Sound files below ``start``, relative to ``root``, in sorted order; hidden ones and linked folders are left out."""
    for here, folders, files in os.walk(start):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        relative = Path(here).relative_to(root).as_posix()
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:  # noqa: PTH122
                yield name if relative == "." else f"{relative}/{name}"


def _subset(root: Path, split: str | None, corpus: str, problems: Problems) -> Path:
    top = root / corpus if (root / corpus).is_dir() else root
    start = top / split if split and top.name != split else top
    if not start.is_dir():
        problems.add(str(start), 0, f"no such folder; saw {seen(top)}")
    return start


def _chapters(start: Path, root: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder relative to ``root``, its file names) of every folder with a SPEAKER/CHAPTER path of numbers."""
    for here, folders, files in os.walk(start):
        folders.sort()
        parts = Path(here).parts[-2:]
        if files and len(parts) == 2 and all(p.isdigit() for p in parts):
            yield Path(here).relative_to(root).as_posix(), sorted(files)


def _speaker_of(path: str) -> str:
    return path.split("/")[-2] if "/" in path else ""


def _transcript(root: Path, source: str, problems: Problems) -> dict[str, tuple[str, int, str]]:
    """Lines ``ID words ...`` as id -> (source, line, words)."""
    found: dict[str, tuple[str, int, str]] = {}
    for number, line in enumerate(_optional_text(root, source, problems).split("\n"), 1):
        key, _, words = line.strip().partition(" ")
        if not key:
            continue
        if key in found:
            problems.add(source, number, f"id '{key}' is already used in line {found[key][1]}")
        found[key] = (source, number, words.strip())
    return found


def _optional_text(root: Path, source: str, problems: Problems) -> str:
    """A transcript file's text, stripped at its end, or "" where there is none."""
    file = root / source
    if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
        problems.add(source, 0, "leaves the dataset's root")
        return ""
    return (read_text(file, source, problems) or "").rstrip() if file.is_file() else ""


def _with_prompts(entries: Sequence[Entry]) -> list[Entry]:
    """Each entry with the next one of its speaker, round to the first, whose text differs, as its prompt."""
    voices: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        voices[entry.speaker].append(entry)
    prompts: dict[int, Entry] = {}
    for own in voices.values():
        own.sort(key=lambda e: e.id)
        for i, entry in enumerate(own):
            others = (own[(i + k) % len(own)] for k in range(1, len(own)))
            chosen = next((o for o in others if o.text != entry.text or not o.text), None)
            if chosen is not None:
                prompts[id(entry)] = chosen
    return [replace(e, prompt_audio=p.audio, prompt_text=p.text) if (p := prompts.get(id(e))) else e for e in entries]
