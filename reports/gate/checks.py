"""Whether a run became worse than its baseline, by rules.

A check is a rule applied to one system. Its worsening is the paired difference to the baseline in the bad direction. A check fails when
the lower confidence bound of the worsening exceeds the tolerance: it is shown, not only feared, that more was lost than is allowed. The
bounds are one-sided, and Holm's method over all checks keeps the chance that the gate fails without cause at the gate's level, however
many rules it has. (``strict`` turns the question round: the check fails unless the upper bound lies within the tolerance.) What cannot
be compared, be it missing, renamed, measured otherwise or stopped before the end, is *incomparable* and never a pass. The rule is that of
`harness compare` (`reports.statistics.significance`), asked one-sided and against a tolerance; of fewer speakers (or items) than any verdict takes
a check says *too few*, unless nothing differs at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Better, PooledMetric
from harness.errors import ConfigError, HarnessError, Incomparable
from reports.compare.pairing import Half, Matched, Obstacle, difference, matched, obstacles, other_packages, standing
from reports.gate.rules import Rule, Rules
from reports.statistics.intervals import Estimate, IntervalSettings
from reports.statistics.pooling import UnpoolableError
from reports.statistics.records import Column, Row, unit_noun
from reports.statistics.significance import differing, exceeding_level, holm, lower_bound, too_few
from reports.writing.wording import some

if TYPE_CHECKING:
    import pandas as pd

NOTHING_LIKE = 1e-9
"""Relative size of a difference that rounding alone makes."""


class CheckStatus(StrEnum):
    PASS = "pass"
    REGRESSION = "regression"
    INCOMPARABLE = "incomparable"
    TOO_FEW = "too few"
    UNJUDGED = "not judged"


EXIT_CODES = {CheckStatus.PASS: 0, CheckStatus.REGRESSION: 1, CheckStatus.INCOMPARABLE: Incomparable.exit_code}


@dataclass(frozen=True)
class Check:
    """A rule applied to one system. Values are in the metric's stored unit; None where there are none.

    Args:
        system: label with its settings, "" where the rule found none.
        reason: what speaks against the run, or why it is not judged.
        column: the metric, None where it was not measured.
        group: the speaker or language with the worst standing, "" for all items together.
        worsening: difference in the bad direction; below 0 it became better.
        bound: lower confidence bound of it (upper for a strict rule), at the level that remains to this check among all.
        p, adjusted: of "the worsening is within the tolerance"; corrected by Holm over the checks.
        n, clusters: number of items compared, and of independent units among them.
        run_spread: standard deviation of the value over the baseline's repeats, None for one.
        failing: all groups that fail by themselves.
        notes: sentences on what ``force`` let pass.
    """

    rule: Rule
    system: str = ""
    outcome: CheckStatus = CheckStatus.UNJUDGED
    reason: str = ""
    column: Column | None = None
    group: str = ""
    baseline: float | None = None
    candidate: float | None = None
    worsening: float | None = None
    bound: float | None = None
    tolerance: float | None = None
    p: float | None = None
    adjusted: float | None = None
    n: int = 0
    clusters: int = 0
    run_spread: float | None = None
    failing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """What a gate says.

    Args:
        outcome: incomparable if anything is; else regression if any check is one; else pass.
        repeats: number of runs in the baseline.
        checks: one for every rule and system, in the order of the rules.
        problems: sentences on what forbids the comparison as a whole.
    """

    outcome: CheckStatus
    run: str
    baseline: str
    rules: Rules
    repeats: int = 1
    checks: tuple[Check, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


@dataclass(frozen=True, eq=False)
class _Worsening:
    """Difference to the baseline in the bad direction, of all items or of one speaker or language (``group``)."""

    group: str
    estimate: Estimate
    baseline: float | None
    tolerance: float
    spread: float
    repeats: int
    units: str

    @property
    def lacking(self) -> str:
        """Why it decides nothing, "" where it may; that nothing differs at all is plain from two items."""
        if self.estimate.bounded and not self.estimate.value and not differing(self.estimate):
            return ""
        return too_few(self.estimate, self.units, self.estimate.value - self.tolerance)

    def lower(self, level: float) -> float:
        return lower_bound(self.estimate, level, self.spread, self.repeats)

    def upper(self, level: float) -> float:
        return -lower_bound(self.estimate.mirrored(), level, self.spread, self.repeats)

    @cached_property
    def p(self) -> float:
        # A difference that only rounding made is none, however surely it is there.
        if abs(self.estimate.value) <= NOTHING_LIKE * max(1.0, abs(self.baseline or 0.0)):
            return 0.5 if self.tolerance >= 0 else 0.0
        return exceeding_level(self.estimate, self.tolerance, self.spread, self.repeats)


@dataclass(frozen=True, eq=False)
class Gate:
    """Judges runs by rules, with ``force`` although data, package versions or signatures differ."""

    rules: Rules
    force: bool = False
    pooled: Mapping[str, PooledMetric] = field(default_factory=dict)

    def judge(self, run: Half, baseline: Half) -> GateResult:
        """What becomes of a run.

        Raises:
            ConfigError: a rule asks for a direction that its metric does not have, or no rule concerns the baseline.
        """
        found = list(obstacles(baseline, run))
        repeats = 1 + len(baseline.repeats)
        if repeats < self.rules.repeats:
            text = f"the gate '{self.rules.name}' wants a baseline of {self.rules.repeats} repeats, {baseline.name} has {repeats}: harness bless RUN REPEAT ..."
            found.append(Obstacle(text))
        forbidden, forceable = standing(found, self.force)
        notes = [f"forced: {o.text}" for o in found if o not in forbidden]
        if other := other_packages(baseline, run):
            notes.append(f"other packages differ: {other}")
        result = GateResult(CheckStatus.INCOMPARABLE, run.name, baseline.name, self.rules, repeats, notes=tuple(notes))
        if forbidden:
            advice = " (force=true judges all the same)" if forceable else ""
            return replace(result, problems=tuple(o.text + advice for o in forbidden))
        checks, problems = self._checks(run, baseline)
        if not checks:
            raise ConfigError(
                f"no rule of '{self.rules.name}' concerns {baseline.name}: it has {', '.join(c.key for c in baseline.summary.columns)} "
                f"of {', '.join(r.label for r in baseline.summary.systems)}"
            )
        outcomes = {c.outcome for c in checks}
        outcome = next((o for o in (CheckStatus.INCOMPARABLE, CheckStatus.REGRESSION, CheckStatus.PASS) if o in outcomes), None)
        if outcome is None and not problems:
            problems.append("no check could be judged; their reasons are with them")
        if outcome is None or problems:
            outcome = CheckStatus.INCOMPARABLE
        return replace(result, outcome=outcome, checks=tuple(checks), problems=tuple(problems))

    def _checks(self, run: Half, baseline: Half) -> tuple[list[Check], list[str]]:
        """Every rule applied to every system of the baseline, and what hinders that."""
        here = {(r.facts.label, r.settings): r for r in run.summary.systems}
        measured = {c.key for c in baseline.summary.columns}
        problems, checks, pairs = [], list[Check](), dict[int, Matched]()
        for row in baseline.summary.systems:
            other = here.get((row.facts.label, row.settings))
            if other is None:
                there = ", ".join(r.label for r in run.summary.systems) or "none"
                problems.append(f"{row.label} is in the baseline and not in {run.name}, which has {there}: missing or renamed")
                continue
            for rule in self.rules.rules:
                if (rule.systems and row.facts.label not in rule.systems) or rule.metric not in measured:
                    continue
                if row.cells[rule.metric].statuses:
                    check = self._covered(rule, run, baseline, (row, other))
                    if isinstance(check, Matched):
                        pairs[len(checks)] = check
                        check = Check(rule, other.label, column=check.column, notes=check.notes)
                    checks.append(check)
        if unknown := sorted({s for r in self.rules.rules for s in r.systems} - {r.facts.label for r in baseline.summary.systems}):
            problems.append(f"the rules name {', '.join(unknown)}, which the baseline does not have")
        return self._judged(checks, pairs), problems

    def _covered(self, rule: Rule, run: Half, baseline: Half, rows: tuple[Row, Row]) -> Matched | Check:
        """The records to judge, or the check where there is nothing to compute."""
        pair = matched(baseline, run, rows, rule.metric, self.force)
        old, new = rows[0].cells[rule.metric], rows[1].cells.get(rule.metric)
        if isinstance(pair, Obstacle):
            if pair.valueless and not old.n_ok:
                return Check(rule, rows[1].label, reason=f"the baseline has no figure: {old.reason}")
            if pair.valueless and new is not None and new.n_total and not new.n_ok:
                reason = f"none of {new.n_total} outputs has a figure any more: {new.reason}"
                return Check(rule, rows[1].label, CheckStatus.REGRESSION, reason)
            return Check(rule, rows[1].label, CheckStatus.INCOMPARABLE, pair.text)
        if absent := rows[1].cells[rule.metric].n_missing:
            reason = f"{absent} measurements are missing: finish the run"
            return Check(rule, rows[1].label, CheckStatus.INCOMPARABLE, reason, pair.column)
        if pair.left.coverage - pair.right.coverage > self.rules.coverage + NOTHING_LIKE:
            lost = sorted(set(pair.right.lacking) - set(pair.left.lacking))
            words = f"{pair.right.n_ok}/{pair.right.n_wanted} outputs have a figure, {pair.left.n_ok}/{pair.left.n_wanted} in the baseline"
            named = f"; lost: {some(lost, 3)}" if lost else ""
            return Check(rule, rows[1].label, CheckStatus.REGRESSION, f"coverage fell: {words}{named}", pair.column)
        return pair

    def _judged(self, checks: list[Check], pairs: Mapping[int, Matched]) -> list[Check]:
        """The checks with values, after the correction over all that have one."""
        tested: dict[int, list[_Worsening]] = {}
        for i, pair in pairs.items():
            check = checks[i]
            try:
                each = [self._worsening(check.rule, group, part) for group, part in _parts(pair, check.rule)]
            except UnpoolableError as problem:
                checks[i] = replace(check, outcome=CheckStatus.INCOMPARABLE, reason=str(problem))
                continue
            fit = [w for w in each if not w.lacking]
            if not fit:
                checks[i] = _too_few(check, each)
            elif check.rule.strict:
                checks[i] = _strict(check, fit, self.rules.level)
            else:
                tested[i] = fit
                if left := len(each) - len(fit):
                    words = f"{left} of {len(each)} {check.rule.each}s have too few independent items to be judged"
                    checks[i] = replace(check, notes=(*check.notes, words))
        # Groups of one check share its level evenly.
        alone = {i: min(1.0, min(w.p for w in fit) * len(fit)) for i, fit in tested.items()}
        adjusted = dict(zip(alone, holm(list(alone.values())), strict=True))
        ranked = sorted(tested, key=lambda i: (adjusted[i], alone[i]))
        rejected = sum(adjusted[i] <= self.rules.level for i in ranked)
        for rank, i in enumerate(ranked):
            # Holm's level of this check: of all that are rejected its own, of the others that of the first of them.
            level = self.rules.level / (len(ranked) - min(rank, rejected))
            checks[i] = _decided(checks[i], tested[i], level, adjusted[i] <= self.rules.level, adjusted[i])
        return checks

    def _worsening(self, rule: Rule, group: str, pair: Matched) -> _Worsening:
        how = IntervalSettings(1 - 2 * self.rules.level, self.rules.resamples, self.rules.seed)
        estimate = difference(pair, how, self.pooled)
        if _direction(rule, pair.column) is Better.HIGHER:
            estimate = estimate.mirrored()
        means = [np.mean([_mean(f) for f in seeds]) for seeds in pair.left.repeats] if pair.column.is_mean else []
        level = float(np.mean(means)) if means else None
        if rule.relative and level is None:
            raise ConfigError(f"a rule on {rule.metric} cannot be relative: its figure is no mean over items; give a tolerance:")
        tolerance = rule.tolerance * abs(level or 0.0) if rule.relative else rule.tolerance
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
        return _Worsening(group, estimate, level, tolerance, spread, max(1, len(means)), unit_noun(pair.clusters))


def _parts(pair: Matched, rule: Rule) -> list[tuple[str, Matched]]:
    if not rule.each:
        return [("", pair)]
    labels = [str(v or "") for v in pair.right.frames[0][rule.each]]
    groups = sorted(set(labels) - {""})
    return [(g, pair.part([i for i, label in enumerate(labels) if label == g])) for g in groups] or [("", pair)]


def _direction(rule: Rule, column: Column) -> Better:
    """Which way is better: what the metric declares, else what the rule says.

    Raises:
        ConfigError: neither says it, or they contradict each other.
    """
    if column.better is Better.NEITHER and rule.better is None:
        raise ConfigError(
            f"a rule on {rule.metric} must say which way is better (better: higher or lower): the metric itself declares none"
        )
    if rule.better is not None and column.better not in (Better.NEITHER, rule.better):
        raise ConfigError(f"a rule on {rule.metric} says better: {rule.better}, the metric itself is better when {column.better}")
    return rule.better or column.better


def _mean(frame: pd.DataFrame) -> float:
    values, weights = (frame[name].to_numpy(float) for name in ("value", "weight"))
    return float((values * weights).sum() / weights.sum())


def _filled(check: Check, worse: _Worsening, bound: float | None, **told: Any) -> Check:
    """The check with the values of one worsening."""
    up = check.column is not None and _direction(check.rule, check.column) is Better.HIGHER
    return replace(
        check,
        group=worse.group,
        baseline=worse.baseline,
        candidate=None if worse.baseline is None else worse.baseline + (-1.0 if up else 1.0) * worse.estimate.value,
        worsening=worse.estimate.value,
        bound=bound,
        tolerance=worse.tolerance,
        n=worse.estimate.n,
        clusters=worse.estimate.clusters,
        run_spread=worse.spread if worse.repeats > 1 else None,
        **told,
    )


def _too_few(check: Check, each: Sequence[_Worsening]) -> Check:
    most = max(each, key=lambda w: w.estimate.clusters)
    told = f"the largest {check.rule.each} has {most.lacking}" if check.rule.each else most.lacking
    filled = _filled(check, most, None) if most.estimate.bounded else check
    return replace(filled, outcome=CheckStatus.TOO_FEW, reason=told)


def _decided(check: Check, each: Sequence[_Worsening], level: float, failed: bool, adjusted: float) -> Check:
    worst = min(each, key=lambda w: (w.p, w.tolerance - w.estimate.value))
    share = level / len(each)
    failing = tuple(w.group for w in each if w.group and w.p <= share) if failed else ()
    reason = "the bound exceeds the tolerance" if failed else ""
    if len(failing) > 1:
        reason += f", in {len(failing)} of {len(each)} groups: {some(failing, 5)}"
    outcome = CheckStatus.REGRESSION if failed else CheckStatus.PASS
    return _filled(check, worst, worst.lower(share), outcome=outcome, reason=reason, p=worst.p, adjusted=adjusted, failing=failing)


def _strict(check: Check, each: Sequence[_Worsening], level: float) -> Check:
    """All upper bounds must lie within the tolerance; a conjunction needs no correction."""
    upper = {w.group: w.upper(level) for w in each}
    worst = max(each, key=lambda w: upper[w.group] - w.tolerance)
    if upper[worst.group] <= worst.tolerance:
        return _filled(check, worst, upper[worst.group], outcome=CheckStatus.PASS)
    failing = tuple(w.group for w in each if w.group and upper[w.group] > w.tolerance)
    reason = "not shown that the worsening is within the tolerance"
    return _filled(check, worst, upper[worst.group], outcome=CheckStatus.REGRESSION, reason=reason, failing=failing)


def refusal(run: str, baseline: str, rules: Rules, problem: HarnessError) -> GateResult:
    """The verdict where the comparison could not even begin."""
    return GateResult(CheckStatus.INCOMPARABLE, run, baseline, rules, problems=(str(problem),))
