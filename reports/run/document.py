"""A run's report as blocks: its tables, and the order in which a terminal, a page, Markdown and LaTeX show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.api import Better
from reports.claims.verdicts import claims_table
from reports.run.summary import HEADINGS, ErrorRates, Failure, Summary, whose
from reports.statistics.records import Column, Row
from reports.writing import latex as tex
from reports.writing import markdown as md
from reports.writing import terminal
from reports.writing.blocks import Banner, Block, Bullets, Entry, Facts, Figure, Folded, Head, Heading, Line, Markup, Table, Text, words
from reports.writing.drawing import Drawing
from reports.writing.wording import ARROWS, count, percent, shortened, unit_beside

if TYPE_CHECKING:
    from rich.console import Console

GROUPS_SHOWN, NOTES_SHOWN = 6, 8
"""Of failures and notes, on a terminal."""
HOW = """<p class="soft small">The bar shows the interval on the column’s own scale. A head cell sorts; its <i class="sign">i</i> tells the
metric’s definition, signature and counts, a system’s name its weights and settings.</p>"""
REASON_LIMIT = {"failure": 160, "reference": 120, "calibration": 120, "skipped": 90}


def print_summary(summary: Summary, console: Console, columns: Sequence[Column] | None = None) -> None:
    """Print the tables of some metrics, the headline ones unless told; what concerns others alone is left to the report's files."""
    terminal.write(list(_brief(summary, columns or summary.headline)), console)


def print_so_far(summary: Summary, heading: str, console: Console) -> None:
    """Print the headline values, without intervals, of a run of which a part is there."""
    heads = [Head(f"{c.name} {ARROWS[c.better]}".rstrip(), unit_beside(c.name, c.shown_unit)) for c in summary.headline]
    lines = [
        Line((Entry(row.facts.label), *(Entry(c.shown(row.cells[c.key].value)) for c in summary.headline)), grey=row.calibration)
        for row in summary.rows
    ]
    terminal.write([Text(heading, bold=True), Table(heading, (*words("system"), *heads), tuple(lines))], console)


def markdown(summary: Summary) -> str:
    """The whole report in Markdown."""
    return md.render([*header(summary, {"made": summary.created}), *body(summary), Heading("Signatures"), signatures(summary)])


def latex(summary: Summary) -> str:
    """Headline figures, systems, and the papers' claims where there are any."""
    caption = f"Mean, {percent(summary.confidence)} interval, scored / wanted outputs."
    results = figures(summary, summary.headline, f"{summary.title}: {summary.counted}")
    tables = [replace(results, caption=caption), replace(systems(summary), name="The systems of the table above"), _claims(summary)]
    return tex.render(tables, summary.warnings, ["Signatures of the figures:", *(f"{c.name}: {c.signature}" for c in summary.headline)])


def _brief(summary: Summary, columns: Sequence[Column]) -> Iterator[Block]:
    """Details first, then the headline table and the failures, so that a prompt comes back right below them."""
    keys = {c.key for c in columns}
    yield from (Text("Systems", bold=True), systems(summary))
    if rates := [e for e in summary.error_rates if e.column.key in keys]:
        yield from (Text("Error rates, %", bold=True), replace(error_rates(rates), caption=""))
    yield from _groups("skipped", summary)
    notes = [n.text for n in summary.notes if not n.metrics or keys.intersection(n.metrics)]
    yield from (Text("Notes", bold=True), Bullets(notes, NOTES_SHOWN))
    yield Heading(f"{summary.title}: {summary.counted}")
    if summary.lacking:
        yield Text(summary.lacking, "warn")
    yield from _banners(summary)
    yield figures(summary, columns, "Headline metrics")
    yield Text("mean, scored/wanted, interval below; ✓ best; signatures and the other metrics are in the report")
    if summary.verdicts:
        yield from (Text("Claims of the papers", bold=True), _claims(summary))
    for kind in ("calibration", "reference", "failure"):
        yield from _groups(kind, summary)
    if not any(f.kind == "failure" for f in summary.failures):
        yield Text(f"{HEADINGS['failure']}: none", bold=True)


def _groups(kind: str, summary: Summary) -> Iterator[Block]:
    if found := [f for f in summary.failures if f.kind == kind]:
        yield Text(_counted(kind, found), bold=True)
        yield replace(failures(kind, found, summary), limit=GROUPS_SHOWN, letters=REASON_LIMIT[kind])


