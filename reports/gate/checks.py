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

import numpy as np

from harness.api import Better, PooledMetric
from harness.errors import ConfigError, HarnessError, Incomparable
from reports.compare.pairing import Half, Kind, Matched, Obstacle, difference, matched, obstacles, other_packages, standing
from reports.gate.rules import Rule, Rules
from reports.statistics.intervals import Estimate, IntervalSettings
from reports.statistics.records import Column, Row, unit_noun
from reports.statistics.significance import differing, exceeding_level, holm, lower_bound, too_few

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
    """A rule applied to one system. Figures are in the metric's stored unit; None where there are none.

    Args:
        rule: of it.
        system: label with its settings, "" where the rule found none.
        outcome: of it.
        reason: what speaks against it, or why it is not judged.
        column: the metric, None where it was not measured.
        group: the speaker or language with the worst standing, "" for all items together.
        baseline, candidate: figures over the common items.
        worsening: difference in the bad direction; below 0 it became better.
        bound: lower confidence bound of it (upper for a strict rule), at the level that remains to this check among all.
        tolerance: in the stored unit.
        p, adjusted: of "the worsening is within the tolerance"; corrected by Holm over the checks.
        n, clusters: items compared and units resampled.
        run_spread: standard deviation of the figure over the baseline's repeats, None for one.
        failing: all groups that fail by themselves.
        notes: what ``force`` let pass.
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
        run, baseline: by name.
        rules: the gate.
        repeats: runs in the baseline.
        checks: the failing ones are not sorted first; every rule and system has one.
        problems: what forbids the comparison as a whole.
        notes: what a reader must know.
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

    def having(self, outcome: CheckStatus) -> tuple[Check, ...]:
        return tuple(c for c in self.checks if c.outcome is outcome)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A check on its way: the worsening of one group under its resamples, and the run-to-run spread."""

    group: str
    figure: Estimate
    baseline: float | None
    tolerance: float
    spread: float
    repeats: int
    units: str

    @property
    def lacking(self) -> str:
        """Why it decides nothing, "" where it may; that nothing differs at all is plain from two items."""
        if self.figure.bounded and not self.figure.value and not differing(self.figure):
            return ""
        return too_few(self.figure, self.units, self.figure.value - self.tolerance)

    def bound(self, level: float) -> float:
        return lower_bound(self.figure, level, self.spread, self.repeats)

    @cached_property
    def p(self) -> float:
        # A difference that only rounding made is none, however surely it is there.
        if abs(self.figure.value) <= NOTHING_LIKE * max(1.0, abs(self.baseline or 0.0)):
            return 0.5 if self.tolerance >= 0 else 0.0
        return exceeding_level(self.figure, self.tolerance, self.spread, self.repeats)


