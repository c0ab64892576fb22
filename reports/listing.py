"""The items of a run as the page shows them: text, figures of every system, players within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
        items.append(
            {
                "id": item,
                "text": str(about.get("text") or ""),
                "about": [str(about[k]) for k in ("language", "speaker") if about.get(k)] + ["synthetic"] * bool(about.get("synthetic")),
                "prompt": str(about.get("prompt_text") or ""),
                "reference": budget.numbered(clips[-1, 0], taken) if (-1, 0) in clips else {},
                "outputs": [
                    {
                        "row": row,
                        "seed": seed,
                        **measured.get((row, seed), {"values": [None] * len(summary.columns)}),
                        "audio": budget.numbered(clips[row, seed], taken) if (row, seed) in clips else {},
                    }
                    for row, seed in sorted({*measured, *((r, s) for r, s in paths if r >= 0)})
                ],
            }
        )
    return Listing(tuple(items), tuple(budget.clips), len(ids), players, withheld, budget.used)


def _by_item(
    run: Run, summary: Summary, shown: set[str], rows: Mapping[tuple[str, str], int]
) -> dict[str, dict[tuple[int, int], dict[str, Any]]]:
    """By item: (row, seed) -> values by column, reasons by column, words by column."""
    columns = {c.key: i for i, c in enumerate(summary.columns)}
    found: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    names = ["item", "system", "settings", "seed", "metric", "status", "reason", "value", "detail"]
    for item, system, settings, seed, metric, status, reason, value, detail in run.frame[names].itertuples(index=False, name=None):
        if item not in shown:
            continue
        key = rows[system, settings], int(seed)
        output = found.setdefault(item, {}).setdefault(key, {"values": [None] * len(columns), "missing": {}, "words": {}})
        if status == Status.OK:
            output["values"][columns[metric]] = float(value)
        else:
            output["missing"][columns[metric]] = shortened(f"{Status(status).value}: {reason}", TEXT_LIMIT)
        # What a pooled metric keeps is its histograms, nothing to read.
        if summary.columns[columns[metric]].is_mean and (words := dict(_words(detail))):
            output["words"][columns[metric]] = words
    return found


def _words(detail: Any) -> Iterator[tuple[str, str]]:
    """The texts among a record's details: transcripts, mostly."""
    if isinstance(detail, str) and detail:
        for name, value in json.loads(detail).items():
            if isinstance(value, str) and value:
                yield name, shortened(value, TEXT_LIMIT)
