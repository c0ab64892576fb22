"""Blocks as a self-contained HTML page: escaped text, data, scripts admitted by their hashes, tables that sort; it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from reports.writing import blocks
from reports.writing.drawing import Drawing
from reports.writing.wording import printable


def shown(text: object) -> str:
    """Text from outside as HTML, on one line, without markup or control characters."""
    return escape(printable(str(text)))


def json_block(data: Any) -> str:
    """JSON that may stand inside a ``<script>`` element: no text in it can end the element or start a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return "".join(c if not 0xD800 <= ord(c) <= 0xDFFF else f"\\u{ord(c):04x}" for c in text)


def page(
    title: str,
    header: Sequence[blocks.Block],
    main: Sequence[blocks.Block],
    scripts: Sequence[str] = (),
    data: Any = None,
    clips: Iterable[str] = (),
) -> Iterator[str]:
    """The page in parts, the audio last, so that a browser shows the tables before it has read the players' data.

    Args:
        header, main: of the page; a bar between them leads to the headings that have a short form.
        scripts: names of assets, in order; the page's content policy admits these scripts and no other. Without any, tables do not sort.
        data: JSON-ready, read by the scripts.
        clips: base64 FLAC, by number.
    """
    texts = [_asset(name) for name in scripts]
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    block = f'<script type="application/json" id="data">{json_block(data)}</script>\n' if scripts else ""
    bar = "".join(f'<a href="#{shown(b.id)}">{shown(b.short)}</a>' for b in main if isinstance(b, blocks.Heading) and b.short)
    sortable = "tables.js" in scripts
    yield Template(_asset("page.html")).substitute(
        title=shown(title),
        css=_asset("page.css"),
        script_hashes=" ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'",
        header=render(header, sortable),
        main=(f'<nav class="bar" aria-label="Sections">{bar}</nav>' if bar else "") + render(main, sortable),
        scripts=block + "\n".join(f"<script>{text}</script>" for text in texts),
    )
    # Base64 has no character that HTML could take for markup.
    yield from (f'<script type="text/plain" id="clip-{i}">{clip}</script>\n' for i, clip in enumerate(clips))
    yield "</body>\n</html>\n"


def _asset(name: str) -> str:
    return (files("reports") / "writing" / "assets" / name).read_text(encoding="utf-8")


def render(content: Iterable[blocks.Block], sortable: bool = False) -> str:
    """HTML of blocks."""
    return "\n".join(_block(block, sortable) for block in content)


def _block(block: blocks.Block, sortable: bool) -> str:
    match block:
        case blocks.Heading():
            name = f' id="{shown(block.id)}"' if block.id else ""
            return f"<h{block.level}{name}>{shown(block.text)}</h{block.level}>"
        case blocks.Text():
            style = f' class="{block.tone} small"' if block.tone else ""
            return f"<p{style}>{shown(block.text)}</p>"
        case blocks.Banner():
            below = f'<span class="below">{shown(block.below)}</span>' if block.below else ""
            return f'<strong class="banner {block.tone}" role="note">{shown(block.text)}{below}</strong>'
        case blocks.Facts():
            told = "".join(f"<div><dt>{shown(k)}</dt><dd>{shown(v)}</dd></div>" for k, v in block.known.items() if v.strip())
            return f'<dl class="facts">{told}</dl>'
        case blocks.Bullets():
            return _list(block.items, "notes")
        case blocks.Code():
            # A document keeps its lines.
            return f"<pre>{chr(10).join(map(shown, block.text.split(chr(10))))}</pre>"
        case blocks.Folded():
            opened = (f' class="{block.style}"' if block.style else "") + " open" * block.open
            return f"<details{opened}><summary>{shown(block.summary)}</summary>{render(block.blocks, sortable)}</details>"
        case blocks.Figure():
            return _figure(block.drawing)
        case blocks.Markup():
            return block.html
        case blocks.Table(lines=lines) if lines:
            return _table(block, sortable) + _list(block.notes, "notes")
    return ""


def _list(items: Sequence[str], style: str = "") -> str:
    return f'<ul class="{style}">{"".join(f"<li>{shown(item)}</li>" for item in items)}</ul>' if items else ""


def _figure(drawing: Drawing) -> str:
    """Both forms of a drawing, of which the page shows the one that fits."""
    label = f'<svg role="img" aria-label="{shown(drawing.title)}"'
    forms = {"wide": drawing.inline(), "narrow": drawing.inline(narrow=True)} if drawing.narrow else {"only": drawing.inline()}
    drawn = "".join(svg.replace("<svg", f'{label} class="{name}"', 1) for name, svg in forms.items())
    return f'<figure tabindex="0"><figcaption>{shown(drawing.title)}</figcaption>{drawn}</figure>'


