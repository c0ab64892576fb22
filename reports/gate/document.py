"""A gate's result in words: for a terminal, as a Markdown comment for a pull request, and as strict JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from reports.gate.checks import Check, CheckStatus, GateResult
from reports.writing import markdown as md
from reports.writing import terminal
from reports.writing.blocks import Block, Bullets, Entry, Folded, Head, Heading, Line, Table, Text, Tone, words
from reports.writing.wording import ABSENT, percent, plural, printable, shortened, signed, significant, with_unit

if TYPE_CHECKING:
    from rich.console import Console


SCHEMA = 1
MARKS = {
    CheckStatus.PASS: "✅",
    CheckStatus.REGRESSION: "❌",
    CheckStatus.INCOMPARABLE: "⚠️",
    CheckStatus.TOO_FEW: "➖",
    CheckStatus.UNJUDGED: "➖",
}
TONES: dict[CheckStatus, Tone] = {CheckStatus.PASS: "good", CheckStatus.REGRESSION: "bad", CheckStatus.INCOMPARABLE: "warn"}
SENTENCES = {
    CheckStatus.PASS: "no check shows a worsening beyond its tolerance",
    CheckStatus.REGRESSION: "something became worse than allowed",
    CheckStatus.INCOMPARABLE: "the run cannot be compared with the baseline, so nothing is shown",
}
ORDER = (CheckStatus.REGRESSION, CheckStatus.INCOMPARABLE, CheckStatus.TOO_FEW, CheckStatus.UNJUDGED, CheckStatus.PASS)
"""Checks in the order that a reader wants them in."""
TEXT_LIMIT = 400


def headline(result: GateResult) -> str:
    """One sentence: ``gate default: REGRESSION, something became worse than allowed (2 of 12 checks)``."""
    failing = sum(c.outcome is CheckStatus.REGRESSION for c in result.checks)
    count = f"{failing} of {len(result.checks)} checks" if failing else f"{len(result.checks)} checks"
    return f"gate {result.rules.name}: {result.outcome.upper()}, {SENTENCES[result.outcome]} ({count})"


def blocks(result: GateResult) -> Iterator[Block]:
    """The result, checks that need attention first; the headline is left to the format."""
    yield Text(f"Run {result.run}, baseline {result.baseline} ({plural(result.repeats, 'run')}).", "")
    yield Bullets([f"incomparable: {shortened(problem, TEXT_LIMIT)}" for problem in result.problems])
    checks = sorted(result.checks, key=lambda c: ORDER.index(c.outcome))
    passed = [c for c in checks if c.outcome is CheckStatus.PASS]
    yield _table([c for c in checks if c not in passed])
    if passed:
        yield Folded(f"{len(passed)} checks passed", [_table(passed)])
    yield Bullets([f"note: {shortened(note, TEXT_LIMIT)}" for note in result.notes])
    yield Text(
        f"Worse by: paired difference over common items in the bad direction. Bound: one-sided lower confidence bound; a check fails where it "
        f"exceeds the tolerance. All checks together fail without cause in at most {percent(result.rules.level)} of cases (Holm). harness compare "
        f"asks by the same rule, two-sided, for any difference."
    )


def print_result(result: GateResult, console: Console) -> None:
    """To a terminal or a pipe."""
    terminal.write([Heading(headline(result), 1), *blocks(result)], console, terminal.WIDE)


def text(result: GateResult) -> str:
    """The same as text, for a log."""
    return terminal.plain([Heading(headline(result), 1), *blocks(result)])


def markdown(result: GateResult) -> str:
    """A comment for a pull request; the checks that passed are folded away."""
    return md.render([Heading(f"{MARKS[result.outcome]} {headline(result)}", 3), *blocks(result)])


def _table(checks: Sequence[Check]) -> Table:
    figures = (Head(name) for name in ("baseline", "run", "worse by", "bound", "tolerance", "n"))
    heads = (*words("outcome", "system", "metric"), *figures, Head("reason", words=True, wide=True, place="below"))
    return Table("Checks", heads, tuple(map(_line, checks)))


def _line(check: Check) -> Line:
    outcome = Entry(tag=check.outcome, mark=MARKS[check.outcome], tone=TONES.get(check.outcome, ""))
    figures = [ABSENT if v is None else significant(v, 4) for v in (check.baseline, check.candidate)]
    moved = [ABSENT if v is None else signed(v) for v in (check.worsening, check.bound)]
    allowed = ABSENT if check.tolerance is None else significant(check.tolerance)
    where = f"{check.system} ({check.group})" if check.group else check.system
    metric = with_unit(check.rule.metric, check.column.unit if check.column else "")
    metric += f", each {check.rule.each}" if check.rule.each else ""
    told = (where, metric, *figures, *moved, allowed, str(check.n or ABSENT), shortened(check.reason, TEXT_LIMIT))
    return Line((outcome, *map(Entry, told)))


def as_json(result: GateResult) -> str:
    """The verdict as strict JSON; figures in full precision, null where there is none."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": result.outcome,
        "exit_code": result.exit_code,
        "run": result.run,
        "baseline": result.baseline,
        "repeats": result.repeats,
        "gate": {k: getattr(result.rules, k) for k in ("name", "level", "resamples", "seed", "coverage")},
        "problems": list(result.problems),
        "notes": list(result.notes),
        "checks": [_check(check) for check in result.checks],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _check(check: Check) -> dict[str, Any]:
    column = check.column
    names = (
        "system", "outcome", "reason", "group", "baseline", "candidate", "worsening", "bound", "tolerance", "p", "adjusted", "n", "clusters",
        "run_spread",
    )  # fmt: skip
    return {
        "rule": asdict(check.rule),
        "metric": check.rule.metric,
        "unit": column.unit if column else "",
        "signature": column.signature if column else "",
        **{name: getattr(check, name) for name in names},
        "failing_groups": list(check.failing),
        "notes": list(check.notes),
    }


def junit(verdict: GateResult) -> str:
    """One test suite. A regression is a ``failure``, what cannot be compared an ``error``, what could not be judged ``skipped``."""
    suite = ElementTree.Element("testsuite", name=printable(f"gate {verdict.rules.name}"))
    for number, problem in enumerate(verdict.problems, 1):
        case = ElementTree.SubElement(suite, "testcase", classname="comparison", name=f"comparable {number}", time="0")
        ElementTree.SubElement(case, "error", type=CheckStatus.INCOMPARABLE.value, message=printable(problem))
    for check in verdict.checks:
        _case(suite, check)
    kinds = [child.tag for case in suite for child in case]
    suite.attrib |= {"tests": str(len(suite)), "time": "0"}
    suite.attrib |= {name: str(kinds.count(tag)) for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))}
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, check: Check) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=printable(check.system), name=printable(str(check.rule)), time="0")
    if check.outcome is not CheckStatus.PASS:
        tag = {CheckStatus.REGRESSION: "failure", CheckStatus.INCOMPARABLE: "error"}.get(check.outcome, "skipped")
        element = ElementTree.SubElement(case, tag, message=printable(check.reason))
        if tag != "skipped":
            element.set("type", check.outcome.value)
        if check.worsening is not None:
            group = f" ({check.group})" if check.group else ""
            bound = "none" if check.bound is None else signed(check.bound)
            element.text = (
                f"worse by {check.worsening:.6g}, lower bound {bound}, tolerance {check.tolerance:.6g}, n {check.n}{printable(group)}"
            )
