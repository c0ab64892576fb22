"""The items of a run as the page shows them: text, values of every system, transcripts aligned, players within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.api import Better, Status, language_code
from harness.judges.presets import Unit, unspaced
from harness.storing.runfolder import OpenedRun
from reports.run.summary import Summary
from reports.statistics.records import Column
from reports.writing.clips import Clip, Shelf, duration_s, encoded
from reports.writing.wording import shortened

TEXT_LIMIT = 400
"""Characters of a transcript or a reason kept for the page; the records hold the whole."""
UNREAD = ("unit", "device", "precision")
"""Text in the details that says how something was measured, the same for every item; the signatures and the manifest hold it."""
NEEDED = ("reference", "transcript", "reference_normalised", "transcript_normalised", "unit")
"""Details of a record (`harness.metrics.text`) that an alignment is made from."""
CHUNK_LIMIT = 200
"""Characters kept of one stretch of text; a recogniser caught in a loop inserts thousands."""
CHUNKS = 80
"""Stretches kept of one alignment."""
SIGNS = {"equal": "=", "substitute": "~", "delete": "-", "insert": "+"}
_Key = tuple[int, int]
"""(row, seed) of an output."""
_REFERENCE: _Key = (-1, 0)
"""Stands for the item's recording."""


@dataclass(frozen=True)
class Listing:
    """What the page's item section is made of.

    Args:
        items: JSON-ready, one an item, in the manifest's order.
        clips: base64 FLAC by number, as the items name them.
        with_players: items that have their players.
        withheld: items whose players did not fit the budget.
        audio_bytes: of all clips, as base64.
    """

    items: tuple[Mapping[str, Any], ...]
    clips: tuple[str, ...]
    num_items: int
    with_players: int
    withheld: int
    audio_bytes: int


def listed(run: OpenedRun, summary: Summary, audio_limit_mb: float, item_limit: int) -> Listing:
    """Items with their values, in the order of the summary's rows and columns, and players, in 10^6 bytes of base64 at the most."""
    row_numbers = {(r.facts.label, r.settings): i for i, r in enumerate(summary.rows)}
    described = run.manifest.get("items") or {}
    ids = list(described) or sorted(set(run.frame["item"].map(str)))
    shown = ids[:item_limit]
    records = _by_item(run, summary, set(shown), row_numbers, described)
    outputs: dict[str, list[tuple[int, int, Path]]] = {}
    for (system, settings, item, seed), path in run.outputs.items():
        if (system, settings) in row_numbers:
            outputs.setdefault(item, []).append((row_numbers[system, settings], int(seed), path))
    shelf = Shelf(int(audio_limit_mb * 1e6))
    items: dict[str, Mapping[str, Any]] = {}
    players, withheld = 0, 0
    for item in _priority(shown, records, summary):
        paths: dict[_Key, Path] = {(row, seed): path for row, seed, path in outputs.get(item, ())}
        if item in run.references:
            paths[_REFERENCE] = run.references[item]
        # Nothing is read once the shelf is full.
        clips = (
            {}
            if shelf.full
            else {key: encoded(path, run.digests.get(item, "") if key == _REFERENCE else "") for key, path in sorted(paths.items())}
        )
        taken = shelf.take(clips.values())
        players += taken and any(c.flac for c in clips.values())
        withheld += bool(paths) and not taken
        about = described.get(item) or {}
        measured = records.get(item, {})
        text = str(about.get("text") or "")
        order = sorted({*measured, *((r, s) for r, s in paths if r >= 0)})
        made = [measured.get(key, _Measured([None] * len(summary.columns))) for key in order]
        words = ((w, at, c) for at, m in enumerate(made) for c, texts in m.words.items() for w in texts.items())
        reasons = ((why, at, c) for at, m in enumerate(made) for c, why in m.missing.items())
        items[item] = {
            "id": item,
            "text": text,
            **{name: str(about.get(name) or "") for name in ("language", "speaker")},
            "synthetic": bool(about.get("synthetic")),
            "prompt": str(about.get("prompt_text") or ""),
            "s": _length_s(paths),
            "reference": _player(clips.get(_REFERENCE), shelf, taken),
            "outputs": [
                {
                    "row": row,
                    "seed": seed,
                    "values": output.values,
                    "missing": {column: status for column, (status, _) in output.missing.items()},
                    "audio": _player(clips.get((row, seed)), shelf, taken),
                }
                for (row, seed), output in zip(order, made, strict=True)
            ],
            "heard": _heard(made, summary, text),
            # The item's own text is shown above them.
            "words": _once("name", (told for told in words if told[0][1] != shortened(text, TEXT_LIMIT)), summary),
            "reasons": _once("status", reasons, summary),
        }
    return Listing(tuple(items[i] for i in shown), tuple(shelf.clips), len(ids), players, withheld, shelf.used)


