"""A manifest line before it is believed, and everything that is checked about it.

Every reader (tables, corpus layouts) yields `Entry` values; `checked_items` turns them into items or reports all offending
lines at once. No sound file is opened here: a missing or broken recording is a failure of its item, not of the manifest.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """One utterance as a manifest or corpus tree states it, unchecked.

    Args:
        source: file that states it, relative to the dataset's root where it lies there.
        line: in that file, from 1; 0 where there is none (a file found in a folder).
        id: as given.
        base: folder that ``audio`` and ``prompt_audio`` are relative to, itself relative to the root.
        audio: path of the recording, "" for none.
        prompt_audio: path of the prompt, "" for none.
        text, language, speaker, prompt_text, synthetic, notes: see `harness.api.Item`.
    """

    source: str
    line: int
    id: str
    base: str = ""
    audio: str = ""
    text: str = ""
    language: str = ""
    speaker: str = ""
    prompt_audio: str = ""
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
    """Lets through only paths that stay inside a dataset's root, symlinks followed.

    Args:
        root: of the dataset; it may itself be a symlink.
    """

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
    """Entries as items, in order.

    Args:
        dataset: its name.
        root: no path may leave it.
        default_language: of entries that state none.
        entries: from any reader; consumed once.
        problems: of the reader; those found here are added.

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
