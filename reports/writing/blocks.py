r"""What a report is made of, the same for every format: tables of cells, and the blocks that stand around them.

A document is a sequence of blocks of plain text. It is built once and written by `reports.writing.terminal`, ``markdown``, ``latex``
and ``html``; these escape it, so no text in here is markup.

    >>> from reports.writing import markdown
    >>> heads = Head("system", words=True), Head("pesq_wb ↑", "MOS")
    >>> print(markdown.render([Table("Results", heads, (Line((Entry("opus6"), Entry("2.175", span="[1.727, 3.147]", count="60/60"))),))]))
    | system | pesq\_wb ↑ \(MOS\) |
    | --- | ---: |
    | opus6 | 2.175<br>[1.727, 3.147]<br>60/60 |
    <BLANKLINE>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from reports.writing.drawing import Drawing
from reports.writing.wording import plural, with_unit

Tone = Literal["", "good", "bad", "warn", "soft"]


@dataclass(frozen=True)
class Player:
    """The place of a player in a page: clip, its sample rate in Hz and length, or why there is none."""

    words: str
    clip: int = -1
    rate: int = 0
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Entry:
    """A figure with what belongs to it, or words.

    Args:
        text: the figure as printed, or words.
        above: a printed figure that it is held against.
        span, count: its interval and what it was made from, as printed.
        short: fewer were scored than were wanted.
        mark: one character beside the text or tag; of the best.
        tag: a status in a word or two.
        tone: of mark and tag, and of the figure where it has a mark.
        below: words in small print. Beside a figure a terminal and LaTeX leave them out, whose columns are narrow.
        more: further lines like the text, folded away or counted.
        key: to sort by, where the text will not do.
        bar: low, value and high on the column's scale from 0 to 1.
        about: shown when pointed at; stands for the line on a terminal that tells lines together.
        opens: number of the row whose facts the page shows.
        links: pieces of the text with the place in the page that each leads to, "" for none.
    """

    text: str = ""
    above: str = ""
    span: str = ""
    count: str = ""
    short: bool = False
    mark: str = ""
    tag: str = ""
    tone: Tone = ""
    below: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    key: float | str | None = None
    bar: tuple[float, float, float] | None = None
    about: str = ""
    opens: int | None = None
    links: tuple[tuple[str, str], ...] = ()
    players: tuple[Player, ...] = ()

    @property
    def others(self) -> str:
        """``3 more comparisons``, "" for none."""
        return plural(len(self.more), "more comparison") if self.more else ""


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Args:
        words: set flush left and folded; figures are flush right.
        wide: sentences, which take room.
        falling: the first press sorts from the highest down.
        about: number of the metric that the page tells of.
        place: on a terminal: in the "table", "below" it as remarks, or "nowhere".
    """

    name: str
    unit: str = ""
    words: bool = False
    wide: bool = False
    falling: bool = False
    about: int | None = None
    place: Literal["table", "below", "nowhere"] = "table"

    @property
    def heading(self) -> str:
        return with_unit(self.name, self.unit)


@dataclass(frozen=True)
class Line:
    """A row; ``grey`` is one for reference, or one that says nothing yet."""

    cells: tuple[Entry, ...]
    grey: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        heads, lines: as many cells in each line as there are heads.
        caption: how to read it.
        notes: what must be said of cells, a line each.
        style: class in the page's style.
        wordy: sentences rather than figures: a terminal writes them as text.
        grey: what stands above the grey lines, which come last; "" leaves them where they are.
        limit: lines shown on a terminal, 0 for all.
        letters: of a cell of words shown on a terminal.
    """

    name: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    style: str = ""
    wordy: bool = False
    grey: str = ""
    limit: int = 0
    letters: int = 320

    @property
    def filled(self) -> list[int]:
        """Columns that are not empty in every line; the first always."""
        return [i for i, _ in enumerate(self.heads) if not i or any(line.cells[i] != Entry(key=line.cells[i].key) for line in self.lines)]


@dataclass(frozen=True)
class Heading:
    """A heading; with ``short`` the page's bar leads to it."""

    text: str
    level: int = 2
    id: str = ""
    short: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = "soft"
    bold: bool = False


@dataclass(frozen=True)
class Banner:
    """What must be read before the first figure."""

    text: str
    tone: Tone = "warn"
    below: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with what is known of them, empty ones left out."""

    known: Mapping[str, str]


@dataclass(frozen=True)
class Bullets:
    """Sentences, of which a terminal shows ``limit`` (0 for all)."""

    items: Sequence[str]
    limit: int = 0


@dataclass(frozen=True)
class Code:
    """A command or a document as it is; ``local`` is what a terminal of this machine shows instead."""

    text: str
    local: str = ""


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them; ``style`` is a class of the page's."""

    summary: str
    blocks: Sequence[Block]
    open: bool = False
    style: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, in a page only."""

    drawing: Drawing


@dataclass(frozen=True)
class Markup:
    """HTML of the page alone, such as the controls of a script."""

    html: str


Block = Table | Heading | Text | Banner | Facts | Bullets | Code | Folded | Figure | Markup


def words(*names: str) -> tuple[Head, ...]:
    """Heads of columns of words."""
    return tuple(Head(name, words=True) for name in names)
