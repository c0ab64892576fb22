"""What every renderer prints: the typed tables of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.api import Better, Weights
from reports.claims.findings import Verdict
from reports.statistics.intervals import Range
from reports.writing.wording import ABSENT, SHOWN_UNITS, heading, number, shortened, significant


@dataclass(frozen=True)
class Column:
    """One metric.

    Args:
        key: in the registry and in `Row.cells`.
        name: shown.
        unit: "" where there is none.
        better: direction; only a column with one has a best cell.
        range: the values that are possible, and what a failure counts as.
        signature: that all its numbers share.
        description, aggregation: of the metric.
        headline: place in the short table, None where it is not in it.
        decimals: digits after the point.
        significant: printed with three significant digits each, for rates that lie orders of magnitude apart.
        excluded: items whose reference this metric cannot score, left out for every system.
        unranked: why no cell is marked best, "" where one is.
        common: items that systems are ranked over where each scored others, 0 where all scored the same.
    """

    key: str
    name: str
    unit: str
    better: Better
    range: Range
    signature: str
    description: str
    aggregation: str
    headline: int | None
    decimals: int = 3
    significant: bool = False
    excluded: tuple[str, ...] = ()
    unranked: str = ""
    common: int = 0

    @property
    def is_mean(self) -> bool:
        """The corpus figure is ``sum(w v) / sum(w)``; otherwise the metric object pools it."""
        return self.aggregation in ("", "mean") or self.aggregation.startswith("weighted mean")

    @property
    def heading(self) -> str:
        return heading(self.name, self.shown_unit, self.better)

    @property
    def shown_unit(self) -> str:
        """The unit that figures are printed in; the stored one is ``unit``."""
        return SHOWN_UNITS.get(self.unit, (self.unit, 1.0))[0]

    @property
    def factor(self) -> float:
        """From the stored unit to the printed one."""
        return SHOWN_UNITS.get(self.unit, (self.unit, 1.0))[1]

    def shown(self, value: float | None) -> str:
        """A figure as printed, in ``shown_unit``; a dash where there is none."""
        if value is None:
            return ABSENT
        return significant(value * self.factor) if self.significant else number(value * self.factor, self.decimals)

    def span(self, cell: Cell) -> str:
        """``[low, high]`` as printed, or "" where there is no interval."""
        return "" if cell.low is None or cell.high is None else f"[{self.shown(cell.low)}, {self.shown(cell.high)}]"


@dataclass(frozen=True)
class Cell:
    """One system's figure of one metric. Its records are ``n_total + n_excluded + n_skipped`` in number.

    Args:
        value: pooled over the ``n_ok`` scored outputs, or None.
        low, high: 95 % bounds, or None where there are fewer than two clusters.
        n_ok: outputs scored.
        n_total: outputs that could be scored, i.e. ``n_ok`` and the system's failures.
        n_excluded: records left out because the reference cannot be scored.
        n_own: those of them that are left out of this row only, a calibration row with recordings of its own.
        n_skipped: records the metric does not apply to, or that were skipped by policy.
        n_missing: items of the run without any record (an unfinished run).
        pessimistic: the figure when each failure counts as the worst value that is natural; None where there is none.
        statuses: records by status, of all of them.
        reason: why there is no value, "" otherwise.
        clusters: independent units behind the interval.
        method: of the interval.
        seeds: number of seeds.
        seed_spread: standard deviation of the figure over seeds, None for one seed.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_ok: int = 0
    n_total: int = 0
    n_excluded: int = 0
    n_own: int = 0
    n_skipped: int = 0
    n_missing: int = 0
    pessimistic: float | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    clusters: int = 0
    method: str = ""
    seeds: int = 0
    seed_spread: float | None = None

    @property
    def coverage(self) -> float:
        """Share of the wanted outputs that were scored, 0 to 1."""
        wanted = self.n_total + self.n_missing
        return self.n_ok / wanted if wanted else 0.0

    @property
    def counted(self) -> str:
        """``n_ok/n_total``; "" where nothing was to be scored."""
        return f"{self.n_ok}/{self.n_total}" if self.n_total else ""


@dataclass(frozen=True)
class SystemFacts:
    """What is known of a system beside its measurements (`harness.api.SystemInfo` and its configuration, from the manifest)."""

    label: str
    family: str = ""
    version: str = ""
    description: str = ""
    size: str = ""
    weights: str = Weights.NONE
    weights_digest: str = ""
    num_parameters: int = 0
    training_data: str = ""
    sample_rate: int = 0
    anchor: bool = False
    device: str = ""
    precision: str = ""
    tools: str = ""
    configured: tuple[tuple[str, float], ...] = ()

    @property
    def random(self) -> bool:
        return self.weights == Weights.RANDOM


