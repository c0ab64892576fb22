"""What became of a claim: its outcome and the comparisons that this rests on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reports.claims.claims import Claim
from reports.writing.wording import ABSENT, signed, significant

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
        words: what is compared.
        metric: its shown name.
        outcome: what came of this comparison alone.
        reason: what speaks against it (`CONTRADICTED` or `UNDECIDED` first), or why there is no value; "" where it is reproduced.
        value, low, high: left minus right and the bounds of its interval; None where there is none.
        unit: that they are in, as printed.
        n, n_wanted: number of items compared, and of items of the run.
        clusters: number of independent units among them.
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
    """A claim and what became of it.

    Args:
        claim: that is judged.
        outcome, reason: what came of it as a whole.
        contrasts: its comparisons, measured.
        notes: what holds for all of them.
    """

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

    @property
    def status(self) -> str:
        """Outcome and reason in words."""
        return f"{self.outcome}, {self.reason}" if self.reason else str(self.outcome)
