"""What the records of a run are about: metrics, systems and their variants, the value of each, and which records enter it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.api import Better, Status, Weights
from harness.errors import DamagedFile, Incomparable, StoreError, UsageError
from harness.storing.runfolder import COLUMNS
from reports.statistics.intervals import Range
from reports.writing.wording import ABSENT, SHOWN_UNITS, heading, number, plural, printable, shortened, significant

if TYPE_CHECKING:
    import pandas as pd


CALIBRATION = ("ground_truth", "same_speaker", "impostor")
"""Rows that a suite adds by itself, systems of nobody."""
SEED_NAME = re.compile(r"(?P<system>.+)_seed\d+")
COVERAGE_TOLERANCE = 0.01
"""Two systems whose shares of scored outputs differ by more than this are not ranked: each would be judged on the items it managed."""
UNNAMED = "no speaker"
"""The unit of items without a speaker among others that have one."""


@dataclass(frozen=True)
class Column:
    """One metric.

    Args:
        key: its name in the registry and in `Row.cells`.
        unit: of the stored values, "" where there is none.
        better: whether higher or lower is better; only a column where one is has a best cell.
        range: the possible values, and what a failure counts as.
        signature: how it was measured, the same for all of its records (`harness.api.MetricInfo.signature`).
        aggregation: how records become one value, such as "weighted mean".
        headline: place in the short table, None where it is not in it.
        decimals: digits after the point in print.
        significant: whether values are printed with three significant digits instead, for rates that lie orders of magnitude apart.
        excluded: items whose reference this metric cannot score, left out for every system.
        unranked: why no cell is marked best, "" where one is.
        common: items that systems are ranked over where each scored others, 0 where all scored the same.
    """

    key: str
    name: str
    unit: str
    better: Better
    range: Range
    signature: str
    description: str
    aggregation: str
    headline: int | None
    decimals: int = 3
    significant: bool = False
    excluded: tuple[str, ...] = ()
    unranked: str = ""
    common: int = 0

    @property
    def is_mean(self) -> bool:
        """The corpus value is ``sum(w v) / sum(w)``; otherwise the metric object pools it."""
        return self.aggregation in ("", "mean") or self.aggregation.startswith("weighted mean")

    @property
    def heading(self) -> str:
        return heading(self.name, self.shown_unit, self.better)

    @property
    def shown_unit(self) -> str:
        """The unit that values are printed in; the stored one is ``unit``."""
        return SHOWN_UNITS.get(self.unit, (self.unit, 1.0))[0]

    @property
    def factor(self) -> float:
        """From the stored unit to the printed one."""
        return SHOWN_UNITS.get(self.unit, (self.unit, 1.0))[1]

    def shown(self, value: float | None) -> str:
        """A value as printed, in ``shown_unit``; a dash where there is none."""
        if value is None:
            return ABSENT
        return significant(value * self.factor) if self.significant else number(value * self.factor, self.decimals)

    def span(self, cell: Cell) -> str:
        """``[low, high]`` as printed, or "" where there is no interval."""
        return "" if cell.low is None or cell.high is None else f"[{self.shown(cell.low)}, {self.shown(cell.high)}]"


@dataclass(frozen=True)
class Cell:
    """One system's value of one metric. Its records are ``n_total + n_excluded + n_skipped`` in number.

    Args:
        value: pooled over the ``n_ok`` scored outputs, in the stored unit, None where there is none.
        low, high: bounds of its interval, None where there are fewer than two clusters.
        n_total: outputs that could be scored, i.e. ``n_ok`` and the system's failures.
        n_excluded: records left out because the reference cannot be scored.
        n_own: those of them that are left out of this row only, a calibration row with recordings of its own.
        n_skipped: records the metric does not apply to, or that were skipped by policy.
        n_missing: items of the run without any record (an unfinished run).
        pessimistic: the value when each failure counts as the worst value that is natural; None where there is none.
        statuses: records by status, of all of them.
        reason: why there is no value, "" otherwise.
        clusters: number of independent units behind the interval.
        method: in words, how the interval was made.
        seed_spread: standard deviation of the value over seeds, None for one seed.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_ok: int = 0
    n_total: int = 0
    n_excluded: int = 0
    n_own: int = 0
    n_skipped: int = 0
    n_missing: int = 0
    pessimistic: float | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    clusters: int = 0
    method: str = ""
    seeds: int = 0
    seed_spread: float | None = None

    @property
    def coverage(self) -> float:
        """Share of the wanted outputs that were scored, 0 to 1."""
        wanted = self.n_total + self.n_missing
        return self.n_ok / wanted if wanted else 0.0

    @property
    def counted(self) -> str:
        """``n_ok/n_total``; "" where nothing was to be scored."""
        return f"{self.n_ok}/{self.n_total}" if self.n_total else ""


