"""The figures of a paper shown again, as SVG and PNG: printed beside measured for tables, measured curves for figures without numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from reports.papers.published import PublishedTable
from reports.papers.study import Study
from reports.run.figures import draw
from reports.run.summary import Axes
from reports.writing.drawing import INK, Drawing, attempted, canvas, dress, finish, png_of, points, svg_of
from reports.writing.wording import printable, shortened, with_unit

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
            if drawing := attempted(about.id, title, partial(draw, shown, Axes(title, about.x, about.y, False), about.id, told, png=True)):
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
