"""A manifest line before it is believed: what the columns of any table mean, and everything that is checked about it.

Every reader (tables, corpus layouts) yields `Entry` values; `checked_items` turns them into items or reports all offending
lines at once. No sound file is opened here: a missing or broken recording is a failure of its item, not of the manifest.

JSONL, JSON and CSV share their columns. The words that other tools use for them are understood (`WORDS`), in any case:

=============  =====================================================================================================
id             unique name; may be left out where ``audio`` is given, then made of its path (``a/b.wav`` is ``a__b``)
audio          path of the recording, relative to the manifest's root (or to ``clips``, ``wavs``, ``wav``, ``audio`` in it)
text           what is said
language       ISO 639 code; the dataset's ``language`` where empty
speaker        speaker id
prompt_audio   path of a recording of the same speaker saying something else
prompt_text    what the prompt says
synthetic      the recording is synthetic speech: true or false (CSV: also yes, no, 1, 0; empty is false)
licence        of the recording
split          a part of the dataset, chosen by the dataset's ``split``
others         kept as the item's notes, as text; `harness.data.manifests.Dataset.left_out` names them
=============  =====================================================================================================
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.api import Item, language_code
from harness.errors import ManifestError

MAX_ID_LENGTH = 200
MAX_PROBLEMS_SHOWN = 100
MAX_NAMES_SHOWN = 12

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One utterance as a manifest or corpus tree states it, unchecked."""

    source: str  # file that states it, relative to the dataset's root where it lies there
    line: int  # in that file, from 1; 0 where there is none (a file found in a folder)
    id: str
    base: str = ""  # folder that ``audio`` and ``prompt_audio`` are relative to, itself relative to the root
    audio: str = ""  # path of the recording, "" for none
    text: str = ""  # this and what has no remark: see `harness.api.Item`
    language: str = ""
    speaker: str = ""
    prompt_audio: str = ""  # path of the prompt, "" for none
    prompt_text: str = ""
    synthetic: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)


class Problems:
    """What is wrong with a manifest, collected so that one reading reports all of it; and what of the data is left out, which is no fault."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._left: Counter[str] = Counter()
        self._columns: dict[str, None] = {}
        self.long_rows = 0
        """Rows of tables that run over several lines, by a line break inside of quotes."""

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, source: str, line: int, what: str) -> None:
        """Note one offence; shown as ``source:line: what``."""
        where = f"{source}:{line}" if line else source
        self._found.append(f"{_escaped(where)}: {what}")

    def leave(self, what: str, count: int = 1) -> None:
        """Note that so many more are left out. ``what`` names one of them, with ``{s}`` where a plural differs: ".m4a file{s}"."""
        self._left[what] += count

    def leave_columns(self, names: Iterable[str]) -> None:
        """Note columns of a table that are kept as notes and say nothing to anybody here."""
        self._columns.update(dict.fromkeys(names))

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was left out, in short phrases, the columns last."""
        phrases = [f"{count} {what.format(s='' if count == 1 else 's')}" for what, count in sorted(self._left.items()) if count]
        if names := [_escaped(name) for name in self._columns]:
            more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
            phrases.append(f"columns not read: {', '.join(names[:MAX_NAMES_SHOWN])}{more}")
        return tuple(phrases)

    def raise_if_any(self, dataset: str) -> None:
        """Raise ManifestError naming every offence (the first hundred in full)."""
        if not self._found:
            return
        shown, rest = self._found[:MAX_PROBLEMS_SHOWN], len(self._found) - MAX_PROBLEMS_SHOWN
        count = "1 problem" if len(self._found) == 1 else f"{len(self._found)} problems"
        raise ManifestError("\n  ".join([f"dataset '{dataset}': {count}", *shown, *([f"... and {rest} more"] if rest > 0 else [])]))


class RefusedPath(ValueError):
    """A path of a manifest that will not be opened."""


