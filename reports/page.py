"""The report as one self-contained HTML page: tables, figures, players; opens from a disk and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from harness.api import Better
from harness.frame import Run
from reports.failures import HEADINGS, KINDS, whose
from reports.figures import Drawing
from reports.findings import Finding, Outcome
from reports.listing import Listing, listed
from reports.summary import Column, ErrorRates, Failure, Row, Summary, SystemFacts
from reports.wording import ABSENT, ARROWS, WORDS, count, printable, shortened

MACHINE = (("processor", "", ""), ("cores", "", " cores"), ("memory_gib", "", " GiB"), ("system", "", ""), ("python", "Python ", ""))
"""What of the manifest's machine is shown, with the words around it."""
OUTCOME_TAGS = {
    Outcome.REPRODUCED: "good", Outcome.NOT_REPRODUCED: "bad", Outcome.NOT_COMPARABLE: "warn", Outcome.NOT_RUN: "",
}  # fmt: skip
"""Class of a claim's outcome in the page's style."""


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
    script = _asset("page.js")
    data = {
        "columns": [
            {
                "name": c.name,
                "heading": f"{c.name} {ARROWS[c.better]}".rstrip(),
                "unit": c.shown_unit,
                "decimals": c.decimals,
                "significant": c.significant,
                "factor": c.factor,
                "better": c.better,
            }
            for c in summary.columns
        ],
        # Inside an item the headline metrics come first.
        "order": [summary.columns.index(c) for c in dict.fromkeys([*summary.headline, *summary.columns])],
        "rows": [{"label": r.label, "calibration": r.calibration} for r in summary.rows],
        "seeds": any(cell.seeds > 1 for r in summary.rows for cell in r.cells.values()),
        "items": listing.items,
    }
    main = [
        _claims(summary),
        _results(summary),
        _drawings(figures),
        _systems(summary),
        _failures(summary),
        _items(summary, listing, audio_limit_mb),
        _provenance(run, summary),
    ]
    yield Template(_asset("page.html")).substitute(
        title=escape(
            printable(f"{summary.title} · {summary.dataset.get('name', '')}".rstrip(" ·") + " · PARTIAL RUN" * bool(summary.partial))
        ),
        css=_asset("page.css"),
        script_hash=f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
        header=_header(run, summary),
        main="\n".join(filter(None, main)),
        data=json_block(data),
        script=script,
    )
    for i, clip in enumerate(listing.clips):
        # Base64 has no character that HTML could take for markup.
        yield f'<script type="text/plain" id="clip-{i}">{clip}</script>\n'
    yield "</body>\n</html>\n"


