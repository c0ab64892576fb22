"""Writing a run's report: the page, the tables and the figures, each file whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.storing.frame import OpenedRun
from reports.run import document, page, tidy
from reports.run.figures import draw_all
from reports.run.summarise import summarise
from reports.run.summary import Summary
from reports.statistics.intervals import IntervalSettings
from reports.writing.files import written

AUDIO_LIMIT_MB = 48.0


@dataclass(frozen=True)
class ReportFiles:
    """What was written.

    Args:
        html: the page.
        markdown, latex, csv: the tables.
        claims: the papers' claims and what became of them (CSV), None where the suite measures none.
        figures: SVG files.
        summary: what they print.
    """

    html: Path
    markdown: Path
    latex: Path
    csv: Path
    claims: Path | None
    figures: tuple[Path, ...]
    summary: Summary


def write_report(
    run: OpenedRun,
    out: Path | None = None,
    audio_limit_mb: float = AUDIO_LIMIT_MB,
    item_limit: int = 1000,
    how: IntervalSettings | None = None,
    summary: Summary | None = None,
) -> ReportFiles:
    """Write ``report.html``, ``.md``, ``.tex``, ``.csv``, ``report_claims.csv`` where there are claims, and ``figures/*.svg``.

    Args:
        run: as read.
        out: folder, made if need be; the run's own unless told.
        audio_limit_mb: of audio embedded in the page.
        item_limit: items listed in the page.
        how: intervals are made.
        summary: of the run, where it has been made already.

    Raises:
        Incomparable: the run mixes signatures.
        StoreError: a file cannot be written.
    """
    out = out or run.path
    summary = summary or summarise(run, how)
    figures = draw_all(summary)
    drawn = tuple(written(out / "figures" / f"{d.name}.svg", [d.standalone()]) for d in figures)
    return ReportFiles(
        html=written(out / "report.html", page.render(run, summary, figures, audio_limit_mb, item_limit)),
        markdown=written(out / "report.md", [document.markdown(summary)]),
        latex=written(out / "report.tex", [document.latex(summary)]),
        csv=written(out / "report.csv", [tidy.render(summary)]),
        claims=written(out / "report_claims.csv", [tidy.render_claims(summary)]) if summary.verdicts else None,
        figures=drawn,
        summary=summary,
    )
