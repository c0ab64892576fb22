"""A run on a terminal: details first, then the headline table and the failures, so that a prompt comes back right below them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from reports.claims.verdicts import Replication, Verdict
from reports.run.failures import HEADINGS, whose
from reports.run.summary import Failure, Note, Summary
from reports.statistics.records import Cell, Column, Row
from reports.writing.wording import ARROWS, count, printable, shortened, unit_beside

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LABEL_WIDTH = 22
MIN_WIDTH = 100
"""Of what is not a terminal: a file or a pipe has no width, and the 80 columns it is usually given split every table."""
GROUPS_SHOWN = 6
NOTES_SHOWN = 8
NOTE_LIMIT = 320
REASON_LIMIT = {"failure": 160, "reference": 120, "calibration": 120, "skipped": 90}
OUTCOME_STYLES = {
    Replication.REPRODUCED: "bold green",
    Replication.NOT_REPRODUCED: "bold red",
    Replication.TOO_FEW: "dim",
    Replication.NOT_COMPARABLE: "bold yellow",
    Replication.NOT_RUN: "dim",
}
HEADING_WIDTH = 16
"""About that of an interval with three decimals, which most columns have anyway."""


def print_summary(summary: Summary, console: Console, columns: Sequence[Column] | None = None) -> None:
    """Print the tables to a terminal, a pipe or a file, in UTF-8 or plain ASCII as its encoding allows.

    What concerns only metrics that are not shown is left to the report's files.

    Args:
        summary: of the run.
        console: where to.
        columns: shown; the headline metrics unless told. What does not fit the width goes into a further table below.
    """
    width = console.width
    if not console.is_terminal:
        console.width = max(width, MIN_WIDTH)
    try:
        _print(summary, console, columns or summary.headline)
    finally:
        console.width = width


def _print(summary: Summary, console: Console, columns: Sequence[Column]) -> None:
    from rich.text import Text

    write = _writer(console)
    keys = {c.key for c in columns}
    console.print(_systems(summary, console))
    if any(e.key in keys for e in summary.error_rates):
        console.print(_error_rates(summary, keys, console))
    _groups("skipped", summary, console)
    _notes([n for n in summary.notes if not n.metrics or keys.intersection(n.metrics)], console)
    write("")
    write(f"{summary.title}: {summary.counted}", "bold")
    if summary.lacking:
        write(summary.lacking, "yellow")
    for warning, style in ((summary.partial, "white on red"), (summary.random, "white on red"), (summary.synthetic, "black on yellow")):
        if warning:
            console.print(Text(f" {_encodable(warning, console)} ", style=f"bold {style}"))
    for block in _blocks(summary, columns, console):
        console.print(block)
    write("mean, scored/wanted, interval below; ✓ best; signatures and the other metrics are in the report", "dim")
    if summary.verdicts:
        _claims(summary.verdicts, console)
    for kind in ("calibration", "reference"):
        _groups(kind, summary, console)
    if not _groups("failure", summary, console):
        write(f"{HEADINGS['failure']}: none", "bold")


def _encodable(text: str, console: Console) -> str:
    """``text`` as the console's encoding can show it; a terminal without UTF-8 gets ASCII stand-ins, never an exception."""
    text = printable(text)
    encoding = console.encoding or "ascii"
    if not encoding.lower().startswith("utf"):
        for fancy, plain in (("↑", "^"), ("↓", "v"), ("–", "-"), ("…", "..."), ("✓", "*"), ("×", "x")):
            text = text.replace(fancy, plain)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _writer(console: Console) -> Callable[..., None]:
    """``write(text, style="")`` to the console, with no markup read from the text."""
    from rich.text import Text

    return lambda text, style="": console.print(Text(_encodable(text, console), style=style))


def _cell_lines(cell: Cell, column: Column, best: bool, ranked: bool) -> tuple[str, str]:
    """Figure and coverage, then the interval. In a column with a mark the others leave its place free, so that figures stay aligned."""
    mark = " ✓" if best else "  " if ranked else ""
    value = column.shown(cell.value)
    return f"{value}{mark} {cell.counted}" if cell.counted else value, column.span(cell)


def _blocks(summary: Summary, columns: Sequence[Column], console: Console) -> list[Table]:
    """The table, cut into several of like width where the console is too narrow for all its columns."""
    widths = []
    for column in columns:
        ranked = any(column.key in r.best for r in summary.rows)
        cells = [line for r in summary.rows for line in _cell_lines(r.cells[column.key], column, column.key in r.best, ranked)]
        widths.append(max(8, *(len(part) for part in _heading_lines(column)), *map(len, cells)) + 2)
    label = min(LABEL_WIDTH, max((len(part) for r in summary.rows for part in _label_lines(r, console)), default=0))
    number, room = 1, console.width - label - 3
    while number < len(columns) and not all(sum(widths[i] for i in part) <= room for part in _cut(len(columns), number)):
        number += 1
    return [_table(summary, [columns[i] for i in part], label, console) for part in _cut(len(columns), number)]


