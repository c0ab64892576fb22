"""The page's tables and figures: results, error rates, claims, systems, failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.api import Better
from reports.claims.verdicts import MeasuredContrast, Replication
from reports.run.failures import HEADINGS, KINDS, whose
from reports.run.figures import Drawing
from reports.run.summary import ErrorRates, Failure, Summary
from reports.statistics.records import Column, Row, SystemFacts
from reports.writing.markup import head, shown, table
from reports.writing.wording import ABSENT, ARROWS, count, shortened

OUTCOME_TAGS = {
    Replication.REPRODUCED: "good", Replication.NOT_REPRODUCED: "bad", Replication.TOO_FEW: "", Replication.NOT_COMPARABLE: "warn", Replication.NOT_RUN: "",
}  # fmt: skip
"""Class of a claim's outcome in the page's style."""


def results(summary: Summary) -> str:
    """The figures of all systems: headline metrics, all metrics, error rates, notes."""
    level = f"{summary.confidence:.0%}".replace("%", " %")
    parts = [
        '<h2 id="results">Results</h2>',
        f'<p class="soft small">Each cell: mean, {level} interval (bar: on the column’s own scale), scored / wanted outputs. '
        '✓ marks the best mean where coverage is alike. A head cell sorts; its <i class="sign">i</i> tells the metric’s definition, signature and counts, '
        "a system’s name its weights and settings.</p>",
        _figure_table(summary, summary.headline, "Headline metrics"),
    ]
    if len(summary.headline) < len(summary.columns):
        rest = _figure_table(summary, summary.columns, "All metrics")
        parts.append(f'<details class="broad"><summary>All {len(summary.columns)} metrics</summary>{rest}</details>')
    if summary.error_rates:
        short = {c.key for c in summary.headline}
        first = [e for e in summary.error_rates if e.key in short] or list(summary.error_rates)
        parts += ["<h3>Error rates, %</h3>", _rates_table(first)]
        if others := [e for e in summary.error_rates if e not in first]:
            names = ", ".join(dict.fromkeys(e.metric for e in others))
            parts.append(f"<details><summary>Error rates of {shown(names)}</summary>{_rates_table(others)}</details>")
    parts.append('<ul class="notes">' + "".join(f"<li>{shown(note.text)}</li>" for note in summary.notes) + "</ul>")
    return "\n".join(parts)


def _rates_table(rates: Iterable[ErrorRates]) -> str:
    rows = "".join(
        f'<tr{" class=calibration" if e.calibration else ""}><th scope="row">{shown(e.label)}</th>'
        f'<td class="left">{shown(e.metric)}</td>'
        + "".join(
            f'<td data-v="{v!r}">{text}{span}</td>'
            for v, text, span in zip(
                (e.macro, e.corpus, e.median, e.above_half),
                e.figures,
                ("", "", "", f'<span class="span">{e.span}</span>' if e.span else ""),
                strict=True,
            )
        )
        + f'<td data-v="{e.n}">{e.n}</td></tr>'
        for e in rates
    )
    heads = (("system", "text"), ("metric", "text"), *((h, "number") for h in ("macro mean", "corpus", "median", "above 50 %", "n")))
    return table(
        "Error rates in per cent",
        [head(h, k, "ascending") for h, k in heads],
        f"<tbody>{rows}</tbody>",
        "macro: mean over utterances; corpus: all errors over all reference tokens; above 50 %: share of utterances, with its interval.",
    )


def _figure_table(summary: Summary, columns: Sequence[Column], name: str) -> str:
    heads = [head("system", "text", "ascending")]
    for c in columns:
        first = "descending" if c.better is Better.HIGHER else "ascending"
        heads.append(head(f"{c.name} {ARROWS[c.better]}".strip(), "number", first, c.shown_unit, summary.columns.index(c)))
    scales = {c.key: _scale(summary.rows, c) for c in columns}
    numbers = {(r.facts.label, r.settings): i for i, r in enumerate(summary.rows)}
    lines = {key: _figure_row(summary.rows[i], i, columns, scales) for key, i in numbers.items()}
    bodies = ["<tbody>" + "".join(lines[r.facts.label, r.settings] for r in summary.systems) + "</tbody>"]
    if summary.calibrations:
        title = f'<tr class="group"><th colspan="{len(columns) + 1}" scope="rowgroup"><span>Calibration, not systems under test</span></th></tr>'
        bodies.append("<tbody>" + title + "".join(lines[r.facts.label, r.settings] for r in summary.calibrations) + "</tbody>")
    return table(name, heads, "".join(bodies))


def _scale(rows: Iterable[Row], column: Column) -> tuple[float, float]:
    """Range of a column's bars: all its values and bounds."""
    figures = [v for r in rows for v in (r.cells[column.key].value, r.cells[column.key].low, r.cells[column.key].high) if v is not None]
    return (min(figures), max(figures)) if figures else (0.0, 0.0)


