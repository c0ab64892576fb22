"""Curves of pooled metrics against each other or against a setting, as SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

from harness.api import Better
from reports.run.summary import Axes, Summary
from reports.statistics.records import Cell, Column, Row, parsed_settings
from reports.writing.wording import heading, in_words, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5E3C", "#7F7F7F")
"""Okabe and Ito's colours, told apart with every common form of colour blindness; yellow and black, weak on white or on dark, replaced."""
MARKERS = "osD^vPX*"
INK = "#1f2430"
"""Colour of text and axes; the page replaces it with the colour of its own text, so that figures follow light and dark."""


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Args:
        name: usable as a file name.
        title: of the figure.
        svg: an ``<svg>`` element, transparent, with nothing before or after it.
        narrow: the same with its panels below one another, for a phone; "" where it was not drawn.
    """

    name: str
    title: str
    svg: str
    narrow: str = ""

    def standalone(self) -> str:
        """An SVG file on white."""
        head, rest = self.svg.split(">", 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{head}><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'

    def inline(self, narrow: bool = False) -> str:
        """The element for an HTML page, in the page's text colour."""
        svg = (self.narrow or self.svg) if narrow else self.svg
        # Several figures stand in one page: only the ids that are referred to, which are unique, may stay.
        used = set(re.findall(r"#([\w.-]+)", svg))
        svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)
        return svg.replace(INK, "currentColor")


@dataclass(frozen=True)
class _Point:
    row: Row
    x: float
    x_low: float
    x_high: float
    y: Cell


def draw_all(summary: Summary) -> tuple[Drawing, ...]:
    """The figures the suite asks for; one without a single measured point is left out, of one that fails stands why."""
    drawn = []
    for i, axes in enumerate(summary.axes):
        name = f"{i + 1:02d}_{re.sub(r'[^a-z0-9]+', '_', axes.title.lower()).strip('_')[:60] or 'figure'}"
        try:
            drawing = draw(summary, axes, name)
        except Exception as problem:  # whatever it is, the page and the other figures are not lost with it
            drawing = undrawn(name, axes.title, problem)
        if drawing is not None:
            drawn.append(drawing)
    return tuple(drawn)


def undrawn(name: str, title: str, problem: Exception) -> Drawing:
    """Words in the place of a figure that cannot be drawn."""
    words = escape(f"This figure cannot be drawn: {in_words(problem)}")
    text = f'<text x="8" y="26" font-size="13" font-family="sans-serif" fill="{INK}">{words}</text>'
    return Drawing(
        name, printable(title), f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="40" viewBox="0 0 900 40">{text}</svg>'
    )


def draw(summary: Summary, axes: Axes, name: str) -> Drawing | None:
    """One figure: a panel for each metric of ``axes.y``, a colour and marker for each system, error bars of the intervals.

    Returns:
        None where no row has both figures.
    """
    panels = [(column, points) for y in axes.y if (column := summary.column(y)) and (points := _points(summary, axes.x, column))]
    if not panels:
        return None
    wide = _drawn(summary, axes, panels, name, stacked=False)
    return Drawing(name, printable(axes.title), wide, _drawn(summary, axes, panels, f"{name}_narrow", stacked=True))


