"""Two runs compared: paired differences with intervals, corrected tests, equivalence, and the items that changed most.

A difference is the right run minus the left one, over the items that both scored. It is called *better* or *worse* where the rule that
gates and claims follow too (`reports.statistics.significance`) says so, two-sided and after Holm's correction over the whole table; *no difference*
only where the interval of the two one-sided tests lies within the margin that matters; everything between is *undecided*. Where no
outcome could have been reached with so few speakers (or items), or so few of them that differ, the answer is *too few*, with the number
that could. Where the shares of scored outputs differ by more than 1 % nothing is said of better and worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from harness.api import Better, PooledMetric
from harness.errors import Incomparable, UnknownName
from reports.compare.pairing import Half, Matched, Obstacle, difference, matched, obstacles, other_packages, standing
from reports.run.notes import few_speakers
from reports.statistics.intervals import Array, Estimate, Interval, IntervalSettings
from reports.statistics.pooling import UnpoolableError
from reports.statistics.records import COVERAGE_TOLERANCE, Column, Row, unit_noun
from reports.statistics.significance import Advice, advice, differing, exceeding_level, fewest_differing, holm, too_few


class Conclusion(StrEnum):
    WORSE = "worse"
    BETTER = "better"
    CHANGED = "changed"
    UNDECIDED = "undecided"
    TOO_FEW = "too few"
    EQUIVALENT = "no difference"
    IDENTICAL = "identical"
    UNRANKED = "not ranked"
    INCOMPARABLE = "not comparable"


@dataclass(frozen=True)
class Settings:
    """How runs are compared.

    Args:
        margins: by metric key or name, the difference that matters, in the stored unit: the bound of "no difference", and what sample-size
            advice is given for.
        metrics: registry keys or names of the metrics to compare, all common ones if empty.
        advised: metrics whose sample-size advice is told in any case; of the others only where a difference stays undecided.
        num_items: how many items are listed as worst and as most changed, for each metric.
        force: whether to compare although data, package versions or signatures differ.
    """

    how: IntervalSettings = field(default_factory=lambda: IntervalSettings(resamples=10_000))
    margins: Mapping[str, float] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    advised: frozenset[str] = frozenset()
    num_items: int = 5
    force: bool = False


@dataclass(frozen=True)
class ItemChange:
    """One item in both runs; means over seeds, in the stored unit."""

    item: str
    left: float
    right: float

    @property
    def difference(self) -> float:
        return self.right - self.left


@dataclass(frozen=True)
class Change:
    """One metric of one system in both runs.

    Args:
        column: the metric, printed as in the right run.
        reason: why no more can be said, "" otherwise.
        left, right: values over the common items in the stored unit, None where they cannot be compared, as all that follows.
        found: right minus left.
        p, adjusted: two-sided p-value, and corrected by Holm over the table; None where there are too few for any.
        left_coverage, right_coverage: share of the wanted outputs that were scored, 0 to 1.
        differing: number of independent units with any difference.
        units: what these are, in the plural.
        seed_spread: standard deviation of the difference over seeds, None with one on either side.
        margin: the difference that matters, None where none was given.
        advice: how many items would show the margin, None without one or where nothing varies.
        advised: whether advice was asked for by name.
        worst, changed: items in order, the worst change first and the largest change first.
        notes: sentences on what ``force`` let pass.
    """

    left_row: Row
    right_row: Row
    column: Column
    outcome: Conclusion
    reason: str = ""
    left: float | None = None
    right: float | None = None
    found: Interval | None = None
    p: float | None = None
    adjusted: float | None = None
    left_coverage: float = 0.0
    right_coverage: float = 0.0
    differing: int = 0
    units: str = "items"
    seed_spread: float | None = None
    margin: float | None = None
    advice: Advice | None = None
    advised: bool = False
    worst: tuple[ItemChange, ...] = ()
    changed: tuple[ItemChange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The system, or both where they are two."""
        return self.right_row.label if self.left_row.label == self.right_row.label else f"{self.left_row.label} → {self.right_row.label}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs compared, the left one being the old."""

    left: Half
    right: Half
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    settings: Settings


