"""A paper shown again, as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from reports.claims.verdicts import Replication
from reports.papers.cells import JudgedCell
from reports.papers.grouping import LEGEND, MARKS, grouped_lacks, grouped_reasons
from reports.papers.published import Citation, PublishedTable
from reports.papers.study import JudgedClaim, MeasuredFigure, Study
from reports.writing.markdown import claims_table, escaped, table


def render(study: Study) -> str:
    """Tables, figures, claims, citations, the runs they rest on and those still to be made."""
    parts = [f"# {escaped(study.paper.title)}", _counts(study)]
    parts += [f"> **{escaped(warning)}** {escaped(', '.join(names))}" for warning, names in study.warnings.items()]
    parts.append(f"Cells: published figure, below it the measured one with its {study.confidence:.0%} interval. {escaped(LEGEND)}.")
    for published in study.paper.tables:
        parts.append(f"## {escaped(published.source)}: {escaped(published.title)}")
        parts.append(_table(published, study))
        parts += [_claims(study.claims_of(published), study)]
    for figure in study.figures:
        parts.append(f"## {escaped(figure.figure.source)}: {escaped(figure.figure.title)}")
        parts.append(_figure(figure))
        parts += [_claims(study.claims_of(figure.figure), study)]
    if study.other_claims:
        parts.append("## Other claims\n\n" + _claims(study.other_claims, study))
    parts += [_citation(c) for c in study.paper.citations]
    parts += ["## Runs", _runs(study)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _counts(study: Study) -> str:
    rows = [[kind, *(str(n) for n in found.values())] for kind, found in study.counts.items()]
    return table(["", *map(str, Replication)], rows)


def _table(published: PublishedTable, study: Study) -> str:
    cells = [c for c in study.cells if c.table is published]
    rows = [
        [escaped(row.name), *(_cell(study.cell(published, row.name, column.id)) for column in published.columns)] for row in published.rows
    ]
    heads = ["system", *(escaped(f"{c.id}{f' ({c.unit})' if c.unit else ''}") for c in published.columns)]
    reasons = "\n".join(f"- {escaped(which)}: {escaped(reason)}" for reason, which in grouped_reasons(cells))
    protocol = f"In the paper ({published.standing}): {published.protocol or 'its data and judges are not known'}."
    return "\n\n".join(filter(None, (escaped(protocol), table(heads, rows), reasons)))


def _cell(cell: JudgedCell | None) -> str:
    if cell is None:
        return ""
    counted = f"{cell.n_ok}/{cell.n_total}" if cell.n_total else ""
    measured = " ".join(filter(None, (escaped(cell.measured) if cell.value is not None else "", counted)))
    return "<br>".join(filter(None, (f"{cell.column.printed(cell.published)} {MARKS[cell.outcome]}", measured)))


def _figure(measured: MeasuredFigure) -> str:
    figure = measured.figure
    printed = f"{figure.standing}; the paper prints no numbers, its orderings are the claims below."
    if measured.summary is None:
        return f"{printed} Not run."
    rows = []
    for row in measured.rows:
        columns = [(measured.summary.column(y), y) for y in figure.y]
        cells = [f"{c.shown(row.cells[c.key].value)} {c.span(row.cells[c.key])}".rstrip() if c else "" for c, _ in columns]
        rows.append([escaped(row.label), *map(escaped, cells)])
    return f"{printed} Run: {escaped(measured.run)}.\n\n{table(['system', *map(escaped, figure.y)], rows)}"


def _claims(claims: Sequence[JudgedClaim], study: Study) -> str:
    return claims_table([c.verdict for c in claims], study.confidence) if claims else ""


def _citation(cited: Citation) -> str:
    rows = [[escaped(name), *map(escaped, figures)] for name, figures in cited.rows.items()]
    lines = f"## {escaped(cited.title)}\n\nCited, not measured here. Source: {escaped(cited.source)}."
    return f"{lines}\n\n{table(['system', *map(escaped, cited.columns)], rows)}"


def _runs(study: Study) -> str:
    lines = []
    for run in study.runs:
        lines.append(f"- used: {escaped(run.name)}, suite {escaped(run.suite)}, {escaped(run.data)}, {escaped(run.created)}")
    for need in study.needs:
        state = f"there: {escaped(need.found)}" if need.found else "missing" if need.command else "cannot be run here"
        lines.append(f"- {escaped(need.suite)}: {state}" + (f"\n\n      {need.shown}\n" if need.command and not need.found else ""))
        lines += [f"  - lacks {escaped(systems)}: {escaped(reason)}" for reason, systems in grouped_lacks(need.lacking)]
        lines += [f"  - closer to the paper would be {escaped(s)}: {escaped(reason)}" for reason, s in grouped_lacks(need.closer)]
    return "\n".join(lines)
