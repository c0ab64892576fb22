r"""The tables as LaTeX (booktabs), to be \input into a paper."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import Better
from reports.claims.verdicts import Verdict
from reports.run.summary import Summary
from reports.statistics.records import Column, Row
from reports.writing.wording import count, printable

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # After a row's \\ a bracket or star would be read as its argument.
    "[": "{[}", "]": "{]}", "*": "{*}",
    '"': r"\textquotedbl{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "…": r"\ldots{}", "-": "{-}",
}  # fmt: skip


def escaped(text: str) -> str:
    """``text`` as LaTeX prints it; no command or ligature is formed."""
    return "".join(SPECIAL.get(c, c) for c in printable(text))


def render(summary: Summary) -> str:
    """Table environments: headline figures, systems, and the papers' claims where there are any; needs the package booktabs."""
    # The label goes with each table, whichever of them a paper takes.
    warnings = "".join(rf" \textbf{{{escaped(warning)}}}" for warning in summary.warnings)
    caption = (
        rf"{escaped(summary.title)}: {escaped(summary.counted)}.{warnings} "
        rf"Mean, {summary.confidence * 100:.0f}\,\% interval, scored / wanted outputs."
    )
    comments = "\n".join(f"% {c.name}: {c.signature}" for c in summary.headline)
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}. Signatures of the figures:",
            printable_lines(comments),
            table(_figures(summary, summary.headline), caption, "l" + "r" * len(summary.headline)),
            table(_systems(summary), f"The systems of the table above.{warnings}", "lllrrl"),
            *([claims_table(summary.verdicts, summary.confidence, warnings)] if summary.verdicts else []),
            "",
        ]
    )


def printable_lines(comments: str) -> str:
    """LaTeX comment lines: whatever would end the comment is gone, each line starts with a percent sign."""
    return "\n".join(printable(line) for line in comments.split("\n") if line.startswith("%"))


def claims_table(verdicts: Sequence[Verdict], confidence: float, warnings: str = "") -> str:
    """The claims and the comparison that each rests on; needs nothing but booktabs.

    Args:
        verdicts: on the claims.
        confidence: of the intervals.
        warnings: LaTeX, put into the caption.
    """
    lines = [line(["claim", "status", "rests on"]), r"\midrule"]
    for verdict in verdicts:
        found, others = verdict.deciding, len(verdict.contrasts) - 1
        told = [rf"\textbf{{{escaped(verdict.outcome)}}}", small(escaped("; ".join(filter(None, (verdict.reason, *verdict.notes)))))]
        more = f"; {others} more comparison{'' if others == 1 else 's'}" if others else ""
        grounds = [escaped(f"{found.metric}: {found.words}: {found.printed}"), small(escaped(f"{found.counted}{more}".lstrip("; ")))]
        stated = f"{escaped(verdict.claim.text)} {small(escaped(verdict.source))}"
        lines.append(line([stated, " ".join(filter(None, told)), " ".join(filter(None, grounds))]))
    caption = (
        rf"Claims of the papers.{warnings} Differences are left minus right, with {confidence * 100:.0f}\,\% intervals over common items."
    )
    return table(lines, caption, "".join(rf"p{{{width}\linewidth}}" for width in (0.31, 0.27, 0.31)))


def table(body: Sequence[str], caption: str, alignment: str, below: Sequence[str] = ()) -> str:
    """A table environment with booktabs' rules and lines in a small size below; everything given is LaTeX already."""
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", r"\small", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", *body,
            r"\bottomrule", r"\end{tabular}", *(rf"\par {small(text)}" for text in below), r"\end{table}",
        ]
    )  # fmt: skip


def _figures(summary: Summary, columns: Sequence[Column]) -> list[str]:
    lines = [line(["system", *(escaped(c.heading) for c in columns)]), r"\midrule"]
    for i, row in enumerate(summary.rows):
        if row.calibration and i and not summary.rows[i - 1].calibration:
            lines.append(r"\midrule")
        lines += _rows(row, columns)
    return lines


def _rows(row: Row, columns: Sequence[Column]) -> list[str]:
    """Value, interval and coverage of a system in three rows of the table."""
    label = escaped(row.label)
    if row.calibration:
        label = rf"\textit{{{label}}}"
    values, spans, counts = [], [], []
    for column in columns:
        cell = row.cells[column.key]
        text = f"${column.shown(cell.value).replace(',', '{,}')}$" if cell.value is not None else "--"
        values.append(rf"\textbf{{{text.strip('$')}}}" if column.key in row.best and column.better is not Better.NEITHER else text)
        spans.append(small(escaped(column.span(cell)).replace("{-}", "$-$")))
        counts.append(small(cell.counted))
    note = small(r"\textbf{random weights}") if row.facts.random else ""
    # A reference row has figures in few columns, and nothing below the dashes of the others.
    return [line(cells) for cells in ([label, *values], [note, *spans], ["", *counts]) if any(cells)]


def small(text: str) -> str:
    """LaTeX in a small size; nothing for nothing."""
    return rf"{{\scriptsize {text}}}" if text else ""


def _systems(summary: Summary) -> list[str]:
    lines = [line(["system", "size", "weights", "parameters", "rate", "trained on"]), r"\midrule"]
    for f in summary.facts:
        rate = rf"{f.sample_rate / 1000:g}\,kHz" if f.sample_rate else ""
        weights = rf"\textbf{{{f.weights}}}" if f.random else escaped(f.weights)
        lines.append(line([escaped(f.label), escaped(f.size), weights, count(f.num_parameters), rate, escaped(f.training_data)]))
    return lines


def line(cells: Sequence[str]) -> str:
    """A line of a table; the cells are LaTeX already."""
    return " & ".join(cells) + r" \\"