def json_block(data: Any) -> str:
    """JSON that may stand inside a ``<script>`` element: no text in it can end the element or start a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return "".join(c if not 0xD800 <= ord(c) <= 0xDFFF else f"\\u{ord(c):04x}" for c in text)


def _asset(name: str) -> str:
    return (files("reports") / "assets" / name).read_text(encoding="utf-8")


def _shown(text: object) -> str:
    return escape(printable(str(text)))


def _header(run: Run, summary: Summary) -> str:
    machine = run.manifest.get("machine") or {}
    git = run.manifest.get("git") or {}
    facts = {
        "suite": summary.suite,
        "measured": summary.counted,
        "on": summary.created.replace("T", " ").replace("+00:00", " UTC"),
        "code": str(git.get("commit", ""))[:12] + (" with changes" if git.get("changed") else ""),
        "machine": ", ".join(f"{before}{machine[key]}{after}" for key, before, after in MACHINE if machine.get(key)),
        "licence of the data": summary.dataset.get("licence", ""),
    }
    cells = "".join(f"<div><dt>{k}</dt><dd>{_shown(v)}</dd></div>" for k, v in facts.items() if v.strip())
    parts = [f"<h1>{_shown(summary.title)}</h1>"]
    if description := summary.dataset.get("description", ""):
        parts.append(f'<p class="soft">{_shown(description)}</p>')
    for warning in summary.warnings:
        kind = "warn" if warning == summary.synthetic else "bad"
        parts.append(f'<strong class="banner {kind}" role="note">{_shown(warning)}</strong>')
    return "\n".join([*parts, f'<dl class="facts">{cells}</dl>'])


def _results(summary: Summary) -> str:
    level = f"{summary.confidence:.0%}".replace("%", " %")
    parts = [
        '<h2 id="results">Results</h2>',
        f'<p class="soft small">Each cell: mean, {level} interval (bar: on the column’s own scale), scored / wanted outputs. '
        "✓ marks the best mean where coverage is alike. A head cell sorts.</p>",
        _figure_table(summary, summary.headline, "Headline metrics"),
    ]
    if len(summary.headline) < len(summary.columns):
        rest = _figure_table(summary, summary.columns, "All metrics")
        parts.append(f"<details><summary>All {len(summary.columns)} metrics</summary>{rest}</details>")
    if summary.error_rates:
        short = {c.key for c in summary.headline}
        first = [e for e in summary.error_rates if e.key in short] or list(summary.error_rates)
        parts += ["<h3>Error rates, %</h3>", _rates_table(first)]
        if others := [e for e in summary.error_rates if e not in first]:
            names = ", ".join(dict.fromkeys(e.metric for e in others))
            parts.append(f"<details><summary>Error rates of {_shown(names)}</summary>{_rates_table(others)}</details>")
    parts.append('<ul class="notes">' + "".join(f"<li>{_shown(note.text)}</li>" for note in summary.notes) + "</ul>")
    return "\n".join(parts)


def _rates_table(rates: Iterable[ErrorRates]) -> str:
    rows = "".join(
        f'<tr{" class=calibration" if e.calibration else ""}><th scope="row">{_shown(e.label)}</th>'
        f'<td class="left">{_shown(e.metric)}</td>'
        + "".join(f'<td data-v="{v!r}">{100 * v:.2f}</td>' for v in (e.macro, e.corpus, e.median, e.above_half))
        + f'<td data-v="{e.n}">{e.n}</td></tr>'
        for e in rates
    )
    heads = (("system", "text"), ("metric", "text"), *((h, "number") for h in ("macro mean", "corpus", "median", "above 50 %", "n")))
    return _table(
        "Error rates in per cent",
        [_head(h, k, "ascending") for h, k in heads],
        f"<tbody>{rows}</tbody>",
        "macro: mean over utterances; corpus: all errors over all reference tokens; above 50 %: share of utterances.",
    )


def _table(name: str, heads: Iterable[str], bodies: str, caption: str = "", classes: str = "sortable") -> str:
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">'
        f'<table class="{classes}">{below}<thead><tr>{"".join(heads)}</tr></thead>{bodies}</table></div>'
    )


def _head(text: str, kind: str, first: str, below: str = "", tip: str = "") -> str:
    unit = f'<span class="unit">{_shown(below)}</span>' if below else ""
    left = ' class="left"' if kind == "text" else ""
    title = f' title="{_shown(tip)}"' if tip else ""
    return f'<th scope="col" data-kind="{kind}" data-first="{first}"{left}><button type="button"{title}>{_shown(text)}</button>{unit}</th>'


def _figure_table(summary: Summary, columns: Sequence[Column], name: str) -> str:
    heads = [_head("system", "text", "ascending")]
    for c in columns:
        first = "descending" if c.better is Better.HIGHER else "ascending"
        heads.append(_head(f"{c.name} {ARROWS[c.better]}".strip(), "number", first, c.shown_unit, f"{c.description} ({WORDS[c.better]})"))
    scales = {c.key: _scale(summary.rows, c) for c in columns}
    bodies = ["<tbody>" + "".join(_figure_row(r, columns, scales) for r in summary.systems) + "</tbody>"]
    if summary.calibrations:
        title = f'<tr class="group"><th colspan="{len(columns) + 1}" scope="rowgroup">Calibration, not systems under test</th></tr>'
        bodies.append("<tbody>" + title + "".join(_figure_row(r, columns, scales) for r in summary.calibrations) + "</tbody>")
    return _table(name, heads, "".join(bodies))


def _scale(rows: Iterable[Row], column: Column) -> tuple[float, float]:
    """Range of a column's bars: all its values and bounds."""
    figures = [v for r in rows for v in (r.cells[column.key].value, r.cells[column.key].low, r.cells[column.key].high) if v is not None]
    return (min(figures), max(figures)) if figures else (0.0, 0.0)


def _figure_row(row: Row, columns: Sequence[Column], scales: dict[str, tuple[float, float]]) -> str:
    facts = row.facts
    more = [row.variant, facts.size, count(facts.num_parameters)]
    tag = '<span class="tag bad">random weights</span>' if facts.random else ""
    # A long name may break after an underscore.
    name = _shown(facts.label).replace("_", "_<wbr>")
    label = f'<span class="name">{name}</span><span class="more">{_shown(" · ".join(filter(None, more)))}{tag}</span>'
    cells = "".join(_figure_cell(row, c, scales[c.key]) for c in columns)
    kind = ' class="calibration"' if row.calibration else ""
    return f'<tr{kind}><th scope="row" data-t="{_shown(row.label)}">{label}</th>{cells}</tr>'


