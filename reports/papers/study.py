"""A paper shown again: every cell, figure and claim with what became of it, and the runs that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from reports.claims.claims import Claim
from reports.claims.judging import FAILURE_TOLERANCE
from reports.claims.verdicts import CONTRADICTED, UNDECIDED, MeasuredContrast, Replication, Verdict
from reports.papers.archive import Archive, FoundRun, NeededRun, needs_of
from reports.papers.published import Paper, Part, Protocol, PublishedColumn, PublishedFigure, PublishedRow, PublishedTable
from reports.run.summary import Summary
from reports.statistics.intervals import FEWEST, IntervalSettings
from reports.statistics.records import Cell, Column, Row, SystemFacts, parsed_settings, system_of
from reports.writing.wording import count

JUDGE_OF = {"wer": "asr", "cer": "asr", "dwer": "asr", "sim_o": "speaker", "sim_r": "speaker", "mos": "mos"}
"""Which configuration group judges a metric; the others need no model."""
JUDGE_WORDS = {"asr": "recogniser", "speaker": "speaker encoder", "mos": "judge"}


@dataclass(frozen=True)
class JudgedCell:
    """One cell of a paper's table.

    Args:
        published: printed value, in its unit.
        reasons: why it is not reproduced, not comparable or not run; none where it is reproduced.
        value, low, high: measured, in the printed unit; None where there is none.
        system: measured, "" for none.
        run: name of the run, "" for none.
    """

    table: PublishedTable
    row: PublishedRow
    column: PublishedColumn
    published: float
    outcome: Replication
    reasons: tuple[str, ...] = ()
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_ok: int = 0
    n_total: int = 0
    system: str = ""
    run: str = ""
    signature: str = ""

    @property
    def protocol(self) -> Protocol:
        return self.table.protocol_of(self.row, self.column)

    @property
    def source(self) -> str:
        return self.row.source or self.table.source

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)


def judged_cells(table: PublishedTable, archive: Archive, unready: Mapping[str, str]) -> Iterator[JudgedCell]:
    """Every printed value of a table, row by row; ``unready`` are the systems that cannot be built here, with the reason."""
    for row in table.rows:
        for column in table.columns:
            if column.id in row.values:
                yield _judged_cell(table, row, column, archive, unready)


def _judged_cell(
    table: PublishedTable, row: PublishedRow, column: PublishedColumn, archive: Archive, unready: Mapping[str, str]
) -> JudgedCell:
    cell = JudgedCell(table, row, column, row.values[column.id], Replication.NOT_RUN)
    if not column.metric:
        return _with(cell, Replication.NOT_COMPARABLE, f"{column.why}; nothing here measures it")
    if not row.systems:
        return _with(cell, Replication.NOT_RUN, "no system here stands for it")
    found = next(filter(None, (_measured(table, row, column, label, archive) for label in row.systems)), None)
    if found is None:
        return _with(cell, Replication.NOT_RUN, *_why_not_run(row, cell.protocol, unready))
    run, line, shown, differences = found
    here = line.cells[shown.key]
    value, low, high = (None if v is None else v * column.scale for v in (here.value, here.low, here.high))
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    about: dict[str, Any] = {"system": line.facts.label, "run": run.name, "signature": shown.signature}
    cell = replace(cell, value=value, low=low, high=high, n_ok=here.n_ok, n_total=here.n_total, **about)
    if value is None or differences:
        return _with(cell, Replication.NOT_COMPARABLE, here.reason, *differences)
    if low is None or high is None:
        return _with(cell, Replication.TOO_FEW, here.method)
    if here.clusters < FEWEST:
        return _with(cell, Replication.TOO_FEW, f"{here.clusters} independent speakers or items, a verdict takes at least {FEWEST}")
    return _with(cell, *replication_of(cell.published, low, high, column))


def replication_of(published: float, low: float, high: float, column: PublishedColumn) -> tuple[Replication, str]:
    """What becomes of a comparable value: the same if its whole interval lies within the column's distance of the printed one."""
    least, most = published - column.within, published + column.within
    if least <= low and high <= most:
        return Replication.REPRODUCED, ""
    within = f"within {column.within:g} {column.unit}".rstrip()
    if low > most or high < least:
        return Replication.NOT_REPRODUCED, f"{CONTRADICTED}: the interval lies outside {column.printed(published)} {within}"
    return Replication.NOT_REPRODUCED, f"{UNDECIDED}: the interval is not wholly {within} of {column.printed(published)}"