def compare(
    left: Half,
    right: Half,
    rows: Sequence[tuple[Row, Row]],
    settings: Settings | None = None,
    pooled: Mapping[str, PooledMetric] | None = None,
) -> Comparison:
    """Right against left.

    Args:
        left, right: the two runs; the same one twice compares two systems of one run.
        rows: pairs of systems to compare, such as `same_rows` gives.
        pooled: metric objects by registry key, for metrics that are no means.

    Raises:
        Incomparable: the runs cannot be compared, or nothing in them can.
    """
    settings = settings or Settings()
    found = [o for o in obstacles(left, right) if left is not right]
    forbidden, forceable = standing(found, settings.force)
    if forbidden:
        hint = " (force=true compares all the same, and says so)" if forceable else ""
        raise Incomparable(f"not comparable: {'; '.join(o.text for o in forbidden)}{hint}")
    notes = [o.text for o in found]
    if told := other_packages(left, right):
        notes.append(f"other packages differ: {told}")
    notes += dict.fromkeys(note.text for half in (left, right) for note in few_speakers(half.run.frame["speaker"].fillna("")))
    keys = _keys(left, right, settings.metrics)
    columns = {c.key: c for h in (left, right) for c in h.summary.columns}
    changes: list[Change] = []
    pairs: dict[int, Matched] = {}
    for one, two in rows:
        for key in keys:
            pair = matched(left, right, (one, two), key, settings.force)
            if isinstance(pair, Obstacle):
                changes.append(Change(one, two, columns[key], Conclusion.INCOMPARABLE, pair.text))
            else:
                pairs[len(changes)] = pair
                changes.append(Change(one, two, pair.column, Conclusion.UNDECIDED))
    if not pairs:
        raise Incomparable(
            f"nothing in {left.name} and {right.name} can be compared: {'; '.join(dict.fromkeys(c.reason for c in changes)) or 'no metric of a common system'}"
        )
    for i, pair in pairs.items():
        try:
            changes[i] = _measured(changes[i], pair, difference(pair, settings.how, pooled or {}), settings)
        except UnpoolableError as problem:
            changes[i] = replace(changes[i], outcome=Conclusion.INCOMPARABLE, reason=str(problem))
    return Comparison(left, right, tuple(_judged(changes, settings)), tuple(notes), settings)


def same_rows(left: Half, right: Half) -> tuple[list[tuple[Row, Row]], list[str]]:
    """Systems that both runs have under the same name and settings, and words on the others."""
    there = {(r.facts.label, r.settings): r for r in left.summary.systems}
    here = {(r.facts.label, r.settings): r for r in right.summary.systems}
    alone = [f"{side.name} alone has {', '.join(r.label for k, r in mine.items() if k not in other)}"
             for side, mine, other in ((left, there, here), (right, here, there)) if set(mine) - set(other)]  # fmt: skip
    return [(there[k], here[k]) for k in here if k in there], alone


def _keys(left: Half, right: Half, wanted: Sequence[str]) -> list[str]:
    known = {c.key: c for h in (right, left) for c in h.summary.columns}
    names = {c.name: key for key, c in known.items()}
    for name in wanted:
        if name not in known and name not in names:
            raise UnknownName("metric", name, known, f"(measured in {left.name} and {right.name})")
    return [name if name in known else names[name] for name in wanted] or list(known)


