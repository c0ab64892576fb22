"""Records without a value, grouped so that a thousand equal failures read as one line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from harness.api import Status
from reports.run.summary import Failure
from reports.writing.wording import PROBLEM_LIMIT, printable, shortened

if TYPE_CHECKING:
    import pandas as pd

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
        frame: columns `harness.storing.frame.COLUMNS`, sorted.
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