def _with(cell: JudgedCell, outcome: Replication, *reasons: str) -> JudgedCell:
    return replace(cell, outcome=outcome, reasons=tuple(r for r in reasons if r))


def _measured(
    table: PublishedTable, row: PublishedRow, column: PublishedColumn, label: str, archive: Archive
) -> tuple[FoundRun, Row, Column, tuple[str, ...]] | None:
    """What the best run says of a cell for one system: fewest differences from the paper's protocol, then most items, then the newest."""
    protocol, found = table.protocol_of(row, column), []
    for run in archive.of(table.suite, [label]):
        if protocol.only and run.dataset.get("name") != protocol.dataset:
            continue
        summary = archive.summary(run)
        shown = summary.column(column.metric) if summary else None
        if summary is None or shown is None:
            continue
        for line in summary.rows:
            cell = line.cells[shown.key]
            same = line.facts.label == label and tuple(sorted(parsed_settings(line.settings).items())) == row.settings
            # A model that was never trained is measured for its speed alone.
            if same and cell.statuses and not (line.facts.random and not protocol.machine):
                differences = tuple(differences_from(protocol, column.metric, run, line.facts, cell))
                found.append((run, line, shown, differences))
    return max(found, key=lambda m: (m[1].cells[m[2].key].value is not None, -len(m[3]), m[0].preference), default=None)


def differences_from(protocol: Protocol, metric: str, run: FoundRun, facts: SystemFacts, cell: Cell) -> Iterator[str]:
    """Why a measured value is not to be held against the published one, each reason once."""
    data = run.dataset
    theirs = {key: getattr(protocol, key) for key in ("split", "language") if getattr(protocol, key)}
    if protocol.machine:
        if protocol.machine not in str(run.manifest.get("machine") or ""):
            here = (run.manifest.get("machine") or {}).get("processor") or "an unnamed machine"
            yield f"other machine: {facts.device} of {here} for {protocol.machine}"
    elif not protocol.dataset or data.get("name") != protocol.dataset or any(data.get(k) != v for k, v in theirs.items()):
        yield f"other data: {run.data} for {protocol.data or 'data that the paper does not name'}"
    elif run.limited:
        yield f"not all of the data: {run.limited}"
    elif protocol.items and run.num_items != protocol.items:
        yield f"another number of items: {run.num_items} for {protocol.items}"
    if (group := JUDGE_OF.get(metric)) and not protocol.machine:
        here = judge_of(run, group)
        if not (wanted := getattr(protocol, group)) or here != wanted:
            yield f"other {JUDGE_WORDS[group]}: {here or 'unnamed'} for {protocol.judge or 'one that the paper does not name'}"
    if facts.size == "small":
        details = ", ".join(
            filter(None, (f"{count(facts.num_parameters)} parameters" if facts.num_parameters else "", facts.training_data))
        )
        yield f"small size{f' ({details})' if details else ''}"
    if cell.n_total and cell.n_total - cell.n_ok > FAILURE_TOLERANCE * cell.n_total:
        yield f"{cell.n_total - cell.n_ok} of {cell.n_total} outputs have no figure"


def judge_of(run: FoundRun, group: str) -> str:
    """Name of the model that judged in a run, as the option that chose it is called."""
    section = (run.manifest.get("config") or {}).get(group) or {}
    return str(section.get("preset") or section.get("family") or "")