def _player(clip: Clip | None, shelf: Shelf, taken: bool) -> Mapping[str, Any]:
    """What the scripts know of a clip: its number, or why there is none. Those of an item are taken together or not at all."""
    if clip is None or not (clip.problem or taken):
        return {}
    if clip.problem:
        return {"problem": shortened(clip.problem, TEXT_LIMIT)}
    return {"clip": shelf.place(clip), "rate": clip.sample_rate, "s": round(clip.duration_s, 3), "clipped": clip.clipped}


def ranked(summary: Summary) -> list[Column]:
    """Metrics with a better and a worse, headline ones first: what a list of the worst can be ordered by."""
    return [c for c in dict.fromkeys([*summary.headline, *summary.columns]) if c.better is not Better.NEITHER]


def _priority(shown: Sequence[str], records: Mapping[str, Mapping[_Key, _Measured]], summary: Summary) -> list[str]:
    """Who gets players first where not all do: the worst item of each headline metric in turn, after each the next of the dataset.

    Only the worst would be all that is heard of a system, only the first of the dataset never what went wrong.
    """
    tested = {i for i, r in enumerate(summary.rows) if not r.calibration}
    lists = []
    for column in (c for c in ranked(summary) if c.headline is not None):
        number, sign = summary.columns.index(column), 1.0 if column.better is Better.HIGHER else -1.0
        levels: dict[str, float] = {}
        for item in shown:
            found = [v for (row, _), m in records.get(item, {}).items() if row in tested and (v := m.values[number]) is not None]
            if found:
                levels[item] = min(sign * v for v in found)
        lists.append(sorted(levels, key=levels.__getitem__))
    worst = [item for turn in zip_longest(*lists) for item in turn if item is not None]
    both = [item for pair in zip_longest(worst, shown) for item in pair if item is not None]
    return list(dict.fromkeys(both))


def _length_s(paths: Mapping[_Key, Path]) -> float | None:
    """Seconds of an item: of its recording, else of its first readable output; None where there is neither."""
    lengths = (duration_s(path) for _, path in sorted(paths.items()))
    return next((round(found, 3) for found in lengths if found is not None), None)


@dataclass
class _Measured:
    """One output of an item: values, statuses with reasons and texts, each by column number."""

    values: list[float | None]
    missing: dict[int, tuple[str, str]] = field(default_factory=dict)
    words: dict[int, dict[str, str]] = field(default_factory=dict)
    heard: dict[int, tuple[str, str, Mapping[str, Any]]] = field(default_factory=dict)
    """Reference, transcript and their alignment."""


def _by_item(
    run: OpenedRun, summary: Summary, shown: set[str], rows: Mapping[tuple[str, str], int], described: Mapping[str, Any]
) -> dict[str, dict[_Key, _Measured]]:
    """By item: (row, seed) -> what was measured."""
    columns = {c.key: i for i, c in enumerate(summary.columns)}
    found: dict[str, dict[_Key, _Measured]] = {}
    names = ["item", "system", "settings", "seed", "metric", "status", "reason", "value", "detail"]
    for item, system, settings, seed, metric, status, reason, value, detail in run.frame[names].itertuples(index=False, name=None):
        if item not in shown:
            continue
        key = rows[system, settings], int(seed)
        output = found.setdefault(item, {}).setdefault(key, _Measured([None] * len(columns)))
        if status == Status.OK:
            output.values[columns[metric]] = float(value)
        else:
            output.missing[columns[metric]] = Status(status).value, shortened(str(reason), TEXT_LIMIT)
        # What a pooled metric keeps is its histograms, nothing to read.
        if not summary.columns[columns[metric]].is_mean or not isinstance(detail, str) or not detail:
            continue
        texts = {name: text for name, text in json.loads(detail).items() if isinstance(text, str)}
        if aligned := difference(texts, str((described.get(item) or {}).get("language") or "")):
            output.heard[columns[metric]] = texts["reference"], texts["transcript"], aligned
            texts = {name: text for name, text in texts.items() if name not in NEEDED}
        if words := dict(_words(texts)):
            output.words[columns[metric]] = words
    return found