def _cut(length: int, parts: int) -> list[range]:
    """``length`` positions in ``parts`` runs of equal length, the last one shorter."""
    each = math.ceil(length / parts)
    return [range(start, min(start + each, length)) for start in range(0, length, each)]


def _heading_lines(column: Column) -> list[str]:
    """Name with its arrow, broken after underscores where it is longer than `HEADING_WIDTH`, and the unit below."""
    parts = [part for part in (printable(column.name) + f" {ARROWS[column.better]}").rstrip().replace("_", "_\n").split("\n") if part]
    # From the end, so that a short last part never stands alone.
    parts = [shortened(part, 2 * HEADING_WIDTH) for part in parts]
    lines = [parts[-1]]
    for part in reversed(parts[:-1]):
        if len(part) + len(lines[0]) > HEADING_WIDTH:
            lines.insert(0, part)
        else:
            lines[0] = part + lines[0]
    unit = shortened(printable(unit_beside(column.name, column.shown_unit)), HEADING_WIDTH)
    return [*lines, unit] if unit else lines


def _label_lines(row: Row, console: Console) -> list[str]:
    """Name, variant or size, warning; each within `LABEL_WIDTH` also where an ellipsis takes three characters."""
    about = (row.facts.size, count(row.facts.num_parameters), "anchor" if row.facts.anchor else "")
    second = "calibration" if row.calibration else row.variant or ", ".join(filter(None, about))
    third = "RANDOM WEIGHTS" if row.facts.random else ""
    parts = (_encodable(part, console) for part in (row.facts.label, second, third) if part)
    return [_encodable(shortened(part, LABEL_WIDTH - 2), console) for part in parts]


def _table(summary: Summary, columns: Sequence[Column], label_width: int, console: Console) -> Table:
    from rich.text import Text

    table = _plain_table()
    table.add_column(Text("system"), width=label_width, no_wrap=True, overflow="crop")
    for column in columns:
        heading = "\n".join(_encodable(line, console) for line in _heading_lines(column))
        table.add_column(Text(heading, style="bold"), justify="right", no_wrap=True, overflow="crop")
    marked = {c.key for c in columns for r in summary.rows if c.key in r.best}
    for row in summary.rows:
        # The figures of a reference row are few: it stands only where it has one.
        if row.calibration and not any(row.cells[c.key].n_total for c in columns):
            continue
        name, *rest = _label_lines(row, console)
        label = Text(name, style="italic" if row.calibration else "")
        for part in rest:
            label.append("\n" + part, style="bold red" if part == "RANDOM WEIGHTS" else "dim")
        cells = [label]
        for column in columns:
            cell, best = row.cells[column.key], column.key in row.best
            first, span = (_encodable(t, console) for t in _cell_lines(cell, column, best, column.key in marked))
            figure, counted = first[: len(first) - len(cell.counted)], first[len(first) - len(cell.counted) :]
            text = Text(figure, style="bold green" if best else "")
            text.append(counted, style="bold yellow" if cell.n_ok < cell.n_total else "dim")
            if span:
                text.append(f"\n{span}", style="dim")
            cells.append(text)
        table.add_row(*cells)
    return table


def _plain_table(title: str | None = None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title=title, title_justify="left", title_style="bold")


def _error_rates(summary: Summary, keys: set[str], console: Console) -> Table:
    from rich.text import Text

    table = _plain_table("Error rates, %")
    for heading in ("metric", "system"):
        table.add_column(heading, overflow="fold")
    for heading in ("macro", "corpus", "median", "above 50 %", "n"):
        table.add_column(heading, justify="right")
    for rates in summary.error_rates:
        if rates.key in keys:
            names = (Text(_encodable(t, console), style="italic" if rates.calibration else "") for t in (rates.metric, rates.label))
            table.add_row(*names, *rates.figures[:-1], f"{rates.figures[-1]} {rates.span}".rstrip(), str(rates.n))
    return table


