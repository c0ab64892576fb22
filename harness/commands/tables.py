"""the papers' tables beside what was measured here

  harness tables [PAPER ...] [key=value ...]      papers: qtts, socodec; all of them unless named

Every table and figure of a paper as published, beside what the finished runs in run.root measured, cell by cell with a status: reproduced,
not reproduced, too few, not comparable (and why), not run. Runs that are missing are listed with their commands.

  run=true          carry out what is missing and can be run here; what is in the store already is not computed again
  out=DIR           where to write (runs/tables-PAPER): tables.html, .md, .tex, cells.csv, claims.csv, runs.csv, figures
  run.root=DIR      where runs lie (runs)
  anything else     an override of `harness run` for those runs, e.g. dataset.limit=10, dataset=seedtts dataset.root=DIR, asr=seedtts,
                    systems.qdac16_paper.checkpoint=FILE; where data or judges are chosen so, only runs with the same choice are looked at
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import take_words
from harness.commands.doctor import state_of
from harness.errors import ConfigError, Incomplete, UnknownName, UsageError
from harness.notebook import carried_out
from harness.settings.config import compose
from harness.settings.registry import variants
from harness.settings.schema import text_of
from harness.storing.aliases import Aliases, typed

if TYPE_CHECKING:
    from reports.papers.archive import NeededRun
    from reports.papers.published import Paper
    from reports.papers.study import Study

CHOICES = ("dataset", "asr", "speaker", "mos", "seeds")
"""Sections that, once chosen, a run must have had to be looked at."""
TAKEN = ("suite", "systems", "metrics", "run.name")
"""What `harness tables` sets by itself for each run."""


@dataclass(frozen=True)
class Request:
    """What was typed."""

    papers: tuple[str, ...]
    run: bool  # carry out what is missing
    root: Path  # of the runs
    out: Path | None  # ``<root>/tables-<paper>`` by default
    words: tuple[str, ...]  # overrides for the runs
    config_dir: Path | None  # of the user's own YAML


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "PAPER or key=value", "folder with YAML of your own systems")


def main(options: Namespace) -> int:
    """0, or 1 when a run had more failures than allowed."""
    from harness.running.progress import Progress
    from reports.papers.published import load_paper
    from reports.statistics.records import CALIBRATION

    request = parsed(options.words, options.config_dir)
    code = 0
    for name in request.papers:
        with Progress() as progress:
            progress.stage(f"looking at the systems of {name}", None)
            paper = load_paper(name)
            reasons = {
                suite: unready(
                    sorted(paper.systems_of(suite) - set(CALIBRATION)), paper.overrides(suite, request.words), request.config_dir
                )
                for suite in paper.suites
            }
            progress.stage(f"reading the runs below {request.root}", None)
            study = _study(paper, reasons, request)
        if request.run:
            for need in study.needs:
                if need.to_run and not _carried_out(need, request):
                    code = Incomplete.exit_code
            study = _study(paper, reasons, request)
        _show(study, request.out or request.root / f"tables-{name}")
    return code


def parsed(words: Sequence[str], config_dir: Path | None) -> Request:
    """The request, checked. Raises UnknownName: no such paper; ConfigError: an option that makes no sense here."""
    from reports.papers.published import paper_names

    known = paper_names()
    papers = [word for word in words if "=" not in word]
    for paper in papers:
        if paper not in known:
            raise UnknownName("paper", paper, known, "Everything else is key=value, e.g. run=true dataset.limit=10.")
    options = dict(word.split("=", 1) for word in words if word.startswith(("run=", "out=", "run.root=")))
    if (run := options.get("run", "false")) not in ("true", "false"):
        raise ConfigError(f"run={run}: true carries out what is missing, false (the default) only lists it")
    overrides = [word for word in words if "=" in word and not word.startswith(("run=", "out="))]
    if taken := [word for word in overrides if word.partition("=")[0] in TAKEN or word.startswith("suite.")]:
        raise ConfigError(f"{' '.join(taken)}: each run has its own here; `harness run` takes them")
    out = Path(options["out"]) if "out" in options else None
    chosen = tuple(dict.fromkeys(papers)) or known
    if out is not None and len(chosen) > 1:
        raise UsageError(f"out={out} is one folder for one paper; name one of {', '.join(chosen)}")
    return Request(
        chosen, run == "true", Path(text_of("run.root", options.get("run.root", "runs")) or "runs"), out, tuple(overrides), config_dir
    )


def unready(systems: Sequence[str], words: Sequence[str], config_dir: Path | None) -> Mapping[str, str]:
    """Of those systems, the ones that cannot be built here, with the reason and what to do; of the words, parameters of systems count.

    Raises:
        UnknownName: parameters are given to a system that does not exist.
        ConfigError: an override that cannot be applied.
    """
    known = variants(config_dir)
    mine = [word for word in words if word.startswith("systems.")]
    for word in mine:
        if (name := word.split(".")[1].partition("=")[0]) not in known:
            raise UnknownName("system", name, known)
    there = [name for name in systems if name in known]
    named = [word for word in mine if word.split(".")[1] in there]
    sections = compose([f"systems=[{','.join(there)}]", *named], config_dir)["systems"]
    states = {name: state_of(section.pop("family"), section) for name, section in sections.items()}
    aliases = Aliases.here()  # the pages are meant to be sent
    found = {name: aliases.text(reason) for name, (_, reason) in states.items() if reason}
    absent = "no system of this name comes with the harness; its YAML would go into the folder systems of a --config-dir"
    return {**found, **{name: absent for name in systems if name not in known}}


def _study(paper: Paper, reasons: Mapping[str, Mapping[str, str]], request: Request) -> Study:
    from reports.papers.archive import finished_runs
    from reports.papers.study import study_of

    sections = {word.partition("=")[0].partition(".")[0] for word in request.words}.intersection(CHOICES)
    general = [word for word in request.words if not word.startswith("systems.")]
    # What the user chose decides which runs are looked at; composing also refuses what cannot be applied.
    config = compose(general, request.config_dir) if general else {}
    runs = finished_runs(request.root, {key: config[key] for key in sections}, lambda text: print(text, file=sys.stderr))
    return study_of(paper, runs, reasons, request.words)


def _carried_out(need: NeededRun, request: Request) -> bool:
    """Whether a run was finished with no more failures than allowed; what else was wrong with it is printed, and the others go on."""
    try:
        config = compose(need.overrides, request.config_dir)
        done = carried_out(config, f"harness run {typed(need.overrides)}")
        done.report(audio_limit_mb=float(config["report"]["audio_limit_mb"]))
        done.check()
    except (UsageError, Incomplete) as problem:
        print(f"{need.command}\n  {problem}")
        return False
    return True


def _show(study: Study, out: Path) -> None:
    from rich.console import Console

    from reports.papers.document import print_study, write_study

    page, *others = write_study(study, out)
    print_study(study, Console())
    tables = [path.name for path in others if path.parent == page.parent]
    print(f"page: {page}\nalso: {' '.join(tables)} and {len(others) - len(tables)} figures in {out / 'figures'}")