@dataclass(frozen=True)
class SystemFacts:
    """What is known of a system beside its measurements (`harness.api.SystemInfo` and its configuration, from the manifest)."""

    label: str
    family: str = ""
    description: str = ""
    size: str = ""
    weights: str = Weights.NONE.value
    num_parameters: int = 0
    training_data: str = ""
    sample_rate: int = 0
    anchor: bool = False
    device: str = ""
    precision: str = ""
    tools: str = ""
    configured: tuple[tuple[str, float], ...] = ()

    @property
    def random(self) -> bool:
        return self.weights == Weights.RANDOM


@dataclass(frozen=True)
class Row:
    """One system under one setting.

    Args:
        settings: JSON text as in the frame.
        calibration: a calibration row, not a system under test.
        cells: by metric key.
        best: keys of the metrics in which no ranked system has a better value (as printed).
    """

    facts: SystemFacts
    settings: str
    calibration: bool
    cells: Mapping[str, Cell]
    best: frozenset[str] = frozenset()

    @property
    def variant(self) -> str:
        """The settings in words, "" for the plain system."""
        return ", ".join(f"{k}={v}" for k, v in parsed_settings(self.settings).items())

    @property
    def label(self) -> str:
        return f"{self.facts.label} {self.variant}".rstrip()


def system_of(label: str) -> str:
    """The system that a label is a training seed of: ``socodec120`` of ``socodec120_seed2`` and of itself."""
    match = SEED_NAME.fullmatch(label)
    return match["system"] if match else label


def parsed_settings(text: str) -> dict[str, int | float | str | bool]:
    """A variant's settings from the frame's JSON text; "" is the plain system."""
    parsed = json.loads(text) if text else {}
    if not isinstance(parsed, dict):
        raise ValueError(f"settings must be a JSON object, got {text!r}")
    return parsed


def reference_fault(group: pd.DataFrame) -> pd.Series[bool]:
    """Which records have no value because what the output is judged against cannot be scored.

    Of a system's record that is the item's own recording, text or prompt, and no system can be scored with it. A calibration row's
    record has a recording of its own, chosen for that row: its fault says nothing of the item.
    """
    return (group["side"] == "reference") & ~group["status"].isin([Status.OK.value, Status.SKIPPED_BY_POLICY.value])


def scored(group: pd.DataFrame, excluded: Collection[str]) -> pd.DataFrame:
    """The records with a value, of items whose reference can be scored."""
    return group[(group["status"] == Status.OK.value) & ~group["item"].isin(excluded)]


def unit_names(speakers: Mapping[str, str]) -> dict[str, str]:
    """The unit that each item is judged with, by item, from their speakers, "" where none is named.

    Its speaker where more than one is named; items without a speaker among such are one unit together, since they may all be of one
    voice. Where no more than one speaker is named each item stands for itself: what is said then holds of these voices only.
    """
    if len(set(speakers.values()) - {""}) < 2:
        return {item: f"item {item}" for item in speakers}
    return {item: f"speaker {speaker}" if speaker else UNNAMED for item, speaker in speakers.items()}


def unit_noun(clusters: Sequence[str]) -> str:
    """What units are, in the plural: speakers, or items."""
    return "speakers" if any(c.startswith("speaker ") for c in clusters) else "items"


def unit_words(units: Mapping[str, str]) -> str:
    """How many units there are: ``14 speakers``, ``2 speakers and 3 items without one (taken as one)``, ``1 item``."""
    names = set(units.values())
    speakers = sum(name.startswith("speaker ") for name in names)
    noun, count = ("speaker", speakers) if speakers else ("item", len(names))
    words = plural(count, noun)
    if UNNAMED in names:
        unnamed = sum(name == UNNAMED for name in units.values())
        words += f" and {plural(unnamed, 'item')} without a speaker (together as one more)"
    return words


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
