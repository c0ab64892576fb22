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
from harness.data.listings import read_lst, read_speakers, read_text
from harness.errors import ConfigError

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph")
)

AUDIO_ELSEWHERE = frozenset(
    f".{suffix}" for suffix in (
        "3ga", "3gp", "aac", "ac3", "alac", "alaw", "amr", "ape", "asf", "avi", "awb", "dts", "dss", "eac3", "flv", "g722", "gsm", "m4a", "m4b", "m4p",
        "m4r", "m4v", "mka", "mkv", "mov", "mp2", "mp4", "mpc", "mpeg", "mpg", "mpga", "nist", "ogv", "ogx", "pcm", "qcp", "ra", "raw", "rm", "shn",
        "sln", "spx", "tak", "tta", "ulaw", "voc", "vox", "weba", "webm", "wma", "wmv", "wv",
    )
)  # fmt: skip
"""Names of sound (and of film with sound) that is not read here; a folder that holds some is told so."""

_TABLES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".lst": "seedtts"}
_UNNAMED = "sound file{s} that the layout does not name"

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
    for here, files in _walk(start, root, problems):
        sounds = [name for name in files if _is_sound(name)]
        for name in sounds:
            audio = here + name
            text = _optional_text(root, audio.rpartition(".")[0] + ".txt", problems).strip()
            entries.append(Entry(source=audio, line=0, id=id_from_path(audio), audio=audio, text=text))
        stems = {name.rpartition(".")[0] for name in sounds}
        problems.leave(".txt file{s} without a recording", sum(n.endswith(".txt") and n.removesuffix(".txt") not in stems for n in files))
    return entries


