"""A paper shown again, as one self-contained HTML page without scripts; opens from a disk and loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import Template

from reports.claims.verdicts import MeasuredContrast, Replication
from reports.papers.cells import JudgedCell
from reports.papers.figures import Plate
from reports.papers.grouping import grouped_lacks, grouped_reasons
from reports.papers.published import Citation, PublishedTable
from reports.papers.study import JudgedClaim, MeasuredFigure, Study
from reports.writing.markup import asset, shown
from reports.writing.wording import ABSENT

TAGS = {
    Replication.REPRODUCED: "good",
    Replication.NOT_REPRODUCED: "bad",
    Replication.TOO_FEW: "",
    Replication.NOT_COMPARABLE: "warn",
    Replication.NOT_RUN: "",
}
"""Class of an outcome in the page's style."""


def render(study: Study, plates: Sequence[Plate]) -> str:
    """The page: tables with their figures and orderings, claims, citations, runs.

    Args:
        study: of a paper.
        plates: its figures, shown inline.
    """
    drawn = {plate.drawing.name: plate for plate in plates}
    main = [_table(t, study, drawn.get(t.id)) for t in study.paper.tables]
    main += [_figure(f, study, drawn.get(f.figure.id)) for f in study.figures]
    if study.other_claims:
        main.append(f'<h2 id="claims">Other claims</h2>{_claims(study.other_claims, study)}')
    main += [_citation(c) for c in study.paper.citations]
    main.append(_runs(study))
    return Template(asset("replication.html")).substitute(
        title=shown(study.paper.title),
        css=asset("page.css") + asset("replication.css"),
        header=_header(study),
        main="\n".join(main),
    )


def _header(study: Study) -> str:
    counts = "".join(
        f"<li>{kind}: {', '.join(f'<b>{n}</b> {shown(outcome)}' for outcome, n in found.items() if n) or 'none'}</li>"
        for kind, found in study.counts.items()
    )
    parts = [
        *((t.id, t.source, t.title) for t in study.paper.tables),
        *((f.figure.id, f.figure.source, f.figure.title) for f in study.figures),
    ]
    links = [f'<a href="#{shown(i)}">{shown(source)}: {shown(title)}</a>' for i, source, title in parts]
    links += ['<a href="#claims">Other claims</a>'] * bool(study.other_claims) + ['<a href="#runs">Runs</a>']
    banners = "".join(
        f'<strong class="banner warn" role="note">{shown(warning)}<span class="runs-named">{shown(", ".join(names))}</span></strong>'
        for warning, names in study.warnings.items()
    )
    level = f"{study.confidence:.0%}".replace("%", " %")
    return (
        f"<h1>{shown(study.paper.title)}</h1>"
        f'<p class="soft">What the paper printed, beside what was measured here with its {level} interval and its count of scored outputs. '
        "A figure from other data, another judge or a smaller model stands there as well, but is not held against the printed one.</p>"
        f'<ul class="counts">{counts}</ul>{banners}<nav class="parts" id="first" aria-label="Parts">{"".join(links)}</nav>'
    )


def _table(published: PublishedTable, study: Study, plate: Plate | None) -> str:
    cells = [c for c in study.cells if c.table is published]
    heads = "".join(
        f'<th scope="col">{shown(c.id)}{f"<span class=unit>{shown(c.unit)}</span>" if c.unit else ""}</th>' for c in published.columns
    )
    rows = "".join(
        f'<tr><th scope="row">{shown(row.name)}{f"<span class=more>{shown(row.source)}</span>" if row.source else ""}</th>'
        + "".join(_cell(study.cell(published, row.name, c.id)) for c in published.columns)
        + "</tr>"
        for row in published.rows
    )
    reasons = "".join(f"<li><b>{shown(which)}</b>: {shown(reason)}</li>" for reason, which in grouped_reasons(cells))
    protocol = str(published.protocol) or "its data and judges are not known"
    return (
        f'<h2 id="{shown(published.id)}">{shown(published.source)}: {shown(published.title)}</h2>'
        f'<p class="protocol">In the paper ({shown(published.standing)}): {shown(protocol)}.</p>'
        + _scrolling(published.title, f'<th scope="col">system</th>{heads}', rows, "cells")
        + (f'<ul class="reasons">{reasons}</ul>' if reasons else "")
        + _plate(plate)
        + _claims(study.claims_of(published), study)
    )


def _cell(cell: JudgedCell | None) -> str:
    if cell is None:
        return "<td></td>"
    printed = f'<span class="printed">paper <b>{cell.column.printed(cell.published)}</b></span>'
    tag = f'<span class="tag {TAGS[cell.outcome]}">{shown(cell.outcome)}</span>'
    if cell.value is None:
        return f"<td>{printed}{tag}</td>"
    value, _, span = cell.measured.partition(" ")
    about = shown("; ".join(filter(None, (f"{cell.system}, {cell.run}", cell.reason, cell.signature))))
    return (
        f'<td title="{about}">{printed}<span class="value">{shown(value)}</span><span class="span">{shown(span)}</span>'
        f'<span class="n">{cell.n_ok}/{cell.n_total}</span>{tag}</td>'
    )


