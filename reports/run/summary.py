"""What every renderer prints: the typed tables of one run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.api import Curve, Status
from reports.claims.verdicts import Verdict
from reports.statistics.intervals import Interval
from reports.statistics.records import Column, Row, SystemFacts
from reports.writing.wording import PROBLEM_LIMIT, plural, printable, shortened

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Failure:
    """Records without a value that share status and reason (up to the numbers in it).

    Args:
        kind: "failure" counts against the system; "reference" is left out for every system; "calibration" is of a row that is not under
            test; "skipped" is none of these.
        labels: of the rows: one for a failure or a row not under test, all affected rows for what was skipped, none where the reference
            is to blame.
        status, reason: of the first of them, by item.
        items: affected, sorted.
    """

    kind: str
    labels: tuple[str, ...]
    status: str
    reason: str
    metrics: tuple[str, ...]
    items: tuple[str, ...]
    records: int


@dataclass(frozen=True)
class Note:
    """A sentence one must know to read the numbers, of some metrics (by key) or, where none are named, of the whole run."""

    text: str
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErrorRates:
    """Four readings of one set of transcripts, as fractions (1 is as many errors as reference tokens).

    Args:
        macro: mean over utterances of errors / reference length.
        corpus: all errors / all reference tokens.
        median: over utterances.
        above_half: share of utterances above 50 %.
    """

    row: Row
    column: Column
    macro: float
    corpus: float
    median: float
    above_half: Interval

    @property
    def printed(self) -> tuple[str, ...]:
        """Macro, corpus, median and share above 50 % as printed, in per cent."""
        return tuple(f"{100 * v:.2f}" for v in (self.macro, self.corpus, self.median, self.above_half.value))

    @property
    def span(self) -> str:
        """The interval of the share as printed, or "" where there is none."""
        low, high = self.above_half.low, self.above_half.high
        return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True)
class Summary:
    """A run in tables.

    Args:
        dataset: its name, description and licence, by those words.
        left_out: what lies in the dataset and was not measured, in short phrases.
        synthetic: a sentence that starts with SYNTHETIC SPEECH, "" for human recordings.
        columns: every metric, in the suite's order.
        rows: systems under test, then calibration rows.
        failures: grouped, the largest group first.
        error_rates: of metrics that count hits, substitutions, deletions and insertions.
    """

    suite: str
    title: str
    task: str
    dataset: Mapping[str, str]
    num_items: int
    synthetic: str
    created: str
    command: str
    complete: bool
    confidence: float
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    error_rates: tuple[ErrorRates, ...]
    axes: tuple[Curve, ...]
    notes: tuple[Note, ...]
    left_out: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @cached_property
    def counted(self) -> str:
        """How much was measured: ``60 items of embedded, 5 systems``."""
        name = self.dataset.get("name", "")
        systems, rows, calibration = len(self.facts), len(self.systems), len(self.calibrations)
        parts = [f"{plural(self.num_items, 'item')}{f' of {name}' if name else ''}", plural(systems, "system")]
        if rows > systems:
            parts[-1] += f" in {plural(rows, 'variant')}"
        if calibration:
            parts.append(plural(calibration, "calibration row"))
        return ", ".join(parts)

    @cached_property
    def lacking(self) -> str:
        """A line that starts with "left out", "" where the whole dataset was measured."""
        return f"left out: {shortened('; '.join(self.left_out), 600)}" if self.left_out else ""

    @cached_property
    def partial(self) -> str:
        """A sentence that starts with PARTIAL RUN, "" for a finished one."""
        return "" if self.complete else "PARTIAL RUN: it was stopped before the end; nothing here is final."

    @cached_property
    def random(self) -> str:
        """A sentence that starts with RANDOM WEIGHTS and names the systems that have them, "" where none has."""
        labels = [f.label for f in self.facts if f.random]
        return f"RANDOM WEIGHTS: {', '.join(labels)}; untrained, so their figures say nothing about quality." if labels else ""

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What every format says before its first number, the gravest first."""
        return tuple(filter(None, (self.partial, self.random, self.synthetic)))

    @cached_property
    def everywhere(self) -> frozenset[str]:
        """Labels of all systems under test."""
        return frozenset(r.label for r in self.systems)

    @cached_property
    def headline(self) -> tuple[Column, ...]:
        short = [(c.headline, c) for c in self.columns if c.headline is not None]
        return tuple(c for _, c in sorted(short, key=lambda pair: pair[0])) or self.columns

    @cached_property
    def systems(self) -> tuple[Row, ...]:
        return tuple(r for r in self.rows if not r.calibration)

    @cached_property
    def calibrations(self) -> tuple[Row, ...]:
        return tuple(r for r in self.rows if r.calibration)

    @cached_property
    def facts(self) -> tuple[SystemFacts, ...]:
        """Of each system under test once, in table order."""
        return tuple({r.facts.label: r.facts for r in self.systems}.values())

    def column(self, key: str) -> Column | None:
        """The column of a registry key or shown name."""
        return next((c for c in self.columns if c.key == key), None) or next((c for c in self.columns if c.name == key), None)


