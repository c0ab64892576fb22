"""The items of a run as the page shows them: text, figures of every system, players within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Status
from harness.frame import Run
from reports.clips import Clip, encoded
from reports.summary import Summary
from reports.wording import shortened

TEXT_LIMIT = 400
"""Characters of a transcript or a reason kept for the page; the records hold the whole."""
UNREAD = ("unit", "device", "precision")
"""Text in the details that says how something was measured, the same for every item; the signatures and the manifest hold it."""


_Key = tuple[int, int]
"""(row, seed) of an output."""


@dataclass(frozen=True)
class Listing:
    """What the page's item section is made of.

    Args:
        items: JSON-ready, one an item, in the manifest's order.
        clips: base64 FLAC by number, as the items name them.
        num_items: of the run, listed or not.
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


@dataclass
class _Budget:
    """Clips taken so far, never above ``limit`` bytes, the reference and all outputs of an item together or not at all."""

    limit: int
    clips: list[str] = field(default_factory=list)
    used: int = 0
    full: bool = False

    def take(self, clips: Mapping[Any, Clip]) -> bool:
        wanted = sum(c.num_bytes for c in clips.values())
        self.full = self.full or self.used + wanted > self.limit
        if not self.full:
            self.used += wanted
        return not self.full

    def numbered(self, clip: Clip, taken: bool) -> Mapping[str, Any]:
        if clip.problem:
            return {"problem": shortened(clip.problem, TEXT_LIMIT)}
        if not taken:
            return {}
        self.clips.append(clip.flac)
        return {"clip": len(self.clips) - 1, "rate": clip.sample_rate, "s": round(clip.duration_s, 3), "clipped": clip.clipped}


def listed(run: Run, summary: Summary, audio_limit_mb: float, item_limit: int) -> Listing:
    """Items with their figures and players.

    Args:
        run: as read.
        summary: of it; figures follow its columns, rows are numbered as in it.
        audio_limit_mb: of base64 audio, in 10^6 bytes.
        item_limit: items listed at most.
    """
    row_numbers = {(r.facts.label, r.settings): i for i, r in enumerate(summary.rows)}
    described = run.manifest.get("items") or {}
    ids = list(described) or sorted(set(run.frame["item"].map(str)))
    shown = ids[:item_limit]
    records = _by_item(run, summary, set(shown), row_numbers)
    outputs: dict[str, list[tuple[int, int, Path]]] = {}
    for (system, settings, item, seed), path in run.outputs.items():
        if (system, settings) in row_numbers:
            outputs.setdefault(item, []).append((row_numbers[system, settings], int(seed), path))
    budget = _Budget(int(audio_limit_mb * 1e6))
    items, players, withheld = [], 0, 0
    for item in shown:
        paths: dict[tuple[int, int], Path] = {(row, seed): path for row, seed, path in outputs.get(item, ())}
        if item in run.references:
            paths[-1, 0] = run.references[item]
        # Nothing is read once the budget is spent.
        clips = {} if budget.full else {key: encoded(path) for key, path in sorted(paths.items())}
        taken = budget.take(clips)
        players += taken and any(c.flac for c in clips.values())
        withheld += bool(paths) and not taken
        about = described.get(item) or {}
        measured = records.get(item, {})
        order = sorted({*measured, *((r, s) for r, s in paths if r >= 0)})
        nothing = _Measured([None] * len(summary.columns))
        items.append(
            {
                "id": item,
                "text": str(about.get("text") or ""),
                "language": str(about.get("language") or ""),
                "about": [str(about[k]) for k in ("language", "speaker") if about.get(k)] + ["synthetic"] * bool(about.get("synthetic")),
                "prompt": str(about.get("prompt_text") or ""),
                "reference": budget.numbered(clips[-1, 0], taken) if (-1, 0) in clips else {},
                "outputs": [
                    {
                        "row": row,
                        "seed": seed,
                        "values": measured.get((row, seed), nothing).values,
                        "missing": {column: status for column, (status, _) in measured.get((row, seed), nothing).missing.items()},
                        "audio": budget.numbered(clips[row, seed], taken) if (row, seed) in clips else {},
                    }
                    for row, seed in order
                ],
                "words": _said(measured, order, summary, str(about.get("text") or "")),
                "reasons": _reasons(measured, order, summary),
            }
        )
    return Listing(tuple(items), tuple(budget.clips), len(ids), players, withheld, budget.used)


@dataclass
class _Measured:
    """One output of an item: figures, statuses with reasons and texts, each by column number."""

    values: list[float | None]
    missing: dict[int, tuple[str, str]] = field(default_factory=dict)
    words: dict[int, dict[str, str]] = field(default_factory=dict)


def _by_item(run: Run, summary: Summary, shown: set[str], rows: Mapping[tuple[str, str], int]) -> dict[str, dict[_Key, _Measured]]:
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
        if summary.columns[columns[metric]].is_mean and (words := dict(_words(detail))):
            output.words[columns[metric]] = words
    return found


def _words(detail: Any) -> Iterator[tuple[str, str]]:
    """The texts among a record's details, transcripts mostly; of a text and its normalised form the text."""
    if isinstance(detail, str) and detail:
        texts = {name: value for name, value in json.loads(detail).items() if isinstance(value, str)}
        for name, value in texts.items():
            if name not in UNREAD and not (name.endswith("_normalised") and name.removesuffix("_normalised") in texts):
                # That a recogniser heard nothing is a finding.
                yield name, shortened(value, TEXT_LIMIT) or "(empty)"


def _said(measured: Mapping[_Key, _Measured], order: Sequence[_Key], summary: Summary, text: str) -> list[Mapping[str, Any]]:
    """Every text once, with the outputs (by position) and the metrics it belongs to; the item's own text is shown above them."""
    together: dict[tuple[str, str], tuple[list[int], list[str]]] = {}
    for position, key in enumerate(order):
        for column, words in measured[key].words.items() if key in measured else ():
            for name, words_said in words.items():
                if words_said != shortened(text, TEXT_LIMIT):
                    _noted(together, (name, words_said), position, summary.columns[column].name)
    return [{"name": name, "text": said, "outputs": at, "metrics": metrics} for (name, said), (at, metrics) in together.items()]


def _reasons(measured: Mapping[_Key, _Measured], order: Sequence[_Key], summary: Summary) -> list[Mapping[str, Any]]:
    """Every reason for a missing figure once, with its outputs and metrics."""
    together: dict[tuple[str, str], tuple[list[int], list[str]]] = {}
    for position, key in enumerate(order):
        for column, why in measured[key].missing.items() if key in measured else ():
            _noted(together, why, position, summary.columns[column].name)
    return [{"status": status, "text": why, "outputs": at, "metrics": metrics} for (status, why), (at, metrics) in together.items()]


def _noted(together: dict[tuple[str, str], tuple[list[int], list[str]]], what: tuple[str, str], position: int, metric: str) -> None:
    at, metrics = together.setdefault(what, ([], []))
    if position not in at:
        at.append(position)
    if metric not in metrics:
        metrics.append(metric)
