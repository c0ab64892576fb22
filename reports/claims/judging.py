"""What a run says of the papers' claims: reproduced, not reproduced, too few, not comparable or not run, with the measured differences.

A claim is a conjunction of comparisons. Each is a difference over the items that every value in it has, with an interval over
speakers (or items). A system trained with several seeds counts with the mean over its seeds; the
spread between them is told beside the interval, which does not hold it. A claim is *reproduced* when every interval lies in the
claimed range at the report's confidence (a conjunction needs no correction for that). It is *contradicted* when one lies wholly
outside at the Bonferroni level of the claim's comparisons, so that a long claim is not contradicted by chance. Between the two it is
undecided, which is no reproduction either. Claims are not corrected for each other. Where fewer speakers (or items) were heard than any
verdict takes (`reports.statistics.intervals.FEWEST`) the answer is *too few*, with the number that would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.api import PooledMetric, Status, Weights
from harness.settings.registry import config_names
from reports.claims.claims import Claim, Contrast, Monotone, Point, Relation
from reports.claims.verdicts import CONTRADICTED, UNDECIDED, MeasuredContrast, Replication, Verdict
from reports.statistics.intervals import Estimate, IntervalSettings
from reports.statistics.pooling import UnpoolableError, combined, statistic_of
from reports.statistics.records import CALIBRATION, Column, SystemFacts, parsed_settings, reference_fault, system_of, unit_noun
from reports.statistics.significance import differing, exceeding_level, fewest_differing, too_few

if TYPE_CHECKING:
    import pandas as pd

FAILURE_TOLERANCE = 0.01
"""Share of outputs that may fail (or be missing); a difference over the rest would flatter the system that failed more."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What claims are judged on.

    Args:
        frame: the records of one suite, checked and sorted.
        cluster: the independent unit of each item.
        pooled: metric objects by registry key, as in `reports.statistics.pooling.statistic_of`.
        absent: the metrics that could not be built, with the reason.
    """

    frame: pd.DataFrame
    columns: Sequence[Column]
    facts: Mapping[str, SystemFacts]
    cluster: Mapping[str, str]
    num_items: int
    how: IntervalSettings
    pooled: Mapping[str, PooledMetric] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def groups(self) -> Mapping[tuple[str, Point], Mapping[tuple[str, int], pd.DataFrame]]:
        """Records of each metric and point, by label and seed: the repeats of one system."""
        found: dict[tuple[str, Point], dict[tuple[str, int], pd.DataFrame]] = {}
        for key, group in self.frame.groupby(["metric", "system", "settings", "seed"], sort=True):
            metric, label, settings, seed = map(str, key)
            point = Point(system_of(label), tuple(sorted(parsed_settings(settings).items())))
            found.setdefault((metric, point), {})[label, int(seed)] = group
        return found

    @cached_property
    def points(self) -> frozenset[Point]:
        return frozenset(point for _, point in self.groups)

    def column(self, key: str) -> Column | None:
        return next((c for c in self.columns if c.key == key), None)


def verdicts_on(claims: Sequence[Claim], measured: Measurements) -> tuple[Verdict, ...]:
    """The verdict on each claim, in order."""
    return tuple(_verdict(claim, measured) for claim in claims)


def _verdict(claim: Claim, measured: Measurements) -> Verdict:
    parts = [c for part in claim.test for c in ([part] if isinstance(part, Contrast) else part.steps(_values(part, measured)))]
    confidence = 1 - (1 - measured.how.confidence) / len(parts)
    contrasts = tuple(_measured(contrast, claim, measured, confidence) for contrast in parts)
    verdict = Verdict(claim, Replication.NOT_RUN, "", contrasts, _notes(claim, contrasts, measured))
    return replace(verdict, outcome=verdict.deciding.outcome, reason=verdict.deciding.reason)


def _values(part: Monotone, measured: Measurements) -> list[float]:
    """The values of its setting that were run, in its range."""
    found = [v for p in measured.points if (v := dict(p.settings).get(part.over)) is not None and p == part.at(v)]
    return sorted(v for v in found if not isinstance(v, str) and part.first <= v <= part.last)


class _NoValueError(Exception):
    """A comparison that cannot be made, with its outcome."""

    def __init__(self, outcome: Replication, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


def _measured(contrast: Contrast, claim: Claim, measured: Measurements, confidence: float) -> MeasuredContrast:
    """A comparison judged; an interval of ``confidence`` must lie outside the claimed range for a contradiction."""
    column = measured.column(contrast.metric)
    blank = MeasuredContrast(str(contrast), column.name if column else contrast.metric, Replication.NOT_RUN, n_wanted=measured.num_items)
    try:
        if missing := [p for p in contrast.points if p not in measured.points]:
            raise _NoValueError(Replication.NOT_RUN, _what_to_run(missing[0], claim, measured))
        if column is None:
            absent, key = measured.absent.get(contrast.metric), contrast.metric
            why = f"is absent from this run: {absent}" if absent else f"was not measured; run without metrics=, or with {key} among them"
            raise _NoValueError(Replication.NOT_RUN, f"{key} {why}")
        common = _common(contrast, column, measured, claim.untrained)
        return _judged(replace(blank, unit=column.shown_unit), contrast, column, common, measured, confidence)
    except _NoValueError as problem:
        return replace(blank, outcome=problem.outcome, reason=problem.reason)
    except UnpoolableError as problem:
        return replace(blank, outcome=Replication.NOT_COMPARABLE, reason=str(problem))


def _common(contrast: Contrast, column: Column, measured: Measurements, untrained: bool) -> Sequence[Sequence[pd.DataFrame]]:
    """Records with a value behind one comparison: the repeats of each of its terms, over the same items in the same order.

    Raises:
        _NoValueError: something was not measured of every training, or is not to be compared with the others.
    """
    _check_alike(contrast, measured, untrained)
    repeats = []
    for point in contrast.points:
        groups = measured.groups.get((column.key, point), {})
        if lacking := sorted(set(_labels([point], measured)) - {label for label, _ in groups}):
            raise _NoValueError(Replication.NOT_RUN, f"{column.name} was not measured of {_at(lacking[0], point)}: finish the run")
        repeats.append([_ok(group, label, point, column, measured) for (label, _), group in groups.items()])
    common = set.intersection(*(set(ok["item"]) for oks in repeats for ok in oks))
    if not common:
        raise _NoValueError(Replication.NOT_COMPARABLE, f"no item has {column.name} of every system compared")
    items = sorted(common)
    return [[ok.set_index("item", drop=False).loc[items] for ok in oks] for oks in repeats]


def _what_to_run(point: Point, claim: Claim, measured: Measurements) -> str:
    if any(p.system == point.system for p in measured.points):
        settings = ", ".join(f"{k}={v}" for k, v in point.settings) or "all of its codebooks"
        return f"{point.system} was not run with {settings}"
    present = {p.system for p in measured.points}
    # The rows that a suite adds by itself are asked for by nobody.
    wanted = sorted(s for s in claim.systems if s not in CALIBRATION)
    lacking = [s for s in wanted if s not in present]
    known = set(config_names("systems"))
    if unknown := [s for s in lacking if s not in known]:
        return (
            f"{', '.join(lacking)} missing; no system {', '.join(unknown)} comes with the harness, it would have to be trained and named so"
        )
    return f"{', '.join(lacking)} missing: harness run suite={claim.suite} systems=[{','.join(wanted)}]"


def _at(label: str, point: Point) -> str:
    """One training seed of a point, in words."""
    return str(replace(point, system=label))


def _labels(points: Sequence[Point], measured: Measurements) -> list[str]:
    systems = {p.system for p in points}
    return [label for label in measured.facts if system_of(label) in systems]


def _check_alike(contrast: Contrast, measured: Measurements, untrained: bool) -> None:
    """Refuses systems that no ordering should be read from.

    Raises:
        _NoValueError: random weights, or systems of different sizes.
    """
    facts = [measured.facts[label] for label in _labels(contrast.points, measured)]
    if not untrained and (random := [f.label for f in facts if f.random]):
        raise _NoValueError(Replication.NOT_COMPARABLE, f"{', '.join(random)} has random weights")
    if len(sizes := {f.size for f in facts if f.size}) > 1:
        raise _NoValueError(Replication.NOT_COMPARABLE, f"systems of the sizes {' and '.join(sorted(sizes))} are compared")


def _ok(group: pd.DataFrame, label: str, point: Point, column: Column, measured: Measurements) -> pd.DataFrame:
    """Records with a value.

    Raises:
        _NoValueError: there are none, or more than `FAILURE_TOLERANCE` lack one through the system's fault or an unfinished run.
    """
    who = _at(label, point)
    if (lacking := measured.num_items - len(group)) > FAILURE_TOLERANCE * measured.num_items:
        raise _NoValueError(
            Replication.NOT_RUN, f"{column.name} of {lacking} of {measured.num_items} items of {who} is missing: finish the run"
        )
    skipped = group["status"] == Status.SKIPPED_BY_POLICY.value
    wanted = group[~skipped & ~group["item"].isin(column.excluded) & ~reference_fault(group)]
    ok = wanted[wanted["status"] == Status.OK.value]
    if wanted.empty:
        why = str(group.loc[skipped, "reason"].iloc[0]) if skipped.any() else "no reference can be scored"
        raise _NoValueError(Replication.NOT_COMPARABLE, f"{column.name} does not apply to this data: {why}")
    if (failed := len(wanted) - len(ok)) > FAILURE_TOLERANCE * len(wanted):
        raise _NoValueError(Replication.NOT_COMPARABLE, f"{failed} of {len(wanted)} outputs of {who} have no {column.name}")
    return ok


def _judged(
    blank: MeasuredContrast,
    contrast: Contrast,
    column: Column,
    common: Sequence[Sequence[pd.DataFrame]],
    measured: Measurements,
    confidence: float,
) -> MeasuredContrast:
    """The comparison with its values and outcome."""
    how, clusters = measured.how, [measured.cluster[item] for item in common[0][0]["item"]]
    terms = [(c, repeats) for (c, _), repeats in zip(contrast.terms, common, strict=True)]
    known = combined(terms, column, clusters, how, measured.pooled)
    found = known.interval(how.confidence)
    outcome, reason = _decided(contrast, known, column, unit_noun(clusters), (how.confidence, confidence))
    return replace(
        blank,
        outcome=outcome,
        reason=reason,
        value=found.value * column.factor,
        low=None if found.low is None else found.low * column.factor,
        high=None if found.high is None else found.high * column.factor,
        n=found.n,
        clusters=found.clusters,
        seeds=tuple({point.system: len(each) for point, each in zip(contrast.points, common, strict=True)}.values()),
        seed_spread=_seed_spread(contrast, common, column, measured),
    )


def _decided(contrast: Contrast, known: Estimate, column: Column, units: str, confidences: tuple[float, float]) -> tuple[Replication, str]:
    """Outcome and reason.

    Args:
        known: left minus right.
        units: what its clusters are, in the plural.
        confidences: of the interval that must lie in the claimed range, and of the one that must lie outside for a contradiction.
    """
    usual, corrected = confidences
    found = known.interval(usual)
    if why := too_few(known, units, abs(known.value - contrast.edge(known.value)), usual):
        return Replication.TOO_FEW, why
    if found.low is None or found.high is None:
        return Replication.TOO_FEW, ""
    if _shown(contrast, known, usual):
        return Replication.REPRODUCED, ""
    opposite = contrast.fails(found.low, found.high)
    if contrast.holds(found.low, found.high) or (opposite and not _shown(contrast, known, usual, against=True)):
        # The interval is clear of the edge, and yet the signs of so few clusters are not.
        if (apart := differing(known)) < known.clusters:
            few = f"{apart} of {known.clusters} {units} differ, a verdict takes at least {fewest_differing(1 - usual)}"
            return Replication.TOO_FEW, few
        return Replication.NOT_REPRODUCED, f"{UNDECIDED}: the {units} point both ways"
    edge = f"the margin of {contrast.margin * column.factor:g} {column.shown_unit}".rstrip() if contrast.margin else "zero"
    if not opposite:
        return Replication.NOT_REPRODUCED, f"{UNDECIDED}: the interval spans {edge}"
    other_side = f"the interval lies on the other side of {edge}"
    if _shown(contrast, known, corrected, against=True):
        return Replication.NOT_REPRODUCED, f"{CONTRADICTED}: {other_side}"
    return Replication.NOT_REPRODUCED, f"{UNDECIDED}: {other_side}, but not at the {corrected:.1%} of a claim of several comparisons"


def _shown(contrast: Contrast, known: Estimate, confidence: float, against: bool = False) -> bool:
    """Whether it is shown that a difference lies in the claimed range (or, ``against``, outside), at ``(1 - confidence) / 2``."""
    found = known.interval(confidence)
    assert found.low is not None and found.high is not None
    if not (contrast.fails if against else contrast.holds)(found.low, found.high):
        return False
    if contrast.relation is Relation.ALIKE and not against:
        return True
    # Few signs may be behind an interval that excludes its edge: the one rule decides (`reports.statistics.significance`).
    edge = contrast.edge(known.value)
    side, threshold = (known, edge) if known.value > edge else (known.mirrored(), -edge)
    return exceeding_level(side, threshold) <= (1 - confidence) / 2


def _notes(claim: Claim, contrasts: Sequence[MeasuredContrast], measured: Measurements) -> tuple[str, ...]:
    """What a reader must know of a claim that was measured."""
    known = [c for c in contrasts if c.value is not None]
    if not known:
        return ()
    facts = [f for label, f in measured.facts.items() if system_of(label) in claim.systems]
    trained = any(f.weights == Weights.TRAINED for f in facts)
    within = [c for c in known if c.seed_spread is not None and c.value is not None and abs(c.value) <= c.seed_spread]
    curves = {(part.over, tuple(_values(part, measured))) for part in claim.test if isinstance(part, Monotone)}
    told = (
        *(f"{over} measured: {', '.join(f'{v:g}' for v in values)}" for over, values in sorted(curves)),
        "small models, own data" if any(f.size == "small" for f in facts) else "",
        "random weights, which speed does not depend on" if any(f.random for f in facts) else "",
        "one training seed" if trained and all(n == 1 for c in known for n in c.seeds) else "",
        f"{len(within)} of {len(known)} differences are no larger than their spread over seeds" if within else "",
        f"in the paper: {claim.protocol}" if claim.protocol else "",
    )
    return tuple(filter(None, told))


def _seed_spread(contrast: Contrast, common: Sequence[Sequence[pd.DataFrame]], column: Column, measured: Measurements) -> float | None:
    """Standard deviation of the difference from training to training.

    Values of one training belong together: its 1 and its 4 codebooks share whatever that training was like. Different systems are
    trained independently, so their variances add.
    """
    if any(len(repeats) < 2 for repeats in common):
        return None
    whole, shares = np.ones((1, len(common[0][0]))), dict[str, npt.NDArray[np.float64]]()
    for (coefficient, point), repeats in zip(contrast.terms, common, strict=True):
        found = coefficient * np.array([float(statistic_of(ok, column, measured.pooled)(whole)[0]) for ok in repeats])
        shares[point.system] = shares[point.system] + found if point.system in shares else found
    return column.factor * math.sqrt(sum(float(share.var(ddof=1)) for share in shares.values()))
