"""Reasons that many cells share, told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.claims.verdicts import Replication
from reports.papers.cells import JudgedCell

MARKS = {
    Replication.REPRODUCED: "✓",
    Replication.NOT_REPRODUCED: "✗",
    Replication.TOO_FEW: "·",
    Replication.NOT_COMPARABLE: "≠",
    Replication.NOT_RUN: "–",
}
"""One character for each outcome, beside the figures of a table."""
LEGEND = "✓ reproduced, ✗ not reproduced, · too few, ≠ not comparable, – not run"


def grouped_reasons(cells: Sequence[JudgedCell]) -> list[tuple[str, str]]:
    """Each reason with the cells it holds for, in words, in the order of their first cell.

    Args:
        cells: of one table, or those of it that are to be explained.
    """
    found: dict[str, list[JudgedCell]] = {}
    for cell in cells:
        for reason in cell.reasons:
            found.setdefault(f"{cell.outcome}, {reason}", []).append(cell)
    return [(reason, _which(members, cells)) for reason, members in found.items()]


def grouped_lacks(lacking: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each reason why systems cannot be run with their names."""
    found: dict[str, list[str]] = {}
    for system, reason in lacking.items():
        found.setdefault(reason, []).append(system)
    return [(reason, ", ".join(systems)) for reason, systems in found.items()]


def _which(members: Sequence[JudgedCell], cells: Sequence[JudgedCell]) -> str:
    """``all cells``, ``CER``, ``CER and SIM of SoCodec-40``: whole columns and rows by their names."""
    if len(members) == len(cells):
        return "all of these cells" if len(cells) > 1 else f"{members[0].column.id} of {members[0].row.name}"
    columns = {c: [m for m in members if m.column.id == c] for c in dict.fromkeys(m.column.id for m in members)}
    if all(len(found) == sum(c.column.id == name for c in cells) for name, found in columns.items()):
        return ", ".join(columns)
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(m.row.name for m in members):
        rows.setdefault(tuple(m.column.id for m in members if m.row.name == name), []).append(name)
    told = []
    for headings, names in rows.items():
        whole = all(sum(c.row.name == name for c in cells) == len(headings) for name in names)
        told.append(f"{'' if whole else ', '.join(headings) + ' of '}{', '.join(names)}")
    return "; ".join(told)
