"""What became of a claim: its outcome and the comparisons that this rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from reports.claims.claims import Claim
from reports.writing.blocks import Entry, Head, Line, Table, Tone
from reports.writing.wording import ABSENT, percent, signed, significant

CONTRADICTED, UNDECIDED = "contradicted", "undecided"
"""What the reason of a comparison that is not reproduced starts with."""


class Replication(StrEnum):
    """Whether a published value or a claim is seen again in what was measured here; the later ones outweigh the earlier."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    TOO_FEW = "too few"
    NOT_COMPARABLE = "not comparable"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class MeasuredContrast:
    """One comparison of a claim, measured.

    Args:
        reason: what speaks against it (`CONTRADICTED` or `UNDECIDED` first), or why there is no value; "" where it is reproduced.
        value, low, high: left minus right and the bounds of its interval; None where there is none.
        unit: that they are in, as printed.
        n, n_wanted: number of items compared, and of items of the run.
        seeds: number of trainings (or samplings) of each system in it.
        seed_spread: standard deviation of the difference from one training to the next, None where a system has one.
    """

    words: str
    metric: str
    outcome: Replication
    reason: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0
    n_wanted: int = 0
    clusters: int = 0
    seeds: tuple[int, ...] = ()
    seed_spread: float | None = None

    @property
    def printed(self) -> str:
        """``-0.310 dB [-0.420, -0.200]``, a dash where nothing was measured."""
        if self.value is None:
            return ABSENT
        bounds = "" if self.low is None or self.high is None else f" [{signed(self.low)}, {signed(self.high)}]"
        return f"{signed(self.value)} {self.unit}".rstrip() + bounds

    @property
    def counted(self) -> str:
        """``n 60/60``, and the seeds' number and spread where there are several; "" where nothing was measured."""
        if not self.n:
            return ""
        seeds = ""
        if max(self.seeds, default=1) > 1:
            spread = "" if self.seed_spread is None else f", SD over seeds {significant(self.seed_spread)}"
            seeds = f"; {'/'.join(map(str, self.seeds))} seeds{spread}"
        return f"n {self.n}/{self.n_wanted}{seeds}"


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it."""

    claim: Claim
    outcome: Replication
    reason: str
    contrasts: tuple[MeasuredContrast, ...]
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> MeasuredContrast:
        """The comparison that settles the conjunction, the first of equals; a contradiction stands whatever the others would say."""
        weight = list(reversed(Replication))
        return min(self.contrasts, key=lambda c: -1 if c.reason.startswith(CONTRADICTED) else weight.index(c.outcome))

    @property
    def source(self) -> str:
        return f"{self.claim.paper}, {self.claim.source}, {self.claim.standing}"


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
    """Claims with the name of their run ("" for none), what became of them and why, the comparison that this rests on first."""
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