def _why_not_run(row: PublishedRow, protocol: Protocol, unready: Mapping[str, str]) -> Iterator[str]:
    if protocol.only and protocol.dataset:
        yield f"needs dataset={protocol.dataset}: {protocol.data}"
    lacking = [s for s in row.systems if s in unready]
    if len(lacking) == len(row.systems):
        yield from (f"{s}: {unready[s]}" for s in lacking[-1:])
    elif not protocol.only:
        yield "see the runs"


@dataclass(frozen=True)
class JudgedClaim:
    """A verdict and the name of the run it was found in, "" for none."""

    verdict: Verdict
    run: str


@dataclass(frozen=True)
class MeasuredFigure:
    """A figure without printed numbers: systems of the run that holds most of it, with its summary, None where there is no run."""

    figure: PublishedFigure
    summary: Summary | None
    rows: tuple[Row, ...]
    run: str


@dataclass(frozen=True)
class Study:
    """All that is known of a paper here."""

    paper: Paper
    cells: tuple[JudgedCell, ...]
    figures: tuple[MeasuredFigure, ...]
    claims: tuple[JudgedClaim, ...]
    needs: tuple[NeededRun, ...]
    runs: tuple[FoundRun, ...]
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
    """The paper beside what finished runs measured; ``unready`` and ``words`` are as in `needs_of`.

    Raises:
        Incomparable: a run mixes signatures.
    """
    how = how or IntervalSettings()
    archive = Archive(paper, runs, how)
    cells = tuple(cell for table in paper.tables for cell in judged_cells(table, archive, unready.get(table.suite, {})))
    figures = tuple(_figure(figure, archive) for figure in paper.figures)
    claims = tuple(_judged(claim, archive, unready.get(claim.suite, {})) for claim in paper.claims)
    used = {*(c.run for c in cells), *(c.run for c in claims), *(f.run for f in figures)}
    told = tuple(replace(run, warnings=archive.warnings(run)) for run in runs if run.name in used)
    return Study(paper, cells, figures, claims, needs_of(paper, archive, unready, words), told, how.confidence)


def _fullest(suite: str, systems: Sequence[str], metrics: Sequence[str], archive: Archive) -> FoundRun | None:
    """The run that holds most of some systems and metrics, of equals the one with most items, then the newest: one run, so that all is paired."""

    def worth(run: FoundRun) -> tuple[int, int, tuple[int, str]]:
        return len(run.systems.intersection(systems)), len(run.metrics.intersection(metrics)), run.preference

    return max((run for run in archive.of(suite, systems) if archive.summary(run)), key=worth, default=None)


def _judged(claim: Claim, archive: Archive, unready: Mapping[str, str]) -> JudgedClaim:
    run = _fullest(claim.suite, claim.systems, claim.metrics, archive)
    summary = archive.summary(run) if run else None
    if run is None or summary is None:
        contrasts = tuple(MeasuredContrast(str(part), part.metric, Replication.NOT_RUN) for part in claim.test)
        return JudgedClaim(Verdict(claim, Replication.NOT_RUN, _to_do(claim, unready, "see the runs"), contrasts), "")
    verdict = next(v for v in summary.verdicts if v.claim.id == claim.id)
    if verdict.outcome is Replication.NOT_RUN:
        verdict = replace(verdict, reason=_to_do(claim, unready, verdict.reason))
    return JudgedClaim(verdict, run.name)


def _to_do(claim: Claim, unready: Mapping[str, str], otherwise: str) -> str:
    """Which of its systems cannot be run, or what else is to be done; why they cannot stands once, beside the run."""
    lacking = ", ".join(s for s in claim.systems if s in unready)
    return f"{lacking} cannot be run here, see the runs" if lacking else otherwise


def _figure(figure: PublishedFigure, archive: Archive) -> MeasuredFigure:
    run = _fullest(figure.suite, figure.systems, figure.y, archive)
    summary = archive.summary(run) if run else None
    if run is None or summary is None:
        return MeasuredFigure(figure, None, (), "")
    rows = tuple(r for r in summary.systems if system_of(r.facts.label) in figure.systems and not r.facts.random)
    return MeasuredFigure(figure, summary, rows, run.name)