def header(summary: Summary, about: Mapping[str, str]) -> list[Block]:
    """Title, what every format says before its first number, and the facts."""
    description = summary.dataset.get("description", "")
    facts = {
        "suite": summary.suite,
        "measured": summary.counted,
        "left out": summary.lacking.removeprefix("left out: "),
        **about,
        "licence of the data": summary.dataset.get("licence", ""),
    }
    return [Heading(summary.title, 1), *([Text(description)] if description else []), *_banners(summary), Facts(facts)]


def _banners(summary: Summary) -> list[Banner]:
    return [Banner(warning, "warn" if warning == summary.synthetic else "bad") for warning in summary.warnings]


def body(summary: Summary, drawings: Sequence[Drawing] = (), numbers: Mapping[str, int] | None = None) -> Iterator[Block]:
    """All tables and figures; items that the page lists under ``numbers`` are linked."""
    yield Heading("Results", id="results", short="Results")
    yield Text(
        f"Each cell: mean, {percent(summary.confidence)} interval, scored / wanted outputs. ✓ marks the best mean where coverage is alike."
    )
    yield Markup(HOW)
    yield figures(summary, summary.headline, "Headline metrics")
    if len(summary.headline) < len(summary.columns):
        name = f"All {len(summary.columns)} metrics"
        yield Folded(name, [figures(summary, summary.columns, name)], style="broad")
    if summary.error_rates:
        short = {c.key for c in summary.headline}
        first = [e for e in summary.error_rates if e.column.key in short] or list(summary.error_rates)
        yield from (Heading("Error rates, %", 3), error_rates(first))
        if others := [e for e in summary.error_rates if e not in first]:
            yield Folded(f"Error rates of {', '.join(dict.fromkeys(e.column.name for e in others))}", [error_rates(others)])
    yield from (Heading("Notes", 3), Bullets([note.text for note in summary.notes]))
    if drawings:
        yield Heading("Figures", id="figures", short="Figures")
        yield from map(Figure, drawings)
    if summary.verdicts:
        yield from (Heading("Claims of the papers", id="claims", short="Claims"), _claims(summary))
    yield from (Heading("Systems", id="systems", short="Systems"), systems(summary, whole=True))
    yield Heading("Failures", id="failures", short="Failures")
    for kind, found in ((kind, [f for f in summary.failures if f.kind == kind]) for kind in HEADINGS):
        if found:
            yield Folded(_counted(kind, found), [failures(kind, found, summary, numbers or {})], open=kind != "skipped")
    if not summary.failures:
        yield Text("None: every output was scored by every metric.")


def figures(summary: Summary, columns: Sequence[Column], name: str) -> Table:
    """Pooled figures, a line a system and a column a metric; calibration rows last."""
    heads = [
        Head(
            f"{c.name} {ARROWS[c.better]}".rstrip(), unit_beside(c.name, c.shown_unit), falling=c.better is Better.HIGHER,
            about=summary.columns.index(c),
        )
        for c in columns
    ]  # fmt: skip
    scales = [_scale(summary.rows, c) for c in columns]
    lines = [
        Line((_label(row, number), *(_figure(row, c, scale) for c, scale in zip(columns, scales, strict=True))), grey=row.calibration)
        for number, row in enumerate(summary.rows)
    ]
    return Table(name, (*words("system"), *heads), tuple(lines), grey="Calibration, not systems under test")


def _label(row: Row, number: int) -> Entry:
    facts = row.facts
    about = (
        "calibration" if row.calibration else "",
        row.variant,
        facts.size,
        count(facts.num_parameters),
        "anchor" if facts.anchor else "",
    )
    tag = "RANDOM WEIGHTS" if facts.random else ""
    return Entry(facts.label, tag=tag, tone="bad" if tag else "", below=(", ".join(filter(None, about)),), key=row.label, opens=number)


def _scale(rows: Sequence[Row], column: Column) -> tuple[float, float]:
    """Range of a column's bars: all its values and bounds."""
    found = [v for r in rows for v in (r.cells[column.key].value, r.cells[column.key].low, r.cells[column.key].high) if v is not None]
    return (min(found), max(found)) if found else (0.0, 0.0)


