"""Figures as SVG and PNG: colours, how a figure is set up and finished, and what is kept of one that fails."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from reports.writing.wording import in_words, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5E3C", "#7F7F7F")
"""Okabe and Ito's colours, told apart with every common form of colour blindness; yellow and black, weak on white or on dark, replaced."""
MARKERS = "osD^vPX*"
INK = "#1f2430"
"""Colour of text and axes; the page replaces it with the colour of its own text, so that figures follow light and dark."""
DPI = 160


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Args:
        name: usable as a file name.
        svg: an ``<svg>`` element, transparent, with nothing before or after it.
        narrow: the same with its panels below one another, for a phone; "" where it was not drawn.
        png: the same on white, b"" where it was not drawn.
    """

    name: str
    title: str
    svg: str
    narrow: str = ""
    png: bytes = b""

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


Drawn = TypeVar("Drawn", bound=Drawing | None)


def attempted(name: str, title: str, draw: Callable[[], Drawn]) -> Drawn | Drawing:
    """What ``draw`` returns, or words in the place of a figure that cannot be drawn; the page and the other figures are not lost with it."""
    try:
        return draw()
    except Exception as problem:
        words = escape(f"This figure cannot be drawn: {in_words(problem)}")
        text = f'<text x="8" y="26" font-size="13" font-family="sans-serif" fill="{INK}">{words}</text>'
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="40" viewBox="0 0 900 40">{text}</svg>'
        return Drawing(name, printable(title), svg)


@contextmanager
def canvas(name: str) -> Iterator[Figure]:
    """A figure to draw on and, within the context, to save."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

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
    with rc_context(settings):
        yield Figure(facecolor="none", layout="constrained")


def points(panel: Panel, places: Sequence[tuple[Any, Any]], number: int, label: str, **style: Any) -> None:
    """Marks with error bars, in the colour and form of a system's number.

    Args:
        places: of each point x and y, each as (low, value, high).
        number: of the system.
        style: of the line between the points.
    """
    (x, x_error), (y, y_error) = (
        ([v for _, v, _ in axis], [[max(0.0, v - low) for low, v, _ in axis], [max(0.0, high - v) for _, v, high in axis]])
        for axis in zip(*places, strict=True)
    )
    panel.errorbar(
        x, y, xerr=x_error if any(map(any, x_error)) else None, yerr=y_error if any(map(any, y_error)) else None,
        color=PALETTE[number % len(PALETTE)], markersize=6, elinewidth=1.2, capsize=2.5, label=printable(label), zorder=2,
        **{"marker": MARKERS[number % len(MARKERS)], "linestyle": "none", **style},
    )  # fmt: skip


def dress(panel: Panel) -> None:
    """The grid behind the points."""
    panel.grid(True, color=INK, alpha=0.12, linewidth=0.8)
    panel.set_axisbelow(True)


def finish(figure: Figure, told: str, above: bool = False) -> None:
    """The legend, each word once, at the right or ``above``, and what the figure was measured on: it travels without its page."""
    handles = {label: handle for panel in figure.axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    place: Literal["outside upper left", "outside right upper"] = "outside upper left" if above else "outside right upper"
    figure.legend(list(handles.values()), list(handles), loc=place, frameon=False)
    figure.supxlabel(told, x=0.01, ha="left", fontsize=8)


def svg_of(figure: Figure) -> str:
    """The ``<svg>`` element of a figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # Only the element itself: the prologue and the metadata would bring outside addresses into the page.
    svg = stream.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL).rstrip()


def png_of(figure: Figure) -> bytes:
    """The figure on white."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="#ffffff", metadata={"Software": None})
    return stream.getvalue()