@dataclass(frozen=True)
class Row:
    """One system under one setting.

    Args:
        facts: of the system.
        settings: JSON text as in the frame.
        calibration: a reference row, not a system under test.
        cells: by metric key.
        best: keys of the metrics in which no ranked system has a better figure (as printed).
    """

    facts: SystemFacts
    settings: str
    calibration: bool
    cells: Mapping[str, Cell]
    best: frozenset[str] = frozenset()

    @property
    def variant(self) -> str:
        """The settings in words, "" for the plain system."""
        return ", ".join(f"{k}={v}" for k, v in parsed_settings(self.settings).items())

    @property
    def label(self) -> str:
        return f"{self.facts.label} {self.variant}".rstrip()


@dataclass(frozen=True)
class Failure:
    """Records without a value that share status and reason (up to the figures in it).

    Args:
        kind: "failure" counts against the system; "reference" is left out for every system; "calibration" is of a row that is not under
            test; "skipped" is none of these.
        labels: of the rows: one for a failure or a row not under test, all affected rows for what was skipped, none where the reference
            is to blame.
        status, reason: of the first of them, by item.
        metrics: names affected.
        items: affected, sorted.
        records: number of records.
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
    """Something a reader must know to read the numbers.

    Args:
        text: a sentence.
        metrics: keys of the metrics it is about; none for the whole run.
    """

    text: str
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErrorRates:
    """Four readings of one set of transcripts, as fractions (1 is as many errors as reference tokens).

    Args:
        label: of the row.
        key, metric: of the metric, and its shown name.
        macro: mean over utterances of errors / reference length.
        corpus: all errors / all reference tokens.
        median: over utterances.
        above_half: share of utterances above 50 %.
        low, high: bounds of that share, None where there are fewer than two clusters.
        n: utterances.
        calibration: a reference row.
    """

    label: str
    key: str
    metric: str
    macro: float
    corpus: float
    median: float
    above_half: float
    low: float | None
    high: float | None
    n: int
    calibration: bool

    @property
    def figures(self) -> tuple[str, ...]:
        """Macro, corpus, median and share above 50 % as printed, in per cent."""
        return tuple(f"{100 * v:.2f}" for v in (self.macro, self.corpus, self.median, self.above_half))

    @property
    def span(self) -> str:
        """The interval of the share as printed, or "" where there is none."""
        return "" if self.low is None or self.high is None else f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Axes:
    """A figure asked for by the suite (`harness.api.Curve`), metrics as keys."""

    title: str
    x: str
    y: tuple[str, ...]
    log_x: bool


@dataclass(frozen=True)
class Summary:
    """A run in tables.

    Args:
        suite, title, task: what was asked.
        dataset: its name, description and licence, by those words.
        left_out: what lies in the dataset and was not measured, in short phrases.
        num_items: of the run.
        synthetic: a sentence that starts with SYNTHETIC SPEECH, "" for human recordings.
        created, command, complete: of the run.
        confidence: of the intervals.
        columns: every metric, in the suite's order.
        rows: systems under test, then calibration rows.
        failures: grouped, the largest group first.
        error_rates: of metrics that count hits, substitutions, deletions and insertions.
        axes: figures asked for.
        notes: what a reader must know to read the numbers.
        verdicts: on the papers' claims that this suite measures.
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
    axes: tuple[Axes, ...]
    notes: tuple[Note, ...]
    left_out: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @cached_property
    def counted(self) -> str:
        """How much was measured: ``60 items of embedded, 5 systems``."""
        name = self.dataset.get("name", "")
        systems, rows, calibration = len(self.facts), len(self.systems), len(self.calibrations)
        parts = [f"{_plural(self.num_items, 'item')}{f' of {name}' if name else ''}", _plural(systems, "system")]
        if rows > systems:
            parts[-1] += f" in {_plural(rows, 'variant')}"
        if calibration:
            parts.append(_plural(calibration, "calibration row"))
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


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def parsed_settings(text: str) -> dict[str, int | float | str | bool]:
    """A variant's settings from the frame's JSON text; "" is the plain system."""
    parsed = json.loads(text) if text else {}
    if not isinstance(parsed, dict):
        raise ValueError(f"settings must be a JSON object, got {text!r}")
    return parsed
