"""The headline table on a terminal: value, interval and coverage of each cell, one under the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reports.failures import HEADINGS
from reports.summary import Cell, Column, Failure, Row, Summary
from reports.wording import bounds, count, number, printable, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LABEL_WIDTH = 22
GROUPS_SHOWN = 12


def print_summary(summary: Summary, console: Console, columns: Sequence[Column] | None = None) -> None:
    """Print the tables to a terminal, a pipe or a file, in UTF-8 or plain ASCII as its encoding allows.

    Args:
        summary: of the run.
        console: where to.
        columns: shown; the headline metrics unless told. What does not fit the width goes into a further table below.
    """
    from rich.text import Text

    write = _writer(console)
    write(summary.title, "bold")
    dataset = summary.dataset.get("name", "")
    write(f"{summary.num_items} items{f' of {dataset}' if dataset else ''}, {len(summary.systems)} rows", "dim")
    if summary.synthetic:
        console.print(Text(f" {_encodable(summary.synthetic, console)} ", style="bold black on yellow"))
    if not summary.complete:
        console.print(Text(" PARTIAL RUN ", style="bold white on red"))
    for block in _blocks(summary, columns or summary.headline, console):
        console.print(block)
    if summary.error_rates:
        console.print(_error_rates(summary, console))
    console.print(_systems(summary, console))
    for kind, heading in HEADINGS.items():
        _failures(heading, [f for f in summary.failures if f.kind == kind], console)
    for note in summary.notes:
        write(f"- {note}", "dim")
    write("Signatures", "bold")
    for column in columns or summary.headline:
        write(f"  {column.signature or column.name}", "dim")


def _encodable(text: str, console: Console) -> str:
    """``text`` as the console's encoding can show it; a terminal without UTF-8 gets ASCII stand-ins, never an exception."""
    text = printable(text)
    encoding = console.encoding or "ascii"
    if not encoding.lower().startswith("utf"):
        for fancy, plain in (("↑", "^"), ("↓", "v"), ("–", "-"), ("…", "..."), ("✓", "*")):
            text = text.replace(fancy, plain)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _writer(console: Console) -> Callable[..., None]:
    """``write(text, style="")`` to the console, with no markup read from the text."""
    from rich.text import Text

    return lambda text, style="": console.print(Text(_encodable(text, console), style=style))


def _cell_text(cell: Cell, column: Column, best: bool) -> tuple[str, str, str]:
    """The three lines of a cell."""
    value = number(cell.value, column.decimals) + (" ✓" if best else "")
    return value, bounds(cell.low, cell.high, column.decimals), cell.counted


def _blocks(summary: Summary, columns: Sequence[Column], console: Console) -> list[Table]:
    """The table, cut into several where the console is too narrow for all its columns."""
    widths = []
    for column in columns:
        cells = [line for r in summary.rows for line in _cell_text(r.cells[column.key], column, column.key in r.best)]
        widths.append(max(8, *(len(part) for part in _heading_lines(column)), *map(len, cells)))
    label = min(LABEL_WIDTH, max(len(part) for r in summary.rows for part in _label_lines(r, console)))
    blocks: list[list[int]] = [[]]
    used = label + 3
    for i, width in enumerate(widths):
        if blocks[-1] and used + width + 2 > console.width:
            blocks.append([])
            used = label + 3
        blocks[-1].append(i)
        used += width + 2
    return [_table(summary, [columns[i] for i in block], label, console) for block in blocks]


def _heading_lines(column: Column) -> list[str]:
    """The heading broken after underscores and spaces, so that a long name does not widen its column."""
    lines = [""]
    for part in column.heading.replace("_", "_\n").replace(" ", " \n").split("\n"):
        if len(lines[-1]) + len(part.rstrip()) > 11 and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += part
    return lines


def _label_lines(row: Row, console: Console) -> list[str]:
    """Name, variant or size, warning; each within `LABEL_WIDTH` also where an ellipsis takes three characters."""
    second = row.variant or ", ".join(filter(None, (row.facts.size, count(row.facts.num_parameters))))
    third = "RANDOM WEIGHTS" if row.facts.random else ""
    parts = (_encodable(part, console) for part in (row.facts.label, second, third) if part)
    return [_encodable(shortened(part, LABEL_WIDTH - 2), console) for part in parts]


def _table(summary: Summary, columns: Sequence[Column], label_width: int, console: Console) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(Text("system"), width=label_width, no_wrap=True, overflow="crop")
    for column in columns:
        table.add_column(Text(_multiline(_heading_lines(column), console), style="bold"), justify="right", no_wrap=True, overflow="crop")
    for i, row in enumerate(summary.rows):
        first_calibration = row.calibration and i > 0 and not summary.rows[i - 1].calibration
        if first_calibration:
            table.add_section()
            table.add_row(Text("calibration", style="italic dim"))
        name, *rest = _label_lines(row, console)
        label = Text(name, style="italic" if row.calibration else "")
        for part in rest:
            label.append("\n" + part, style="bold red" if part == "RANDOM WEIGHTS" else "dim")
        cells = [label]
        for column in columns:
            cell, best = row.cells[column.key], column.key in row.best
            value, span, counted = (_encodable(t, console) for t in _cell_text(cell, column, best))
            text = Text(value, style="bold green" if best else "")
            text.append(f"\n{span}", style="dim")
            text.append(f"\n{counted}", style="yellow" if cell.n_ok < cell.n_total else "dim")
            cells.append(text)
        table.add_row(*cells)
    return table


def _multiline(lines: Sequence[str], console: Console) -> str:
    return "\n".join(_encodable(line, console) for line in lines)


def _error_rates(summary: Summary, console: Console) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="Error rates, %", title_justify="left")
    for heading in ("metric", "system"):
        table.add_column(heading, overflow="fold")
    for heading in ("macro", "corpus", "median", "above 50 %", "n"):
        table.add_column(heading, justify="right")
    for rates in summary.error_rates:
        figures = [f"{100 * v:.2f}" for v in (rates.macro, rates.corpus, rates.median, rates.above_half)]
        names = (Text(_encodable(t, console), style="italic" if rates.calibration else "") for t in (rates.metric, rates.label))
        table.add_row(*names, *figures, str(rates.n))
    return table


def _systems(summary: Summary, console: Console) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="Systems", title_justify="left")
    for heading in ("system", "size", "weights", "parameters", "rate", "device", "trained on"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("parameters", "rate") else "left")
    for facts in summary.facts:
        rate = f"{facts.sample_rate / 1000:g} kHz" if facts.sample_rate else ""
        device = " ".join(filter(None, (facts.device, facts.precision)))
        cells = (facts.label, facts.size, facts.weights, count(facts.num_parameters), rate, device, facts.training_data)
        table.add_row(*(Text(_encodable(c, console), style="bold red" if c == "random" else "") for c in cells))
    return table


def _failures(heading: str, failures: Sequence[Failure], console: Console) -> None:
    if not failures:
        return
    write = _writer(console)
    write(f"{heading}: {sum(f.records for f in failures)} measurements", "bold")
    for failure in failures[:GROUPS_SHOWN]:
        where = f"{failure.label}: " if failure.label else ""
        items = ", ".join(shortened(printable(i), 32) for i in failure.items[:3]) + (" …" if len(failure.items) > 3 else "")
        write(f"  {failure.records} x {where}{failure.status}, {shortened(failure.reason, 160)}")
        write(f"      {', '.join(failure.metrics)}; items: {items}", "dim")
    if hidden := failures[GROUPS_SHOWN:]:
        write(f"  and {sum(f.records for f in hidden)} more in {len(hidden)} groups (see the report)")
