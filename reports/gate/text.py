"""A gate's verdict in words: for a terminal, as a Markdown comment for a pull request, and as strict JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reports.gate.checks import Check, CheckStatus, GateResult
from reports.writing.markdown import escaped
from reports.writing.wording import printable, shortened, signed, significant

SCHEMA = 1
MARKS = {
    CheckStatus.PASS: "✅",
    CheckStatus.REGRESSION: "❌",
    CheckStatus.INCOMPARABLE: "⚠️",
    CheckStatus.TOO_FEW: "➖",
    CheckStatus.UNJUDGED: "➖",
}
SENTENCES = {
    CheckStatus.PASS: "no check shows a worsening beyond its tolerance",
    CheckStatus.REGRESSION: "something became worse than allowed",
    CheckStatus.INCOMPARABLE: "the run cannot be compared with the baseline, so nothing is shown",
}
ORDER = (CheckStatus.REGRESSION, CheckStatus.INCOMPARABLE, CheckStatus.TOO_FEW, CheckStatus.UNJUDGED, CheckStatus.PASS)
"""Checks in the order that a reader wants them in."""
TEXT_LIMIT = 400


def headline(verdict: GateResult) -> str:
    """One sentence: ``gate default: REGRESSION, something became worse than allowed (2 of 12 checks)``."""
    failing = len(verdict.having(CheckStatus.REGRESSION))
    count = f"{failing} of {len(verdict.checks)} checks" if failing else f"{len(verdict.checks)} checks"
    return f"gate {verdict.rules.name}: {verdict.outcome.upper()}, {SENTENCES[verdict.outcome]} ({count})"


def lines(verdict: GateResult) -> Iterator[str]:
    """The verdict for a terminal or a log, plain text, the failing checks first."""
    yield headline(verdict)
    yield f"run {verdict.run}, baseline {verdict.baseline} ({verdict.repeats} run{'' if verdict.repeats == 1 else 's'})"
    for problem in verdict.problems:
        yield f"  incomparable  {shortened(printable(problem), TEXT_LIMIT)}"
    for check in ordered(verdict):
        where = ", ".join(filter(None, (check.system, check.group)))
        yield f"  {check.outcome:<12}  {where}: {check.rule}{_figures(check)}{_why(check)}"
    for note in verdict.notes:
        yield f"  note: {shortened(printable(note), TEXT_LIMIT)}"
    yield (
        f"Lower bounds are one-sided; all checks together fail without cause in at most {verdict.rules.level:.0%} of cases (Holm). "
        "`harness compare` asks by the same rule, two-sided, for any difference."
    )


def ordered(verdict: GateResult) -> list[Check]:
    """The checks, what needs attention first."""
    return sorted(verdict.checks, key=lambda c: ORDER.index(c.outcome))


def _figures(check: Check) -> str:
    if check.worsening is None or check.column is None:
        return ""
    shown = f": worse by {signed(check.worsening)}, bound {bounded(check.bound)}, n {check.n}"
    if check.baseline is not None and check.candidate is not None:
        shown = f": {significant(check.baseline, 4)} -> {significant(check.candidate, 4)}" + shown.replace(": ", ", ", 1)
    return shown


def _why(check: Check) -> str:
    return f" ({shortened(printable(check.reason), TEXT_LIMIT)})" if check.reason else ""


def bounded(bound: float | None) -> str:
    """A bound as printed."""
    return "none" if bound is None else signed(bound)


def markdown(verdict: GateResult) -> str:
    """A comment for a pull request: verdict, the checks that need attention, the others folded away."""
    parts = [f"### {MARKS[verdict.outcome]} {escaped(headline(verdict))}"]
    repeats = f"{verdict.repeats} run{'' if verdict.repeats == 1 else 's'}"
    parts.append(f"Run {escaped(verdict.run)}, baseline {escaped(verdict.baseline)} ({repeats}).")
    if verdict.problems:
        parts.append("\n".join(f"- **incomparable**: {escaped(shortened(p, TEXT_LIMIT))}" for p in verdict.problems))
    checks = ordered(verdict)
    attention = [c for c in checks if c.outcome is not CheckStatus.PASS]
    passed = [c for c in checks if c.outcome is CheckStatus.PASS]
    if attention:
        parts.append(_table(attention))
    if passed:
        parts.append(f"<details><summary>{len(passed)} checks passed</summary>\n\n{_table(passed)}\n\n</details>")
    if verdict.notes:
        parts.append("\n".join(f"- {escaped(shortened(n, TEXT_LIMIT))}" for n in verdict.notes))
    parts.append(
        f"<sub>Worse by: paired difference over common items in the bad direction. Bound: one-sided lower confidence bound; a check fails "
        f"where it exceeds the tolerance. False alarms of the whole gate: at most {escaped(f'{verdict.rules.level:.0%}')} (Holm).</sub>"
    )
    return "\n\n".join(parts) + "\n"


def _table(checks: list[Check]) -> str:
    head = "| | system | metric | baseline | run | worse by | bound | tolerance | n | |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    rows = []
    for check in checks:
        figures = ["–" if v is None else significant(v, 4) for v in (check.baseline, check.candidate)]
        moved = ["–" if v is None else signed(v) for v in (check.worsening, check.bound)]
        allowed = "–" if check.tolerance is None else significant(check.tolerance)
        where = f"{escaped(check.system)}{f' ({escaped(check.group)})' if check.group else ''}"
        unit = f" ({check.column.unit})" if check.column is not None and check.column.unit else ""
        metric = escaped(f"{check.rule.metric}{unit}{f', each {check.rule.each}' if check.rule.each else ''}")
        words = " ".join(filter(None, (escaped(shortened(check.reason, TEXT_LIMIT)),)))
        cells = [f"{MARKS[check.outcome]} {check.outcome}", where, metric, *figures, *moved, allowed, str(check.n or "–"), words]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, *rows])


def as_json(verdict: GateResult) -> str:
    """The verdict as strict JSON; figures in full precision, null where there is none."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": verdict.outcome,
        "exit_code": verdict.exit_code,
        "run": verdict.run,
        "baseline": verdict.baseline,
        "repeats": verdict.repeats,
        "gate": {k: getattr(verdict.rules, k) for k in ("name", "level", "resamples", "seed", "coverage")},
        "problems": list(verdict.problems),
        "notes": list(verdict.notes),
        "checks": [_check(check) for check in verdict.checks],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _check(check: Check) -> dict[str, Any]:
    column = check.column
    names = (
        "system",
        "outcome",
        "reason",
        "group",
        "baseline",
        "candidate",
        "worsening",
        "bound",
        "tolerance",
        "p",
        "adjusted",
        "n",
        "clusters",
        "run_spread",
    )
    return {
        "rule": {k: v for k, v in asdict(check.rule).items()},
        "metric": check.rule.metric,
        "unit": column.unit if column else "",
        "signature": column.signature if column else "",
        **{name: getattr(check, name) for name in names},
        "failing_groups": list(check.failing),
        "notes": list(check.notes),
    }
