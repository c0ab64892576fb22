"""The figures of a paper shown again, as SVG and PNG: printed beside measured for tables, measured curves for figures without numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from reports.papers.published import PublishedTable
from reports.papers.study import MeasuredFigure, Study
from reports.statistics.records import Column, Row, parsed_settings
from reports.writing.drawing import INK, Drawing, attempted, canvas, dress, finish, png_of, points, svg_of
from reports.writing.wording import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL_LIMIT = 42
"""Characters of a row's name in a figure; the tables have the whole."""


def drawings(study: Study) -> Iterator[Drawing]:
    """One for each table, and one for each figure that a run answers."""
    for table in study.paper.tables:
        if any(c.metric for c in table.columns):
            yield _attempt(table.id, f"{table.source}: {table.title}", partial(_draw_table, published=table, study=study))
    for measured in study.figures:
        if measured.rows and _columns(measured):
            title = f"{measured.figure.source}: {measured.figure.title}"
            yield _attempt(measured.figure.id, title, partial(_draw_curves, measured=measured, study=study))


def _attempt(name: str, title: str, draw: Callable[[Figure], None]) -> Drawing:
    return attempted(name, title, partial(_drawn, name, title, draw))


def _drawn(name: str, title: str, draw: Callable[[Figure], None]) -> Drawing:
    with canvas(name) as figure:
        draw(figure)
        return Drawing(name, printable(title), svg_of(figure), png=png_of(figure))


def _draw_table(figure: Figure, published: PublishedTable, study: Study) -> None:
    """A panel a column, a line a row: hollow what was printed, full what was measured with its interval."""
    columns = [c for c in published.columns if c.metric]
    names = [_short(row.name) for row in published.rows]
    figure.set_size_inches(2.6 + 2.3 * len(columns), 1.5 + 0.42 * len(names))
    for i, column in enumerate(columns):
        panel = figure.add_subplot(1, len(columns), i + 1, facecolor="none")
        for y, row in enumerate(published.rows):
            cell = study.cell(published, row.name, column.id)
            if cell is None:
                continue
            panel.plot(
                [cell.published], [y - 0.13], marker="D", color=INK, markerfacecolor="none", markersize=6, linestyle="none", label="printed"
            )
            if cell.value is not None:
                place = _bounds(cell.low, cell.value, cell.high)
                points(panel, [(place, (y + 0.13,) * 3)], 0, "measured here")
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
        panel.set_xlabel(printable(f"{column.id}{f' ({column.unit})' if column.unit else ''}"))
        panel.margins(x=0.15)
        dress(panel)
    shown = any(c.table is published and c.value is not None for c in study.cells)
    warned = "figures of other data, judges or sizes are not to be held against the printed ones; see the table"
    finish(figure, warned if shown else "nothing of it was measured here yet")


def _draw_curves(figure: Figure, measured: MeasuredFigure, study: Study) -> None:
    """A panel a metric, a colour and marker a system."""
    columns, about = _columns(measured), measured.figure
    labels = list(dict.fromkeys(row.facts.label for row in measured.rows))
    figure.set_size_inches(min(4.4 * len(columns), 13.2) + 1.9, 3.6)
    for i, column in enumerate(columns):
        panel = figure.add_subplot(1, len(columns), i + 1, facecolor="none")
        for n, label in enumerate(labels):
            found = sorted(p for row in measured.rows if row.facts.label == label and (p := _point(row, about.x, n, column)))
            if found:
                points(panel, found, n, label, linewidth=1.2, linestyle="-" if len(found) > 1 else "none")
        panel.set_ylabel(printable(column.heading))
        panel.set_xlabel(about.x.partition(".")[2].replace("_", " "))
        places = sorted({p[0][1] for n, row in enumerate(measured.rows) if (p := _point(row, about.x, n, column))})
        # Numbers of codebooks and delays are whole: a tick for each that was run, none between.
        panel.set_xticks(places if about.x else [], [f"{x:g}" for x in places] if about.x else [])
        panel.margins(0.08)
        dress(panel)
    told = next((f"{run.data}; {' '.join(w.split(':')[0] for w in run.warnings)}" for run in study.runs if run.name == measured.run), "")
    finish(figure, told.rstrip("; "))


def _point(row: Row, x: str, place: int, column: Column) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Abscissa and figure, each with its bounds, in the printed unit."""
    cell, where = row.cells[column.key], _abscissa(row, x, place)
    if cell.value is None or where is None:
        return None
    low, value, high = _bounds(cell.low, cell.value, cell.high)
    return (where,) * 3, (low * column.factor, value * column.factor, high * column.factor)


def _bounds(low: float | None, value: float, high: float | None) -> tuple[float, float, float]:
    return value if low is None else low, value, value if high is None else high


def _abscissa(row: Row, x: str, place: int) -> float | None:
    kind, _, name = x.partition(".")
    if not kind:
        return float(place)
    found = dict(row.facts.configured).get(name) if kind == "config" else parsed_settings(row.settings).get(name)
    return float(found) if isinstance(found, int | float) else None


def _columns(measured: MeasuredFigure) -> list[Column]:
    """Metrics of a figure with at least one measured point."""
    found = [measured.summary.column(y) for y in measured.figure.y] if measured.summary else []
    return [c for c in found if c and any(row.cells[c.key].value is not None for row in measured.rows)]


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LABEL_LIMIT else f"{shown[: LABEL_LIMIT - 1]}…"