def _systems(summary: Summary, console: Console) -> Table:
    from rich.text import Text

    rows = [
        {
            "system": f.label,
            "size": f.size,
            "weights": f.weights,
            "parameters": count(f.num_parameters),
            "rate": f"{f.sample_rate / 1000:g} kHz" if f.sample_rate else "",
            "device": " ".join(filter(None, (f.device, f.precision))),
            "trained on": f.training_data,
        }
        for f in summary.facts
    ]
    # A column that is empty for every system says nothing.
    headings = [h for h in rows[0] if h == "weights" or any(r[h] for r in rows)] if rows else []
    table = _plain_table("Systems")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in ("parameters", "rate") else "left")
    for row in rows:
        table.add_row(*(Text(_encodable(row[h], console), style="bold red" if row[h] == "random" else "") for h in headings))
    return table


def _groups(kind: str, summary: Summary, console: Console) -> bool:
    """One line a reason, with its metrics, systems and counts; whether there is any."""
    from rich.table import Table
    from rich.text import Text

    found = [f for f in summary.failures if f.kind == kind]
    if not found:
        return False
    write = _writer(console)
    write(f"{HEADINGS[kind]}: {sum(f.records for f in found):,} measurements", "bold")
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for failure in found[:GROUPS_SHOWN]:
        text = Text(_encodable(_reason(failure, summary), console))
        text.append(_encodable(f" ({_scope(failure, summary)})", console), style="dim")
        table.add_row(Text(_encodable(f"{failure.records:,} ×", console)), text)
    console.print(table)
    if hidden := found[GROUPS_SHOWN:]:
        write(f"and {sum(f.records for f in hidden):,} more in {len(hidden)} groups (see the report)", "dim")
    return True


def _reason(failure: Failure, summary: Summary) -> str:
    status = "" if failure.kind == "skipped" else f"{failure.status.replace('_', ' ')}, "
    where = f"{whose(failure, summary.everywhere)}: " if failure.kind in ("failure", "calibration") else ""
    return f"{where}{status}{shortened(failure.reason, REASON_LIMIT[failure.kind])}"


def _scope(failure: Failure, summary: Summary) -> str:
    """Metrics, systems and items of a group; the items by name where the group is somebody's fault."""
    of = f"{len(failure.items):,} of {summary.num_items:,} items" if len(failure.items) < summary.num_items else "every item"
    if failure.kind != "skipped":
        of += ": " + ", ".join(shortened(printable(i), 32) for i in failure.items[:2]) + (" …" if len(failure.items) > 2 else "")
    systems = shortened(whose(failure, summary.everywhere), 120) if failure.kind == "skipped" else ""
    return "; ".join(filter(None, (shortened(", ".join(failure.metrics), 160), systems, of)))


def _claims(verdicts: Sequence[Verdict], console: Console) -> None:
    """Each claim with its outcome and the comparison that this rests on; claims that lack the same data share a line."""
    from rich.table import Table
    from rich.text import Text

    _writer(console)("Claims of the papers", "bold")
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lacking: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.outcome is Replication.NOT_RUN:
            lacking.setdefault(verdict.reason, []).append(verdict.claim.id)
            continue
        text = Text(_encodable(verdict.claim.text, console))
        text.append(_encodable(f" ({verdict.source})", console), style="dim")
        for line in _grounds(verdict):
            text.append(f"\n{_encodable(line, console)}", style="dim")
        table.add_row(Text(verdict.outcome, style=OUTCOME_STYLES[verdict.outcome]), text)
    for reason, ids in lacking.items():
        text = Text(_encodable(", ".join(ids), console))
        text.append(f"\n{_encodable(reason, console)}", style="dim")
        table.add_row(Text(Replication.NOT_RUN, style=OUTCOME_STYLES[Replication.NOT_RUN]), text)
    console.print(table)


def _grounds(verdict: Verdict) -> Iterator[str]:
    """What an outcome rests on: the deciding comparison, the reason, the notes."""
    found, others = verdict.deciding, len(verdict.contrasts) - 1
    if found.value is not None:
        yield f"{found.metric}: {found.words}: {found.printed}, {found.counted}"
    if verdict.reason:
        yield verdict.reason
    more = f"{others} more comparison{'' if others == 1 else 's'} in the report" if others else ""
    if notes := "; ".join(filter(None, (*verdict.notes, more))):
        yield notes


def _notes(notes: Sequence[Note], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    write = _writer(console)
    write("Notes", "bold")
    table = Table.grid(padding=(0, 1, 0, 0))
    for note in notes[:NOTES_SHOWN]:
        table.add_row("-", Text(_encodable(shortened(note.text, NOTE_LIMIT), console), style="dim"))
    console.print(table)
    if hidden := notes[NOTES_SHOWN:]:
        write(f"and {len(hidden)} more (see the report)", "dim")
