r"""Tables as LaTeX (booktabs), to be \input into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from reports.writing.blocks import Entry, Head, Table
from reports.writing.wording import ABSENT, printable

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # After a row's \\ a bracket or star would be read as its argument.
    "[": "{[}", "]": "{]}", "*": "{*}",
    '"': r"\textquotedbl{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "…": r"\ldots{}", "·": r"$\cdot$", "-": "{-}",
}  # fmt: skip


def escaped(text: str) -> str:
    """``text`` as LaTeX prints it; no command or ligature is formed."""
    return "".join(SPECIAL.get(c, c) for c in printable(text))


def render(tables: Iterable[Table], warnings: Iterable[str] = (), comments: Iterable[str] = ()) -> str:
    r"""Table environments; they need the package booktabs.

    Args:
        tables: empty ones are left out.
        warnings: put into every caption: the label goes with each table, whichever of them a paper takes.
        comments: lines that LaTeX does not print.
    """
    warned = "".join(rf" \textbf{{{escaped(warning)}}}" for warning in warnings)
    notes = (f"% {printable(line)}" for line in comments)
    return "\n".join([r"% Needs \usepackage{booktabs}.", *notes, *(_table(table, warned) for table in tables if table.lines), ""])


def _table(table: Table, warned: str) -> str:
    kept = table.filled
    heads = [table.heads[i] for i in kept]
    body = [_line([escaped(head.heading) for head in heads]), r"\midrule"]
    for i, line in enumerate(table.lines):
        if table.grey and line.grey and i and not table.lines[i - 1].grey:
            body.append(r"\midrule")
        cells = [list(_lines(line.cells[k], table.heads[k])) for k in kept]
        if line.grey and cells[0]:
            cells[0][0] = rf"\textit{{{cells[0][0]}}}"
        # Words stand in one cell, which breaks its lines itself; what belongs to a figure in a row each.
        if table.wordy:
            cells = [[" ".join(cell)] for cell in cells]
        body += [_line(row) for row in zip_longest(*cells, fillvalue="") if any(row)]
    wide = sum(head.wide or table.wordy for head in heads)
    alignment = "".join(rf"p{{{0.88 / max(wide, 3):.2g}\linewidth}}" if h.wide or table.wordy else "l" if h.words else "r" for h in heads)
    caption = " ".join(filter(None, (f"{escaped(table.name)}.{warned}", escaped(table.caption))))
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", r"\small", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", *body,
            r"\bottomrule", r"\end{tabular}", *(rf"\par {_small(escaped(note))}" for note in table.notes), r"\end{table}",
        ]
    )  # fmt: skip


def _lines(cell: Entry, head: Head) -> Iterator[str]:
    """What stands below one another in a cell."""
    if cell.above:
        yield _figure(cell.above)
    if cell.text:
        figure = escaped(cell.text) if head.words else _figure(cell.text)
        yield rf"\textbf{{{figure.strip('$')}}}" if cell.mark else figure
    tag = rf"\textbf{{{escaped(cell.tag)}}}" if cell.tag else ""
    below = (_small(escaped(text)) for text in (*cell.below, cell.others) if head.words)
    yield from filter(None, (_small(_figure(cell.span)), _small(_figure(cell.count)), tag, *below))


def _figure(text: str) -> str:
    """A figure or interval, its minus as long as it should be."""
    if re.fullmatch(r"[-+]?[\d.,]+", text):
        return f"${text.replace(',', '{,}')}$"
    return "--" if text == ABSENT else escaped(text).replace("{-}", "$-$")


def _small(text: str) -> str:
    """LaTeX in a small size; nothing for nothing."""
    return rf"{{\scriptsize {text}}}" if text else ""


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
