"""Manifests that are one text file: JSONL, CSV and the `.lst` lists of SeedTTS. Each reader yields unchecked entries.

JSONL and CSV share their columns:

=============  =====================================================================================================
id             unique name; may be left out where ``audio`` is given, then made of its path (``a/b.wav`` is ``a__b``)
audio          path of the recording, relative to the manifest's root; ``path`` is another word for it
text           what is said
language       ISO 639 code; the dataset's ``language`` where empty
speaker        speaker id
prompt_audio   path of a recording of the same speaker saying something else
prompt_text    what the prompt says
synthetic      the recording is synthetic speech: true or false (CSV: also yes, no, 1, 0; empty is false)
others         kept as the item's notes, as text
=============  =====================================================================================================

UTF-8 with or without a byte order mark; LF or CRLF; empty lines are skipped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.entries import Entry, Problems, id_from_path

COLUMNS = ("id", "audio", "path", "text", "language", "speaker", "prompt_audio", "prompt_text", "synthetic")

_TRUTH = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


def read_text(file: Path, source: str, problems: Problems) -> str | None:
    """A whole UTF-8 file without its byte order mark, or None with every undecodable line reported."""
    try:
        data = file.read_bytes()
    except OSError as error:
        problems.add(source, 0, f"cannot be read ({error.strerror or error})")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                problems.add(source, number, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1} ({error.reason})")
        return None


def read_jsonl(file: Path, source: str, problems: Problems) -> Iterator[Entry]:
    """Entries of a JSONL manifest: an object a line."""
    for number, line in _lines(read_text(file, source, problems)):
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            problems.add(source, number, f"not JSON ({error})")
            continue
        if not isinstance(row, dict):
            problems.add(source, number, f"not a JSON object but {type(row).__name__}")
            continue
        values, faults = _json_values(row)
        yield from _entry(source, number, values, faults, problems)


def read_csv(file: Path, source: str, problems: Problems) -> Iterator[Entry]:
    """Entries of a CSV manifest with a header line; tabs separate in ``.tsv``."""
    text = read_text(file, source, problems)
    if text is None:
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.add(source, line, f"not CSV ({error})")
            return
        if cells is None:
            break
        number, line = line, reader.line_num + 1
        if not any(cells):
            continue
        if header is None:
            header = [c.strip() for c in cells]
            if fault := _header_fault(header):
                problems.add(source, number, fault)
                return
        elif len(cells) != len(header):
            problems.add(source, number, f"{len(cells)} cells, but the header names {len(header)} columns")
        else:
            yield from _entry(source, number, dict(zip(header, cells, strict=True)), [], problems)


def read_lst(file: Path, source: str, problems: Problems, language: str, speakers: Mapping[str, Mapping[str, str]]) -> Iterator[Entry]:
    """Entries of a SeedTTS list: ``id|prompt_text|prompt_wav|text`` and, optionally, ``|target_wav``; paths relative to the list.

    Args:
        file: the list.
        source: what to call it; its folder is the base of its paths.
        problems: collector.
        language: of every line.
        speakers: columns of a sibling table by id; its ``speaker`` is the speaker, its ``gender`` and ``licence`` become notes.
            Without it the prompt stands for the speaker, so that items sharing a voice stay in one cluster.
    """
    base = source.rpartition("/")[0]
    for number, line in _lines(read_text(file, source, problems)):
        cells = [c.strip() for c in line.split("|")]
        if len(cells) not in (4, 5):
            problems.add(
                source, number, f"{len(cells)} fields; wanted id|prompt_text|prompt_wav|text or id|prompt_text|prompt_wav|text|target_wav"
            )
            continue
        name, prompt_text, prompt, text = cells[:4]
        empty = [what for what, cell in (("prompt_wav", prompt), ("text", text)) if not cell]
        if empty:
            problems.add(source, number, f"empty {' and '.join(empty)}")
        target = cells[4] if len(cells) == 5 else ""
        if not target and name and "/" not in name and "\0" not in name and len(name) < 200:
            official = f"wavs/{name}.wav"
            target = official if (file.parent / official).is_file() else ""
        about = speakers.get(name, {})
        yield Entry(
            source=source,
            line=number,
            id=name,
            base=base,
            audio=target,
            text=text,
            language=language,
            speaker=about.get("speaker", "") or prompt,
            prompt_audio=prompt,
            prompt_text=prompt_text,
            notes={"list": source, **{k: about[k] for k in ("gender", "licence") if about.get(k)}},
        )


def read_speakers(file: Path, source: str, problems: Problems) -> dict[str, dict[str, str]]:
    """The rows of a CSV by their ``utt_id``; empty where it has no such column or no ``speaker``."""
    text = read_text(file, source, problems)
    if text is None:
        return {}
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not {"utt_id", "speaker"} <= set(rows.fieldnames or ()):
            return {}
        return {row["utt_id"]: {k: v for k, v in row.items() if isinstance(k, str) and isinstance(v, str)} for row in rows}
    except csv.Error as error:
        problems.add(source, rows.line_num, f"not CSV ({error})")
        return {}


def _lines(text: str | None) -> Iterator[tuple[int, str]]:
    """Non-empty lines with their numbers. Only LF ends a line: JSON and transcripts may hold other Unicode separators."""
    for number, line in enumerate((text or "").split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} twice")
    return found


def _json_values(row: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The values of a JSON object as text, and what cannot be one."""
    values, faults = {}, []
    for key, value in row.items():
        if isinstance(value, str):
            values[key] = value
        elif value is None:
            values[key] = ""
        elif key == "synthetic" and isinstance(value, bool):
            values[key] = "true" if value else "false"
        elif key in COLUMNS and (key not in ("id", "speaker") or isinstance(value, bool) or not isinstance(value, int)):
            faults.append(f"'{key}' wants {'true or false' if key == 'synthetic' else 'text'}, got {type(value).__name__}")
        else:
            values[key] = json.dumps(value, ensure_ascii=False)
    return values, faults


def _header_fault(header: list[str]) -> str:
    names = ", ".join(h or "''" for h in header)
    if len(set(header)) != len(header) or not all(header):
        return f"column names must be unique and not empty, got: {names}"
    if not {"audio", "path", "text"} & set(header):
        return f"no column audio (or path) and no text; columns: {names}"
    return ""


def _entry(source: str, line: int, values: Mapping[str, str], faults: list[str], problems: Problems) -> Iterator[Entry]:
    """The entry of one row, unless it has faults of its own; those are reported."""
    faults = list(faults)
    if values.get("audio") and values.get("path"):
        faults.append("both 'audio' and 'path'; they are two words for one thing")
    audio = values.get("audio") or values.get("path") or ""
    synthetic = _TRUTH.get(values.get("synthetic", "").strip().lower())
    if synthetic is None:
        faults.append(f"'synthetic' wants true or false, got {values['synthetic']!r}")
    name = values["id"] if "id" in values else id_from_path(audio)
    if "id" not in values and not audio:
        faults.append("no 'id', and no 'audio' to make one of")
    for fault in faults:
        problems.add(source, line, fault)
    if not faults:
        yield Entry(
            source=source,
            line=line,
            id=name,
            audio=audio,
            text=values.get("text", ""),
            language=values.get("language", ""),
            speaker=values.get("speaker", ""),
            prompt_audio=values.get("prompt_audio", ""),
            prompt_text=values.get("prompt_text", ""),
            synthetic=bool(synthetic),
            notes={k: v for k, v in values.items() if k not in COLUMNS},
        )
