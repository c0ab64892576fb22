"""The fault table: each test of a fault says with a mark what it injects and what must hold; the outcomes are printed as one table.

    @pytest.mark.fault("F16", "flipped byte in a record", "dropped by its checksum, measured again", before="...")

``before`` is what the fault did before these tests were written, where that was another outcome: they were run in the tree that `BEFORE`
names, with today's stubs. Faults that other folders' tests cover stand in `ELSEWHERE` with the tests that do.
"""

import textwrap
from pathlib import Path

import pytest

from tests.faults.elsewhere import ELSEWHERE

MARK = "fault"
WIDTHS = (5, 50, 56, 10)
BEFORE = (
    "before: in the tree of commit 2765bb8, the last without these tests; where nothing is said, the fault was borne there already. It had no "
    "systems in other environments, no Ray and no shards."
)


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(id, injection, expected, before=''): a row of the fault table")
    config.pluginmanager.register(FaultTable(), "fault-table")


class FaultTable:
    """Collects the outcome of every marked test and prints the table at the end."""

    def __init__(self):
        self.rows = {}  # (id, injection, expected, before) to the outcomes of its tests

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.when == "call" or report.outcome != "passed":
            # A report travels from a worker process to the one that prints; the item does not.
            report.user_properties += [(MARK, (*mark.args, mark.kwargs.get("before", ""))) for mark in item.iter_markers(MARK)]
        return report

    def pytest_runtest_logreport(self, report):
        for name, row in report.user_properties:
            if name == MARK and (report.when == "call" or report.outcome != "passed"):
                self.rows.setdefault(tuple(row), []).append(report.outcome)

    def pytest_terminal_summary(self, terminalreporter):
        if not self.rows:
            return
        terminalreporter.section("faults")
        for line in table(self.rows):
            terminalreporter.write_line(line)
        terminalreporter.write_line("")
        for line in textwrap.wrap(BEFORE, sum(WIDTHS)):
            terminalreporter.write_line(line)


def table(rows):
    """The lines of the table."""
    yield _line("id", "injection", "what must hold", "outcome")
    yield _line(*("-" * width for width in WIDTHS))
    listed = [(*row, _outcome(outcomes)) for row, outcomes in rows.items()]
    listed += [
        (name, injection, expected, "", f"see {Path(test.partition('::')[0]).name}") for name, injection, expected, test in ELSEWHERE
    ]
    for name, injection, expected, before, outcome in sorted(listed):
        columns = [textwrap.wrap(text, width) for text, width in zip((name, injection, expected), WIDTHS, strict=False)]
        columns.append([outcome])
        for i in range(max(map(len, columns))):
            yield _line(*(column[i] if i < len(column) else "" for column in columns))
        if before:
            for line in textwrap.wrap(f"before: {before}", WIDTHS[1] + WIDTHS[2]):
                yield _line("", line, "", "")


def _outcome(outcomes):
    if "failed" in outcomes:
        return "BROKEN"
    passed = outcomes.count("passed")
    if not passed:
        return "skipped"
    return "held" if passed == 1 else f"held x{passed}"


def _line(*cells):
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
