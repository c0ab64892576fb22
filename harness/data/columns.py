"""What the columns of a manifest mean: rows of any table as unchecked entries.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.data.entries import Entry, Problems, id_from_path

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
SECOND_CHOICE = {"text": ("normalized_text", "normalised_text", "text_normalized", "raw_text", "original_text")}
"""Columns that stand for another only where a table has none of its words: beside them they say something else."""
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


@cache
def _second(name: str) -> str:
    word = folded(name)
    return next((column for column, words in SECOND_CHOICE.items() if word in words), "")


def folded(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


@dataclass(frozen=True)
class _Columns:
    """What the columns of a row are for.

    Args:
        words: names that stand for each column, the preferred first.
        others: names of the rest.
    """

    words: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]


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
            mine = mine or [n for n in shape if _second(n) == column][:1]
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


def entries(file: Path, source: str, rows: Sequence[Row], problems: Problems) -> Iterator[Entry]:
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
    if not {"audio", "text"} & {meaning(h) or _second(h) for h in header}:
        return f"no column audio (or path) and no text; columns: {names}. The first line must name the columns"
    return ""
