"""Manifests that are one text file: JSONL, JSON, CSV and the `.lst` lists of SeedTTS. Each reader yields unchecked entries.

The columns are those of `harness.data.entries`.

UTF-8 with or without a byte order mark; LF, CRLF or CR; empty lines are skipped.

A ``.csv`` is separated by commas, semicolons, tabs or bars: by what makes its header one. Where commas or semicolons separate, cells may
be quoted. Where tabs or bars do, a quote is a character like any other (Common Voice writes texts so), unless every cell that holds one
is a quoted cell and the header or a doubled quote shows that quoting was meant.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.documents import MIB, read_bytes
from harness.data.entries import ONLY_IF_UNIQUE, TYPED, Entry, Problems, Row, entries_of, folded, header_fault, meaning

LIMIT = 2048 * MIB

_DELIMITERS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'\s*"(?:[^"]|"")*"\s*')
_MAX_DEPTH = 50


def read_text(file: Path, source: str, problems: Problems) -> str | None:
    """A whole UTF-8 file without its byte order mark, lines ended by LF, or None with every undecodable line reported."""
    try:
        data = read_bytes(file, LIMIT)
    except (OSError, ValueError) as error:
        problems.add(source, 0, f"cannot be read ({getattr(error, 'strerror', None) or error})")
        return None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problems.add(source, 1, "not UTF-8 but UTF-16; save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                problems.add(source, number, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1} ({error.reason})")
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\n" not in text:  # as old Macintosh programs end lines
            text = text.replace("\r", "\n")
    return text


def read_jsonl(file: Path, source: str, problems: Problems) -> Iterator[Entry]:
    """Entries of a JSONL manifest, an object a line, or of a JSON file that is a list of objects."""
    text = read_text(file, source, problems) or ""
    rows: list[Row] = []
    for number, row in _json_list(text, source, problems) if text.lstrip()[:1] == "[" else _json_lines(text, file, source, problems):
        if isinstance(row, dict):
            rows.append((number, *_json_values(row)))
        else:
            problems.add(source, number, f"not a JSON object but {type(row).__name__}")
    yield from entries_of(file, source, rows, problems)


def read_csv(file: Path, source: str, problems: Problems) -> Iterator[Entry]:
    """Entries of a CSV or TSV manifest with a header line, or of LJSpeech's table without one."""
    table = _table(file, source, problems)
    if table is not None:
        if fault := header_fault(table.header):
            problems.add(source, table.line, fault)
            return
        rows = [(number, dict(zip(table.header, cells, strict=True)), list[str]()) for number, cells in table.rows]
        yield from entries_of(file, source, rows, problems)


def read_lst(file: Path, source: str, problems: Problems, language: str, speakers: Mapping[str, Mapping[str, str]]) -> Iterator[Entry]:
    """Entries of a SeedTTS list: ``id|prompt_text|prompt_wav|text`` and, optionally, ``|target_wav``; paths relative to the list.

    Args:
        source: what to call it; its folder is the base of its paths.
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
    table = _table(file, source, problems)
    if table is None or not {"utt_id", "speaker"} <= set(table.header):
        return {}
    place = table.header.index("utt_id")
    return {cells[place]: dict(zip(table.header, cells, strict=True)) for _, cells in table.rows}


def _lines(text: str | None) -> Iterator[tuple[int, str]]:
    """Non-empty lines with their numbers. Only LF ends a line: JSON and transcripts may hold other Unicode separators."""
    for number, line in enumerate((text or "").split("\n"), 1):
        if line.strip():
            yield number, line


# -- JSON ------------------------------------------------------------------------------------------------------------


def _json_lines(text: str, file: Path, source: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(text):
        try:
            yield number, json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            if file.suffix.lower() == ".json" and number == 1 and line.strip() != text.strip():
                problems.add(source, number, "neither a list of objects nor an object on each line")
                return
            problems.add(source, number, f"not JSON ({error})")


def _json_list(text: str, source: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    """Elements of the list that a file is, with the line on which each begins."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    blank = re.compile(r"[ \t\n\r]*")
    line, counted = 1, 0

    def after(position: int) -> int:
        found = blank.match(text, position)
        return found.end() if found else position

    position = after(0)
    while position < len(text):
        position, wanted = after(position + 1), ""
        while text[position : position + 1] != "]":
            if wanted:
                if text[position : position + 1] != ",":
                    problems.add(source, line, "not JSON (the list is not closed, or lacks a comma)")
                    return
                position = after(position + 1)
            line, counted = line + text.count("\n", counted, position), position
            try:
                row, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                problems.add(source, line, f"not JSON ({error})")
                return
            yield line, row
            position, wanted = after(position), ","
        position = after(position + 1)
        if position < len(text) and text[position] != "[":
            problems.add(source, line, "not JSON (something stands behind the list)")
            return


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
        column = meaning(key)
        if isinstance(value, str):
            values[key] = value
        elif value is None:
            values[key] = ""
        elif column == "synthetic" and isinstance(value, bool):
            values[key] = "true" if value else "false"
        elif (
            column in TYPED
            and folded(key) not in ONLY_IF_UNIQUE
            and (column not in ("id", "speaker") or isinstance(value, bool) or not isinstance(value, int))
        ):
            faults.append(f"'{key}' wants {'true or false' if column == 'synthetic' else 'text'}, got {type(value).__name__}")
        elif _depth(value) > _MAX_DEPTH:
            faults.append(f"'{key}' is nested more than {_MAX_DEPTH} deep")
        else:
            values[key] = json.dumps(value, ensure_ascii=False)
    return values, faults


