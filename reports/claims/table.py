"""Verdicts on claims as a table."""

from __future__ import annotations

from collections.abc import Iterable

from reports.claims.verdicts import MeasuredContrast, Replication, Verdict
from reports.writing.blocks import Entry, Head, Line, Table, Tone
from reports.writing.wording import percent

TONES: dict[Replication, Tone] = {
    Replication.REPRODUCED: "good", Replication.NOT_REPRODUCED: "bad", Replication.TOO_FEW: "", Replication.NOT_COMPARABLE: "warn",
    Replication.NOT_RUN: "soft",
}  # fmt: skip
HEADS = (
    Head("claim", words=True, wide=True),
    Head("source", words=True),
    Head("status", words=True),
    Head("measured", words=True, wide=True),
)


def claims_table(judged: Iterable[tuple[Verdict, str]], confidence: float, name: str = "Claims of the papers") -> Table:
    """Claims, what became of them and the comparison that this rests on, the others folded behind it.

    Args:
        judged: each verdict with the run it was found in, "" for one that need not be named.
        confidence: of the intervals.
        name: of the table.
    """
    caption = f"Differences are left minus right, with {percent(confidence)} intervals over the items that all figures compared have."
    return Table(name, HEADS, tuple(_line(verdict, run) for verdict, run in judged), caption, style="claims", wordy=True)


def _line(verdict: Verdict, run: str) -> Line:
    found = verdict.deciding
    return Line(
        (
            Entry(verdict.claim.text, about=verdict.claim.id),
            Entry(verdict.source),
            Entry(tag=verdict.outcome, tone=TONES[verdict.outcome], below=tuple(filter(None, (verdict.reason, *verdict.notes)))),
            Entry(
                f"{found.metric}: {found.words}: {found.printed}",
                below=tuple(filter(None, (_counted(found), run))),
                more=tuple(_told(c) for c in verdict.contrasts if c is not found),
                about=found.reason,
            ),
        ),
        grey=verdict.outcome is Replication.NOT_RUN,
    )


def _counted(contrast: MeasuredContrast) -> str:
    return ", ".join(filter(None, (contrast.counted, contrast.outcome)))


def _told(contrast: MeasuredContrast) -> str:
    told = f"{contrast.metric}: {contrast.words}: {contrast.printed} ({_counted(contrast)})"
    return f"{told}: {contrast.reason}" if contrast.reason else told