def _measured(change: Change, pair: Matched, known: Estimate, settings: Settings) -> Change:
    """The change with its values; what it amounts to is said when all p-values are known."""
    column, how, left, right = pair.column, settings.how, pair.left, pair.right
    margin = settings.margins.get(column.key, settings.margins.get(column.name))
    units = unit_noun(pair.clusters)
    lacking = too_few(known, units, known.value, how.confidence)
    p = None if lacking else min(1.0, 2 * min(exceeding_level(known), exceeding_level(known.mirrored())))
    # A pooled metric has no value of one side here: only the difference is formed.
    whole = sum(1 / len(left.means) * mean for mean in left.means) if column.is_mean else None
    spread = None
    if column.is_mean and min(len(left.means), len(right.means)) > 1:
        # The seeds of two runs are independent, so their variances add.
        spread = math.sqrt(sum(float(np.var(side.means, ddof=1)) for side in (left, right)))
    delta = right.values - left.values
    worse = -delta if column.better is Better.HIGHER else delta
    return replace(
        change,
        outcome=Conclusion.TOO_FEW if lacking else change.outcome,
        reason=lacking,
        left=whole,
        right=None if whole is None else whole + known.value,
        found=known.interval(how.confidence),
        p=p,
        differing=differing(known),
        units=units,
        left_coverage=left.coverage,
        right_coverage=right.coverage,
        seed_spread=spread,
        margin=margin,
        advice=advice(known, margin, how.confidence) if margin else None,
        advised=bool({column.key, column.name} & settings.advised),
        worst=_items(pair, worse, settings.num_items) if column.better is not Better.NEITHER else (),
        changed=_items(pair, np.abs(delta), settings.num_items),
        notes=pair.notes,
    )


def _items(pair: Matched, size: Array, count: int) -> tuple[ItemChange, ...]:
    """Items by size, the largest first, none that did not change that way."""
    order = [i for i in np.argsort(-size, kind="stable")[:count] if size[i] > 0]
    return tuple(ItemChange(pair.items[i], float(pair.left.values[i]), float(pair.right.values[i])) for i in order)


def _judged(changes: Sequence[Change], settings: Settings) -> list[Change]:
    """Outcomes, after the correction over all tests of the table."""
    tested = [i for i, c in enumerate(changes) if c.p is not None]
    corrected = dict(zip(tested, holm([changes[i].p or 0.0 for i in tested]), strict=True))
    return [_outcome(replace(c, adjusted=corrected.get(i)), settings, len(tested)) for i, c in enumerate(changes)]


def _outcome(change: Change, settings: Settings, tests: int) -> Change:
    found = change.found
    if found is None:
        return change
    gap = abs(change.left_coverage - change.right_coverage)
    if gap > COVERAGE_TOLERANCE:
        words = f"coverage differs: {change.left_coverage:.1%} and {change.right_coverage:.1%} of the outputs were scored"
        return replace(change, outcome=Conclusion.UNRANKED, reason=words)
    if not change.changed and found.value == 0:
        return replace(change, outcome=Conclusion.IDENTICAL, reason="")
    if found.low is None or found.high is None or change.p is None or change.adjusted is None:
        return change
    level = 1 - settings.how.confidence
    if change.adjusted <= level:
        if change.column.better is Better.NEITHER:
            return replace(change, outcome=Conclusion.CHANGED)
        up = found.value > 0
        return replace(change, outcome=Conclusion.BETTER if up == (change.column.better is Better.HIGHER) else Conclusion.WORSE)
    # The two-sided interval is a little wider than that of the two one-sided tests: what it shows they show.
    if change.margin is not None and max(-found.low, found.high) <= change.margin:
        return replace(change, outcome=Conclusion.EQUIVALENT, reason=f"within {change.column.shown(change.margin)}")
    if change.differing < min(found.clusters, least := fewest_differing(level / tests)):
        among = f" among {tests} tests" if tests > 1 else ""
        words = f"{change.differing} of {found.clusters} {change.units} differ, for a verdict{among} at least {least} must"
        return replace(change, outcome=Conclusion.TOO_FEW, reason=words)
    if change.p <= level < change.adjusted:
        return replace(change, reason=f"p {change.p:.3f} alone, {change.adjusted:.2f} among {'all tests of the table'}")
    return change