def _figure_cell(row: Row, column: Column, scale: tuple[float, float]) -> str:
    cell = row.cells[column.key]
    short = " short" if cell.n_ok < cell.n_total else ""
    counted = f'<span class="n{short}">{cell.counted}</span>' if cell.counted else ""
    if cell.value is None:
        # Reference rows are measured with few metrics by design: a dash is enough.
        why = "" if row.calibration and not cell.statuses else _shown(shortened(cell.reason, 120))
        return f'<td data-v=""><span class="value">{ABSENT}</span>{counted}<span class="why">{why}</span></td>'
    best = ' class="best"' if column.key in row.best else ""
    span = column.span(cell)
    bar, worst = "", ""
    low, width = scale[0], scale[1] - scale[0]
    if cell.low is not None and cell.high is not None and width > 0:
        left, right, at = (100 * (v - low) / width for v in (cell.low, cell.high, cell.value))
        line = f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i><b style="left:{at:.1f}%"></b>'
        bar = f'<span class="range" aria-hidden="true">{line}</span>'
    if short and cell.pessimistic is not None:
        worst = f'<span class="span worst">{column.shown(cell.pessimistic)} with failures as worst</span>'
    interval = f'<span class="span">{span}</span>' if span else ""
    value = f'<span class="value">{column.shown(cell.value)}</span>'
    return f'<td{best} data-v="{cell.value!r}">{value}{bar}{interval}{counted}{worst}</td>'


def _claims(summary: Summary) -> str:
    if not summary.verdicts:
        return ""
    rows = []
    for v in summary.verdicts:
        tag = f'<span class="tag {OUTCOME_TAGS[v.outcome]}">{_shown(v.outcome)}</span>'
        why = "".join(f'<span class="why">{_shown(line)}</span>' for line in (v.reason, *v.notes) if line)
        found = _finding(v.deciding)
        if len(v.findings) > 1:
            every = "".join(f"<li>{_finding(f)}</li>" for f in v.findings)
            found += f"<details><summary>All {len(v.findings)} comparisons</summary><ul>{every}</ul></details>"
        rows.append(
            f'<tr><th scope="row"><span class="name" title="{_shown(v.claim.id)}">{_shown(v.claim.text)}</span></th>'
            f'<td>{_shown(v.source)}</td><td>{tag}{why}</td><td class="found">{found}</td></tr>'
        )
    heads = [_head(word, "text", "ascending") for word in ("claim", "source", "status", "measured")]
    level = f"{summary.confidence:.0%}".replace("%", " %")
    caption = f"Differences are left minus right, with {level} intervals over the items that all figures compared have."
    return "<h2>Claims of the papers</h2>" + _table(
        "Claims of the papers", heads, f"<tbody>{''.join(rows)}</tbody>", caption, classes="sortable claims"
    )


def _finding(finding: Finding) -> str:
    """A comparison with its figure, counts and own outcome."""
    words = ", ".join(filter(None, (finding.counted, finding.outcome)))
    return (
        f"{_shown(finding.metric)}: {_shown(finding.words)}<br><b>{_shown(finding.figure)}</b> "
        f'<span class="soft" title="{_shown(finding.reason)}">{_shown(words)}</span>'
    )


def _drawings(figures: Sequence[Drawing]) -> str:
    if not figures:
        return ""
    shown = "".join(f"<figure><figcaption>{_shown(d.title)}</figcaption>{_labelled(d)}</figure>" for d in figures)
    return f"<h2>Figures</h2>{shown}"


def _labelled(drawing: Drawing) -> str:
    return drawing.inline().replace("<svg", f'<svg role="img" aria-label="{_shown(drawing.title)}"', 1)


def _systems(summary: Summary) -> str:
    heads = ("size", "weights", "parameters", "rate", "device", "trained on", "tools", "description")
    cells = [[_system_cell(f, head) for head in heads] for f in summary.facts]
    # A column that is empty for every system says nothing.
    kept = [i for i, _ in enumerate(heads) if any(row[i][1] for row in cells)]
    rows = [
        f'<tr><th scope="row" data-t="{_shown(f.label)}"><span class="name">{_shown(f.label)}</span></th>'
        + "".join(f"<td{row[i][0]}>{row[i][1] or ABSENT}</td>" for i in kept)
        + "</tr>"
        for f, row in zip(summary.facts, cells, strict=True)
    ]
    shown = [_head(h, "number" if h in ("parameters", "rate") else "text", "ascending") for h in ("system", *(heads[i] for i in kept))]
    return "<h2>Systems</h2>" + _table("Systems", shown, f"<tbody>{''.join(rows)}</tbody>", classes="sortable systems")