@dataclass(frozen=True, eq=False)
class Gate:
    """Judges runs by rules.

    Args:
        rules: of the gate.
        force: judge although data, package versions or signatures differ.
        pooled: metric objects by registry key, for metrics that are no means.
    """

    rules: Rules
    force: bool = False
    pooled: Mapping[str, PooledMetric] = field(default_factory=dict)

    def judge(self, run: Half, baseline: Half) -> GateResult:
        """The verdict on a run.

        Raises:
            ConfigError: a rule asks for a direction that its metric does not have, or no rule concerns the baseline.
        """
        found = list(obstacles(baseline, run))
        repeats = 1 + len(baseline.repeats)
        if repeats < self.rules.repeats:
            text = f"the gate '{self.rules.name}' wants a baseline of {self.rules.repeats} repeats, {baseline.name} has {repeats}: harness bless RUN REPEAT ..."
            found.append(Obstacle(Kind.MISSING, text))
        forbidden, forceable = standing(found, self.force)
        notes = [f"forced: {o.text}" for o in found if o not in forbidden]
        if other := other_packages(baseline, run):
            notes.append(f"other packages differ: {other}")
        verdict = GateResult(CheckStatus.INCOMPARABLE, run.name, baseline.name, self.rules, repeats, notes=tuple(notes))
        if forbidden:
            advice = " (force=true judges all the same)" if forceable else ""
            return replace(verdict, problems=tuple(o.text + advice for o in forbidden))
        checks, problems = self._checks(run, baseline)
        if not checks:
            raise ConfigError(
                f"no rule of '{self.rules.name}' concerns {baseline.name}: it has {', '.join(c.key for c in baseline.summary.columns)} "
                f"of {', '.join(r.label for r in baseline.summary.systems)}"
            )
        outcome = CheckStatus.PASS
        if problems or any(c.outcome is CheckStatus.INCOMPARABLE for c in checks):
            outcome = CheckStatus.INCOMPARABLE
        elif any(c.outcome is CheckStatus.REGRESSION for c in checks):
            outcome = CheckStatus.REGRESSION
        elif not any(c.outcome is CheckStatus.PASS for c in checks):
            outcome, problems = CheckStatus.INCOMPARABLE, [*problems, "no check could be judged; their reasons are with them"]
        return replace(verdict, outcome=outcome, checks=tuple(checks), problems=tuple(problems))

    def _checks(self, run: Half, baseline: Half) -> tuple[list[Check], list[str]]:
        here = {(r.facts.label, r.settings): r for r in run.summary.systems}
        problems = []
        checks: list[Check] = []
        pairs: dict[int, Matched] = {}
        for row in baseline.summary.systems:
            other = here.get((row.facts.label, row.settings))
            if other is None:
                there = ", ".join(r.label for r in run.summary.systems) or "none"
                problems.append(f"{row.label} is in the baseline and not in {run.name}, which has {there}: missing or renamed")
                continue
            for rule in self.rules.rules:
                if (rule.systems and row.facts.label not in rule.systems) or rule.metric not in {c.key for c in baseline.summary.columns}:
                    continue
                if not row.cells[rule.metric].statuses:
                    continue
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
        blank = Check(rule, rows[1].label)
        if isinstance(pair, Obstacle):
            cell = rows[0].cells[rule.metric]
            if pair.kind is Kind.FIGURE and not cell.n_ok:
                return replace(blank, reason=f"the baseline has no figure: {cell.reason}")
            newly = rows[1].cells.get(rule.metric)
            if pair.kind is Kind.FIGURE and newly is not None and newly.n_total and not newly.n_ok:
                return replace(
                    blank, outcome=CheckStatus.REGRESSION, reason=f"none of {newly.n_total} outputs has a figure any more: {newly.reason}"
                )
            return replace(blank, outcome=CheckStatus.INCOMPARABLE, reason=pair.text)
        absent = rows[1].cells[rule.metric].n_missing
        if absent:
            return replace(
                blank, outcome=CheckStatus.INCOMPARABLE, column=pair.column, reason=f"{absent} measurements are missing: finish the run"
            )
        lost = sorted(set(pair.right.lacking) - set(pair.left.lacking))
        if pair.left.coverage - pair.right.coverage > self.rules.coverage + NOTHING_LIKE:
            words = f"{pair.right.n_ok}/{pair.right.n_wanted} outputs have a figure, {pair.left.n_ok}/{pair.left.n_wanted} in the baseline"
            named = f"; lost: {', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}" if lost else ""
            return replace(blank, outcome=CheckStatus.REGRESSION, column=pair.column, reason=f"coverage fell: {words}{named}")
        return pair

    def _judged(self, checks: list[Check], pairs: Mapping[int, Matched]) -> list[Check]:
        """The checks with figures, after the correction over all that have one."""
        how = IntervalSettings(1 - 2 * self.rules.level, self.rules.resamples, self.rules.seed)
        trials: dict[int, list[_Trial]] = {i: [] for i in pairs}
        for i, pair in pairs.items():
            for group, part in _parts(pair, checks[i].rule):
                worsening = difference(part, how, self.pooled)
                if isinstance(worsening, str):
                    checks[i] = replace(checks[i], outcome=CheckStatus.INCOMPARABLE, reason=worsening)
                else:
                    trials[i].append(_trial(checks[i].rule, group, part, worsening))
        tested: dict[int, float] = {}
        for i, each in trials.items():
            if checks[i].outcome is CheckStatus.INCOMPARABLE:
                continue
            fit = [t for t in each if not t.lacking]
            if not fit:
                checks[i] = _too_few(checks[i], each)
            elif checks[i].rule.strict:
                checks[i] = _strict(checks[i], fit, self.rules.level)
            else:
                # Groups of one check share its level evenly.
                tested[i] = min(1.0, min(t.p for t in fit) * len(fit))
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        ranked = sorted(tested, key=lambda i: (adjusted[i], tested[i]))
        rejected = sum(adjusted[i] <= self.rules.level for i in ranked)
        for rank, i in enumerate(ranked):
            level = self.rules.level / (len(ranked) - min(rank, rejected))
            fit = [t for t in trials[i] if not t.lacking]
            if left := len(trials[i]) - len(fit):
                words = f"{left} of {len(trials[i])} {checks[i].rule.each}s have too few independent items to be judged"
                checks[i] = replace(checks[i], notes=(*checks[i].notes, words))
            checks[i] = _decided(checks[i], fit, level, adjusted[i] <= self.rules.level, adjusted[i])
        return checks


