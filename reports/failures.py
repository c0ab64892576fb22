"""Records without a value, grouped so that a thousand equal failures read as one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.api import Status
from reports.summary import Failure

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("failure", "reference", "skipped")
HEADINGS = {
    "failure": "Failures, counted against the system",
    "reference": "References that cannot be scored, left out for every system",
    "skipped": "Skipped, neither scored nor failed",
}


def grouped_failures(frame: pd.DataFrame, labels: Mapping[tuple[str, str], str]) -> tuple[Failure, ...]:
    """Groups of records without a value: same status and reason once item names and figures are taken out of it.

    A failure belongs to its system and is grouped by it; what a policy skipped, or an unscorable reference, is nobody's fault
    and makes one group for all systems.

    Args:
        frame: columns `harness.frame.COLUMNS`, sorted.
        labels: (system, settings) to the row's label, in the order of the rows.
    """
    groups: dict[tuple[str, ...], list[Any]] = {}
    columns = ["system", "settings", "status", "side", "reason", "name", "metric", "item"]
    bad = frame[frame["status"] != Status.OK.value]
    for system, settings, status, side, reason, name, metric, item in bad[columns].itertuples(index=False, name=None):
        kind = _kind(status, side)
        label = labels[system, settings]
        pattern = re.sub(r"\d+(\.\d+)?", "#", reason.replace(item, "<item>") if item else reason)
        groups.setdefault((kind, label if kind == "failure" else "", status, pattern), []).append((item, name or metric, reason, label))
    order = {label: i for i, label in enumerate(labels.values())}
    failures = [
        Failure(
            kind=kind,
            labels=() if kind == "reference" else tuple(sorted({label for *_, label in members}, key=order.__getitem__)),
            status=status,
            reason=min(members)[2],
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


def _kind(status: str, side: str) -> str:
    if status == Status.SKIPPED_BY_POLICY.value:
        return "skipped"
    return "reference" if side == "reference" else "failure"