def librispeech(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """``[LibriSpeech/][SPLIT/]SPEAKER/CHAPTER/{ID.flac, SPEAKER-CHAPTER.trans.txt}``; the text as it stands (upper case)."""
    start, entries = _subset(root, split, "LibriSpeech", problems), []
    for chapter, files in _chapters(start, root, problems):
        texts: dict[str, tuple[str, int, str]] = {}
        for name in files:
            if name.endswith(".trans.txt"):
                texts.update(_transcript(root, f"{chapter}/{name}", problems))
        sounds = _taken(files, (".wav", ".flac"), problems)
        for key in sorted(texts.keys() | sounds.keys()):
            source, line, text = texts.get(key, (f"{chapter}/{sounds.get(key)}", 0, ""))
            audio = f"{chapter}/{sounds.get(key, key + '.flac')}"
            entries.append(Entry(source, line, key, audio=audio, text=text, language="en", speaker=_speaker_of(chapter)))
    return _with_prompts(entries)


def libritts(root: Path, split: str | None, problems: Problems) -> list[Entry]:
    """``[LibriTTS/][SPLIT/]SPEAKER/CHAPTER/{ID.wav, ID.normalized.txt, ID.original.txt}``; the text is the normalized one."""
    start, entries = _subset(root, split, "LibriTTS", problems), []
    for chapter, files in _chapters(start, root, problems):
        sounds = _taken(files, (".flac", ".wav"), problems)
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
    for audio in _sound_files(root / tree, root, problems):
        speaker, name = audio.split("/")[-2:]
        match = re.fullmatch(r"(.+?)(?:_(mic[12]))?\.(?:flac|wav)", name)
        if match is None:
            problems.leave(_UNNAMED)
        elif match[2] not in (None, microphone):
            problems.leave(f"recording{{s}} of {match[2]}")
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
    for audio in _sound_files(start, root, problems):
        key = Path(audio).stem
        source, line, text = texts.get(key, (audio, 0, ""))
        entries.append(Entry(source, line, key, audio=audio, text=text.replace(" ", ""), language="zh", speaker=_speaker_of(audio)))
    return _with_prompts(entries)


def seedtts(dataset: str, root: Path, manifest: str | None, split: str | None, language: str, problems: Problems) -> Iterator[Entry]:
    """The lists of a SeedTTS folder: the one named, else those of the split and language that are asked for.

    Raises:
        ConfigError: there is no such list.
    """
    every = seedtts_lists(root)
    names = [manifest] if manifest else chosen_lists(every, split, language)
    if not names:
        asked = " and ".join([*([f"split '{split}'"] if split else []), *([f"language '{language}'"] if language else [])])
        lists = ", ".join(every) or f"none; it holds {seen(root)}"
        raise ConfigError(f"dataset '{dataset}': no list (meta*.lst){' for ' + asked if asked else ''} in {root}; lists there: {lists}")
    problems.leave("other list{s}", len(every) - len(names))
    speakers: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        folder_name = name.rpartition("/")[0]
        table = f"{folder_name}/manifest.csv".lstrip("/")
        if folder_name not in speakers:
            speakers[folder_name] = read_speakers(root / table, table, problems) if (root / table).is_file() else {}
        yield from read_lst(root / name, name, problems, listed_language(name) or language, speakers[folder_name])


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
        return _TABLES.get(root.suffix.lower())
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
    if table := main_table(root):
        return guess(root / table)
    return "folder" if next(_sound_files(root, root, Problems()), None) else None


def main_table(root: Path) -> str | None:
    """The manifest of a folder: one called so, else one called metadata, else the only table there is."""
    there = sorted(p.name for p in root.iterdir() if p.suffix.lower() in _TABLES and p.suffix.lower() != ".lst" and p.is_file())
    for stem in ("manifest", "metadata"):
        for suffix in (".jsonl", ".csv", ".tsv", ".json"):
            if stem + suffix in there:
                return stem + suffix
    tables = [name for name in there if not name.lower().endswith(".json")]  # which may hold anything
    return tables[0] if len(tables) == 1 else None


def seen(path: Path) -> str:
    """What a folder holds, for a message that has to say so."""
    if not path.exists():
        return f"nothing: {path} does not exist"
    if not path.is_dir():
        return f"the file {path.name}"
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "an empty folder"


def _walk(start: Path, root: Path, problems: Problems) -> Iterator[tuple[str, list[str]]]:
    """(folder below ``start``, relative to ``root``, ending in a slash or empty; its files), both sorted.

    Linked folders are not entered: what they lead to would be there twice, or lies outside. They, what is hidden and sound in other
    formats are noted as left out; a folder that cannot be read is a fault.
    """

    def unreadable(error: OSError) -> None:
        problems.add(os.path.relpath(error.filename, root), 0, f"cannot be read ({error.strerror})")

    for here, folders, files in os.walk(start, onerror=unreadable):
        hidden = [f for f in folders if f.startswith(".")]
        linked = [f for f in folders if os.path.islink(os.path.join(here, f))]  # noqa: PTH114, PTH118  (thousands of folders)
        problems.leave("hidden folder{s}", len(hidden))
        problems.leave("linked folder{s}", len(set(linked).difference(hidden)))
        folders[:] = sorted(set(folders).difference(hidden, linked))
        shown = []
        for name in sorted(files):
            suffix = _suffix(name)
            if suffix in AUDIO_ELSEWHERE:
                problems.leave(f"{suffix} file{{s}}")
            elif not name.startswith("."):
                shown.append(name)
            elif suffix in AUDIO_SUFFIXES:
                problems.leave("hidden file{s}")
        relative = Path(here).relative_to(root).as_posix()
        yield "" if relative == "." else f"{relative}/", shown


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (thousands of files)


def _is_sound(name: str) -> bool:
    return _suffix(name) in AUDIO_SUFFIXES


def _sound_files(start: Path, root: Path, problems: Problems) -> Iterator[str]:
    """Sound files below ``start``, relative to ``root``, in sorted order."""
    for here, files in _walk(start, root, problems):
        yield from (here + name for name in files if _is_sound(name))


def _taken(files: Sequence[str], suffixes: Sequence[str], problems: Problems) -> dict[str, str]:
    """The sound files of a corpus by their stems, the last suffix preferred; others are noted as left out."""
    found = {name.rpartition(".")[0]: name for suffix in suffixes for name in files if name.endswith(suffix)}
    problems.leave(_UNNAMED, sum(map(_is_sound, files)) - len(found))
    return found


def _subset(root: Path, split: str | None, corpus: str, problems: Problems) -> Path:
    top = root / corpus if (root / corpus).is_dir() else root
    start = top / split if split and top.name != split else top
    if not start.is_dir():
        problems.add(str(start), 0, f"no such folder; saw {seen(top)}")
    return start


def _chapters(start: Path, root: Path, problems: Problems) -> Iterator[tuple[str, list[str]]]:
    """(folder relative to ``root``, its file names) of every folder with a SPEAKER/CHAPTER path of numbers."""
    for here, files in _walk(start, root, problems):
        parts = (root / here).absolute().parts[-2:]
        if len(parts) == 2 and all(p.isdigit() for p in parts):
            if files:
                yield here.rstrip("/"), files
        else:
            problems.leave("sound file{s} outside SPEAKER/CHAPTER folders", sum(map(_is_sound, files)))


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
    return (read_text(file, source, problems) or "").rstrip() if file.exists() else ""


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
