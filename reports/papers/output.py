"""Writing a paper shown again: page, Markdown, LaTeX, CSV and figures, each file whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.papers import document, tidy
from reports.papers.figures import drawings
from reports.papers.study import Study
from reports.writing.files import written


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
    drawn = list(drawings(study))
    forms = [(f"{d.name}.svg", d.standalone()) for d in drawn] + [(f"{d.name}.png", d.png) for d in drawn if d.png]
    texts = {"cells": tidy.cells(study), "claims": tidy.claims(study), "runs": tidy.runs(study)}
    return StudyFiles(
        html=written(out / "tables.html", document.page(study, drawn)),
        markdown=written(out / "tables.md", [document.markdown(study)]),
        latex=written(out / "tables.tex", [document.latex(study)]),
        data=tuple(written(out / f"{name}.csv", [text]) for name, text in texts.items()),
        figures=tuple(written(out / "figures" / name, [content]) for name, content in forms),
    )
