"""Pieces of a self-contained HTML page: escaped text, data, scripts admitted by their hashes, tables that sort."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from reports.writing.wording import printable


def shown(text: object) -> str:
    """Text from outside as HTML, on one line, without markup or control characters."""
    return escape(printable(str(text)))


def asset(name: str) -> str:
    """The text of a file in ``reports/assets``."""
    return (files("reports") / "writing" / "assets" / name).read_text(encoding="utf-8")


def json_block(data: Any) -> str:
    """JSON that may stand inside a ``<script>`` element: no text in it can end the element or start a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return "".join(c if not 0xD800 <= ord(c) <= 0xDFFF else f"\\u{ord(c):04x}" for c in text)


def document(title: str, header: str, main: str, data: str, scripts: Sequence[str]) -> str:
    """A page up to and without ``</body>``, so that clips may follow.

    Args:
        title: plain text.
        header, main: HTML.
        data: a `json_block`, read by the scripts.
        scripts: names of assets, in order; the page's content policy admits these scripts and no other.
    """
    texts = [asset(name) for name in scripts]
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return Template(asset("page.html")).substitute(
        title=shown(title),
        css=asset("page.css"),
        script_hashes=" ".join(f"'sha256-{digest}'" for digest in hashes),
        header=header,
        main=main,
        data=data,
        scripts="\n".join(f"<script>{text}</script>" for text in texts),
    )


def clip_blocks(clips: Iterable[str]) -> Iterable[str]:
    """The elements that hold the audio, by number; base64 has no character that HTML could take for markup."""
    return (f'<script type="text/plain" id="clip-{i}">{clip}</script>\n' for i, clip in enumerate(clips))


END = "</body>\n</html>\n"
"""What follows a `document` and its clips."""


def table(name: str, heads: Iterable[str], bodies: str, caption: str = "", classes: str = "sortable") -> str:
    """A table in a region that scrolls sideways by itself and can be reached with the keyboard.

    Args:
        name: of the region, for who does not see it; plain text.
        heads: header cells, see `head`.
        bodies: one or more ``<tbody>``.
        caption: plain text, below.
        classes: of the table.
    """
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">'
        f'<table class="{classes}">{below}<thead><tr>{"".join(heads)}</tr></thead>{bodies}</table></div>'
    )


def head(text: str, kind: str, first: str, below: str = "", column: int | None = None) -> str:
    """A header cell whose button sorts.

    Args:
        text: of the button.
        kind: "number" (of the cells' ``data-v``) or "text".
        first: order at the first press, "ascending" or "descending".
        below: unit.
        column: number of the metric that a second button describes, None for no such button.
    """
    left = ' class="left"' if kind == "text" else ""
    about = ""
    if column is not None:
        about = f'<button type="button" class="about" data-column="{column}" aria-label="About {shown(text)}">i</button>'
    unit = f'<span class="unit">{shown(below)}{about}</span>' if below or about else ""
    return (
        f'<th scope="col" data-kind="{kind}" data-first="{first}"{left}>'
        # A long name may break after an underscore.
        f'<button type="button" class="sort">{shown(text).replace("_", "_<wbr>")}</button>{unit}</th>'
    )
