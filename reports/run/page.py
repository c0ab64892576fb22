"""The report as one self-contained HTML page: tables, figures, players; opens from a disk and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from harness.storing.frame import Run
from reports.run import page_tables
from reports.run.figures import Drawing
from reports.run.listing import Listing, listed, ranked
from reports.run.summary import Summary
from reports.statistics.records import Cell, Column, Row
from reports.writing.markup import END, clip_blocks, document, head, json_block, shown, table
from reports.writing.wording import ARROWS, WORDS

SCRIPTS = ("tables.js", "clips.js", "spectrogram.js", "players.js", "items.js", "worst.js")
MACHINE = (("processor", "", ""), ("cores", "", " cores"), ("memory_gib", "", " GiB"), ("system", "", ""), ("python", "Python ", ""))
"""What of the manifest's machine is shown, with the words around it."""
SECTIONS = {
    "results": "Results", "figures": "Figures", "claims": "Claims", "systems": "Systems", "failures": "Failures", "worst": "Worst",
    "items": "Utterances", "provenance": "Provenance",
}  # fmt: skip
"""What the bar at the top leads to, by the id of the heading."""


def render(
    run: Run, summary: Summary, figures: Sequence[Drawing] = (), audio_limit_mb: float = 48.0, item_limit: int = 1000
) -> Iterator[str]:
    """The page in parts, the audio last, so that a browser shows the tables before it has read the players' data.

    Args:
        run: as read.
        summary: of it.
        figures: shown inline.
        audio_limit_mb: of embedded audio, in 10^6 bytes of base64; players are embedded item by item until the next would exceed it.
        item_limit: items listed at most.
    """
    listing = listed(run, summary, audio_limit_mb, item_limit)
    numbers = {str(item["id"]): i for i, item in enumerate(listing.items)}
    main = [
        page_tables.results(summary),
        page_tables.drawings(figures),
        page_tables.claims(summary),
        page_tables.systems(summary),
        page_tables.failures(summary, numbers),
        _items(summary, listing, audio_limit_mb),
        _provenance(run, summary),
    ]
    body = "\n".join(filter(None, main))
    yield document(
        title=f"{summary.title} · {summary.dataset.get('name', '')}".rstrip(" ·") + " · PARTIAL RUN" * bool(summary.partial),
        header=_header(run, summary),
        main=_bar(body) + body,
        data=json_block(_data(run, summary, listing, numbers)),
        scripts=SCRIPTS,
    )
    yield from clip_blocks(listing.clips)
    yield END


def _data(run: Run, summary: Summary, listing: Listing, numbers: Mapping[str, int]) -> Mapping[str, Any]:
    """What the scripts read."""
    described = run.manifest.get("systems") or {}
    return {
        "columns": [_column(c, summary, run, numbers) for c in summary.columns],
        # Inside an item the headline metrics come first.
        "order": [summary.columns.index(c) for c in dict.fromkeys([*summary.headline, *summary.columns])],
        "headline": [summary.columns.index(c) for c in summary.headline],
        "rows": [{"label": r.label, "calibration": r.calibration, "facts": _facts(r, described)} for r in summary.rows],
        "seeds": any(cell.seeds > 1 for r in summary.rows for cell in r.cells.values()),
        # Outputs that say the same at the same time can be switched between; two readings of a text cannot.
        "aligned": summary.task == "resynthesis",
        "choices": {name: _choices(listing, name) for name in ("language", "speaker")},
        "items": listing.items,
    }


def _column(column: Column, summary: Summary, run: Run, numbers: Mapping[str, int]) -> Mapping[str, Any]:
    weights = run.frame.loc[(run.frame["metric"] == column.key) & (run.frame["status"] == "ok"), "weight"]
    return {
        "key": column.key,
        "name": column.name,
        "heading": f"{column.name}\u00a0{ARROWS[column.better]}".rstrip(),
        "unit": column.shown_unit,
        "decimals": column.decimals,
        "significant": column.significant,
        "factor": column.factor,
        "better": column.better,
        # Only what is a plain mean of outputs can be taken over some of them without the metric itself.
        "plain": column.is_mean and weights.nunique() <= 1,
        "excluded": [numbers[i] for i in column.excluded if i in numbers],
        "facts": [
            ("definition", f"{column.description} ({WORDS[column.better]})" if column.description else WORDS[column.better]),
            ("unit", column.unit or "none"),
            ("pooled as", column.aggregation or "mean"),
            ("signature", column.signature),
            *([("not ranked", column.unranked)] if column.unranked else []),
            *([("left out", f"{len(column.excluded)} items whose reference cannot be scored")] if column.excluded else []),
        ],
        "cells": [_cell(r.cells[column.key], column) for r in summary.rows],
    }


def _cell(cell: Cell, column: Column) -> Sequence[str]:
    """A figure with what it was made from, in the order of the heads in ``tables.js``."""
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in cell.statuses.items())
    worst = column.shown(cell.pessimistic) if cell.n_ok < cell.n_total else ""
    return (
        column.shown(cell.value), column.span(cell), cell.counted, counts, worst, str(cell.clusters or ""), cell.method, cell.reason,
    )  # fmt: skip


def _facts(row: Row, described: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """All that the manifest says of a system, in words."""
    known = {**(described.get(row.facts.label) or {}), "settings": row.variant}
    told = (
        (name, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False))
        for name, v in known.items()
        if v not in (None, "", [], {}, 0)
    )
    return [(name.replace("_", " "), text) for name, text in told]


