"""The tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports.claims.verdicts import Verdict
from reports.run.failures import HEADINGS, whose
from reports.run.summary import Summary
from reports.statistics.records import Column, Row
from reports.writing.wording import count, printable, shortened

DATASET = {"description": "The data", "licence": "Its licence"}


def escaped(text: str) -> str:
    """``text`` as it reads, on one line: no cell, emphasis, link, code or HTML is started by it."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~$&@:])", r"\\\1", printable(text)) if text else ""


def render(summary: Summary) -> str:
    """The whole report in Markdown: headline table, all metrics, error rates, systems, failures, notes, signatures."""
    parts = [f"# {escaped(summary.title)}"]
    parts += [f"> **{escaped(warning)}**" for warning in summary.warnings]
    made = f" Made {escaped(summary.created)}." if summary.created else ""
    parts.append(f"{escaped(summary.counted)}.{made}")
    if summary.lacking:
        parts.append(f"{escaped(summary.lacking)}.")
    parts += [f"{word}: {escaped(summary.dataset[key])}." for key, word in DATASET.items() if summary.dataset.get(key)]
    parts.append(_figures(summary, summary.headline))
    if len(summary.headline) < len(summary.columns):
        parts.append("## All metrics\n\n" + _figures(summary, summary.columns))
    if summary.error_rates:
        rows = [
            [
                escaped(e.metric), escaped(e.label), *e.figures[:-1], "<br>".join(filter(None, (e.figures[-1], e.span))), str(e.n),
            ]
            for e in summary.error_rates
        ]  # fmt: skip
        parts.append("## Error rates, %\n\n" + table(["metric", "system", "macro", "corpus", "median", "above 50 %", "n"], rows, left=2))
    if summary.verdicts:
        parts.append("## Claims of the papers\n\n" + claims_table(summary.verdicts, summary.confidence))
    parts.append("## Systems\n\n" + _systems(summary))
    for kind, heading in HEADINGS.items():
        if found := [f for f in summary.failures if f.kind == kind]:
            lines = [
                f"- {f.records} x {escaped(whose(f, summary.everywhere) + ': ' if f.labels else '')}{escaped(f.status)}, "
                f"{escaped(f.reason)} ({escaped(', '.join(f.metrics))}; {len(f.items)} items, first {escaped(shortened(f.items[0], 80))})"
                for f in found
            ]
            parts.append(f"## {heading}\n\n" + "\n".join(lines))
    parts.append("## Notes\n\n" + "\n".join(f"- {escaped(note.text)}" for note in summary.notes))
    parts.append("## Signatures\n\n" + "\n".join(f"- {escaped(c.name)}: {escaped(c.signature)}" for c in summary.columns))
    return "\n\n".join(parts) + "\n"


def _figures(summary: Summary, columns: Sequence[Column]) -> str:
    rows = [[_label(row), *(_cell(row, c) for c in columns)] for row in summary.rows]
    return table(["system", *(escaped(c.heading) for c in columns)], rows)


def _label(row: Row) -> str:
    label = escaped(row.label) + (" **(random weights)**" if row.facts.random else "")
    if row.calibration or row.facts.anchor:
        return f"*{label}* ({'calibration' if row.calibration else 'anchor'})"
    return label


def _cell(row: Row, column: Column) -> str:
    cell = row.cells[column.key]
    value = column.shown(cell.value)
    parts = [f"**{value}**" if column.key in row.best else value, column.span(cell), cell.counted]
    return "<br>".join(filter(None, parts))


def claims_table(verdicts: Sequence[Verdict], confidence: float) -> str:
    """Claims with what became of them; ``confidence`` is that of the intervals."""
    rows = []
    for verdict in verdicts:
        found = [f"{f.metric}: {f.words}: {f.printed} ({f.counted or f.outcome})" for f in verdict.contrasts]
        outcome = f"**{escaped(verdict.outcome)}**"
        status = [outcome, *map(escaped, filter(None, (verdict.reason, *verdict.notes)))]
        rows.append([escaped(verdict.claim.text), escaped(verdict.source), "<br>".join(status), "<br>".join(map(escaped, found))])
    shown = table(["claim", "source", "status", "measured"], rows, left=4)
    return f"{shown}\n\nDifferences are left minus right, with {escaped(f'{confidence:.0%}')} intervals over common items."


def _systems(summary: Summary) -> str:
    rows = [
        [
            *map(escaped, (f.label, f.description, f.size)),
            f"**{f.weights}**" if f.random else escaped(f.weights),
            count(f.num_parameters),
            f"{f.sample_rate / 1000:g} kHz" if f.sample_rate else "",
            *map(escaped, (f"{f.device} {f.precision}".strip(), f.training_data)),
        ]
        for f in summary.facts
    ]
    return table(["system", "description", "size", "weights", "parameters", "sample rate", "device", "trained on"], rows, left=8)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of cells that are Markdown already; the first ``left`` columns are set flush left, the others right."""
    rule = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