def _figure_row(row: Row, number: int, columns: Sequence[Column], scales: dict[str, tuple[float, float]]) -> str:
    facts = row.facts
    more = [row.variant, facts.size, count(facts.num_parameters), "anchor" if facts.anchor else ""]
    tag = '<span class="tag bad">random weights</span>' if facts.random else ""
    # A long name may break after an underscore.
    name = shown(facts.label).replace("_", "_<wbr>")
    label = (
        f'<button type="button" class="name about-row" data-row="{number}">{name}</button>'
        f'<span class="more">{shown(" · ".join(filter(None, more)))}{tag}</span>'
    )
    cells = "".join(_figure_cell(row, c, scales[c.key]) for c in columns)
    kind = ' class="calibration"' if row.calibration else ""
    return f'<tr{kind}><th scope="row" data-t="{shown(row.label)}">{label}</th>{cells}</tr>'


def _figure_cell(row: Row, column: Column, scale: tuple[float, float]) -> str:
    cell = row.cells[column.key]
    short = " short" if cell.n_ok < cell.n_total else ""
    counted = f'<span class="n{short}">{cell.counted}</span>' if cell.counted else ""
    if cell.value is None:
        # Reference rows are measured with few metrics by design: a dash is enough.
        why = "" if row.calibration and not cell.statuses else shown(shortened(cell.reason, 120))
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


def claims(summary: Summary) -> str:
    """The papers' claims that this suite measures, "" where there are none."""
    if not summary.verdicts:
        return ""
    rows = []
    for v in summary.verdicts:
        tag = f'<span class="tag {OUTCOME_TAGS[v.outcome]}">{shown(v.outcome)}</span>'
        why = "".join(f'<span class="why">{shown(line)}</span>' for line in (v.reason, *v.notes) if line)
        found = _contrast(v.deciding)
        if len(v.contrasts) > 1:
            every = "".join(f"<li>{_contrast(c)}</li>" for c in v.contrasts)
            found += f"<details><summary>All {len(v.contrasts)} comparisons</summary><ul>{every}</ul></details>"
        rows.append(
            f'<tr><th scope="row"><span class="name" title="{shown(v.claim.id)}">{shown(v.claim.text)}</span></th>'
            f'<td>{shown(v.source)}</td><td>{tag}{why}</td><td class="found">{found}</td></tr>'
        )
    heads = [head(word, "text", "ascending") for word in ("claim", "source", "status", "measured")]
    level = f"{summary.confidence:.0%}".replace("%", " %")
    caption = f"Differences are left minus right, with {level} intervals over the items that all figures compared have."
    return '<h2 id="claims">Claims of the papers</h2>' + table(
        "Claims of the papers", heads, f"<tbody>{''.join(rows)}</tbody>", caption, classes="sortable claims"
    )


def _contrast(contrast: MeasuredContrast) -> str:
    """A comparison with its figure, counts and own outcome."""
    words = ", ".join(filter(None, (contrast.counted, contrast.outcome)))
    return (
        f"{shown(contrast.metric)}: {shown(contrast.words)}<br><b>{shown(contrast.printed)}</b> "
        f'<span class="soft" title="{shown(contrast.reason)}">{shown(words)}</span>'
    )


def drawings(figures: Sequence[Drawing]) -> str:
    """The curves, "" where there are none."""
    if not figures:
        return ""
    drawn = "".join(f"<figure><figcaption>{shown(d.title)}</figcaption>{_labelled(d)}</figure>" for d in figures)
    return f'<h2 id="figures">Figures</h2>{drawn}'


