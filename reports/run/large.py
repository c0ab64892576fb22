"""The summary of a run of any size: where its records are too many to be held at once, metric by metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.storing.frame import Run, open_run
from harness.storing.runfolder import read_manifest
from reports.run.summarise import summarise
from reports.run.summary import Note, Summary
from reports.statistics.intervals import IntervalSettings
from reports.statistics.records import Cell, Row

LARGE = 1_000_000
"""Records from which a run is read metric by metric; a record takes about 1.5 kB while a summary is made."""
ITEMS_SHOWN = 1000
"""Items of a large run whose records the page gets: it lists no more."""


def read_summary(folder: Path, statistics: IntervalSettings | None = None, large: int = LARGE) -> tuple[Run, Summary]:
    """A run and its tables.

    Args:
        folder: of the run.
        statistics: of the intervals.
        large: number of records from which memory matters.

    Returns:
        The run (of a large one, the records of its first items only), and the summary of all of it.

    Raises:
        UsageError: not a run.
        Incomparable, StoreError: as `reports.run.summarise.summarise`.
    """
    manifest = read_manifest(folder)
    if sum((manifest.get("counts") or {}).values()) < large:
        run = open_run(folder)
        return run, summarise(run, statistics)
    suite, declared = manifest["suite"], sorted(manifest["metrics"])
    order = dict.fromkeys([*(suite.get("metrics") or ()), *(suite.get("headline") or ()), *declared])  # as a table has them
    parts = [summarise(part, statistics) for key in order if key in declared and len((part := open_run(folder, metrics=[key])).frame)]
    return open_run(folder, items=list(manifest["items"])[:ITEMS_SHOWN]), merged(parts)


def merged(parts: Sequence[Summary]) -> Summary:
    """One summary of summaries that hold other metrics of one run.

    What the papers claim relates several metrics to each other and is not evaluated.
    """
    rows: dict[tuple[str, str], Row] = {}
    for part in parts:
        for row in part.rows:
            before = rows.setdefault((row.facts.label, row.settings), row)
            rows[row.facts.label, row.settings] = replace(before, cells={**before.cells, **row.cells}, best=before.best | row.best)
    columns = tuple(column for part in parts for column in part.columns)
    absent = Cell(reason="not measured")
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(
        parts[0],
        columns=columns,
        rows=tuple(replace(row, cells={c.key: row.cells.get(c.key, absent) for c in columns}) for row in rows.values()),
        failures=tuple(sorted((f for part in parts for f in part.failures), key=lambda f: -f.records)),
        error_rates=tuple(rate for part in parts for rate in part.error_rates),
        notes=(*notes, Note("A run of this size is read metric by metric; what papers claim is not evaluated.")),
        verdicts=(),
    )
