"""Blocks on a terminal, a pipe or a file, in UTF-8 or plain ASCII as its encoding allows."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reports.writing.blocks import Banner, Block, Bullets, Code, Entry, Facts, Folded, Head, Heading, Line, Table, Text
from reports.writing.wording import ABSENT, printable, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

MIN_WIDTH, WIDE = 100, 120
"""Of what is not a terminal: a file or a pipe has no width, and the 80 columns it is usually given split every table. Tables of many columns
are wide."""
WORDS_WIDTH = 22
"""What a column of words keeps where figures need the room."""
HEADING_WIDTH = 16
"""About that of an interval with three decimals, which most columns have anyway."""
ITEM_LIMIT = 400
STYLES = {"": "", "good": "bold green", "bad": "bold red", "warn": "bold yellow", "soft": "dim"}
BANNERS = {"bad": "bold white on red", "warn": "bold black on yellow"}
PLAIN = {"↑": "^", "↓": "v", "–": "-", "−": "-", "…": "...", "✓": "*", "×": "x", "·": "-", "→": "->"}
"""ASCII stand-ins."""


def write(blocks: Sequence[Block], console: Console, min_width: int = MIN_WIDTH) -> None:
    """Print blocks; what does not fit the console's width, ``min_width`` where it is none, goes into a further table below."""
    width = console.width
    if not console.is_terminal:
        console.width = max(width, min_width)
    try:
        for block in blocks:
            _write(block, console)
    finally:
        console.width = width


def plain(blocks: Sequence[Block], width: int = WIDE) -> str:
    """The same as text."""
    from rich.console import Console

    stream = io.StringIO()
    write(blocks, Console(file=stream, width=width, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _write(block: Block, console: Console) -> None:
    match block:
        case Heading():
            if block.level == 2:
                console.print()
            console.print(_text(console, block.text, "bold"))
        case Text():
            console.print(_text(console, block.text, "bold" if block.bold else STYLES[block.tone]))
        case Banner():
            console.print(_text(console, f" {block.text} ", BANNERS[block.tone]))
            if block.below:
                console.print(_text(console, f" {block.below}", "dim"))
        case Facts():
            _write(Bullets([f"{name}: {value}" for name, value in block.known.items() if value]), console)
        case Bullets():
            _list(block.items, block.limit, console)
        case Code():
            # Not folded by us: what is copied from a terminal should be one line.
            console.print(_text(console, f"  {block.local or block.text}"), soft_wrap=True)
        case Folded():
            console.print(_text(console, block.summary, "bold"))
            for each in block.blocks:
                _write(each, console)
        case Table(lines=lines) if lines:
            for part in [_grid(block, console)] if block.wordy else _tables(block, console):
                console.print(part)
            if (hidden := len(lines) - block.limit) > 0 and block.limit:
                console.print(_text(console, f"and {hidden} more in the report", "dim"))
            _list([*_remarks(block), *block.notes], 0, console)


def _text(console: Console, text: str, style: str = "") -> RichText:
    from rich.text import Text as RichText

    return RichText(encodable(text, console.encoding), style=style)


def encodable(text: str, encoding: str | None) -> str:
    """``text`` as an encoding can show it; one without UTF-8 gets ASCII stand-ins, never an exception."""
    text, encoding = printable(text), encoding or "ascii"
    if not encoding.lower().startswith("utf"):
        text = "".join(PLAIN.get(c, c) for c in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _list(items: Sequence[str], limit: int, console: Console) -> None:
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=(0, 1, 0, 0))
    for item in items[: limit or None]:
        grid.add_row("-", _text(console, shortened(item, ITEM_LIMIT), "dim"))
    if items:
        console.print(grid)
    if limit and len(items) > limit:
        console.print(_text(console, f"and {len(items) - limit} more in the report", "dim"))


def _remarks(table: Table) -> Iterator[str]:
    """What has its place below the table, with the names of its line."""
    for line in table.lines:
        named = [c.text for head, c in zip(table.heads, line.cells, strict=True) if head.words and head.place == "table" and c.text]
        for head, cell in zip(table.heads, line.cells, strict=True):
            if head.place == "below" and cell.text:
                yield f"{', '.join(named)}: {cell.text}"


def _grid(table: Table, console: Console) -> RichTable:
    """A line a paragraph: its status, or else its first cell, at the left. Grey lines of one status and reason share a paragraph."""
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=(0, 1, 0, 0))
    lines = table.lines[: table.limit or None]
    at = next((i for i, _ in enumerate(table.heads) if any(line.cells[i].tag for line in lines)), 0)
    grid.add_column(no_wrap=True, justify="left" if table.heads[at].words else "right")
    grid.add_column(overflow="fold")
    together: dict[Entry, list[str]] = {}
    for line in lines:
        lead = line.cells[at]
        others = [c for i, c in enumerate(line.cells) if i != at and table.heads[i].place == "table"]
        if line.grey:
            together.setdefault(lead, []).append(others[0].about or others[0].text)
            continue
        first, *rest = [c.text for c in others if c.text] or [""]
        rest += [*(text for c in others for text in (*c.below, c.others)), *lead.below]
        grid.add_row(_text(console, lead.tag or lead.text, STYLES[lead.tone]), _flow(first, rest, table.letters, console))
    for lead, names in together.items():
        grid.add_row(_text(console, lead.tag or lead.text, STYLES[lead.tone]), _flow(", ".join(names), lead.below, table.letters, console))
    return grid


def _flow(first: str, rest: Sequence[str], letters: int, console: Console) -> RichText:
    text = _text(console, first)
    for part in filter(None, rest):
        text.append(encodable(f" · {shortened(part, letters)}", console.encoding), style="dim")
    return text


def _tables(table: Table, console: Console) -> Iterator[RichTable]:
    """The table; where the console is too narrow for all its figures it is cut into several of like width, each with the leading words."""
    shown = [i for i in table.filled if table.heads[i].place == "table"]
    lines = table.lines[: table.limit or None]
    marked = {i for i in shown if any(line.cells[i].mark for line in lines)}
    texts = {i: [_cell(table.heads[i], line, i, i in marked, console) for line in lines] for i in shown}
    widths = {i: 1 + max(len(part) for t in (_head(table.heads[i], console), *texts[i]) for part in t.plain.split("\n")) for i in shown}
    least = {i: min(width, WORDS_WIDTH) if table.heads[i].words else width for i, width in widths.items()}
    figures = [i for i in shown if not table.heads[i].words]
    cut, parts = sum(least.values()) > console.width and len(figures) > 1, [shown]
    if cut:
        leading = shown[: shown.index(figures[0])]
        rest = [i for i in shown if i not in leading]
        room, number = console.width - sum(least[i] for i in leading), 2
        while number < len(rest) and any(sum(least[i] for i in part) > room for part in _cut(rest, number)):
            number += 1
        parts = [leading + part for part in _cut(rest, number)]
    for part in parts:
        yield _table(table, part, {i: texts[i] for i in part}, cut, console)


def _cut(columns: Sequence[int], parts: int) -> list[list[int]]:
    """Columns in runs of equal length, the last one shorter."""
    each = math.ceil(len(columns) / parts)
    return [list(columns[start : start + each]) for start in range(0, len(columns), each)]


def _table(table: Table, part: Sequence[int], texts: dict[int, list[RichText]], cut: bool, console: Console) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    # Two figures below one another are held together by the space around them.
    apart = any(entry.above for line in table.lines for entry in line.cells)
    made = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, leading=int(apart))
    for i in part:
        head, limit = table.heads[i], WORDS_WIDTH if cut else None
        if head.words:
            made.add_column(_head(head, console), overflow="fold", max_width=limit)
        else:
            made.add_column(_head(head, console), justify="right", no_wrap=True, overflow="crop")
    figures = [i for i in part if not table.heads[i].words]
    for n, line in enumerate(table.lines[: table.limit or None]):
        # The figures of a calibration row are few: it stands only where it has one.
        if line.grey and figures and all(line.cells[i].text in ("", ABSENT) and not line.cells[i].count for i in figures):
            continue
        made.add_row(*(texts[i][n] for i in part))
    return made