def _table(table: blocks.Table, sortable: bool) -> str:
    """A table in a region that scrolls sideways by itself and can be reached with the keyboard."""
    kept = table.filled
    heads = "".join(_head(table.heads[i], sortable) for i in kept)
    rows = [[_row(line, table.heads, kept) for line in table.lines if not (table.grey and line.grey)]]
    if table.grey and (grey := [_row(line, table.heads, kept) for line in table.lines if line.grey]):
        group = f'<tr class="group"><th colspan="{len(kept)}" scope="rowgroup"><span>{shown(table.grey)}</span></th></tr>'
        rows.append([group, *grey])
    caption = f"<caption>{shown(table.caption)}</caption>" if table.caption else ""
    bodies = "".join(f"<tbody>{''.join(body)}</tbody>" for body in rows)
    style = f"{'sortable ' * sortable}{'wordy ' * table.wordy}{table.style}".strip()
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{shown(table.name)}">'
        f'<table class="{style}">{caption}<thead><tr>{heads}</tr></thead>{bodies}</table></div>'
    )


def _head(head: blocks.Head, sortable: bool) -> str:
    """A header cell, whose button sorts; a second one tells of the metric."""
    about = ""
    if head.about is not None:
        about = f'<button type="button" class="about" data-column="{head.about}" aria-label="About {shown(head.name)}">i</button>'
    unit = f'<span class="unit">{shown(head.unit)}{about}</span>' if head.unit or about else ""
    left = ' class="left"' if head.words else ""
    # A long name may break after an underscore.
    name = shown(head.name).replace("_", "_<wbr>")
    if not sortable:
        return f'<th scope="col"{left}>{name}{unit}</th>'
    kind, first = "text" if head.words else "number", "descending" if head.falling else "ascending"
    return f'<th scope="col" data-kind="{kind}" data-first="{first}"{left}><button type="button" class="sort">{name}</button>{unit}</th>'


def _row(line: blocks.Line, heads: Sequence[blocks.Head], kept: Sequence[int]) -> str:
    cells = "".join(_cell(line.cells[i], heads[i], not i) for i in kept)
    return f'<tr class="grey">{cells}</tr>' if line.grey else f"<tr>{cells}</tr>"


def _cell(cell: blocks.Entry, head: blocks.Head, first: bool) -> str:
    styles = " ".join(filter(None, ("left" * head.words, "wide" * head.wide, "best" * bool(cell.mark and not cell.tag))))
    kind = f' class="{styles}"' if styles else ""
    key = "" if head.words and cell.key is None else f' data-{"t" if head.words else "v"}="{shown("" if cell.key is None else cell.key)}"'
    about = f' title="{shown(cell.about)}"' if cell.about else ""
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f"<{tag}{scope}{kind}{key}{about}>{''.join(_pieces(cell, head, first))}</{tag}>"


def _pieces(cell: blocks.Entry, head: blocks.Head, first: bool) -> Iterator[str]:
    """What stands below one another in a cell."""
    if cell.above:
        yield f'<span class="printed">paper <b>{shown(cell.above)}</b></span>'
    text = "".join(f'<a href="{shown(to)}">{shown(word)}</a>' if to else shown(word) for word, to in cell.links) or shown(cell.text)
    if cell.opens is not None:
        yield f'<button type="button" class="name about-row" data-row="{cell.opens}">{text.replace("_", "_<wbr>")}</button>'
    elif first:
        yield f'<span class="name">{text}</span>'
    elif text:
        measured = cell.above or cell.span or cell.count
        yield f'<span class="value">{text}</span>' if measured else text
    if cell.bar:
        left, at, right = (100 * place for place in cell.bar)
        line = f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i><b style="left:{at:.1f}%"></b>'
        yield f'<span class="range" aria-hidden="true">{line}</span>'
    for name, words in (("span", cell.span), ("n short" if cell.short else "n", cell.count), (f"tag {cell.tone}", cell.tag)):
        if words:
            yield f'<span class="{name}">{shown(words)}</span>'
    yield from (f'<span class="more">{shown(words)}</span>' for words in cell.below if words)
    if cell.more:
        yield f"<details><summary>{cell.others}</summary>{_list(cell.more)}</details>"
    yield from map(_player, cell.players)


def _player(player: blocks.Player) -> str:
    """A button that a script makes a player of, or why there is none."""
    if player.problem:
        return f'<span class="soft small">{shown(player.words)}: {shown(player.problem)}</span>'
    about = f'data-clip="{player.clip}" data-rate="{player.rate}" data-seconds="{player.seconds:g}"'
    return f'<button type="button" class="act play" {about}>▶ {shown(player.words)}</button> '
