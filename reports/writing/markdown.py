"""Blocks as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reports.writing.blocks import Banner, Block, Bullets, Code, Entry, Facts, Folded, Heading, Table, Text
from reports.writing.wording import printable


def escaped(text: str) -> str:
    """``text`` as it reads, on one line: no cell, emphasis, link, code or HTML is started by it."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~$&@:])", r"\\\1", printable(text)) if text else ""


def render(blocks: Iterable[Block]) -> str:
    """A document; what only a page can show is left out."""
    return "\n\n".join(filter(None, map(_block, blocks))) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {escaped(block.text)}"
        case Text():
            return escaped(block.text)
        case Banner():
            return f"> **{escaped(block.text)}** {escaped(block.below)}".rstrip()
        case Facts():
            return _list([f"{name}: {value}" for name, value in block.known.items() if value])
        case Bullets():
            return _list(block.items)
        case Code():
            # Behind more backticks than the text has in a row nothing of it ends the block; an indented one would join a list before it.
            fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", block.text))])
            return f"{fence}\n{printable(block.text)}\n{fence}"
        case Folded():
            return f"<details><summary>{escaped(block.summary)}</summary>\n\n{render(block.blocks)}\n</details>"
        case Table(lines=lines) if lines:
            return "\n\n".join(filter(None, (_table(block), escaped(block.caption), _list(block.notes))))
    return ""


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(item)}" for item in items)


def _table(table: Table) -> str:
    kept = table.filled
    heads = [table.heads[i] for i in kept]
    rows = [[escaped(h.heading) for h in heads], ["---" if h.words else "---:" for h in heads]]
    for line in table.lines:
        cells = ["<br>".join(_lines(line.cells[i])) for i in kept]
        rows.append([f"*{cells[0]}*" if line.grey and cells[0] else cells[0], *cells[1:]])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _lines(cell: Entry) -> Iterator[str]:
    """What stands below one another in a cell."""
    figure = f"**{escaped(f'{cell.text} {cell.mark}')}**" if cell.mark and cell.text else escaped(cell.text)
    tag = f"{cell.mark} **{escaped(cell.tag)}**".lstrip() if cell.tag else ""
    # An interval and a count are ours and hold no text from outside.
    yield from filter(None, (escaped(cell.above), figure, cell.span, cell.count, tag))
    yield from map(escaped, filter(None, (*cell.below, *cell.more)))
