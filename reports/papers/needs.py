"""The runs that a paper's tables, figures and claims need: which are there, which are missing, and the command of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.storing.aliases import Aliases, typed
from reports.papers.archive import Archive, FoundRun
from reports.papers.published import Paper
from reports.statistics.records import CALIBRATION

LISTS = {"seedtts": "dataset.root=FOLDER"}
"""What names the files of a dataset; of the others a list of one's own does."""


@dataclass(frozen=True)
class NeededRun:
    """One run.

    Args:
        suite: asked.
        systems: that can be run here.
        lacking: systems that cannot, with the reason and what to do.
        closer: the same of systems that would stand closer to the paper than those run in their place.
        metrics: needed of it.
        words: further overrides, as typed.
        dataset: that it must be on, "" for whichever is chosen.
        found: name of the finished run that holds all of it, "" where it is missing.
    """

    suite: str
    systems: tuple[str, ...]
    lacking: Mapping[str, str]
    metrics: tuple[str, ...]
    words: tuple[str, ...] = ()
    dataset: str = ""
    found: str = ""
    closer: Mapping[str, str] = field(default_factory=dict)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of `harness.settings.config.compose`."""
        return f"suite={self.suite}", f"systems=[{','.join(self.systems)}]", f"metrics=[{','.join(self.metrics)}]", *self.words

    @property
    def shown(self) -> str:
        """The command as it may stand in a page that is sent."""
        return f"harness run {Aliases.here().text(typed(self.overrides))}" if self.systems else ""

    @property
    def command(self) -> str:
        """As typed; "" where no system of it can be run."""
        return " ".join(["harness run", *self.overrides]) if self.systems else ""

    @property
    def to_run(self) -> bool:
        """It can be carried out here and now: something to run, and no file that only the user has."""
        return bool(self.systems) and not self.found and not self.dataset


def needs_of(paper: Paper, archive: Archive, unready: Mapping[str, Mapping[str, str]], words: Sequence[str] = ()) -> tuple[NeededRun, ...]:
    """One run a suite, and one more for each dataset that some column is tied to.

    Args:
        paper: to be shown.
        archive: of finished runs.
        unready: by suite the systems that cannot be built here, with the reason.
        words: overrides that the user gave; those of systems that a run does not have are left out of it.
    """
    found: list[NeededRun] = []
    for suite in paper.suites:
        found += _anywhere(paper, suite, archive, unready.get(suite, {}), paper.overrides(suite, words))
        found += _tied(paper, suite, unready.get(suite, {}))
    return tuple(found)


def _anywhere(paper: Paper, suite: str, archive: Archive, unready: Mapping[str, str], words: Sequence[str]) -> Iterator[NeededRun]:
    found, metrics = _entrants(paper.entrants(suite), unready), paper.metrics_of(suite)
    mine = tuple(w for w in words if not w.startswith("systems.") or w.split(".")[1] in found.ready)
    there = [run for run in archive.of(suite, found.ready) if _holds(run, found.ready, metrics)]
    best = max(there, key=lambda run: run.preference, default=None)
    yield NeededRun(suite, found.ready, found.lacking, metrics, mine, found=best.name if best else "", closer=found.closer)


def _tied(paper: Paper, suite: str, unready: Mapping[str, str]) -> Iterator[NeededRun]:
    tied: dict[str, tuple[list[Sequence[str]], list[str]]] = {}
    for table in (t for t in paper.tables if t.suite == suite):
        for row in table.rows:
            for column in table.columns:
                protocol = table.protocol_of(row, column)
                if protocol.only and protocol.dataset and column.metric and column.id in row.values:
                    rows, metrics = tied.setdefault(protocol.dataset, ([], []))
                    rows.append(row.systems)
                    metrics.append(column.metric)
    for dataset, (rows, metrics) in tied.items():
        found = _entrants(rows, unready)
        words = (f"dataset={dataset}", LISTS.get(dataset, "dataset.manifest=FILE.lst"))
        yield NeededRun(suite, found.ready, found.lacking, tuple(dict.fromkeys(metrics)), words, dataset, closer=found.closer)


@dataclass(frozen=True)
class _Entrants:
    ready: tuple[str, ...]
    lacking: Mapping[str, str]
    closer: Mapping[str, str]


def _entrants(rows: Sequence[Sequence[str]], unready: Mapping[str, str]) -> _Entrants:
    """Systems to run; of those that stand for one row the first that can be run is enough, and the last is what one would train."""
    ready: dict[str, None] = {}
    lacking: dict[str, str] = {}
    closer: dict[str, str] = {}
    for row in rows:
        systems = [s for s in row if s not in CALIBRATION]
        chosen = next((s for s in systems if s not in unready), None)
        if chosen is not None:
            ready[chosen] = None
        elif systems:
            lacking[systems[-1]] = unready[systems[-1]]
        before = systems[: systems.index(chosen)] if chosen is not None else systems[:-1]
        closer.update({s: unready[s] for s in before})
    return _Entrants(tuple(ready), lacking, closer)


def _holds(run: FoundRun, systems: Sequence[str], metrics: Sequence[str]) -> bool:
    return bool(systems) and run.systems.issuperset(systems) and run.metrics.issuperset(metrics)
