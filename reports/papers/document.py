"""A paper shown again as blocks: every table and figure with its claims, what was cited, and the runs; each format writes the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import Curve
from reports.claims.verdicts import TONES, claims_table
from reports.papers.archive import NeededRun
from reports.papers.published import Citation, Part, PublishedTable
from reports.papers.study import JudgedCell, JudgedClaim, MeasuredFigure, Study
from reports.run.figures import draw
from reports.run.output import CLAIM_FIELDS, claim_lines
from reports.writing import html, terminal
from reports.writing import latex as tex
from reports.writing import markdown as md
from reports.writing.blocks import Banner, Block, Bullets, Code, Entry, Figure, Head, Heading, Line, Table, Text, words
from reports.writing.drawing import INK, Drawing, attempted, canvas, dress, finish, png_of, points, svg_of
from reports.writing.files import tidy, written
from reports.writing.wording import percent, printable, shortened, with_unit

if TYPE_CHECKING:
    from rich.console import Console


HOW = (
    "What the paper printed, below it what was measured here with its {level} interval and its count of scored outputs. A figure from other "
    "data, another judge or a smaller model stands there as well, but is not held against the printed one."
)


def print_study(study: Study, console: Console) -> None:
    """Print it, the commands of the missing runs last."""
    terminal.write([*_header(study), *_body(study, {})], console)


def markdown(study: Study) -> str:
    """The paper as GitHub-flavoured Markdown."""
    return md.render([*_header(study), *_body(study, {})])


def page(study: Study, drawn: Sequence[Drawing]) -> Iterator[str]:
    """The paper as one HTML page without scripts, its figures inline."""
    return html.page(study.paper.title, _header(study), list(_body(study, {d.name: d for d in drawn})))


def write_study(study: Study, out: Path) -> list[Path]:
    """Write ``tables.html``, ``.md``, ``.tex``, ``cells.csv``, ``claims.csv``, ``runs.csv`` and ``figures/*``.

    Returns:
        The files, in this order.

    Raises:
        StoreError: a file cannot be written.
    """
    drawn = list(drawings(study))
    files: dict[str, Iterable[str | bytes]] = {
        "tables.html": page(study, drawn),
        "tables.md": [markdown(study)],
        "tables.tex": [latex(study)],
        "cells.csv": [cells_csv(study)],
        "claims.csv": [claims_csv(study)],
        "runs.csv": [runs_csv(study)],
        **{f"figures/{d.name}.svg": [d.standalone()] for d in drawn},
        **{f"figures/{d.name}.png": [d.png] for d in drawn if d.png},
    }
    return [written(out / name, parts) for name, parts in files.items()]


def latex(study: Study) -> str:
    """Table environments: the paper's tables, its figures in numbers, the claims, the citations."""
    tables = []
    for published in study.paper.tables:
        # Why nothing was measured is told by the other formats, which have the commands too.
        table = _table(published, study, [c for c in study.cells if c.table is published and c.value is not None])
        how = f"{_protocol(published)} Printed, below it measured here, with {percent(study.confidence)} intervals and scored / wanted outputs."
        tables.append(replace(table, name=f"{study.paper.title}, {published.source}: {published.title}", caption=how))
    for measured in study.figures:
        title = f"{measured.figure.source}: {measured.figure.title}"
        tables.append(
            replace(_curves(measured), name=title, caption=f"Measured; the paper prints no numbers ({measured.figure.standing}).")
        )
    cited = [replace(_cited(c), name=c.title, caption=f"Cited, not measured here: {c.source}.") for c in study.paper.citations]
    return tex.render([*tables, _claims(study.claims, study), *cited], study.warnings)


def _header(study: Study) -> list[Block]:
    counts = [f"{kind}: {', '.join(f'{n} {outcome}' for outcome, n in found.items())}" for kind, found in study.counts.items()]
    warnings = [Banner(warning, below=", ".join(names)) for warning, names in study.warnings.items()]
    return [Heading(study.paper.title, 1), Text(HOW.format(level=percent(study.confidence))), Bullets(counts), *warnings]


def _body(study: Study, drawn: Mapping[str, Drawing]) -> Iterator[Block]:
    for published in study.paper.tables:
        yield from (_part(published), Text(_protocol(published)))
        yield _table(published, study, [c for c in study.cells if c.table is published])
        yield from _below(published, study, drawn)
    for measured in study.figures:
        yield _part(measured.figure)
        told = f"measured in {measured.run}" if measured.run else "not run"
        yield Text(f"{measured.figure.standing}; the paper prints no numbers, its orderings are the claims below; {told}.")
        yield _curves(measured)
        yield from _below(measured.figure, study, drawn)
    if study.other_claims:
        yield from (Heading("Other claims", id="claims", short="Other claims"), _claims(study.other_claims, study))
    for cited in study.paper.citations:
        yield from (Heading(cited.title), Text(f"Cited, not measured here. Source: {cited.source}."), _cited(cited))
    yield Heading("Runs", id="runs", short="Runs")
    lines = tuple(Line(tuple(map(Entry, (run.name, run.suite, run.data, run.created)))) for run in study.runs)
    yield Table("Runs used", words("run", "suite", "data", "made"), lines) if lines else Text("No finished run was found.")
    for need in study.needs:
        yield from _need(need)


def _part(part: Part) -> Heading:
    return Heading(f"{part.source}: {part.title}", id=part.id, short=part.source)


def _below(part: Part, study: Study, drawn: Mapping[str, Drawing]) -> Iterator[Block]:
    if part.id in drawn:
        yield Figure(drawn[part.id])
    yield _claims(study.claims_of(part), study)


def _protocol(published: PublishedTable) -> str:
    return f"In the paper ({published.standing}): {str(published.protocol) or 'its data and judges are not known'}."


def _table(published: PublishedTable, study: Study, explained: Sequence[JudgedCell]) -> Table:
    """Printed figures, measured ones below them, and why cells are not what they should be."""
    heads = (*words("system"), *(Head(c.id, c.unit) for c in published.columns))
    lines = tuple(
        Line((Entry(row.name, below=(row.source,)), *(_entry(study.cell(published, row.name, c.id)) for c in published.columns)))
        for row in published.rows
    )
    return Table(published.title, heads, lines, notes=tuple(_told(reasons_of(explained))), style="cells")


def _entry(cell: JudgedCell | None) -> Entry:
    if cell is None:
        return Entry()
    entry = Entry(above=cell.column.printed(cell.published), tag=cell.outcome, tone=TONES[cell.outcome])
    if cell.value is None:
        return entry
    span = "" if cell.low is None or cell.high is None else f"[{cell.column.printed(cell.low)}, {cell.column.printed(cell.high)}]"
    about = "; ".join(filter(None, (f"{cell.system}, {cell.run}", cell.reason, cell.signature)))
    return replace(
        entry, text=cell.column.printed(cell.value), span=span, count=f"{cell.n_ok}/{cell.n_total}" if cell.n_total else "", about=about
    )


def _curves(measured: MeasuredFigure) -> Table:
    """The points of a figure whose numbers the paper does not print."""
    columns = [c for y in measured.figure.y if measured.summary and (c := measured.summary.column(y))]
    lines = []
    for row in measured.rows:
        cells = [(c, row.cells[c.key]) for c in columns]
        lines.append(Line((Entry(row.label), *(Entry(c.shown(cell.value), span=c.span(cell), count=cell.counted) for c, cell in cells))))
    return Table(measured.figure.title, (*words("system"), *(Head(c.heading) for c in columns)), tuple(lines))


def _claims(claims: Sequence[JudgedClaim], study: Study) -> Table:
    return claims_table([(c.verdict, c.run) for c in claims], study.confidence, "Orderings and claims in words")


def _cited(cited: Citation) -> Table:
    lines = tuple(Line(tuple(map(Entry, (name, *figures)))) for name, figures in cited.rows.items())
    return Table(cited.title, (*words("system"), *map(Head, cited.columns)), lines)


def _need(need: NeededRun) -> Iterator[Block]:
    """A run that is there, or its command."""
    state = f"there, {need.found}" if need.found else "missing" if need.command else "cannot be run here"
    yield Heading(f"{need.suite}{f' on {need.dataset}' if need.dataset else ''}: {state}", 3)
    if need.command and not need.found:
        yield Code(need.shown, local=need.command)
    yield Bullets([*_told(_shared(need.lacking.items()), "lacks "), *_told(_shared(need.closer.items()), "closer to the paper would be ")])


def _told(reasons: Iterable[tuple[str, str]], before: str = "") -> list[str]:
    return [f"{before}{which}: {reason}" for reason, which in reasons]


def _shared(told: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each reason once, with the names it holds for."""
    found: dict[str, list[str]] = {}
    for name, reason in told:
        found.setdefault(reason, []).append(name)
    return [(reason, ", ".join(names)) for reason, names in found.items()]


def reasons_of(cells: Sequence[JudgedCell]) -> list[tuple[str, str]]:
    """Each reason once, with the cells it holds for in words, in the order of their first cell."""
    found: dict[str, list[JudgedCell]] = {}
    for cell in cells:
        for reason in cell.reasons:
            found.setdefault(f"{cell.outcome}, {reason}", []).append(cell)
    return [(reason, _which(members, cells)) for reason, members in found.items()]


def _which(members: Sequence[JudgedCell], cells: Sequence[JudgedCell]) -> str:
    """``all cells``, ``CER``, ``CER and SIM of SoCodec-40``: whole columns and rows by their names."""
    if len(members) == len(cells):
        return "all of these cells" if len(cells) > 1 else f"{members[0].column.id} of {members[0].row.name}"
    columns = {c: [m for m in members if m.column.id == c] for c in dict.fromkeys(m.column.id for m in members)}
    if all(len(found) == sum(c.column.id == name for c in cells) for name, found in columns.items()):
        return ", ".join(columns)
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(m.row.name for m in members):
        rows.setdefault(tuple(m.column.id for m in members if m.row.name == name), []).append(name)
    told = []
    for headings, names in rows.items():
        whole = all(sum(c.row.name == name for c in cells) == len(headings) for name in names)
        told.append(f"{'' if whole else ', '.join(headings) + ' of '}{', '.join(names)}")
    return "; ".join(told)


LABEL_LIMIT = 42
"""Characters of a row's name in a figure; the tables have the whole."""


def drawings(study: Study) -> Iterator[Drawing]:
    """One for each table, and one for each figure that a run answers."""
    for table in study.paper.tables:
        if any(c.metric for c in table.columns):
            title = f"{table.source}: {table.title}"
            yield attempted(table.id, title, partial(_draw_table, table, study, title))
    for measured in study.figures:
        if measured.summary and measured.rows:
            about, title = measured.figure, f"{measured.figure.source}: {measured.figure.title}"
            run = next(run for run in study.runs if run.name == measured.run)
            told = [*(warning.split(":")[0] for warning in run.warnings), run.data]
            shown = replace(measured.summary, rows=measured.rows)
            if drawing := attempted(about.id, title, partial(draw, shown, Curve(title, about.x, about.y), about.id, told, png=True)):
                yield drawing


def _draw_table(published: PublishedTable, study: Study, title: str) -> Drawing:
    """A panel a column, a line a row: hollow what was printed, full what was measured with its interval."""
    columns = [c for c in published.columns if c.metric]
    names = [shortened(printable(row.name), LABEL_LIMIT) for row in published.rows]
    with canvas(published.id) as figure:
        figure.set_size_inches(2.6 + 2.3 * len(columns), 1.5 + 0.42 * len(names))
        for i, column in enumerate(columns):
            panel = figure.add_subplot(1, len(columns), i + 1, facecolor="none")
            for y, row in enumerate(published.rows):
                cell = study.cell(published, row.name, column.id)
                if cell is None:
                    continue
                panel.plot([cell.published], [y - 0.13], "D", color=INK, markerfacecolor="none", markersize=6, label="printed")
                if cell.value is not None:
                    low, high = (cell.value if bound is None else bound for bound in (cell.low, cell.high))
                    points(panel, [((low, cell.value, high), (y + 0.13,) * 3)], 0, "measured here")
            panel.set_ylim(len(names) - 0.5, -0.5)
            panel.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
            panel.set_xlabel(printable(with_unit(column.id, column.unit)))
            panel.margins(x=0.15)
            dress(panel)
        shown = any(c.table is published and c.value is not None for c in study.cells)
        warned = "figures of other data, judges or sizes are not to be held against the printed ones; see the table"
        finish(figure, warned if shown else "nothing of it was measured here yet")
        return Drawing(published.id, printable(title), svg_of(figure), png=png_of(figure))


CELL_FIELDS = (
    "paper", "table", "source", "standing", "row", "column", "unit", "published", "protocol", "outcome", "reason", "measured", "low", "high",
    "confidence", "within", "n_ok", "n_total", "suite", "metric", "system", "settings", "run", "dataset", "signature",
)  # fmt: skip
CELL_ALIKE = ("source", "protocol", "outcome", "reason", "low", "high", "n_ok", "n_total", "system", "run", "signature")
"""Of them what a cell holds by that name."""
RUN_FIELDS = ("suite", "run", "state", "dataset", "warnings", "command", "systems", "lacking", "closer")


def cells_csv(study: Study) -> str:
    """Every published figure beside the measured one."""
    data = {run.name: run.data for run in study.runs}
    lines = (
        {
            "paper": study.paper.title,
            "table": cell.table.id,
            "standing": cell.table.standing,
            "row": cell.row.name,
            "column": cell.column.id,
            "unit": cell.column.unit,
            "published": cell.column.printed(cell.published),
            "measured": cell.value,
            "confidence": study.confidence,
            "within": cell.column.within or "",
            "suite": cell.table.suite,
            "metric": cell.column.metric,
            "settings": ", ".join(f"{k}={v}" for k, v in cell.row.settings),
            "dataset": data.get(cell.run, ""),
            **{f: getattr(cell, f) for f in CELL_ALIKE},
        }
        for cell in study.cells
    )
    return tidy(CELL_FIELDS, lines)


def claims_csv(study: Study) -> str:
    """Every comparison of every claim, with the claim's own outcome."""
    runs = {run.name: run for run in study.runs}
    lines = []
    for judged in study.claims:
        run = runs.get(judged.run)
        about = {"suite": judged.verdict.claim.suite, "run": judged.run}
        about |= {"dataset": run.data, "warnings": " ".join(run.warnings)} if run else {}
        lines += [{**about, **line} for line in claim_lines(judged.verdict, study.confidence)]
    return tidy(("suite", "run", "dataset", "warnings", *CLAIM_FIELDS), lines)


def runs_csv(study: Study) -> str:
    """The runs used, and the runs needed with their commands."""
    lines: list[Mapping[str, object]] = [
        {
            "suite": run.suite, "run": run.name, "state": "used", "dataset": run.data, "warnings": " ".join(run.warnings),
            "command": str(run.manifest.get("command", "")),
        }
        for run in study.runs
    ]  # fmt: skip
    for need in study.needs:
        about = {"suite": need.suite, "run": need.found, "state": "there" if need.found else "missing", "dataset": need.dataset}
        told = {f: "; ".join(f"{s}: {reason}" for s, reason in getattr(need, f).items()) for f in ("lacking", "closer")}
        lines.append({**about, "command": need.shown, "systems": " ".join(need.systems), **told})
    return tidy(RUN_FIELDS, lines)
