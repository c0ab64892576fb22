"""Finished runs on disk: which of them measured what a paper's cell or claim needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.storing.aliases import places
from harness.storing.frame import OpenedRun, open_run
from harness.storing.runfolder import MANIFEST, read_manifest
from reports.claims.claims import Claim
from reports.papers.published import Paper
from reports.run.summarise import summarise
from reports.run.summary import Summary
from reports.statistics.intervals import IntervalSettings
from reports.statistics.records import system_of


@dataclass(frozen=True, eq=False)
class FoundRun:
    """A finished run, its records not yet read.

    Args:
        name: of its folder.
        manifest: of the run.
        load: reads the whole.
    """

    name: str
    manifest: Mapping[str, Any]
    load: Callable[[], OpenedRun]

    @property
    def suite(self) -> str:
        return str((self.manifest.get("suite") or {}).get("name", ""))

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
            return f"the first {limit} items only"
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
        return self.num_items, str(self.manifest.get("created", ""))


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
    """The finished runs, summarised as a paper asks for it, each at most once.

    Args:
        paper: whose systems, metrics and claims are looked at.
        runs: found.
        how: intervals are made.
    """

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

    def _summarised(self, run: FoundRun) -> Summary | None:
        read = run.load()
        frame, systems, metrics = read.frame, self.paper.systems_of(run.suite), self.paper.metrics_of(run.suite)
        kept = frame[frame["metric"].isin(metrics) & frame["system"].map(lambda label: system_of(str(label)) in systems)]
        if kept.empty:
            return None
        claims: list[Claim] = [c for c in self.paper.claims if c.suite == run.suite]
        return summarise(replace(read, frame=kept), self.how, claims=claims)