def _depth(value: Any) -> int:
    """How deep lists and objects lie in one another; told without recursion."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


# -- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """Cells as text, with the line that each row begins on."""

    header: list[str]  # names of the columns
    line: int  # of the header; 0 where the file has none
    rows: list[tuple[int, list[str]]]  # as many cells each as there are columns


def _table(file: Path, source: str, problems: Problems) -> _Table | None:
    """The table in a file, None where it is empty or cannot be read; rows with another number of cells are reported."""
    text = read_text(file, source, problems)
    lines = text.split("\n") if text else []
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return None
    stated = re.fullmatch(r"sep=(.)", lines[first].strip())  # spreadsheets write this line
    if stated:
        first = next((i for i, line in enumerate(lines) if i > first and line.strip()), first)
    bare = _without_header(file, lines[first])
    delimiter = "|" if bare else stated[1] if stated else _delimiter(lines[first], file.suffix.lower())
    quoted = not bare and (delimiter in ",;" or _evidently_quoted(lines[first:], delimiter))
    rows = list((_quoted_rows if quoted else _plain_rows)(lines, first, delimiter, source, problems))
    if not rows:
        return None
    number, header = (0, bare) if bare else (rows[0][0], [c.strip() for c in rows[0][1]])
    fitting = []
    for line, cells in rows if bare else rows[1:]:
        if len(cells) == len(header):
            fitting.append((line, cells))
        else:
            quotes = "; a quote is a character of the text here" if not quoted and any('"' in c for c in cells) else ""
            problems.add(
                source,
                line,
                f"{len(cells)} cells, but {'the first line has' if bare else 'the header names'} {len(header)} columns{quotes}",
            )
    if bare:
        header, fitting = [*header, "audio"], [(line, [*c[:-1], c[-1] or c[1], f"wavs/{c[0]}.wav"]) for line, c in fitting]
    return _Table(header, number, fitting)


def _without_header(file: Path, line: str) -> list[str]:
    """The columns of LJSpeech's metadata.csv, ``id|text[|normalised text]`` beside ``wavs``, if the line is a row of such a table."""
    cells = line.split("|")
    if len(cells) not in (2, 3) or any(map(meaning, cells)) or "/" in cells[0]:
        return []
    if not os.path.isfile(os.path.join(file.parent, "wavs", f"{cells[0]}.wav")):  # noqa: PTH113, PTH118  (a name too long is simply absent)
        return []
    return ["id", "text"] if len(cells) == 2 else ["id", "raw_text", "text"]


def _delimiter(line: str, suffix: str) -> str:
    """What separates the cells: what makes most known columns of the header; without any, what a file of this name has."""
    usual = "\t" if suffix == ".tsv" else ","
    known = {d: sum(bool(meaning(c.strip().strip('"'))) for c in line.split(d)) for d in _DELIMITERS}
    return max(_DELIMITERS, key=lambda d: (known[d], d in line, d == usual))


def _evidently_quoted(lines: Iterable[str], delimiter: str) -> bool:
    """Whether every cell that holds a quote is a quoted one, and quotes are doubled inside or stand around the header too."""
    marked = [(i, cell) for i, line in enumerate(lines) if '"' in line for cell in line.split(delimiter) if '"' in cell]
    return all(_QUOTED.fullmatch(cell) for _, cell in marked) and any(i == 0 or '""' in cell.strip()[1:-1] for i, cell in marked)


def _plain_rows(lines: Sequence[str], first: int, delimiter: str, source: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip():
            yield number, line.split(delimiter)


def _quoted_rows(lines: Sequence[str], first: int, delimiter: str, source: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Rows whose cells may be quoted. A row that runs over lines that look like rows of their own is one quote too many: refused."""
    reader = csv.reader((line + "\n" for line in lines[first:]), delimiter=delimiter, strict=True)
    width, line = 0, first + 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            unclosed = reader.line_num >= len(lines) - first and "end of data" in str(error)
            problems.add(source, line, "not CSV (a quote that is opened here is never closed)" if unclosed else f"not CSV ({error})")
            return
        if cells is None:
            return
        number, line = line, first + reader.line_num + 1
        if not any(c.strip() for c in cells):
            continue
        width = width or len(cells)
        if line - number > 1:
            like_rows = [n for n in range(number, line) if lines[n - 1].count(delimiter) >= width - 1]
            if (like_rows[:1] == [number] and len(like_rows) > 1) or any(number < n < line - 1 for n in like_rows):
                problems.add(
                    source, number, f"a quoted cell runs on to line {line - 1}, over what looks like rows of its own: a quote is missing or "
                    "one too many (texts with line breaks can stand in a JSONL manifest)",
                )  # fmt: skip
                continue
            problems.long_rows += 1
        yield number, cells