def _drawn(summary: Summary, axes: Axes, panels: Sequence[tuple[Column, Sequence[_Point]]], name: str, stacked: bool) -> str:
    """The ``<svg>`` element, panels side by side with the legend at their right, or one below the other with the legend above."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(p.row.facts.label for _, points in panels for p in points))
    # parse_math off: a dollar in a system's name is a dollar. A fixed salt gives the same file for the same numbers.
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
    size = (4.2, 2.9 * len(panels) + 0.25 * len(labels)) if stacked else (min(3.5 * len(panels), 10.5) + 1.7, 3.3)
    with rc_context(settings):
        figure = Figure(figsize=size, facecolor="none", layout="constrained")
        FigureCanvasSVG(figure)
        for i, (column, points) in enumerate(panels):
            panel = figure.add_subplot(len(panels) if stacked else 1, 1 if stacked else len(panels), i + 1, facecolor="none")
            _plot(panel, points, labels)
            panel.set_xlabel(_axis_label(summary, axes.x))
            panel.set_ylabel(printable(column.heading))
            _dress(panel, axes.log_x and all(p.x > 0 for p in points), all(p.x == round(p.x) for p in points))
        handles = {label: handle for panel in figure.axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside upper left" if stacked else "outside right upper", frameon=False)
        # A figure travels without its page, so it says itself what it was measured on.
        told = [*(warning.split(":")[0] for warning in summary.warnings), summary.counted]
        figure.supxlabel(printable(("\n" if stacked else " · ").join(told)), x=0.01, ha="left", fontsize=8)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # Only the element itself: the prologue and the metadata would bring outside addresses into the page.
    svg = stream.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL).rstrip()


def _points(summary: Summary, x: str, y: Column) -> list[_Point]:
    """Points in the printed units."""
    points = []
    for row in summary.systems:
        cell = _printed(row.cells[y.key], y)
        where = _abscissa(summary, row, x)
        if cell.value is not None and where is not None:
            points.append(_Point(row, *where, cell))
    return points


def _printed(cell: Cell, column: Column) -> Cell:
    low, value, high = (None if v is None else v * column.factor for v in (cell.low, cell.value, cell.high))
    return replace(cell, low=low, value=value, high=high)


def _abscissa(summary: Summary, row: Row, x: str) -> tuple[float, float, float] | None:
    """Value and bounds of a row on the x axis."""
    if x.startswith("settings."):
        value = parsed_settings(row.settings).get(x.removeprefix("settings."))
        return (float(value),) * 3 if isinstance(value, int | float) else None
    if x.startswith("config."):
        configured = dict(row.facts.configured).get(x.removeprefix("config."))
        return None if configured is None else (configured,) * 3
    column = summary.column(x)
    cell = _printed(row.cells[column.key], column) if column else None
    if cell is None or cell.value is None:
        return None
    return cell.value, cell.value if cell.low is None else cell.low, cell.value if cell.high is None else cell.high


def _axis_label(summary: Summary, x: str) -> str:
    for kind in ("settings.", "config."):
        if x.startswith(kind):
            return x.removeprefix(kind).replace("_", " ")
    column = summary.column(x)
    return "" if column is None else printable(heading(column.name, column.shown_unit, Better.NEITHER))


def _plot(panel: Panel, points: Sequence[_Point], labels: Sequence[str]) -> None:
    families: dict[tuple[str, str, str], list[_Point]] = {}
    for p in points:
        # One adapter may hold many codecs: opus6 and opus16 are one of them at two rates, g722 beside them is another. What is run under
        # several settings is a curve of its own: qdac8 at 1 to 8 codebooks and qdac16 at 1 to 16.
        # A letter names what the number counts: socodec120_tts_d0 is socodec120_tts with another delay.
        stem = p.row.facts.label if p.row.variant else re.sub(r"_[a-z]\d+$|\d+$", "", p.row.facts.label)
        families.setdefault((p.row.facts.family or p.row.facts.label, p.row.facts.size, stem), []).append(p)
    for family in families.values():
        # One system at several rates (or under several settings) is a curve.
        if len(family) > 1:
            ordered = sorted(family, key=lambda p: p.x)
            colour = PALETTE[labels.index(ordered[0].row.facts.label) % len(PALETTE)]
            panel.plot([p.x for p in ordered], [_value(p.y) for p in ordered], color=colour, linewidth=1.2, alpha=0.55, zorder=1)
    for label in dict.fromkeys(p.row.facts.label for p in points):
        i = labels.index(label)
        mine = [p for p in points if p.row.facts.label == label]
        panel.errorbar(
            [p.x for p in mine],
            [_value(p.y) for p in mine],
            xerr=[[max(0.0, p.x - p.x_low) for p in mine], [max(0.0, p.x_high - p.x) for p in mine]],
            yerr=[[_below(p.y) for p in mine], [_above(p.y) for p in mine]],
            color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], linestyle="none", markersize=6, elinewidth=1.2, capsize=2.5,
            label=printable(label), zorder=2,
        )  # fmt: skip


def _value(cell: Cell) -> float:
    return float("nan") if cell.value is None else cell.value


def _below(cell: Cell) -> float:
    return 0.0 if cell.low is None else max(0.0, _value(cell) - cell.low)


def _above(cell: Cell) -> float:
    return 0.0 if cell.high is None else max(0.0, cell.high - _value(cell))


def _dress(panel: Panel, log_x: bool, whole_x: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    panel.grid(True, color=INK, alpha=0.12, linewidth=0.8)
    panel.set_axisbelow(True)
    if log_x:
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        # Fewer than two decades: label 1, 2, 5; the usual powers alone would leave one tick or none.
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif whole_x:
        # There are no 2.5 codebooks.
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if abs(value) < 1e4 else f"{value / 1000:g}k"))