def _words(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The texts among a record's details that no alignment shows; of a text and its normalised form the text."""
    for name, value in texts.items():
        if name not in UNREAD and not (name.endswith("_normalised") and name.removesuffix("_normalised") in texts):
            # That a recogniser heard nothing is a finding.
            yield name, shortened(value, TEXT_LIMIT) or "(empty)"


def _heard(made: Sequence[_Measured], summary: Summary, text: str) -> list[Mapping[str, Any]]:
    """What was heard against what was said: a block for each reference and the metrics that share it, in it a line for each transcript.

    Metrics that were counted on the same texts of all outputs, as a word and a character error rate of one recogniser, share a block;
    it shows the words.
    """
    by_metric: dict[int, dict[int, tuple[str, str, Mapping[str, Any]]]] = {}
    for position, output in enumerate(made):
        for column, found in output.heard.items():
            by_metric.setdefault(column, {})[position] = found
    together: dict[tuple[Any, ...], list[int]] = {}
    for column, by_position in sorted(by_metric.items()):
        texts = tuple((position, reference, transcript) for position, (reference, transcript, _) in by_position.items())
        together.setdefault(texts, []).append(column)
    blocks: list[Mapping[str, Any]] = []
    for columns in together.values():
        best = min(columns, key=lambda c: any(line["unit"] != Unit.WORD.value for *_, line in by_metric[c].values()))
        lines: dict[str, dict[str, dict[str, Any]]] = {}
        for position, (reference, _, line) in by_metric[best].items():
            # Where the reference is the item's own text, that is already shown.
            mine = lines.setdefault("" if reference == text else reference, {})
            mine.setdefault(json.dumps(line), {**line, "outputs": []})["outputs"].append(position)
        metrics = ", ".join(summary.columns[c].name for c in columns)
        blocks += [
            {"metrics": metrics, "reference": shortened(reference, TEXT_LIMIT), "lines": list(mine.values())}
            for reference, mine in lines.items()
        ]
    return blocks


def _once(kind: str, told: Iterable[tuple[tuple[str, str], int, int]], summary: Summary) -> list[Mapping[str, Any]]:
    """Every text once, with what it is called (``kind``) and the outputs, by position, and the metrics that it belongs to."""
    together: dict[tuple[str, str], tuple[dict[int, None], dict[str, None]]] = {}
    for what, position, column in told:
        outputs, metrics = together.setdefault(what, ({}, {}))
        outputs[position] = metrics[summary.columns[column].name] = None
    return [
        {kind: first, "text": text, "outputs": list(outputs), "metrics": list(metrics)}
        for (first, text), (outputs, metrics) in together.items()
    ]


def difference(detail: Mapping[str, Any], language: str) -> Mapping[str, Any] | None:
    """The alignment of a record's texts as its metric counted them: normalised, in its unit, by jiwer.

    What a language writes without spaces is joined without.

    Returns:
        ``parts`` in order, (sign, reference text, transcript text) with "=" where both are alike, "~" one for the other, "-" not heard, "+"
        heard only, and how many ``more`` there are; of the whole alignment the ``errors`` (units substituted, deleted, inserted), their
        ``unit`` and the reference's ``length`` in it. None where the record does not hold both texts in both forms.
    """
    if not all(isinstance(detail.get(name), str) for name in NEEDED) or detail["unit"] not in [u.value for u in Unit]:
        return None
    import jiwer

    by_character = detail["unit"] == Unit.CHARACTER.value
    joint = "" if by_character and unspaced(language_code(language), detail["reference_normalised"]) else " "
    expected, heard = (joint.join(detail[name].split()) for name in ("reference_normalised", "transcript_normalised"))
    if not expected:
        return None
    aligned = (jiwer.process_characters if by_character else jiwer.process_words)(expected, heard)
    between = "" if by_character else " "
    said, transcribed = aligned.references[0], aligned.hypotheses[0]
    parts = [
        (
            SIGNS[chunk.type],
            shortened(between.join(said[chunk.ref_start_idx : chunk.ref_end_idx]), CHUNK_LIMIT),
            # What is alike is told once.
            "" if chunk.type == "equal" else shortened(between.join(transcribed[chunk.hyp_start_idx : chunk.hyp_end_idx]), CHUNK_LIMIT),
        )
        for chunk in aligned.alignments[0]
    ]
    errors = aligned.substitutions, aligned.deletions, aligned.insertions
    more = max(0, len(parts) - CHUNKS)
    return {"parts": parts[:CHUNKS], "unit": detail["unit"], "errors": errors, "length": len(said), "more": more}
