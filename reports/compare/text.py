"""A comparison in words: for a terminal and as Markdown; the page takes its words from here too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reports.compare.differences import Change, Comparison, Conclusion
from reports.statistics.intervals import FEWEST
from reports.statistics.jackknife import METHOD
from reports.writing.markdown import escaped
from reports.writing.wording import ABSENT, printable, shortened, signed, significant

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("system", "metric", "outcome", "left", "right", "right − left", "95 % interval", "p (Holm)", "n")
WORDS = 3
"""Columns of words, before those of figures."""
STYLES = {
    Conclusion.WORSE: "bold red",
    Conclusion.BETTER: "bold green",
    Conclusion.TOO_FEW: "dim",
    Conclusion.UNRANKED: "yellow",
    Conclusion.INCOMPARABLE: "yellow",
}
REASON_LIMIT = 300
MIN_WIDTH = 120
"""Of what is not a terminal: a file or a pipe has no width."""


def title(comparison: Comparison) -> str:
    """``runs/b against runs/a``: the new one first, as one asks."""
    left, right = comparison.left.name, comparison.right.name
    return f"{right} against {left}" if left != right else f"Systems of {right}"


def heads(comparison: Comparison) -> list[str]:
    """Of the table; the confidence as it was asked for."""
    level = f"{comparison.settings.statistics.confidence:.0%}".replace("%", " %")
    return [h.replace("95 %", level) for h in HEADS]


def cells(change: Change) -> list[str]:
    """One change, a text a head."""
    column = change.column
    name = (
        f"{column.name} ({column.shown_unit})" if column.shown_unit and not column.name.endswith(column.shown_unit.lower()) else column.name
    )
    if change.difference is None:
        return [change.label, name, str(change.outcome), *[ABSENT] * 5, ""]
    factor = column.factor
    figures = [column.shown(v) if v is not None else ABSENT for v in (change.left, change.right)]
    span = ABSENT if change.low is None or change.high is None else f"[{signed(change.low * factor)}, {signed(change.high * factor)}]"
    p = ABSENT if change.adjusted is None else probability(change.adjusted)
    return [change.label, name, str(change.outcome), *figures, signed(change.difference * factor), span, p, str(change.n)]


def probability(p: float) -> str:
    """A p-value as printed."""
    return "<.001" if p < 0.001 else f"{p:.3f}"


def remark(change: Change) -> str:
    """What stands beside a change: why nothing more can be said, and how many items would say more; "" for nothing."""
    parts = [change.reason, *change.notes]
    if change.seed_spread is not None:
        parts.append(f"SD over seeds {significant(change.seed_spread * change.column.factor)}")
    if change.advice is not None and (change.advised or change.outcome is Conclusion.UNDECIDED):
        parts.append(advice_words(change))
    return "; ".join(filter(None, parts))


def advice_words(change: Change) -> str:
    """``to see 0.1 MOS takes 73 items of 14 speakers (80 % power); these 129 show 0.07``; "" without advice."""
    advice = change.advice
    if advice is None:
        return ""
    factor, unit = change.column.factor, f" {change.column.shown_unit}".rstrip()
    power = f"{advice.power:.0%}".replace("%", " %")
    units = "" if change.clusters == change.n else f" of {advice.clusters:,} speakers" if advice.clusters else ""
    needed = "more recordings than there are" if advice.items is None else f"{advice.items:,} items{units}"
    now = "" if advice.visible is None else f"; these {change.n} show {significant(advice.visible * factor)}{unit}"
    return f"to see {significant(advice.effect * factor)}{unit} takes {needed} ({power} power){now}"


def notes(comparison: Comparison) -> list[str]:
    """How it was made, and what a reader must know, the latter first."""
    clusters = max((c.clusters for c in comparison.changes), default=0)
    tests = sum(c.p is not None for c in comparison.changes)
    return [
        *comparison.notes,
        f"Paired over the items that both scored; {METHOD}, {clusters} of them; two-sided tests of any difference, corrected by Holm for "
        f"{tests}. A gate asks by the same rule, one-sided, for more than its tolerance. 'no difference' is said only where the interval lies "
        f"within the margin that matters, and nothing at all of fewer than {FEWEST} speakers (or items).",
    ]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """To a terminal or a pipe."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    console.print(Text(printable(title(comparison)), style="bold"))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for i, head in enumerate(heads(comparison)):
        table.add_column(head, justify="left" if i < WORDS else "right", overflow="fold")
    for change in comparison.changes:
        styles = ["", "", STYLES.get(change.outcome, "")]
        table.add_row(*(Text(printable(c), style="".join(styles[i : i + 1])) for i, c in enumerate(cells(change))))
    console.print(table)
    for change in comparison.changes:
        if words := remark(change):
            console.print(
                Text(f"- {printable(f'{change.label}, {change.column.name}: {shortened(words, REASON_LIMIT)}')}", style="dim"),
                soft_wrap=True,
            )
    for note in notes(comparison):
        console.print(Text(f"- {printable(note)}", style="dim"), soft_wrap=True)


def markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown."""
    parts = [f"# {escaped(title(comparison))}"]
    for side in (comparison.left, comparison.right):
        if side.summary.synthetic:
            parts.append(f"> **{escaped(side.summary.synthetic)}**")
            break
    rows = [[*map(escaped, cells(c)), escaped(shortened(remark(c), REASON_LIMIT))] for c in comparison.changes]
    parts.append(_table([*map(escaped, heads(comparison)), "remark"], rows))
    parts.append("\n".join(f"- {escaped(note)}" for note in notes(comparison)))
    for change in comparison.changes:
        if change.worst:
            listed = [[escaped(i.item), *(change.column.shown(v) for v in (i.left, i.right))] for i in change.worst]
            parts.append(
                f"## {escaped(f'{change.label}, {change.column.name}')}: items that became worst\n\n"
                + _table(["item", "left", "right"], listed)
            )
    return "\n\n".join(parts) + "\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads_ = list(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads_, ["---"] * len(heads_), *rows))
