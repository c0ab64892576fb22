"""A paper shown again, as tidy CSV: one line a cell, one a comparison of a claim, one a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reports.papers.study import Study
from reports.run.tidy import CLAIM_FIELDS, claim_lines, guarded

CELL_FIELDS = (
    "paper", "table", "source", "standing", "row", "column", "unit", "published", "protocol", "outcome", "reason", "measured", "low", "high",
    "confidence", "within", "n_ok", "n_total", "suite", "metric", "system", "settings", "run", "dataset", "signature",
)  # fmt: skip
RUN_FIELDS = ("suite", "run", "state", "dataset", "warnings", "command", "systems", "lacking", "closer")


def cells(study: Study) -> str:
    """Every published figure beside the measured one; figures in full precision, empty where there is none."""
    return _written(CELL_FIELDS, _cells(study))


def claims(study: Study) -> str:
    """Every comparison of every claim, with the claim's own outcome."""
    data = {run.name: run for run in study.runs}
    lines = (
        {
            "suite": judged.verdict.claim.suite,
            "run": judged.run,
            "dataset": data[judged.run].data if judged.run else "",
            "warnings": " ".join(data[judged.run].warnings) if judged.run else "",
            **line,
        }
        for judged in study.claims
        for line in claim_lines(judged.verdict, study.confidence)
    )
    kept = [f for f in CLAIM_FIELDS if f not in ("suite", "dataset", "synthetic", "partial")]
    return _written(("suite", "run", "dataset", "warnings", *kept), lines)


def runs(study: Study) -> str:
    """The runs used, and the runs needed with their commands."""
    return _written(RUN_FIELDS, _runs(study))


def _cells(study: Study) -> Iterator[Mapping[str, object]]:
    data = {run.name: run.data for run in study.runs}
    for cell in study.cells:
        yield {
            "paper": study.paper.title,
            "table": cell.table.id,
            "source": cell.source,
            "standing": cell.table.standing,
            "row": cell.row.name,
            "column": cell.column.id,
            "unit": cell.column.unit,
            "published": cell.column.printed(cell.published),
            "protocol": cell.protocol,
            "outcome": cell.outcome,
            "reason": cell.reason,
            "measured": cell.value,
            "low": cell.low,
            "high": cell.high,
            "confidence": study.confidence,
            "within": cell.column.within or "",
            "n_ok": cell.n_ok,
            "n_total": cell.n_total,
            "suite": cell.table.suite,
            "metric": cell.column.metric,
            "system": cell.system,
            "settings": ", ".join(f"{k}={v}" for k, v in cell.row.settings),
            "run": cell.run,
            "dataset": data.get(cell.run, ""),
            "signature": cell.signature,
        }


def _runs(study: Study) -> Iterator[Mapping[str, object]]:
    for run in study.runs:
        about = {"suite": run.suite, "run": run.name, "state": "used", "dataset": run.data}
        yield {**about, "warnings": " ".join(run.warnings), "command": run.command}
    for need in study.needs:
        yield {
            "suite": need.suite,
            "run": need.found,
            "state": "there" if need.found else "missing",
            "dataset": need.dataset,
            "command": need.shown,
            "systems": " ".join(need.systems),
            "lacking": "; ".join(f"{s}: {reason}" for s, reason in need.lacking.items()),
            "closer": "; ".join(f"{s}: {reason}" for s, reason in need.closer.items()),
        }


def _written(fields: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(guarded, lines))
    return stream.getvalue()
