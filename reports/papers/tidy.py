"""A paper shown again, as tidy CSV: one line a cell, one a comparison of a claim, one a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.papers.study import Study
from reports.run.tidy import CLAIM_FIELDS, claim_lines
from reports.writing.files import tidy

CELL_FIELDS = (
    "paper", "table", "source", "standing", "row", "column", "unit", "published", "protocol", "outcome", "reason", "measured", "low", "high",
    "confidence", "within", "n_ok", "n_total", "suite", "metric", "system", "settings", "run", "dataset", "signature",
)  # fmt: skip
RUN_FIELDS = ("suite", "run", "state", "dataset", "warnings", "command", "systems", "lacking", "closer")


def cells(study: Study) -> str:
    """Every published figure beside the measured one."""
    return tidy(CELL_FIELDS, _cells(study))


def claims(study: Study) -> str:
    """Every comparison of every claim, with the claim's own outcome."""
    runs = {run.name: run for run in study.runs}
    lines = []
    for judged in study.claims:
        run = runs.get(judged.run)
        about = {"suite": judged.verdict.claim.suite, "run": judged.run}
        about |= {"dataset": run.data, "warnings": " ".join(run.warnings)} if run else {}
        lines += [{**about, **line} for line in claim_lines(judged.verdict, study.confidence)]
    return tidy(("suite", "run", "dataset", "warnings", *CLAIM_FIELDS), lines)


def runs(study: Study) -> str:
    """The runs used, and the runs needed with their commands."""
    return tidy(RUN_FIELDS, _runs(study))


def _cells(study: Study) -> Iterator[Mapping[str, object]]:
    data = {run.name: run.data for run in study.runs}
    for cell in study.cells:
        yield {
            "paper": study.paper.title,
            "table": cell.table.id,
            "standing": cell.table.standing,
            "row": cell.row.name,
            "column": cell.column.id,
            "unit": cell.column.unit,
            "published": cell.column.printed(cell.published),
            "measured": cell.value,
            "confidence": study.confidence,
            "within": cell.column.within or "",
            "suite": cell.table.suite,
            "metric": cell.column.metric,
            "settings": ", ".join(f"{k}={v}" for k, v in cell.row.settings),
            "dataset": data.get(cell.run, ""),
            **{
                f: getattr(cell, f)
                for f in ("source", "protocol", "outcome", "reason", "low", "high", "n_ok", "n_total", "system", "run", "signature")
            },
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
            **{f: "; ".join(f"{s}: {reason}" for s, reason in getattr(need, f).items()) for f in ("lacking", "closer")},
        }