def _header(run: Run, summary: Summary) -> str:
    machine = run.manifest.get("machine") or {}
    git = run.manifest.get("git") or {}
    facts = {
        "suite": summary.suite,
        "measured": summary.counted,
        "left out": summary.lacking.removeprefix("left out: "),
        "on": summary.created.replace("T", " ").replace("+00:00", " UTC"),
        "code": str(git.get("commit", ""))[:12] + (" with changes" if git.get("changed") else ""),
        "machine": ", ".join(f"{before}{machine[key]}{after}" for key, before, after in MACHINE if machine.get(key)),
        "licence of the data": summary.dataset.get("licence", ""),
    }
    cells = "".join(f"<div><dt>{k}</dt><dd>{shown(v)}</dd></div>" for k, v in facts.items() if v.strip())
    parts = [f"<h1>{shown(summary.title)}</h1>"]
    if description := summary.dataset.get("description", ""):
        parts.append(f'<p class="soft">{shown(description)}</p>')
    for warning in summary.warnings:
        kind = "warn" if warning == summary.synthetic else "bad"
        parts.append(f'<strong class="banner {kind}" role="note">{shown(warning)}</strong>')
    return "\n".join([*parts, f'<dl class="facts">{cells}</dl>'])


def _bar(body: str) -> str:
    links = "".join(f'<a href="#{name}">{words}</a>' for name, words in SECTIONS.items() if f'id="{name}"' in body)
    return f'<nav class="bar" aria-label="Sections">{links}</nav>'


def _items(summary: Summary, listing: Listing, audio_limit_mb: float) -> str:
    size = f"{listing.audio_bytes / 1e6:.1f} MB of 16-bit FLAC at each system’s own rate"
    lines = [f"Players for {listing.with_players} of {listing.num_items} items ({size})."]
    if listing.withheld:
        lines.append(
            f"The page’s limit of {audio_limit_mb:g} MB is reached; {listing.withheld} listed items go without players. "
            "The worst of each headline metric and the first of the dataset, in turn, were given theirs first."
        )
    if len(listing.items) < listing.num_items:
        lines.append(f"Listed: the first {len(listing.items)} of {listing.num_items} items.")
    metrics = [(str(summary.columns.index(c)), c.name) for c in ranked(summary)]
    systems = [(str(i), r.label) for i, r in enumerate(summary.rows) if not r.calibration]
    orders = [("", "as in the dataset"), ("failures", "most failures first"), *((i, f"worst {name} first") for i, name in metrics)]
    filters = ['<label>Find <input type="search" id="search" placeholder="id, text or speaker"></label>']
    for name in ("language", "speaker"):
        # A choice of one is none.
        if len(found := _choices(listing, name)) > 1:
            filters.append(_select(name.capitalize(), name, [("", "all"), *((str(i), word) for i, word in enumerate(found))]))
    if any(item["s"] is not None for item in listing.items):
        limits = 'type="number" min="0" step="0.1" inputmode="decimal"'
        filters.append(
            f'<label>Length from <input id="shortest" {limits} aria-label="shortest, in seconds"></label>'
            f'<label>to <input id="longest" {limits} aria-label="longest, in seconds"> s</label>'
        )
    return (
        f'<section><h2 id="items">Utterances</h2><p class="soft small" id="players">{" ".join(map(escape, lines))}</p>'
        f'<div class="controls" role="search" aria-label="Choose utterances">{"".join(filters)}'
        '<button type="button" class="act" id="clear" hidden>Clear</button><span id="chosen" class="soft small" role="status"></span></div>'
        '<div id="means"></div>'
        '<h3 id="worst">Worst utterances</h3><div class="controls">'
        + _select("By", "worst-by", metrics)
        + _select("of", "worst-of", [("", "all systems"), *systems])
        + '</div><div id="worst-list"></div><h3>All utterances</h3><div class="controls">'
        + _select("Order", "order", orders)
        + _select("of", "whose", [("", "all systems (mean)"), *systems])
        + '</div><div id="list"></div><noscript>The utterances need JavaScript.</noscript></section>'
    )


def _choices(listing: Listing, name: str) -> list[str]:
    return sorted({str(item[name]) for item in listing.items} - {""})


def _select(label: str, name: str, options: Sequence[tuple[str, str]]) -> str:
    choices = "".join(f'<option value="{escape(value)}">{shown(words)}</option>' for value, words in options)
    return f'<label>{label} <select id="{name}">{choices}</select></label>'


def _provenance(run: Run, summary: Summary) -> str:
    signatures = "".join(
        f'<tr><th scope="row">{shown(c.name)}</th><td class="left">{shown(c.description)}</td>'
        f'<td class="left"><code>{shown(c.signature)}</code></td></tr>'
        for c in summary.columns
    )
    heads = [head(h, "text", "ascending") for h in ("metric", "description", "signature")]
    packages = ", ".join(f"{name} {version}" for name, version in sorted((run.manifest.get("packages") or {}).items()))
    kept = {k: v for k, v in run.manifest.items() if k not in ("items", "outputs")}
    manifest = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    command = f"<p><code>{shown(summary.command)}</code></p>" if summary.command else ""
    return (
        f'<h2 id="provenance">Provenance</h2>{command}<details><summary>Signatures of the metrics</summary>'
        + table("Signatures", heads, f"<tbody>{signatures}</tbody>")
        + f"</details><details><summary>Packages</summary><p class=small>{shown(packages) or 'not recorded'}</p></details>"
        f"<details><summary>Manifest (without its items and outputs)</summary><pre>{escape(manifest)}</pre></details>"
    )