def _labelled(drawing: Drawing) -> str:
    label = f'<svg role="img" aria-label="{shown(drawing.title)}"'
    wide, narrow = (
        svg.replace("<svg", f'{label} class="{name}"', 1)
        for name, svg in (("wide", drawing.inline()), ("narrow", drawing.inline(narrow=True)))
    )
    return wide + narrow


def systems(summary: Summary) -> str:
    """What is known of each system beside its figures."""
    words = ("size", "weights", "parameters", "rate", "device", "trained on", "tools", "description")
    cells = [[_system_cell(f, word) for word in words] for f in summary.facts]
    # A column that is empty for every system says nothing.
    kept = [i for i, _ in enumerate(words) if any(row[i][1] for row in cells)]
    rows = [
        f'<tr><th scope="row" data-t="{shown(f.label)}"><span class="name">{shown(f.label)}</span></th>'
        + "".join(f"<td{row[i][0]}>{row[i][1] or ABSENT}</td>" for i in kept)
        + "</tr>"
        for f, row in zip(summary.facts, cells, strict=True)
    ]
    heads = [head(h, "number" if h in ("parameters", "rate") else "text", "ascending") for h in ("system", *(words[i] for i in kept))]
    return '<h2 id="systems">Systems</h2>' + table("Systems", heads, f"<tbody>{''.join(rows)}</tbody>", classes="sortable systems")


def _system_cell(facts: SystemFacts, word: str) -> tuple[str, str]:
    """Attributes and content of one cell of the systems table; no content where nothing is known."""
    if word == "parameters":
        return f' data-v="{facts.num_parameters}"', count(facts.num_parameters)
    if word == "rate":
        return f' data-v="{facts.sample_rate}"', f"{facts.sample_rate / 1000:g} kHz" if facts.sample_rate else ""
    if word == "weights" and facts.random:
        return ' class="left"', '<span class="tag bad">random</span>'
    words = {
        "size": facts.size,
        "weights": facts.weights,
        "device": f"{facts.device} {facts.precision}".strip(),
        "trained on": facts.training_data,
        "tools": facts.tools,
        "description": facts.description,
    }
    return f' class="left{" wide" if word in ("trained on", "tools", "description") else ""}"', shown(words[word])


def failures(summary: Summary, numbers: Mapping[str, int]) -> str:
    """Records without a value, grouped.

    Args:
        summary: of the run.
        numbers: of the items that the page lists, by id; these are linked.
    """
    if not summary.failures:
        return '<h2 id="failures">Failures</h2><p class="soft">None: every output was scored by every metric.</p>'
    parts = ['<h2 id="failures">Failures</h2>']
    for kind in KINDS:
        found = [f for f in summary.failures if f.kind == kind]
        if not found:
            continue
        body = "".join(_failure_row(f, whose(f, summary.everywhere), numbers) for f in found)
        words = ("system", "status", "reason", "metrics", "items")
        heads = [head("records", "number", "descending"), *(head(word, "text", "ascending") for word in words)]
        records = sum(f.records for f in found)
        listed = table(HEADINGS[kind], heads, f"<tbody>{body}</tbody>", classes="sortable failures")
        opened = " open" if kind != "skipped" else ""
        parts.append(f"<details{opened}><summary>{HEADINGS[kind]}: {records:,} records</summary>{listed}</details>")
    return "".join(parts)


def _failure_row(failure: Failure, systems: str, numbers: Mapping[str, int]) -> str:
    more = len(failure.items) - 4
    items = ", ".join(_item(i, numbers) for i in failure.items[:4]) + (f" and {more} more" if more > 0 else "")
    words = (systems or "all", failure.status.replace("_", " "))
    return (
        f'<tr><td data-v="{failure.records}">{failure.records}</td>'
        + "".join(f"<td>{shown(word)}</td>" for word in words)
        + f'<td class="reason">{shown(failure.reason)}</td><td>{shown(", ".join(failure.metrics))}</td><td>{items}</td></tr>'
    )


def _item(item: str, numbers: Mapping[str, int]) -> str:
    name = shown(shortened(item, 40))
    return f'<a href="#item-{numbers[item]}">{name}</a>' if item in numbers else name
