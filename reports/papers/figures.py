"""The figures of a paper shown again, as SVG and PNG: printed beside measured for tables, measured curves for figures without numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reports.papers.published import PublishedTable
from reports.papers.study import MeasuredFigure, Study
from reports.run.figures import INK, MARKERS, PALETTE, Drawing, undrawn
from reports.statistics.records import Column, Row, parsed_settings
from reports.writing.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

DPI = 160
LABEL_LIMIT = 42
"""Characters of a row's name in a figure; the tables have the whole."""


@dataclass(frozen=True)
class Plate:
    """A figure in both forms.

    Args:
        drawing: SVG.
        png: the same on white; nothing where it cannot be drawn.
    """

    drawing: Drawing
    png: bytes


def plates(study: Study) -> Iterator[Plate]:
    """One for each table, and one for each figure that a run answers."""
    for published in study.paper.tables:
        if any(c.metric for c in published.columns):
            yield _plate(published.id, f"{published.source}: {published.title}", partial(_draw_table, published=published, study=study))
    for figure in study.figures:
        if figure.rows and _columns(figure):
            title = f"{figure.figure.source}: {figure.figure.title}"
            yield _plate(figure.figure.id, title, partial(_draw_curves, measured=figure, study=study))


def _plate(name: str, title: str, draw: Callable[[Figure], None]) -> Plate:
    try:
        return _drawn(name, title, draw)
    except Exception as problem:  # whatever it is, the page and the other figures are not lost with it
        return Plate(undrawn(name, title, problem), b"")


def _drawn(name: str, title: str, draw: Callable[[Figure], None]) -> Plate:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # parse_math off: a dollar in a name is a dollar. A fixed salt gives the same file for the same numbers.
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.size": 10,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    }
    with rc_context(settings):
        figure = Figure(facecolor="none", layout="constrained")
        draw(figure)
        stream = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        pixels = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(pixels, format="png", dpi=DPI, facecolor="#ffffff", metadata={"Software": None})
    svg = stream.getvalue()
    # Only the element itself: the prologue and the metadata would bring outside addresses into the page.
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL).rstrip()
    return Plate(Drawing(name, printable(title), svg), pixels.getvalue())


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
                low, high = (cell.value if bound is None else bound for bound in (cell.low, cell.high))
                panel.errorbar(
                    [cell.value], [y + 0.13], xerr=[[max(0.0, cell.value - low)], [max(0.0, high - cell.value)]], marker="o",
                    color=PALETTE[0], markersize=6, elinewidth=1.4, capsize=2.5, linestyle="none", label="measured here",
                )  # fmt: skip
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
        panel.set_xlabel(printable(f"{column.id}{f' ({column.unit})' if column.unit else ''}"))
        panel.margins(x=0.15)
        _dress(panel)
    shown = any(c.table is published and c.value is not None for c in study.cells)
    warned = "figures of other data, judges or sizes are not to be held against the printed ones; see the table"
    _finish(figure, warned if shown else "nothing of it was measured here yet")


def _draw_curves(figure: Figure, measured: MeasuredFigure, study: Study) -> None:
    """A panel a metric, a colour and marker a system."""
    columns, about = _columns(measured), measured.figure
    labels = list(dict.fromkeys(row.facts.label for row in measured.rows))
    figure.set_size_inches(min(4.4 * len(columns), 13.2) + 1.9, 3.6)
    for i, column in enumerate(columns):
        panel = figure.add_subplot(1, len(columns), i + 1, facecolor="none")
        for n, label in enumerate(labels):
            points = sorted(p for row in measured.rows if row.facts.label == label and (p := _point(row, about.x, n, column)))
            if points:
                x, y, below, above = (list(axis) for axis in zip(*points, strict=True))
                panel.errorbar(
                    x, y, yerr=[below, above], color=PALETTE[n % len(PALETTE)], marker=MARKERS[n % len(MARKERS)], markersize=6, linewidth=1.2,
                    elinewidth=1.2, capsize=2.5, linestyle="-" if len(points) > 1 else "none", label=printable(label),
                )  # fmt: skip
        panel.set_ylabel(printable(column.heading))
        panel.set_xlabel(about.x.partition(".")[2].replace("_", " "))
        places = sorted({p[0] for n, row in enumerate(measured.rows) if (p := _point(row, about.x, n, column))})
        # Numbers of codebooks and delays are whole: a tick for each that was run, none between.
        panel.set_xticks(places if about.x else [], [f"{x:g}" for x in places] if about.x else [])
        panel.margins(0.08)
        _dress(panel)
    told = next((f"{run.data}; {' '.join(w.split(':')[0] for w in run.warnings)}" for run in study.runs if run.name == measured.run), "")
    _finish(figure, told.rstrip("; "))


def _point(row: Row, x: str, place: int, column: Column) -> tuple[float, float, float, float] | None:
    """Abscissa, figure and the lengths of its interval below and above, in the printed unit."""
    cell, where = row.cells[column.key], _abscissa(row, x, place)
    if cell.value is None or where is None:
        return None
    low, high = (cell.value if bound is None else bound for bound in (cell.low, cell.high))
    return where, cell.value * column.factor, max(0.0, cell.value - low) * column.factor, max(0.0, high - cell.value) * column.factor


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


def _dress(panel: Panel) -> None:
    panel.grid(True, color=INK, alpha=0.12, linewidth=0.8)
    panel.set_axisbelow(True)


def _finish(figure: Figure, told: str) -> None:
    """The legend, each word once, and what the figure was measured on: it travels without its page."""
    handles = {label: handle for panel in figure.axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False)
    figure.supxlabel(printable(told), x=0.01, ha="left", fontsize=8)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LABEL_LIMIT else f"{shown[: LABEL_LIMIT - 1]}…"