def _parts(pair: Matched, rule: Rule) -> list[tuple[str, Matched]]:
    if not rule.each:
        return [("", pair)]
    frame = pair.right.frames[0]
    labels = [str(v or "") for v in frame[rule.each]]
    groups = sorted(set(labels) - {""})
    return [(g, pair.part([i for i, label in enumerate(labels) if label == g])) for g in groups] or [("", pair)]


def _trial(rule: Rule, group: str, pair: Matched, figure: Estimate) -> _Trial:
    if _direction(rule, pair.column) is Better.HIGHER:
        figure = figure.mirrored()
    means = pair.column.is_mean
    whole = [np.mean([_mean(f) for f in seeds]) for seeds in pair.left.repeats] if means else []
    level = float(np.mean(whole)) if whole else None
    if rule.relative and level is None:
        raise ConfigError(f"a rule on {rule.metric} cannot be relative: its figure is no mean over items; give a tolerance:")
    tolerance = rule.tolerance * abs(level or 0.0) if rule.relative else rule.tolerance
    spread = float(np.std(whole, ddof=1)) if len(whole) > 1 else 0.0
    return _Trial(group, figure, level, tolerance, spread, max(1, len(whole)), unit_noun(pair.clusters))


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


def _mean(frame: object) -> float:
    values, weights = (frame[name].to_numpy(float) for name in ("value", "weight"))  # type: ignore[index]
    return float((values * weights).sum() / weights.sum())


def _too_few(check: Check, trials: Sequence[_Trial]) -> Check:
    most = max(trials, key=lambda t: t.figure.clusters)
    told = f"the largest {check.rule.each} has {most.lacking}" if check.rule.each else most.lacking
    filled = _filled(check, most, None) if most.figure.bounded else check
    return replace(filled, outcome=CheckStatus.TOO_FEW, reason=told)


def _filled(check: Check, trial: _Trial, bound: float | None) -> Check:
    up = check.column is not None and _direction(check.rule, check.column) is Better.HIGHER
    sign = -1.0 if up else 1.0
    return replace(
        check,
        group=trial.group,
        baseline=trial.baseline,
        candidate=None if trial.baseline is None else trial.baseline + sign * trial.figure.value,
        worsening=trial.figure.value,
        bound=bound,
        tolerance=trial.tolerance,
        n=trial.figure.n,
        clusters=trial.figure.clusters,
        run_spread=trial.spread if trial.repeats > 1 else None,
    )


def _decided(check: Check, trials: Sequence[_Trial], level: float, failed: bool, adjusted: float) -> Check:
    worst = min(trials, key=lambda t: (t.p, t.tolerance - t.figure.value))
    each = level / len(trials)
    failing = tuple(t.group for t in trials if t.group and t.p <= each) if failed else ()
    filled = _filled(check, worst, worst.bound(each))
    reason = ""
    if failed:
        reason = "the bound exceeds the tolerance"
        if len(failing) > 1:
            reason += f", in {len(failing)} of {len(trials)} groups: {', '.join(failing[:5])}{' ...' if len(failing) > 5 else ''}"
    outcome = CheckStatus.REGRESSION if failed else CheckStatus.PASS
    return replace(filled, outcome=outcome, reason=reason, p=worst.p, adjusted=adjusted, failing=failing)


def _strict(check: Check, trials: Sequence[_Trial], level: float) -> Check:
    """All upper bounds must lie within the tolerance; a conjunction needs no correction."""

    def upper(trial: _Trial) -> float:
        return -lower_bound(trial.figure.mirrored(), level, trial.spread, trial.repeats)

    worst = max(trials, key=lambda t: upper(t) - t.tolerance)
    filled = _filled(check, worst, upper(worst))
    failing = tuple(t.group for t in trials if t.group and upper(t) > t.tolerance)
    if upper(worst) <= worst.tolerance:
        return replace(filled, outcome=CheckStatus.PASS)
    return replace(filled, outcome=CheckStatus.REGRESSION, reason="not shown that the worsening is within the tolerance", failing=failing)


def refusal(run: str, baseline: str, rules: Rules, problem: HarnessError) -> GateResult:
    """The verdict where the comparison could not even begin."""
    return GateResult(CheckStatus.INCOMPARABLE, run, baseline, rules, problems=(str(problem),))
