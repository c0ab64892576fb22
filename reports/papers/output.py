"""Writing a paper shown again: page, Markdown, LaTeX, CSV and figures, each file whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.papers import latex, markdown, page, tidy
from reports.papers.figures import plates
from reports.papers.study import Study
from reports.run.output import written


@dataclass(frozen=True)
class StudyFiles:
    """What was written.

    Args:
        html, markdown, latex: the paper.
        data: CSV of its cells, claims and runs.
        figures: SVG and PNG.
    """

    html: Path
    markdown: Path
    latex: Path
    data: tuple[Path, ...]
    figures: tuple[Path, ...]


def write_study(study: Study, out: Path) -> StudyFiles:
    """Write ``tables.html``, ``.md``, ``.tex``, ``cells.csv``, ``claims.csv``, ``runs.csv`` and ``figures/*``.

    Args:
        study: of a paper.
        out: folder, made if need be.

    Raises:
        StoreError: a file cannot be written.
    """
    drawn = list(plates(study))
    figures = []
    for plate in drawn:
        figures.append(written(out / "figures" / f"{plate.drawing.name}.svg", [plate.drawing.standalone()]))
        if plate.png:
            figures.append(written(out / "figures" / f"{plate.drawing.name}.png", [plate.png]))
    texts = {"cells": tidy.cells(study), "claims": tidy.claims(study), "runs": tidy.runs(study)}
    return StudyFiles(
        html=written(out / "tables.html", [page.render(study, drawn)]),
        markdown=written(out / "tables.md", [markdown.render(study)]),
        latex=written(out / "tables.tex", [latex.render(study)]),
        data=tuple(written(out / f"{name}.csv", [text]) for name, text in texts.items()),
        figures=tuple(figures),
    )
