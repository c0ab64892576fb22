"""Records of a run checked before anything is averaged: what no run writes is refused, where an average would be wrong as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from harness.api import Status
from harness.errors import DamagedFile, Incomparable, StoreError, UsageError
from harness.storing.frame import COLUMNS
from reports.statistics.records import parsed_settings
from reports.writing.wording import printable, shortened

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1e100
"""No measurement is beyond it; sums of larger ones may not be finite."""


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Sorted, so that results do not depend on the order of records, and refused where an average would be wrong."""
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise StoreError(f"the run's frame lacks the columns {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise UsageError("the run holds no records; the command that made it goes on where it stopped")
    text = [c for c in COLUMNS if c not in ("seed", "value", "weight", "synthetic")]
    # Enumerations and Arrow strings become plain str, missing text becomes "".
    frame = frame.assign(**{c: frame[c].astype(object).where(frame[c].notna(), "").map(str) for c in text})
    if len(suites := sorted(set(frame["suite"]))) > 1:
        raise Incomparable(f"this frame holds the suites {', '.join(suites)}; make a report of each apart")
    if problem := _unlike_records(frame):
        raise DamagedFile(
            f"the run's records are not as the harness writes them: {problem}; the command that made the run writes them again"
        )
    for key, group in frame.groupby("metric", sort=True):
        signatures = sorted(set(group["signature"]) - {""})
        if len(signatures) > 1:
            raise Incomparable(
                f"'{key}' was measured in more than one way in one run, which no mean may mix: {' and '.join(signatures)}. "
                "Score one of them again."
            )
    identity = ["system", "settings", "metric", "item", "seed"]
    frame = frame.sort_values(identity, kind="stable").reset_index(drop=True)
    twice = frame.duplicated(identity)
    if twice.any():
        raise StoreError(
            f"{int(twice.sum())} measurements are in the frame twice, the first is {frame.loc[twice, identity].iloc[0].to_dict()}"
        )
    return frame


def _unlike_records(frame: pd.DataFrame) -> str:
    """What no run writes, or ""."""
    if unknown := set(frame["status"]) - {status.value for status in Status}:
        return f"there is no status {shortened(printable(', '.join(sorted(unknown))), 80)}"
    ok = frame[frame["status"] == Status.OK.value]
    for name in ("value", "weight"):
        numbers = ok[name].to_numpy(float)
        if bad := int((~(np.abs(numbers) <= LARGEST)).sum()):
            return f"{bad} records are called ok and have no finite {name}"
    if (ok["weight"].to_numpy(float) < 0).any():
        return "there are weights below 0"
    for settings in set(frame["settings"]):
        try:
            if any(isinstance(value, dict | list) for value in parsed_settings(settings).values()):
                return f"the settings {shortened(printable(settings), 80)} are not one value each"
        except ValueError as problem:
            return f"the settings {shortened(printable(settings), 80)} cannot be read ({problem})"
    for name in ("counts", "detail"):
        for text in set(frame[name]) - {"", "{}"}:
            if not _is_object(text):
                return f"the {name} {shortened(printable(text), 80)} cannot be read"
    return ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
