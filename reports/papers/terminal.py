"""A paper shown again on a terminal: the tables, the claims that were judged, and the commands of the missing runs last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.claims.verdicts import Replication
from reports.papers.cells import JudgedCell
from reports.papers.grouping import LEGEND, MARKS, grouped_lacks, grouped_reasons
from reports.papers.needs import NeededRun
from reports.papers.published import PublishedTable
from reports.papers.study import JudgedClaim, Study
from reports.writing.wording import printable, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MIN_WIDTH = 100
"""Of what is not a terminal: a file or a pipe has no width."""
REASON_LIMIT = 200
STYLES = {
    Replication.REPRODUCED: "bold green", Replication.NOT_REPRODUCED: "bold red", Replication.TOO_FEW: "dim", Replication.NOT_COMPARABLE: "yellow",
    Replication.NOT_RUN: "dim",
}  # fmt: skip


def print_study(study: Study, console: Console) -> None:
    """Print it.

    Args:
        study: of a paper.
        console: where to.
    """
    width = console.width
    if not console.is_terminal:
        console.width = max(width, MIN_WIDTH)
    try:
        _print(study, console)
    finally:
        console.width = width


def _print(study: Study, console: Console) -> None:
    _say(console, study.paper.title, "bold")
    for run in study.runs:
        _say(console, f"{run.name}: suite {run.suite}, {run.data}")
    for warning, names in study.warnings.items():
        _say(console, f" {warning} ", "bold black on yellow")
        if len(names) < len(study.runs):
            _say(console, f" in {', '.join(names)}", "dim")
    _say(console, f"Cells: what was printed, below it what was measured with its {study.confidence:.0%} interval. {LEGEND}.", "dim")
    for published in study.paper.tables:
        _say(console, "")
        _say(console, f"{published.source}: {published.title} ({published.standing})", "bold")
        console.print(_table(published, study, console))
        for reason, which in grouped_reasons([c for c in study.cells if c.table is published]):
            _say(console, f"  {which}: {shortened(reason, REASON_LIMIT)}", "dim")
    _say(console, "")
    _say(console, "Figures, orderings and claims in words", "bold")
    console.print(_claims(study, console))
    _say(console, "Runs", "bold")
    for need in study.needs:
        _need(need, console)
    for kind, found in study.counts.items():
        _say(console, f"{kind}: " + ", ".join(f"{n} {outcome}" for outcome, n in found.items()))


def _table(published: PublishedTable, study: Study, console: Console) -> Table:
    """Printed figures with their marks, measured ones below them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for column in published.columns:
        table.add_column(_encodable(f"{column.id}{f' ({column.unit})' if column.unit else ''}", console), justify="right")
    for row in published.rows:
        cells = [_cell(study.cell(published, row.name, c.id), console) for c in published.columns]
        table.add_row(Text(_encodable(row.name, console)), *cells)
    return table


def _cell(cell: JudgedCell | None, console: Console) -> Text:
    from rich.text import Text

    if cell is None:
        return Text()
    text = Text(f"{cell.column.printed(cell.published)} ")
    text.append(_encodable(MARKS[cell.outcome], console), style=STYLES[cell.outcome])
    if cell.value is not None:
        text.append(f"\n{cell.measured}", style="dim")
    return text


def _claims(study: Study, console: Console) -> Table:
    """Each claim that was judged with the comparison it rests on; those not run share a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    waiting = [c for c in study.claims if c.verdict.outcome is Replication.NOT_RUN]
    for judged in study.claims:
        if judged not in waiting:
            table.add_row(Text(judged.verdict.outcome, style=STYLES[judged.verdict.outcome]), _judged(judged, console))
    if waiting:
        text = Text(_encodable(", ".join(c.verdict.claim.id for c in waiting), console), style="dim")
        table.add_row(Text(Replication.NOT_RUN, style=STYLES[Replication.NOT_RUN]), text)
    return table


def _judged(judged: JudgedClaim, console: Console) -> Text:
    from rich.text import Text

    verdict, found = judged.verdict, judged.verdict.deciding
    text = Text(_encodable(verdict.claim.text, console))
    text.append(_encodable(f" ({verdict.claim.source}, {verdict.claim.standing})", console), style="dim")
    grounds = f"{found.metric}: {found.words}: {found.printed}, {found.counted}" if found.value is not None else ""
    for told in (grounds, verdict.reason):
        if told:
            text.append(_encodable(f"\n{told}", console, keep="\n"), style="dim")
    return text


def _need(need: NeededRun, console: Console) -> None:
    where = f" on {need.dataset}" if need.dataset else ""
    if need.found:
        _say(console, f"{need.suite}{where}: there, {need.found}")
    elif need.command:
        _say(console, f"{need.suite}{where}: missing")
        # Not folded by us: what is copied from a terminal should be one line.
        console.print(f"  {_encodable(need.command, console)}", markup=False, highlight=False, soft_wrap=True)
    else:
        _say(console, f"{need.suite}{where}: cannot be run here")
    for reason, systems in grouped_lacks(need.lacking):
        _say(console, f"  lacks {systems}: {shortened(reason, REASON_LIMIT)}", "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(_encodable(text, console), style=style))


def _encodable(text: str, console: Console, keep: str = "") -> str:
    """``text`` as the console's encoding can show it, on one line unless its line breaks are to be kept."""
    lines = text.split(keep) if keep else [text]
    encoding = console.encoding or "ascii"
    return keep.join(printable(line).encode(encoding, "replace").decode(encoding) for line in lines)
