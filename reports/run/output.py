"""A run's report as files, each whole or not at all: one self-contained HTML page, tables as Markdown, LaTeX and tidy CSV, figures as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from harness.storing.runfolder import OpenedRun
from reports.claims.verdicts import Verdict
from reports.run import document
from reports.run.figures import draw_all
from reports.run.listing import Listing, listed, ranked
from reports.run.summarise import summarise
from reports.run.summary import Summary
from reports.statistics.intervals import IntervalSettings
from reports.statistics.records import Cell, Column, Row
from reports.writing.blocks import Block, Code, Folded, Heading, Markup, Text
from reports.writing.drawing import Drawing
from reports.writing.files import tidy, written
from reports.writing.html import page, shown
from reports.writing.wording import ARROWS, WORDS

AUDIO_LIMIT_MB = 48.0
SCRIPTS = ("tables.js", "clips.js", "spectrogram.js", "players.js", "items.js", "worst.js")
MACHINE = (("processor", "", ""), ("cores", "", " cores"), ("memory_gib", "", " GiB"), ("system", "", ""), ("python", "Python ", ""))
"""What of the manifest's machine is shown, with the words around it."""
RUN = ("suite", "dataset", "synthetic", "partial")
CELL = (
    "value", "low", "high", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic", "clusters", "method", "seeds",
    "seed_spread", "reason",
)  # fmt: skip
FIELDS = (
    *RUN, "num_systems", "system", "settings", "calibration", "size", "weights", "num_parameters", "metric", "name", "unit", "better", "value",
    "low", "high", "confidence", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic", "clusters", "method", "seeds",
    "seed_spread", "best", "reason", "signature",
)  # fmt: skip
CONTRAST = ("metric", "unit", "value", "low", "high", "n", "n_wanted", "clusters", "seed_spread")
CLAIM_FIELDS = (
    "claim", "text", "paper", "source", "standing", "outcome", "reason", "notes", "comparison", "metric", "unit", "value", "low", "high",
    "confidence", "n", "n_wanted", "clusters", "seeds", "seed_spread", "comparison_outcome", "comparison_reason",
)  # fmt: skip


def render(
    run: OpenedRun, summary: Summary, figures: Sequence[Drawing] = (), audio_limit_mb: float = AUDIO_LIMIT_MB, item_limit: int = 1000
) -> Iterator[str]:
    """The page in parts; players are embedded item by item until the next would exceed the limit, in 10^6 bytes of base64."""
    listing = listed(run, summary, audio_limit_mb, item_limit)
    numbers = {str(item["id"]): i for i, item in enumerate(listing.items)}
    machine, name = run.manifest.get("machine") or {}, summary.dataset.get("name", "")
    about = {
        **made(run, summary),
        "machine": ", ".join(f"{before}{machine[key]}{after}" for key, before, after in MACHINE if machine.get(key)),
    }
    return page(
        title=f"{summary.title} · {name}".rstrip(" ·") + " · PARTIAL RUN" * bool(summary.partial),
        header=document.header(summary, about),
        main=[*document.body(summary, figures, numbers), *_items(summary, listing, audio_limit_mb), *_provenance(run, summary)],
        scripts=SCRIPTS,
        data=_data(run, summary, listing, numbers),
        clips=listing.clips,
    )


def made(run: OpenedRun, summary: Summary) -> Mapping[str, str]:
    """When a run was made, and by which code."""
    git = run.manifest.get("git") or {}
    code = str(git.get("commit", ""))[:12] + (" with changes" if git.get("changed") else "")
    return {"on": summary.created.replace("T", " ").replace("+00:00", " UTC"), "code": code}


def _data(run: OpenedRun, summary: Summary, listing: Listing, numbers: Mapping[str, int]) -> Mapping[str, Any]:
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


