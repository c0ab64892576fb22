r"""A paper shown again, as LaTeX tables (booktabs) to be \input."""

from __future__ import annotations

from reports.claims.verdicts import Replication
from reports.papers.cells import JudgedCell
from reports.papers.grouping import grouped_reasons
from reports.papers.published import Citation, PublishedTable
from reports.papers.study import MeasuredFigure, Study
from reports.writing.latex import claims_table, escaped, line, small, table

MARKS = {
    Replication.REPRODUCED: "r",
    Replication.NOT_REPRODUCED: "n",
    Replication.TOO_FEW: "f",
    Replication.NOT_COMPARABLE: "c",
    Replication.NOT_RUN: "--",
}
"""Superscripts of published figures; LaTeX's own fonts have no tick."""
LEGEND = r"$^{\mathrm{r}}$ reproduced, $^{\mathrm{n}}$ not reproduced, $^{\mathrm{f}}$ too few, $^{\mathrm{c}}$ not comparable, $^{\mathrm{--}}$ not run"


def render(study: Study) -> str:
    """Table environments: the paper's tables, its figures in numbers, the claims, the citations."""
    warnings = "".join(rf" \textbf{{{escaped(w)}}}" for w in study.warnings)
    parts = [r"% Needs \usepackage{booktabs}."]
    parts += [_table(published, study, warnings) for published in study.paper.tables]
    parts += [_figure(figure, warnings) for figure in study.figures if figure.summary]
    if study.claims:
        parts.append(claims_table([c.verdict for c in study.claims], study.confidence, warnings))
    parts += [_citation(c) for c in study.paper.citations]
    return "\n".join([*parts, ""])


def _table(published: PublishedTable, study: Study, warnings: str) -> str:
    """Two columns for each of the paper's: printed and measured, the interval and counts below."""
    groups = [rf"\multicolumn{{2}}{{c}}{{{escaped(f'{c.id} ({c.unit})' if c.unit else c.id)}}}" for c in published.columns]
    rules = "".join(rf"\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i, _ in enumerate(published.columns))
    body = [line(["", *groups]), rules, line(["system", *["paper", "here"] * len(groups)]), r"\midrule"]
    for row in published.rows:
        above, below = [escaped(row.name)], [""]
        for column in published.columns:
            upper, lower = _cell(study.cell(published, row.name, column.id))
            above += upper
            below += ["", lower]
        body += [line(cells) for cells in (above, below) if any(cells)]
    cells = [c for c in study.cells if c.table is published]
    reasons = grouped_reasons([c for c in cells if c.value is not None])
    said = warnings if any(c.value is not None for c in cells) else ""
    protocol = escaped(str(published.protocol) or "data and judges not known")
    caption = (
        rf"{escaped(f'{study.paper.title}, {published.source}: {published.title}')} ({published.standing}; {protocol}), printed and measured "
        rf"here with {study.confidence * 100:.0f}\,\% intervals and scored / wanted outputs.{said} {LEGEND}."
    )
    below = [escaped(f"{which}: {reason}.") for reason, which in reasons]
    return table(body, caption, "l" + "rr" * len(published.columns), below)


def _cell(cell: JudgedCell | None) -> tuple[list[str], str]:
    if cell is None:
        return ["", ""], ""
    published = rf"${cell.column.printed(cell.published)}^{{\mathrm{{{MARKS[cell.outcome]}}}}}$"
    if cell.value is None:
        return [published, "--"], ""
    span = ""
    if cell.low is not None and cell.high is not None:
        span = f"$[{cell.column.printed(cell.low)}, {cell.column.printed(cell.high)}]$ "
    return [published, f"${cell.column.printed(cell.value)}$"], small(f"{span}{cell.n_ok}/{cell.n_total}")


def _figure(measured: MeasuredFigure, warnings: str) -> str:
    assert measured.summary is not None
    columns = [c for y in measured.figure.y if (c := measured.summary.column(y))]
    body = [line(["system", *(escaped(c.heading) for c in columns)]), r"\midrule"]
    for row in measured.rows:
        shown = [escaped(f"{c.shown(row.cells[c.key].value)} {c.span(row.cells[c.key])}".rstrip()) for c in columns]
        body.append(line([escaped(row.label), *shown]))
    title = escaped(f"{measured.figure.source}: {measured.figure.title}")
    caption = rf"{title}, measured; the paper prints no numbers ({measured.figure.standing}).{warnings}"
    return table(body, caption, "l" + "r" * len(columns))


def _citation(cited: Citation) -> str:
    body = [line(["system", *map(escaped, cited.columns)]), r"\midrule"]
    body += [line([escaped(name), *map(escaped, figures)]) for name, figures in cited.rows.items()]
    return table(body, f"{escaped(cited.title)}. Cited, not measured here: {escaped(cited.source)}.", "l" + "r" * len(cited.columns))