def _head(head: Head, console: Console) -> RichText:
    """The name, that of figures broken after underscores where it is longer than `HEADING_WIDTH`, and the unit below."""
    if head.words:
        return _text(console, head.heading, "bold")
    # From the end, so that a short last part never stands alone.
    parts = [shortened(part, 2 * HEADING_WIDTH) for part in head.name.replace("_", "_\n").split("\n") if part]
    lines = parts[-1:]
    for part in reversed(parts[:-1]):
        if len(part) + len(lines[0]) > HEADING_WIDTH:
            lines.insert(0, part)
        else:
            lines[0] = part + lines[0]
    lines += [shortened(head.unit, HEADING_WIDTH)] if head.unit else []
    text = _text(console, "")
    return text.append("\n".join(encodable(line, console.encoding) for line in lines), style="bold")


def _cell(head: Head, line: Line, at: int, marked: bool, console: Console) -> RichText:
    """Figure and coverage, then the interval. In a column with a mark the others leave its place free, so that figures stay aligned."""
    cell = line.cells[at]
    mark = (f" {cell.mark}" if cell.mark else "  ") if marked and not head.words and not cell.tag else ""
    text = _text(console, "")

    def add(words: str, style: str = "", apart: str = "\n") -> None:
        if words:
            text.append(encodable(words, console.encoding) if not text else apart + encodable(words, console.encoding), style=style)

    add(cell.above)
    add(cell.text + (mark if cell.count or cell.mark else ""), STYLES[cell.tone] if cell.mark else "italic" if line.grey and not at else "")
    add(cell.count, "bold yellow" if cell.short else "dim", " ")
    add(cell.span, "dim")
    add(cell.tag, STYLES[cell.tone])
    for words in cell.below if head.words else ():
        add(words, "dim")
    return text