def _column(column: Column, summary: Summary, run: OpenedRun, numbers: Mapping[str, int]) -> Mapping[str, Any]:
    weights = run.frame.loc[(run.frame["metric"] == column.key) & (run.frame["status"] == "ok"), "weight"]
    return {
        **{name: getattr(column, name) for name in ("key", "name", "decimals", "significant", "factor", "better")},
        "heading": f"{column.name}\u00a0{ARROWS[column.better]}".rstrip(),
        "unit": column.shown_unit,
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


def _items(summary: Summary, listing: Listing, audio_limit_mb: float) -> Iterator[Block]:
    """What the scripts fill: the worst utterances, and all of them with their players."""
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
    yield Heading("Utterances", id="items", short="Utterances")
    yield Text(" ".join(lines))
    yield Markup(
        f'<div class="controls" role="search" aria-label="Choose utterances">{"".join(filters)}'
        '<button type="button" class="act" id="clear" hidden>Clear</button><span id="chosen" class="soft small" role="status"></span></div>'
        '<div id="means"></div>'
    )
    yield Heading("Worst utterances", 3, "worst", "Worst")
    yield Markup(_controls(_select("By", "worst-by", metrics), _select("of", "worst-of", [("", "all systems"), *systems]), "worst-list"))
    yield Heading("All utterances", 3)
    yield Markup(_controls(_select("Order", "order", orders), _select("of", "whose", [("", "all systems (mean)"), *systems]), "list"))
    yield Markup("<noscript>The utterances need JavaScript.</noscript>")


def _choices(listing: Listing, name: str) -> list[str]:
    return sorted({str(item[name]) for item in listing.items} - {""})


def _controls(first: str, second: str, filled: str) -> str:
    return f'<div class="controls">{first}{second}</div><div id="{filled}"></div>'


def _select(label: str, name: str, options: Sequence[tuple[str, str]]) -> str:
    choices = "".join(f'<option value="{escape(value)}">{shown(words)}</option>' for value, words in options)
    return f'<label>{label} <select id="{name}">{choices}</select></label>'


def _provenance(run: OpenedRun, summary: Summary) -> Iterator[Block]:
    packages = ", ".join(f"{name} {version}" for name, version in sorted((run.manifest.get("packages") or {}).items()))
    kept = {k: v for k, v in run.manifest.items() if k not in ("items", "outputs")}
    yield Heading("Provenance", id="provenance", short="Provenance")
    if summary.command:
        yield Code(summary.command)
    yield Folded("Signatures of the metrics", [document.signatures(summary)])
    yield Folded("Packages", [Text(packages or "not recorded")])
    manifest = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    yield Folded("Manifest (without its items and outputs)", [Code(manifest)])


@dataclass(frozen=True)
class ReportFiles:
    """What was written, and the summary it prints; no claims (CSV) where the suite measures none."""

    html: Path
    markdown: Path
    latex: Path
    csv: Path
    claims: Path | None
    figures: tuple[Path, ...]
    summary: Summary


def write_report(
    run: OpenedRun,
    out: Path | None = None,
    audio_limit_mb: float = AUDIO_LIMIT_MB,
    item_limit: int = 1000,
    how: IntervalSettings | None = None,
    summary: Summary | None = None,
) -> ReportFiles:
    """Write ``report.html``, ``.md``, ``.tex``, ``.csv``, ``report_claims.csv`` where there are claims, and ``figures/*.svg``.

    Args:
        out: folder, made if need be; the run's own unless told.
        audio_limit_mb: of audio embedded in the page.
        summary: of the run, where it has been made already.

    Raises:
        Incomparable: the run mixes signatures.
        StoreError: a file cannot be written.
    """
    out = out or run.path
    summary = summary or summarise(run, how)
    figures = draw_all(summary)
    drawn = tuple(written(out / "figures" / f"{d.name}.svg", [d.standalone()]) for d in figures)
    return ReportFiles(
        html=written(out / "report.html", render(run, summary, figures, audio_limit_mb, item_limit)),
        markdown=written(out / "report.md", [document.markdown(summary)]),
        latex=written(out / "report.tex", [document.latex(summary)]),
        csv=written(out / "report.csv", [results_csv(summary)]),
        claims=written(out / "report_claims.csv", [claims_csv(summary)]) if summary.verdicts else None,
        figures=drawn,
        summary=summary,
    )


def results_csv(summary: Summary) -> str:
    """CSV with the header `FIELDS`."""
    return tidy(FIELDS, result_lines(summary))


def claims_csv(summary: Summary) -> str:
    """CSV of each comparison of each claim, with the claim's own outcome; figures as left minus right."""
    contrasts = (line for verdict in summary.verdicts for line in claim_lines(verdict, summary.confidence))
    return tidy((*RUN, *CLAIM_FIELDS), ({**_about(summary), **line} for line in contrasts))


def _about(summary: Summary) -> Mapping[str, object]:
    return {"suite": summary.suite, "dataset": summary.dataset.get("name", ""), "synthetic": summary.synthetic, "partial": summary.partial}


def result_lines(summary: Summary) -> Iterator[Mapping[str, object]]:
    """What `FIELDS` hold of each system, setting and metric."""
    for row in summary.rows:
        for column in summary.columns:
            yield {
                **_about(summary),
                "num_systems": len(summary.facts),
                "system": row.facts.label,
                "settings": row.settings,
                "calibration": row.calibration,
                **{f: getattr(row.facts, f) for f in ("size", "weights", "num_parameters")},
                "metric": column.key,
                **{f: getattr(column, f) for f in ("name", "unit", "better", "signature")},
                "confidence": summary.confidence,
                "best": column.key in row.best,
                **{f: getattr(row.cells[column.key], f) for f in CELL},
            }


def claim_lines(verdict: Verdict, confidence: float) -> Iterator[Mapping[str, object]]:
    """What `CLAIM_FIELDS` hold of each comparison of a claim."""
    claim = verdict.claim
    for contrast in verdict.contrasts:
        yield {
            "claim": claim.id,
            **{f: getattr(claim, f) for f in ("text", "paper", "source", "standing")},
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "notes": "; ".join(verdict.notes),
            "comparison": contrast.words,
            "confidence": confidence,
            "seeds": "/".join(map(str, contrast.seeds)),
            "comparison_outcome": contrast.outcome,
            "comparison_reason": contrast.reason,
            **{f: getattr(contrast, f) for f in CONTRAST},
        }
