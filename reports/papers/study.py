"""A paper shown again: every cell, figure and claim with what became of it, and the runs that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from reports.claims.claims import Claim, Monotone
from reports.claims.verdicts import MeasuredContrast, Replication, Verdict
from reports.papers.archive import Archive, FoundRun
from reports.papers.cells import JudgedCell, judged_cells
from reports.papers.needs import NeededRun, needs_of
from reports.papers.published import Paper, Part, PublishedFigure, PublishedTable
from reports.run.summary import Summary
from reports.statistics.intervals import IntervalSettings
from reports.statistics.records import Row, system_of


@dataclass(frozen=True)
class UsedRun:
    """A run that something rests on.

    Args:
        name: of its folder.
        suite, data, created, command: what was asked of which data, when, and how it was typed.
        warnings: what must be said before its numbers, such as a limit on items.
    """

    name: str
    suite: str
    data: str
    created: str
    command: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class JudgedClaim:
    """A verdict and the name of the run it was found in, "" for none."""

    verdict: Verdict
    run: str


@dataclass(frozen=True)
class MeasuredFigure:
    """A figure without printed numbers, measured.

    Args:
        figure: of the paper, a drawing whose numbers are not printed.
        summary: of the run that holds most of it, None where there is none.
        rows: of that summary, its systems only.
        run: its name.
    """

    figure: PublishedFigure
    summary: Summary | None
    rows: tuple[Row, ...]
    run: str


@dataclass(frozen=True)
class Study:
    """All that is known of a paper here.

    Args:
        paper: what it says.
        cells: every printed value, in order.
        figures: measured.
        claims: judged, in order.
        needs: the runs.
        runs: that were found and used.
        confidence: of the intervals.
    """

    paper: Paper
    cells: tuple[JudgedCell, ...]
    figures: tuple[MeasuredFigure, ...]
    claims: tuple[JudgedClaim, ...]
    needs: tuple[NeededRun, ...]
    runs: tuple[UsedRun, ...]
    confidence: float

    @cached_property
    def counts(self) -> Mapping[str, Mapping[Replication, int]]:
        """Cells and claims by outcome, every outcome named."""
        kinds = {"cells": [c.outcome for c in self.cells], "claims": [c.verdict.outcome for c in self.claims]}
        return {kind: {o: Counter(found)[o] for o in Replication} for kind, found in kinds.items()}

    @cached_property
    def warnings(self) -> Mapping[str, tuple[str, ...]]:
        """What must be said before the first number, each sentence once with the runs it holds for."""
        found: dict[str, list[str]] = {}
        for run in self.runs:
            for warning in run.warnings:
                found.setdefault(warning, []).append(run.name)
        return {warning: tuple(names) for warning, names in found.items()}

    def cell(self, table: PublishedTable, row: str, column: str) -> JudgedCell | None:
        """One cell, by the names of row and column."""
        return next((c for c in self.cells if c.table is table and c.row.name == row and c.column.id == column), None)

    def claims_of(self, part: Part) -> tuple[JudgedClaim, ...]:
        """What is said in words of a table or figure."""
        told = self.paper.claims_of(part)
        return tuple(c for c in self.claims if c.verdict.claim in told)

    @cached_property
    def other_claims(self) -> tuple[JudgedClaim, ...]:
        """Those about no table or figure of the file."""
        about = [c for part in (*self.paper.tables, *self.paper.figures) for c in self.paper.claims_of(part)]
        return tuple(c for c in self.claims if c.verdict.claim not in about)


def study_of(
    paper: Paper,
    runs: Sequence[FoundRun],
    unready: Mapping[str, Mapping[str, str]],
    words: Sequence[str] = (),
    how: IntervalSettings | None = None,
) -> Study:
    """The paper beside what finished runs measured.

    Args:
        paper: to be shown.
        runs: finished.
        unready: by suite the systems that cannot be built here, with the reason.
        words: overrides the user gave, for the commands of missing runs.
        how: intervals are made.

    Raises:
        Incomparable: a run mixes signatures.
    """
    how = how or IntervalSettings()
    archive = Archive(paper, runs, how)
    cells = tuple(cell for table in paper.tables for cell in judged_cells(table, archive, unready.get(table.suite, {})))
    figures = tuple(_figure(figure, archive) for figure in paper.figures)
    claims = tuple(_judged(claim, archive, unready.get(claim.suite, {})) for claim in paper.claims)
    used = {*(c.run for c in cells), *(c.run for c in claims), *(f.run for f in figures)}
    told = tuple(_used(run, archive) for run in runs if run.name in used)
    return Study(paper, cells, figures, claims, needs_of(paper, archive, unready, words), told, how.confidence)


def _used(run: FoundRun, archive: Archive) -> UsedRun:
    summary = archive.summary(run)
    warnings = (*([f"LIMITED DATA: {run.limited}."] if run.limited else []), *(summary.warnings if summary else ()))
    return UsedRun(run.name, run.suite, run.data, str(run.manifest.get("created", "")), str(run.manifest.get("command", "")), warnings)


def _fullest(suite: str, systems: Sequence[str], metrics: Sequence[str], archive: Archive) -> FoundRun | None:
    """The run that holds most of some systems and metrics, of equals the one with most items, then the newest: one run, so that all is paired."""

    def worth(run: FoundRun) -> tuple[int, int, tuple[int, str]]:
        return len(run.systems.intersection(systems)), len(run.metrics.intersection(metrics)), run.preference

    return max((run for run in archive.of(suite, systems) if archive.summary(run)), key=worth, default=None)


def _judged(claim: Claim, archive: Archive, unready: Mapping[str, str]) -> JudgedClaim:
    run = _fullest(claim.suite, claim.systems, claim.metrics, archive)
    summary = archive.summary(run) if run else None
    if run is None or summary is None:
        contrasts = tuple(MeasuredContrast(_said(part), part.metric, Replication.NOT_RUN) for part in claim.test)
        return JudgedClaim(Verdict(claim, Replication.NOT_RUN, _to_do(claim, unready, "see the runs"), contrasts), "")
    verdict = next(v for v in summary.verdicts if v.claim.id == claim.id)
    if verdict.outcome is Replication.NOT_RUN:
        verdict = replace(verdict, reason=_to_do(claim, unready, verdict.reason))
    return JudgedClaim(verdict, run.name)


def _to_do(claim: Claim, unready: Mapping[str, str], otherwise: str) -> str:
    """Which of its systems cannot be run, or what else is to be done; why they cannot stands once, beside the run."""
    lacking = ", ".join(s for s in claim.systems if s in unready)
    return f"{lacking} cannot be run here, see the runs" if lacking else otherwise


def _said(part: object) -> str:
    if isinstance(part, Monotone):
        return f"{part.point} {'rising' if part.increasing else 'falling'} in {part.over} from {part.first:g} to {part.last:g}"
    return str(part)


def _figure(figure: PublishedFigure, archive: Archive) -> MeasuredFigure:
    run = _fullest(figure.suite, figure.systems, figure.y, archive)
    summary = archive.summary(run) if run else None
    if run is None or summary is None:
        return MeasuredFigure(figure, None, (), "")
    rows = tuple(r for r in summary.systems if system_of(r.facts.label) in figure.systems and not r.facts.random)
    return MeasuredFigure(figure, summary, rows, run.name)