class PathGuard:
    """Lets through only paths that stay inside a dataset's root (which may itself be a symlink), symlinks followed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._folders: dict[tuple[str, str], Path] = {}

    def check(self, base: str, text: str) -> Path:
        """``text``, relative to the folder ``base`` of the root, as a path; the file need not exist.

        Raises:
            RefusedPath: absolute, leaving the root, a command ("... |"), or with control characters.
        """
        if _CONTROL.search(text):
            raise RefusedPath(f"path {_printable(text)} has control characters")
        bare = text.strip()
        if bare.endswith("|") or bare.startswith("|"):
            raise RefusedPath(f"path {_printable(text)} is a command; only files are read")
        if text.startswith("/"):
            raise RefusedPath(f"path {_printable(text)} is absolute; paths are relative to the manifest's root")
        folder_text, _, name = text.rpartition("/")
        if name in ("", ".", ".."):
            raise RefusedPath(f"path {_printable(text)} names no file")
        key = (base, folder_text)
        folder = self._folders.get(key)
        if folder is None:
            folder = self._root / base / folder_text
            self._require_inside(folder, text)
            self._folders[key] = folder
        path = folder / name
        if os.path.islink(path):  # noqa: PTH114  (half the time of the method, on every line of a large manifest)
            self._require_inside(path, text)
        return path

    def admitted(self, base: str, text: str, where: str, faults: list[str]) -> Path | None:
        """`check` of a path that may be left out; a refusal is one of the ``faults``, which says ``where``."""
        try:
            return self.check(base, text) if text else None
        except RefusedPath as refusal:
            faults.append(f"{where}{refusal}")
            return None

    def _require_inside(self, path: Path, text: str) -> None:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise RefusedPath(f"path {_printable(text)} cannot be followed ({error})") from None
        if real != self._real_root and not real.startswith(self._real_root.rstrip("/") + "/"):
            raise RefusedPath(f"path {_printable(text)} leaves the dataset's root")


def checked_items(dataset: str, root: Path, default_language: str, entries: Iterable[Entry], problems: Problems) -> tuple[Item, ...]:
    """Entries as items, in order: none with a path that leaves the root, all offences collected beside those the reader found.

    ``default_language`` is that of entries that state none.

    Raises:
        ManifestError: anything is wrong, all of it named.
    """
    guard = PathGuard(root)
    seen: dict[str, Entry] = {}
    items = []
    for entry in entries:
        faults = list(_faults(entry))
        clash = seen.setdefault(unicodedata.normalize("NFC", entry.id).casefold(), entry) if entry.id else entry
        if clash is not entry:
            where = f"{clash.source}:{clash.line}" if clash.line else clash.source
            same = "is already used" if clash.id == entry.id else f"differs only in case or composition from {_printable(clash.id)}"
            faults.append(f"id {_printable(entry.id)} {same} in {_escaped(where)}")
        language = ""
        try:
            language = checked_language(entry.language) or default_language
        except ValueError as error:
            faults.append(str(error))
        path = guard.admitted(entry.base, entry.audio, "", faults)
        prompt = guard.admitted(entry.base, entry.prompt_audio, "prompt: ", faults)
        for fault in faults:
            problems.add(entry.source, entry.line, fault)
        if not faults:
            said = {name: getattr(entry, name) for name in ("id", "text", "speaker", "prompt_text", "synthetic", "notes")}
            items.append(Item(dataset=dataset, path=path, language=language, prompt_path=prompt, **said))
    problems.raise_if_any(dataset)
    return tuple(items)


def checked_language(text: str) -> str:
    """The language of a tag (`harness.api.language_code`).

    Raises:
        ValueError: it does not begin with a code of two or three letters.
    """
    code = language_code(text)
    if code and not _LANGUAGE.fullmatch(code):
        raise ValueError(f"language {_printable(text)} is not an ISO 639 code such as en or zh")
    return code


def id_from_path(relative: str) -> str:
    """An id for a file that was given none: its path without the suffix, folders joined by two underscores."""
    stem, dot, suffix = relative.rpartition(".")
    return (stem if dot and "/" not in suffix and stem else relative).replace("/", "__")


def _faults(entry: Entry) -> Iterable[str]:
    """What is wrong with the words of one entry, paths aside."""
    fields: Sequence[tuple[str, str]] = (
        ("id", entry.id),
        ("text", entry.text),
        ("speaker", entry.speaker),
        ("audio", entry.audio),
        ("prompt_audio", entry.prompt_audio),
        ("prompt_text", entry.prompt_text),
        *entry.notes.items(),
    )
    for name, value in fields:
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            yield f"{_printable(name)} has a half surrogate pair, which is not text"
    if not entry.id:
        yield "id is empty"
    elif len(entry.id) > MAX_ID_LENGTH:
        yield f"id {_printable(entry.id[:40])}... has {len(entry.id)} characters; at most {MAX_ID_LENGTH}"
    elif _CONTROL.search(entry.id):
        yield f"id {_printable(entry.id)} has control characters or a line break"
    elif "/" in entry.id or "\\" in entry.id or entry.id in (".", ".."):
        yield f"id {_printable(entry.id)} looks like a path; ids have no slashes"
    elif entry.id != entry.id.strip():
        yield f"id {_printable(entry.id)} begins or ends with white space"
    if not entry.audio and not entry.text:
        yield "neither a recording nor a text: nothing can be measured"


def _printable(text: str) -> str:
    return f"'{_escaped(text)}'"


def _escaped(text: str) -> str:
    """With everything that could disturb a terminal escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Row = tuple[int, dict[str, str], list[str]]