def _figure(row: Row, column: Column, scale: tuple[float, float]) -> Entry:
    cell, best = row.cells[column.key], column.key in row.best
    (least, most), short, bar = scale, cell.n_ok < cell.n_total, None
    # Calibration rows are measured with few metrics by design: a dash is enough.
    told = "" if row.calibration and not cell.statuses else shortened(cell.reason, 120)
    if cell.value is not None:
        told = f"{column.shown(cell.pessimistic)} with failures as worst" if short and cell.pessimistic is not None else ""
        if cell.low is not None and cell.high is not None and most > least:
            low, at, high = ((v - least) / (most - least) for v in (cell.low, cell.value, cell.high))
            bar = low, at, high
    return Entry(
        column.shown(cell.value), span=column.span(cell), count=cell.counted, short=short, mark="✓" if best else "",
        tone="good" if best else "", below=(told,) if told else (), key=cell.value, bar=bar,
    )  # fmt: skip


def error_rates(rates: Sequence[ErrorRates]) -> Table:
    """Four readings of the same transcripts, in per cent."""
    heads = (*words("system", "metric"), *(Head(name) for name in ("macro", "corpus", "median", "above 50 %", "n")))
    caption = (
        "macro: mean over utterances; corpus: all errors over all reference tokens; above 50 %: share of utterances, with its interval."
    )
    lines = []
    for e in rates:
        keys = (e.macro, e.corpus, e.median, e.above_half.value)
        shown = [Entry(text, key=key, span=span) for text, key, span in zip(e.printed, keys, ("", "", "", e.span), strict=True)]
        n = Entry(str(e.above_half.n), key=e.above_half.n)
        lines.append(Line((Entry(e.row.label), Entry(e.column.name), *shown, n), grey=e.row.calibration))
    return Table("Error rates in per cent", heads, tuple(lines), caption)


def systems(summary: Summary, whole: bool = False) -> Table:
    """What is known of each system beside its figures; ``whole`` with what takes room."""
    heads = [*words("system", "size", "weights"), Head("parameters"), Head("rate"), *words("device")]
    heads += [Head(name, words=True, wide=True) for name in ("trained on", *(("tools", "description") if whole else ()))]
    lines = []
    for f in summary.facts:
        weights = Entry(tag="random", tone="bad") if f.random else Entry(f.weights)
        rate = Entry(f"{f.sample_rate / 1000:g} kHz" if f.sample_rate else "", key=f.sample_rate)
        told = [Entry(text) for text in (f"{f.device} {f.precision}".strip(), f.training_data, f.tools, f.description)]
        line = (Entry(f.label), Entry(f.size), weights, Entry(count(f.num_parameters), key=f.num_parameters), rate, *told)
        lines.append(Line(line[: len(heads)]))
    return Table("Systems", tuple(heads), tuple(lines), style="systems")


def _counted(kind: str, found: Sequence[Failure]) -> str:
    return f"{HEADINGS[kind]}: {sum(f.records for f in found):,} measurements"


def failures(kind: str, found: Sequence[Failure], summary: Summary, numbers: Mapping[str, int] | None = None) -> Table:
    """Records without a value, grouped."""
    heads = (Head("records", falling=True), *words("system", "status"), Head("reason", words=True, wide=True), *words("metrics", "items"))
    lines = []
    for f in found:
        links = tuple(_links(f, summary.num_items, numbers or {}))
        told = (whose(f, summary.everywhere) or "all", f.status.replace("_", " "), f.reason, ", ".join(f.metrics))
        items = Entry("".join(word for word, _ in links), links=links)
        lines.append(Line((Entry(f"{f.records:,}", key=f.records), *map(Entry, told), items)))
    return Table(HEADINGS[kind], heads, tuple(lines), style="failures", wordy=True)


def _links(failure: Failure, of: int, numbers: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """``3 of 16 items: a, b, c``, piece by piece with the places in the page."""
    items = failure.items
    yield (f"{len(items):,} of {of:,} items: " if len(items) < of else "every item: "), ""
    for i, item in enumerate(items[:4]):
        yield (", " if i else ""), ""
        yield shortened(item, 40), f"#item-{numbers[item]}" if item in numbers else ""
    if len(items) > 4:
        yield f" and {len(items) - 4:,} more", ""


def _claims(summary: Summary) -> Table:
    return claims_table([(verdict, "") for verdict in summary.verdicts], summary.confidence)


def signatures(summary: Summary) -> Table:
    """What each metric is, and the signature that all its figures share."""
    heads = (*words("metric"), Head("description", words=True, wide=True), Head("signature", words=True, wide=True))
    return Table("Signatures", heads, tuple(Line(tuple(map(Entry, (c.name, c.description, c.signature)))) for c in summary.columns))