def _figure(measured: MeasuredFigure, study: Study, plate: Plate | None) -> str:
    figure = measured.figure
    told = f"measured in {measured.run}" if measured.run else "not run"
    return (
        f'<h2 id="{shown(figure.id)}">{shown(figure.source)}: {shown(figure.title)}</h2>'
        f'<p class="protocol">{shown(figure.standing)}; the paper prints no numbers, its orderings are below; {shown(told)}.</p>'
        + _plate(plate)
        + _claims(study.claims_of(figure), study)
    )


def _plate(plate: Plate | None) -> str:
    if plate is None:
        return ""
    drawing = plate.drawing.inline().replace("<svg", f'<svg role="img" aria-label="{shown(plate.drawing.title)}"', 1)
    return f'<figure class="plate" tabindex="0">{drawing}</figure>'


def _claims(claims: Sequence[JudgedClaim], study: Study) -> str:
    if not claims:
        return ""
    rows = []
    for judged in claims:
        v = judged.verdict
        why = "".join(f'<span class="why">{shown(line)}</span>' for line in (v.reason, *v.notes) if line)
        grounds = _contrast(v.deciding)
        if len(v.contrasts) > 1:
            every = "".join(f"<li>{_contrast(c)}</li>" for c in v.contrasts)
            grounds += f"<details><summary>All {len(v.contrasts)} comparisons</summary><ul>{every}</ul></details>"
        run = f'<span class="soft">{shown(judged.run)}</span>' if judged.run else ""
        rows.append(
            f'<tr><th scope="row">{shown(v.claim.text)}<span class="soft">{shown(v.claim.source)}, {shown(v.claim.standing)}</span></th>'
            f'<td><span class="tag {TAGS[v.outcome]}">{shown(v.outcome)}</span>{why}</td><td>{grounds}{run}</td></tr>'
        )
    heads = "".join(f'<th scope="col" class="left">{word}</th>' for word in ("claim", "status", "measured, left minus right"))
    return _scrolling("Orderings and claims in words", heads, "".join(rows), "claims")


def _contrast(contrast: MeasuredContrast) -> str:
    words = ", ".join(filter(None, (contrast.counted, contrast.outcome)))
    figure = f"<b>{shown(contrast.printed)}</b> " if contrast.printed != ABSENT else ""
    return f'{shown(contrast.metric)}: {shown(contrast.words)}<br>{figure}<span class="soft">{shown(words)}</span>'


def _citation(cited: Citation) -> str:
    heads = "".join(f'<th scope="col">{shown(c)}</th>' for c in ("system", *cited.columns))
    rows = "".join(
        f'<tr><th scope="row">{shown(name)}</th>{"".join(f"<td>{shown(v) or ABSENT}</td>" for v in figures)}</tr>'
        for name, figures in cited.rows.items()
    )
    return f'<h2>{shown(cited.title)}</h2><p class="protocol">Cited, not measured here. Source: {shown(cited.source)}.</p>' + _scrolling(
        cited.title, heads, rows, ""
    )


def _runs(study: Study) -> str:
    used = "".join(
        f'<tr><th scope="row">{shown(r.name)}</th><td>{shown(r.suite)}</td><td>{shown(r.data)}</td><td>{shown(r.created)}</td></tr>'
        for r in study.runs
    )
    heads = "".join(f'<th scope="col" class="left">{word}</th>' for word in ("run", "suite", "data", "made"))
    parts = ['<h2 id="runs">Runs</h2>', _scrolling("Runs used", heads, used, "runs") if used else "<p>No finished run was found.</p>"]
    for need in study.needs:
        state = f"there, {shown(need.found)}" if need.found else "missing" if need.command else "cannot be run here"
        parts.append(f"<h3>{shown(need.suite)}{f' on {shown(need.dataset)}' if need.dataset else ''}: {state}</h3>")
        if need.command and not need.found:
            parts.append(f'<pre class="command">{shown(need.shown)}</pre>')
        told = [f"lacks <b>{shown(systems)}</b>: {shown(reason)}" for reason, systems in grouped_lacks(need.lacking)]
        told += [f"closer to the paper would be <b>{shown(systems)}</b>: {shown(reason)}" for reason, systems in grouped_lacks(need.closer)]
        if told:
            parts.append(_list(told))
    return "\n".join(parts)


def _list(lines: Iterable[str]) -> str:
    return f'<ul class="reasons">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def _scrolling(name: str, heads: str, rows: str, classes: str) -> str:
    """A table in a region that scrolls sideways by itself and can be reached with the keyboard."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{shown(name)}">'
        f'<table class="{classes}"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