"""Line, values by column name, and what is wrong with it already."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "uttid", "utt", "utterance_id", "segment_id", "key", "segment"),
    "audio": (
        "audio", "path", "file", "filename", "file_name", "filepath", "file_path", "wav", "wav_path", "wav_file", "wav_filename", "audio_path",
        "audio_file", "audio_filename", "audio_filepath", "target_wav", "target_audio",
    ),
    "text": ("text", "sentence", "transcript", "transcription", "target_text"),
    "language": ("language", "lang", "locale", "language_id"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "speaker_name", "client_id"),
    "prompt_audio": ("prompt_audio", "prompt_wav", "prompt_path", "prompt_audio_path", "ref_audio", "ref_wav", "ref_audio_path"),
    "prompt_text": ("prompt_text", "prompt_transcript", "ref_text", "ref_transcript"),
    "synthetic": ("synthetic",),
    "licence": ("licence", "license"),
    "split": ("split",),
}  # fmt: skip
"""The columns, and the words for each in the order in which they are preferred."""
SECOND_CHOICE = ("normalized_text", "normalised_text", "text_normalized", "raw_text", "original_text")
"""Columns that stand for the text only where a table has none of its words: beside them they say something else."""
ONLY_IF_UNIQUE = ("key", "segment")
"""Words for an id that elsewhere mean something else: taken only where every row has one of its own."""
ONE_ONLY = ("id", "speaker", "licence", "split", "synthetic")
"""Columns of which the first word is taken where a table has several; of the others, two words that disagree are a fault."""
PARTS = ("offset", "start", "start_s", "start_time", "segment_start")
"""Columns that say where in a recording an utterance begins; only whole recordings are read."""
FOLDERS = ("clips", "wavs", "wav", "audio")
"""Where the recordings of a table may lie that names them without their folder (Common Voice, LJSpeech)."""
TYPED = frozenset(WORDS) - {"licence", "split"}
"""Columns whose values are text, and nothing else, where a format has types."""

_SAME = ("audio", "text", "language", "speaker", "prompt_audio", "prompt_text")
"""Columns that are fields of an entry as they stand."""
_TRUTH = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


@cache
def meaning(name: str) -> str:
    """The column that a word stands for, "" for none."""
    word = folded(name)
    return next((column for column, words in WORDS.items() if word in words), "")


def folded(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


@dataclass(frozen=True)
class _Columns:
    """What the columns of a row are for."""

    words: Mapping[str, tuple[str, ...]]  # names that stand for each column, the preferred first
    others: tuple[str, ...]  # names of the rest


def _columns(rows: Sequence[Mapping[str, str]], problems: Problems) -> Mapping[tuple[str, ...], _Columns]:
    """What each set of names that rows have is for; names that are for nothing are noted as left out."""
    shapes = dict.fromkeys(tuple(row) for row in rows)
    refused = set()
    for name in {n for shape in shapes for n in shape if folded(n) in ONLY_IF_UNIQUE}:
        ids = [row.get(name, "") for row in rows]
        if any(meaning(n) == "audio" for shape in shapes for n in shape) and (not all(ids) or len(set(ids)) != len(ids)):
            refused.add(name)
    found = {}
    for shape in shapes:
        words: dict[str, tuple[str, ...]] = {}
        for column, known in WORDS.items():
            mine = sorted((n for n in shape if meaning(n) == column and n not in refused), key=lambda n: known.index(folded(n)))
            if column == "text":
                mine = mine or [n for n in shape if folded(n) in SECOND_CHOICE][:1]
            words[column] = tuple(mine[:1] if column in ONE_ONLY else mine)
        used = {n for mine in words.values() for n in mine}
        found[shape] = _Columns(words, tuple(n for n in shape if n not in used))
        problems.leave_columns(found[shape].others)
    return found


def _base(root: Path, named: Iterable[str]) -> str:
    """Where the recordings lie: "" for the root, or one of `FOLDERS` where none of those named is in the root and one is there."""
    plain = [n for n in named if not n.startswith("/") and ".." not in n.split("/")]
    places = [f for f in ("", *FOLDERS) if any(os.path.isfile(os.path.join(root, f, n)) for n in plain)]  # noqa: PTH113, PTH118  (never raises)
    return places[0] if places else ""


def _value(column: str, words: Sequence[str], values: Mapping[str, str], faults: list[str]) -> str:
    """The value of a column, by the first of its words that has one; two that disagree are a fault."""
    filled = [n for n in words if values[n]]
    if len(filled) > 1:
        cut = (lambda text: re.split(r"[-_]", text.lower())[0]) if column == "language" else str.strip
        for other in filled[1:]:
            if cut(values[other]) != cut(values[filled[0]]):
                faults.append(f"both '{filled[0]}' and '{other}', which differ; they are two words for one thing: leave one of them out")
    return values[filled[0]] if filled else ""


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def entries_of(file: Path, source: str, rows: Sequence[Row], problems: Problems) -> Iterator[Entry]:
    """The entries of rows, but for those with faults, which are reported."""
    columns = _columns([values for _, values, _ in rows], problems)
    base = _base(
        file.parents[source.count("/")],
        [values[n] for _, values, _ in rows[:8] for n in columns[tuple(values)].words["audio"] if values[n]],
    )
    for number, values, found in rows:
        taken = columns[tuple(values)]
        faults = list(found)
        told = {column: _value(column, words, values, faults) for column, words in taken.words.items()}
        for name in taken.others:
            if folded(name) in PARTS and _positive(values[name]):
                faults.append(f"'{name}' is {values[name]}: parts of recordings are not read; cut them into files of their own")
        synthetic = _TRUTH.get(told["synthetic"].strip().lower())
        if synthetic is None:
            faults.append(f"'synthetic' wants true or false, got {told['synthetic']!r}")
        if not taken.words["id"] and not told["audio"]:
            faults.append("no 'id', and no 'audio' to make one of")
        for fault in faults:
            problems.add(source, number, fault)
        if not faults:
            same: dict[str, str] = {name: told[name] for name in _SAME}
            notes = {k: told[k] for k in ("licence", "split") if taken.words[k]} | {k: values[k] for k in taken.others}
            name = told["id"] if taken.words["id"] else id_from_path(told["audio"])
            yield Entry(source=source, line=number, id=name, base=base, synthetic=bool(synthetic), notes=notes, **same)


def header_fault(header: list[str]) -> str:
    names = ", ".join(h or "''" for h in header)
    if len(set(header)) != len(header) or not all(header):
        return f"column names must be unique and not empty, got: {names}"
    if not any(meaning(h) in ("audio", "text") or folded(h) in SECOND_CHOICE for h in header):
        return f"no column audio (or path) and no text; columns: {names}. The first line must name the columns"
    return ""
