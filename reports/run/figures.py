"""Curves of pooled metrics against each other or against a setting, as SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.api import Better, Curve
from reports.run.summary import Summary
from reports.statistics.records import Cell, Column, Row, parsed_settings
from reports.writing.drawing import PALETTE, Drawing, attempted, canvas, dress, finish, png_of, points, svg_of
from reports.writing.wording import heading, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel

Place = tuple[float, float, float]
"""Low, value and high on an axis, in the printed unit."""


@dataclass(frozen=True)
class _Point:
    row: Row
    x: Place
    y: Place


def draw_all(summary: Summary) -> tuple[Drawing, ...]:
    """The figures the suite asks for; one without a single measured point is left out, of one that fails stands why."""
    drawn = []
    for i, axes in enumerate(summary.axes):
        name = f"{i + 1:02d}_{re.sub(r'[^a-z0-9]+', '_', axes.title.lower()).strip('_')[:60] or 'figure'}"
        warnings = [warning.split(":")[0] for warning in summary.warnings]
        drawn.append(attempted(name, axes.title, partial(draw, summary, axes, name, [*warnings, summary.counted])))
    return tuple(filter(None, drawn))


def draw(summary: Summary, axes: Curve, name: str, told: Sequence[str], png: bool = False) -> Drawing | None:
    """One figure: a panel for each metric of ``axes.y``, a colour and marker for each system, error bars of the intervals.

    ``told`` is what it was measured on, since it travels without its page. None where no row has both figures.
    """
    panels = [(column, found) for y in axes.y if (column := summary.column(y)) and (found := _points(summary, axes.x, column))]
    if not panels:
        return None
    labels = list(dict.fromkeys(p.row.facts.label for _, found in panels for p in found))
    words, svgs, pixels = [printable(text) for text in told], [], b""
    for stacked in (False, True):
        with canvas(f"{name}_narrow" if stacked else name) as figure:
            size = (4.2, 2.9 * len(panels) + 0.25 * len(labels)) if stacked else (min(3.5 * len(panels), 10.5) + 1.7, 3.3)
            figure.set_size_inches(*size)
            for i, (column, found) in enumerate(panels):
                panel = figure.add_subplot(len(panels) if stacked else 1, 1 if stacked else len(panels), i + 1, facecolor="none")
                _plot(panel, found, labels)
                panel.set_xlabel(_axis_label(summary, axes.x))
                panel.set_ylabel(printable(column.heading))
                dress(panel)
                _scale(panel, axes, found)
            finish(figure, ("\n" if stacked else " · ").join(words), above=stacked)
            svgs.append(svg_of(figure))
            if png and not stacked:
                pixels = png_of(figure)
    return Drawing(name, printable(axes.title), svgs[0], svgs[1], pixels)


def _points(summary: Summary, x: str, y: Column) -> list[_Point]:
    found = ((row, _abscissa(summary, row, x), _printed(row.cells[y.key], y)) for row in summary.systems)
    return [_Point(row, where, figure) for row, where, figure in found if where is not None and figure is not None]


def _printed(cell: Cell, column: Column) -> Place | None:
    if cell.value is None:
        return None
    low, high = (cell.value if bound is None else bound for bound in (cell.low, cell.high))
    return low * column.factor, cell.value * column.factor, high * column.factor


def _abscissa(summary: Summary, row: Row, x: str) -> Place | None:
    if not x:
        return (float([r.facts.label for r in summary.systems].index(row.facts.label)),) * 3
    kind, _, name = x.partition(".")
    if kind in ("settings", "config"):
        value = parsed_settings(row.settings).get(name) if kind == "settings" else dict(row.facts.configured).get(name)
        return (float(value),) * 3 if isinstance(value, int | float) else None
    column = summary.column(x)
    return _printed(row.cells[column.key], column) if column else None


def _axis_label(summary: Summary, x: str) -> str:
    kind, _, name = x.partition(".")
    if kind in ("settings", "config"):
        return name.replace("_", " ")
    column = summary.column(x)
    return "" if column is None else printable(heading(column.name, column.shown_unit, Better.NEITHER))


def _plot(panel: Panel, found: Sequence[_Point], labels: Sequence[str]) -> None:
    families: dict[tuple[str, str, str], list[_Point]] = {}
    for p in found:
        # One adapter may hold many codecs: opus6 and opus16 are one of them at two rates, g722 beside them is another. What is run under
        # several settings is a curve of its own: qdac8 at 1 to 8 codebooks and qdac16 at 1 to 16.
        # A letter names what the number counts: socodec120_tts_d0 is socodec120_tts with another delay.
        stem = p.row.facts.label if p.row.variant else re.sub(r"_[a-z]\d+$|\d+$", "", p.row.facts.label)
        families.setdefault((p.row.facts.family or p.row.facts.label, p.row.facts.size, stem), []).append(p)
    for family in families.values():
        # One system at several rates (or under several settings) is a curve.
        if len(family) > 1:
            ordered = sorted(family, key=lambda p: p.x[1])
            colour = PALETTE[labels.index(ordered[0].row.facts.label) % len(PALETTE)]
            panel.plot([p.x[1] for p in ordered], [p.y[1] for p in ordered], color=colour, linewidth=1.2, alpha=0.55, zorder=1)
    for label in dict.fromkeys(p.row.facts.label for p in found):
        points(panel, [(p.x, p.y) for p in found if p.row.facts.label == label], labels.index(label), label)


def _scale(panel: Panel, axes: Curve, found: Sequence[_Point]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if not axes.x:
        panel.set_xticks([])
    elif axes.log_x and all(p.x[1] > 0 for p in found):
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        # Fewer than two decades: label 1, 2, 5; the usual powers alone would leave one tick or none.
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif all(p.x[1] == round(p.x[1]) for p in found):
        # There are no 2.5 codebooks.
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if abs(value) < 1e4 else f"{value / 1000:g}k"))
