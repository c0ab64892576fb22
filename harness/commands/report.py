"""table, report.html, CSV, Markdown and LaTeX of a run"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import path

if TYPE_CHECKING:
    from harness.notebook import Run


def declare(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=path, metavar="RUN", help="run folder, e.g. runs/codec-1a2b3c4d")
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (the run folder)")


def main(options: Namespace) -> int:
    from harness.notebook import Run

    show(Run(options.run), options.out or options.run)
    return 0


def show(run: Run, out: Path | None, audio_limit_mb: float | None = None) -> None:
    """Writes the report, unless ``out`` is None, and prints the table and where the files lie."""
    from rich.console import Console

    from harness.running.progress import Progress
    from reports.run.document import print_summary

    with Progress() as progress:
        progress.stage("reading the records", None)
        _ = run.summary
        progress.stage("writing the report", None)
        files = run.report(out, audio_limit_mb) if out is not None else None
    print_summary(run.summary, Console())
    if files is not None:
        others = [files.markdown, files.latex, files.csv, *([files.claims] if files.claims else []), *files.figures]
        print(f"report: {files.html}\nalso:   " + " ".join(str(path.relative_to(files.html.parent)) for path in others))
