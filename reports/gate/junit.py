"""A gate's verdict as JUnit XML, which continuous-integration services show as test results: a check is a test case."""

from __future__ import annotations

from xml.etree import ElementTree

from reports.gate.checks import Check, CheckStatus, GateResult
from reports.writing.wording import printable, signed


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