def _system_cell(facts: SystemFacts, head: str) -> tuple[str, str]:
    """Attributes and content of one cell of the systems table; no content where nothing is known."""
    if head == "parameters":
        return f' data-v="{facts.num_parameters}"', count(facts.num_parameters)
    if head == "rate":
        return f' data-v="{facts.sample_rate}"', f"{facts.sample_rate / 1000:g} kHz" if facts.sample_rate else ""
    if head == "weights" and facts.random:
        return ' class="left"', '<span class="tag bad">random</span>'
    words = {
        "size": facts.size,
        "weights": facts.weights,
        "device": f"{facts.device} {facts.precision}".strip(),
        "trained on": facts.training_data,
        "tools": facts.tools,
        "description": facts.description,
    }
    return f' class="left{" wide" if head in ("trained on", "tools", "description") else ""}"', _shown(words[head])


def _failures(summary: Summary) -> str:
    if not summary.failures:
        return '<h2>Failures</h2><p class="soft">None: every output was scored by every metric.</p>'
    parts = ["<h2>Failures</h2>"]
    for kind in KINDS:
        found = [f for f in summary.failures if f.kind == kind]
        if not found:
            continue
        body = "".join(_failure_row(f, whose(f, summary.everywhere)) for f in found)
        words = ("system", "status", "reason", "metrics", "items")
        heads = [_head("records", "number", "descending"), *(_head(word, "text", "ascending") for word in words)]
        records = sum(f.records for f in found)
        table = _table(HEADINGS[kind], heads, f"<tbody>{body}</tbody>", classes="sortable failures")
        opened = " open" if kind != "skipped" else ""
        parts.append(f"<details{opened}><summary>{HEADINGS[kind]}: {records:,} records</summary>{table}</details>")
    return "".join(parts)


def _failure_row(failure: Failure, systems: str) -> str:
    more = len(failure.items) - 4
    items = ", ".join(shortened(i, 40) for i in failure.items[:4]) + (f" and {more} more" if more > 0 else "")
    words = (systems or "all", failure.status.replace("_", " "))
    return (
        f'<tr><td data-v="{failure.records}">{failure.records}</td>'
        + "".join(f"<td>{_shown(word)}</td>" for word in words)
        + f'<td class="reason">{_shown(failure.reason)}</td><td>{_shown(", ".join(failure.metrics))}</td><td>{_shown(items)}</td></tr>'
    )


def _items(summary: Summary, listing: Listing, audio_limit_mb: float) -> str:
    size = f"{listing.audio_bytes / 1e6:.1f} MB of 16-bit FLAC at each system’s own rate"
    lines = [f"Players for {listing.with_players} of {listing.num_items} items ({size})."]
    if listing.withheld:
        lines.append(f"The page’s limit of {audio_limit_mb:g} MB is reached; {listing.withheld} listed items go without players.")
    if len(listing.items) < listing.num_items:
        lines.append(f"Listed: the first {len(listing.items)} of {listing.num_items} items.")
    ranked = [c for c in dict.fromkeys([*summary.headline, *summary.columns]) if c.better is not Better.NEITHER]
    options = "".join(f'<option value="{summary.columns.index(c)}">worst {_shown(c.name)} first</option>' for c in ranked)
    systems = "".join(f'<option value="{i}">{_shown(r.label)}</option>' for i, r in enumerate(summary.rows) if not r.calibration)
    return (
        f'<section id="items"><h2>Items</h2><p class="soft small" id="players">{" ".join(map(escape, lines))}</p>'
        '<div class="controls"><label>Find <input type="search" id="search" placeholder="id, text or speaker"></label>'
        '<label>Order <select id="order"><option value="">as in the dataset</option>'
        f'<option value="failures">most failures first</option>{options}</select></label>'
        f'<label>of <select id="whose"><option value="">all systems (mean)</option>{systems}</select></label></div>'
        "<noscript>The items need JavaScript.</noscript></section>"
    )


def _provenance(run: Run, summary: Summary) -> str:
    signatures = "".join(
        f'<tr><th scope="row">{_shown(c.name)}</th><td class="left">{_shown(c.description)}</td>'
        f'<td class="left"><code>{_shown(c.signature)}</code></td></tr>'
        for c in summary.columns
    )
    heads = [_head(h, "text", "ascending") for h in ("metric", "description", "signature")]
    packages = ", ".join(f"{name} {version}" for name, version in sorted((run.manifest.get("packages") or {}).items()))
    kept = {k: v for k, v in run.manifest.items() if k != "items"}
    manifest = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    command = f"<p><code>{_shown(summary.command)}</code></p>" if summary.command else ""
    return (
        f"<h2>Provenance</h2>{command}<details><summary>Signatures of the metrics</summary>"
        + _table("Signatures", heads, f"<tbody>{signatures}</tbody>")
        + f"</details><details><summary>Packages</summary><p class=small>{_shown(packages) or 'not recorded'}</p></details>"
        f"<details><summary>Manifest (without its items)</summary><pre>{escape(manifest)}</pre></details>"
    )
