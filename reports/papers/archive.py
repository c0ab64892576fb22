"""Finished runs on disk: which of them measured what a paper's cell or claim needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.storing.aliases import Aliases, places, typed
from harness.storing.runfolder import MANIFEST, OpenedRun, open_run, read_manifest
from reports.claims.claims import Claim
from reports.papers.published import Paper
from reports.run.summarise import summarise
from reports.run.summary import Summary
from reports.statistics.intervals import IntervalSettings
from reports.statistics.records import CALIBRATION, system_of


@dataclass(frozen=True, eq=False)
class FoundRun:
    """A finished run, its records not yet read, and (of one that something rests on) what must be said before its numbers."""

    name: str
    manifest: Mapping[str, Any]
    load: Callable[[], OpenedRun]
    warnings: tuple[str, ...] = ()

    @property
    def suite(self) -> str:
        return str((self.manifest.get("suite") or {}).get("name", ""))

    @property
    def created(self) -> str:
        return str(self.manifest.get("created", ""))

    @property
    def labels(self) -> frozenset[str]:
        """Systems and calibration rows."""
        return frozenset([*(self.manifest.get("systems") or {}), *(self.manifest.get("calibration") or ())])

    @property
    def systems(self) -> frozenset[str]:
        """The same, each for all its training seeds."""
        return frozenset(map(system_of, self.labels))

    @property
    def metrics(self) -> frozenset[str]:
        """Measured, or asked for and absent for a reason that the run states."""
        return frozenset([*(self.manifest.get("metrics") or {}), *(self.manifest.get("absent_metrics") or {})])

    @property
    def num_items(self) -> int:
        return len(self.manifest.get("items") or {})

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Configuration of its data."""
        return (self.manifest.get("config") or {}).get("dataset") or {}

    @property
    def limited(self) -> str:
        """What part of the dataset it took, "" for all of it."""
        if limit := self.dataset.get("limit"):
            return f"{limit} items only, a spread of them"
        return f"{len(chosen)} chosen items only" if (chosen := self.dataset.get("items")) else ""

    @property
    def data(self) -> str:
        """``60 items of embedded, synthetic``."""
        about = self.manifest.get("dataset") or {}
        made = (
            ", synthetic" if about.get("synthetic") or any(i.get("synthetic") for i in (self.manifest.get("items") or {}).values()) else ""
        )
        return f"{self.num_items} items of {about.get('name', 'unknown data')}{made}"

    @property
    def preference(self) -> tuple[int, str]:
        """Among runs that serve alike the one with most items, then the newest."""
        return self.num_items, self.created


def finished_runs(
    root: Path, chosen: Mapping[str, Any] | None = None, tell: Callable[[str], None] = lambda text: None
) -> tuple[FoundRun, ...]:
    """The finished runs below a folder.

    Args:
        root: where run folders lie; need not be there.
        chosen: configuration sections (``dataset``, ``asr`` ...) that a run must have had, as they are.
        tell: hears of folders that cannot be read: another program's, half a file, a damaged run.
    """
    found = []
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
        except UsageError as error:
            tell(f"{path.parent} is passed over: {error}")
            continue
        config = manifest.get("config") or {}
        if chosen:
            config = places(root / "store", str(manifest.get("plan_digest", ""))).restored(config)
        if manifest.get("status") == "complete" and all(config.get(key) == value for key, value in (chosen or {}).items()):
            found.append(FoundRun(path.parent.name, manifest, partial(open_run, path.parent)))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Archive:
    """The finished runs, summarised as a paper asks for it, each at most once."""

    paper: Paper
    runs: Sequence[FoundRun]
    how: IntervalSettings
    _summaries: dict[int, Summary | None] = field(default_factory=dict)

    def of(self, suite: str, systems: Iterable[str]) -> list[FoundRun]:
        """Runs of a suite with at least one of some systems."""
        wanted = set(systems)
        return [run for run in self.runs if run.suite == suite and wanted & run.systems]

    def summary(self, run: FoundRun) -> Summary | None:
        """The values of what the paper speaks of in a run, and its verdicts on the paper's claims; None where it holds none of it."""
        if id(run) not in self._summaries:
            self._summaries[id(run)] = self._summarised(run)
        return self._summaries[id(run)]

    def warnings(self, run: FoundRun) -> tuple[str, ...]:
        """What must be said before a run's numbers, such as a limit on items."""
        limited, summary = [f"LIMITED DATA: {run.limited}."] if run.limited else [], self.summary(run)
        return (*limited, *(summary.warnings if summary else ()))

    def _summarised(self, run: FoundRun) -> Summary | None:
        read = run.load()
        frame, systems, metrics = read.frame, self.paper.systems_of(run.suite), self.paper.metrics_of(run.suite)
        kept = frame[frame["metric"].isin(metrics) & frame["system"].map(lambda label: system_of(str(label)) in systems)]
        if kept.empty:
            return None
        claims: list[Claim] = [c for c in self.paper.claims if c.suite == run.suite]
        return summarise(replace(read, frame=kept), self.how, claims=claims)


LISTS = {"seedtts": "dataset.root=FOLDER"}
"""What names the files of a dataset; of the others a list of one's own does."""


@dataclass(frozen=True)
class NeededRun:
    """One run.

    Args:
        systems: that can be run here.
        lacking: systems that cannot, with the reason and what to do.
        closer: the same of systems that would stand closer to the paper than those run in their place.
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
        whole = () if any(word.startswith(("dataset=", "dataset.limit=")) for word in self.words) else ("dataset.limit=null",)
        asked = f"suite={self.suite}", f"systems=[{','.join(self.systems)}]", f"metrics=[{','.join(self.metrics)}]"
        return (*asked, *whole, *self.words)

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

    ``unready`` are by suite the systems that cannot be built here, with the reason. Of the overrides in ``words`` those of systems that a
    run does not have are left out of it.
    """
    found: list[NeededRun] = []
    for suite in paper.suites:
        found += _anywhere(paper, suite, archive, unready.get(suite, {}), paper.overrides(suite, words))
        found += _tied(paper, suite, unready.get(suite, {}))
    return tuple(found)


def _anywhere(paper: Paper, suite: str, archive: Archive, unready: Mapping[str, str], words: Sequence[str]) -> Iterator[NeededRun]:
    (ready, lacking, closer), metrics = _entrants(paper.entrants(suite), unready), paper.metrics_of(suite)
    mine = tuple(w for w in words if not w.startswith("systems.") or w.split(".")[1] in ready)
    there = [run for run in archive.of(suite, ready) if ready and run.systems.issuperset(ready) and run.metrics.issuperset(metrics)]
    best = max(there, key=lambda run: run.preference, default=None)
    yield NeededRun(suite, ready, lacking, metrics, mine, found=best.name if best else "", closer=closer)


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
        ready, lacking, closer = _entrants(rows, unready)
        words = (f"dataset={dataset}", LISTS.get(dataset, "dataset.manifest=FILE.lst"))
        yield NeededRun(suite, ready, lacking, tuple(dict.fromkeys(metrics)), words, dataset, closer=closer)


def _entrants(rows: Sequence[Sequence[str]], unready: Mapping[str, str]) -> tuple[tuple[str, ...], Mapping[str, str], Mapping[str, str]]:
    """Systems to run, lacking, and closer to the paper (as of `NeededRun`); of those that stand for one row the first that can be run is enough, and the last is what one would train."""
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
    return tuple(ready), lacking, closer