KINDS = ("failure", "reference", "calibration", "skipped")
HEADINGS = {
    "failure": "Failures, counted against the system",
    "reference": "References that cannot be scored, left out for every system",
    "calibration": "In calibration rows and anchors, counted against no system",
    "skipped": "Skipped, neither scored nor failed",
}


def grouped_failures(
    frame: pd.DataFrame,
    labels: Mapping[tuple[str, str], str],
    calibration: Collection[str] = frozenset(),
    anchors: Collection[str] = frozenset(),
) -> tuple[Failure, ...]:
    """Groups of records without a value: same status and reason once item names and numbers are taken out of it.

    A failure belongs to its system and is grouped by it; what a policy skipped, or an unscorable reference, is nobody's fault
    and makes one group for all systems.

    Args:
        labels: (system, settings) to the row's label, in the order of the rows.
        calibration, anchors: rows whose lost records count against nobody; of an anchor only those that a metric cannot score.
    """
    groups: dict[tuple[str, ...], list[Any]] = {}
    columns = ["system", "settings", "status", "side", "reason", "name", "metric", "item"]
    bad = frame[frame["status"] != Status.OK.value]
    for system, settings, status, side, reason, name, metric, item in bad[columns].itertuples(index=False, name=None):
        kind = _kind(status, side, system in calibration or (system in anchors and status == Status.METRIC_UNDEFINED))
        label = labels[system, settings]
        pattern = re.sub(r"\d+(\.\d+)?", "#", reason.replace(item, "<item>") if item else reason)
        groups.setdefault((kind, label if kind in ("failure", "calibration") else "", status, pattern), []).append(
            (item, name or metric, reason, label)
        )
    order = {label: i for i, label in enumerate(labels.values())}
    failures = [
        Failure(
            kind=kind,
            labels=() if kind == "reference" else tuple(sorted({label for *_, label in members}, key=order.__getitem__)),
            status=status,
            reason=shortened(printable(min(members)[2]), PROBLEM_LIMIT),
            metrics=tuple(dict.fromkeys(name for _, name, _, _ in members)),
            items=tuple(sorted({item for item, *_ in members})),
            records=len(members),
        )
        for (kind, _, status, _), members in groups.items()
    ]
    return tuple(sorted(failures, key=lambda f: (KINDS.index(f.kind), -f.records, f.labels, f.reason)))


def whose(failure: Failure, everywhere: frozenset[str]) -> str:
    """The systems of a group in words: a name, several, or "all 5 systems" where it is all under test and nothing else."""
    if len(failure.labels) > 1 and frozenset(failure.labels) == everywhere:
        return f"all {len(failure.labels)} systems"
    return ", ".join(failure.labels)


def _kind(status: str, side: str, untested: bool) -> str:
    if status == Status.SKIPPED_BY_POLICY.value:
        return "skipped"
    if untested:
        return "calibration"
    return "reference" if side == "reference" else "failure"
