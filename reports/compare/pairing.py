"""Two runs side by side: whether they may be compared at all, and for each metric the records of the items that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import PooledMetric, Status
from harness.storing.aliases import Aliases
from harness.storing.runfolder import OpenedRun
from reports.run.summarise import summarise
from reports.run.summary import Summary
from reports.statistics.intervals import Array, Estimate, IntervalSettings
from reports.statistics.jackknife import WeightedMean
from reports.statistics.pooling import combined
from reports.statistics.records import Column, Row, scored, unit_names

if TYPE_CHECKING:
    import pandas as pd

PINNED: Mapping[str, tuple[str, ...]] = {
    "pesq": ("pesq_wb", "pesq_nb"),
    "pystoi": ("stoi", "estoi"),
    "jiwer": ("wer", "cer", "dwer", "intelligibility_probe"),
    "torch": (),
}
"""Packages that move values, with the metrics they make. Signatures and systems' tools name them; those of early runs do not, and there
the packages of the whole run are all that is known."""
READ = ("value", "weight", "speaker", "language", "counts", "detail")
"""Columns of the records that a comparison reads; the others would be copied for every group of items."""


@dataclass(frozen=True)
class Obstacle:
    """Something that forbids a comparison.

    Args:
        forceable: whether ``force=true`` turns it into a note: the comparison can be made, and who makes it must know that it is crooked.
        valueless: whether it is that no common item has a value.
    """

    text: str
    forceable: bool = False
    valueless: bool = False


@dataclass(frozen=True, eq=False)
class Half:
    """One run of a comparison.

    Args:
        summary: its tables; columns and systems are taken from it, its intervals are not used.
        repeats: records of further runs of the same systems, which a baseline may hold.
    """

    name: str
    run: OpenedRun
    summary: Summary
    repeats: Sequence[pd.DataFrame] = ()

    @cached_property
    def groups(self) -> Mapping[tuple[str, str, str], Sequence[Sequence[pd.DataFrame]]]:
        """By metric, system and settings: of each repeat its seeds' records, indexed by item."""
        found: dict[tuple[str, str, str], list[list[pd.DataFrame]]] = {}
        frames = [self.run.frame, *self.repeats]
        for number, frame in enumerate(frames):
            for key, group in frame.groupby(["metric", "system", "settings", "seed"], sort=True):
                metric, system, settings, _ = key
                lists = found.setdefault((str(metric), str(system), str(settings)), [[] for _ in frames])
                lists[number].append(group.set_index("item", drop=False))
        return found

    @cached_property
    def items(self) -> Mapping[str, Mapping[str, Any]]:
        return self.run.manifest.get("items") or {}

    @cached_property
    def cluster(self) -> Mapping[str, str]:
        """Item to the unit it is judged with (`reports.statistics.records.unit_names`)."""
        speakers = {item: str(about.get("speaker") or "") for item, about in self.items.items()}
        speakers |= {str(i): str(s or "") for i, s in zip(self.run.frame["item"], self.run.frame["speaker"], strict=True)}
        return unit_names(speakers)


@dataclass(frozen=True, eq=False)
class Scores:
    """One side's records over the common items, in their order.

    Args:
        repeats: for each repeat the records of each seed.
        n_ok, n_wanted: number of scored outputs, and of those that should have been, over all seeds of the first repeat.
        lacking: items that have no value through the system's fault.
    """

    repeats: Sequence[Sequence[pd.DataFrame]]
    n_ok: int
    n_wanted: int
    lacking: tuple[str, ...]

    def over(self, items: Sequence[str]) -> Scores:
        """The same over some of the items, in this order."""
        return replace(self, repeats=[[frame.loc[list(items), list(READ)] for frame in seeds] for seeds in self.repeats])

    @property
    def frames(self) -> list[pd.DataFrame]:
        return [frame for seeds in self.repeats for frame in seeds]

    @cached_property
    def values(self) -> Array:
        """``[n]``, mean over seeds and repeats."""
        return np.asarray(np.mean([frame["value"].to_numpy(float) for frame in self.frames], axis=0))

    @property
    def coverage(self) -> float:
        return self.n_ok / self.n_wanted if self.n_wanted else 0.0

    @cached_property
    def means(self) -> list[float]:
        """The weighted mean over items, of each seed and repeat."""
        return [WeightedMean(frame["value"].to_numpy(float), frame["weight"].to_numpy(float)).mean for frame in self.frames]


@dataclass(frozen=True, eq=False)
class Matched:
    """One metric of one system in both runs.

    Args:
        column: the metric, as the right run has it.
        clusters: the unit that each of them belongs to.
        notes: sentences on what ``force`` let pass.
    """

    column: Column
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    left: Scores
    right: Scores
    notes: tuple[str, ...] = field(default=())

    def part(self, kept: Sequence[int]) -> Matched:
        """The same over some of the items, by position; each item then is a cluster of its own."""
        items = [self.items[i] for i in kept]
        left, right = self.left.over(items), self.right.over(items)
        return replace(self, items=tuple(items), clusters=tuple(f"item {item}" for item in items), left=left, right=right)


def half(name: str, run: OpenedRun, repeats: Sequence[pd.DataFrame] = ()) -> Half:
    """A run read for comparison.

    Raises:
        Incomparable: it mixes signatures.
    """
    # The name stands in pages, verdicts and baselines: a folder of this machine goes by its alias there.
    return Half(Aliases.here().text(name), run, summarise(run, IntervalSettings(resamples=1)), repeats)


def obstacles(left: Half, right: Half) -> Iterator[Obstacle]:
    """What forbids to compare two runs as wholes."""
    one, two = left.run.manifest, right.run.manifest
    asked = [str((m.get("suite") or {}).get("name", "")) for m in (one, two)]
    if asked[0] != asked[1]:
        yield Obstacle(
            f"{left.name} is a run of suite={asked[0]} and {right.name} one of suite={asked[1]}; only runs of one suite are comparable",
        )
    for side in (left, right):
        if side.summary.partial:
            yield Obstacle(f"{side.name} is partial: it was stopped before the end; run the same command again to finish it")
    if words := _other_data(left, right):
        yield Obstacle(words, forceable=True)
    if other := _other_versions(left, right):
        told = ", ".join(f"{name} {pair}" for name, pair in other.items())
        yield Obstacle(f"package versions differ between {left.name} and {right.name}: {told}; run both with the same", forceable=True)


def standing(found: Sequence[Obstacle], force: bool) -> tuple[list[Obstacle], bool]:
    """The obstacles that ``force`` does not turn into notes, and whether it would do so with all of them."""
    left = [o for o in found if not (force and o.forceable)]
    return left, all(o.forceable for o in left)


def _other_data(left: Half, right: Half) -> str:
    """How the data of two runs differ: in what their manifests say, or, with equal ids and texts, in what is heard; "" for not at all."""
    data = [h.run.manifest.get("dataset") or {} for h in (left, right)]
    if data[0].get("digest") == data[1].get("digest"):
        return ""
    rows = [d.get("rows_digest", d.get("digest")) for d in data]
    if rows[0] != rows[1]:
        words = [f"{d.get('name', '?')} ({d.get('num_items', '?')} items, {str(n or '')[:8]})" for d, n in zip(data, rows, strict=True)]
        return f"the data differ: {left.name} has {words[0]}, {right.name} has {words[1]}; run both on the same data with the same limit"
    if old := [h.name for h, d in zip((left, right), data, strict=True) if "rows_digest" not in d]:
        return (
            f"whether the recordings are the same cannot be told: {' and '.join(old)} is of a version that did not hash them; run it again"
        )
    common = sorted({*left.items} & {*right.items})
    others = [i for i in common if any(left.items[i].get(k) != right.items[i].get(k) for k in ("digest", "prompt_digest"))]
    return (
        f"the recordings differ: {len(others)} of {len(common)} (first: {others[0] if others else '?'}), though ids and texts are the same in "
        f"{left.name} and {right.name}; run both on the same recordings"
    )


def other_packages(left: Half, right: Half) -> str:
    """Packages whose versions differ and that no obstacle speaks of, in words; "" for none.

    What makes a metric's number stands in its signature, and what makes a system's output among its tools; another version of
    anything else moves nothing that is compared, and is told.
    """
    there, here = (h.run.manifest.get("packages") or {} for h in (left, right))
    names = sorted({*there, *here} - set(_other_versions(left, right)))
    return ", ".join(f"{n} {there.get(n, '?')} and {here.get(n, '?')}" for n in names if there.get(n) != here.get(n))


def _other_versions(left: Half, right: Half) -> dict[str, str]:
    """Packages that what is compared was made with in two versions, by name; but for those in signatures, which speak for themselves."""
    manifests = [h.run.manifest for h in (left, right)]
    there, here = (m.get("packages") or {} for m in manifests)
    found = {}
    for name, metrics in PINNED.items():
        if there.get(name) != here.get(name) and any(_unsigned(h, name, metrics) for h in (left, right)):
            found[name] = f"{there.get(name, '?')} and {here.get(name, '?')}"
    systems = [{label: dict(about.get("tools") or ()) for label, about in (m.get("systems") or {}).items()} for m in manifests]
    for label in systems[0].keys() & systems[1].keys():
        tools, others = systems[0][label], systems[1][label]
        # What is no package (the label of a checkpoint, the listing of a folder of outputs) is what one compares.
        for name in (tools.keys() & others.keys()) & {*there, *here}:
            if tools[name] != others[name]:
                found.setdefault(name, f"{tools[name]} and {others[name]}")
    return dict(sorted(found.items()))


def _unsigned(side: Half, package: str, metrics: Sequence[str]) -> bool:
    """Whether a run has values made with a package that neither their signatures nor its systems' tools name."""
    if not metrics:
        return any("tools" not in about for about in (side.run.manifest.get("systems") or {}).values())
    return any(c.key in metrics and f"{package} " not in c.signature for c in side.summary.columns)


def matched(left: Half, right: Half, rows: tuple[Row, Row], key: str, force: bool = False) -> Matched | Obstacle:
    """The records of one metric that both runs have (forced, although signatures differ), or why they cannot be compared."""
    columns = [next((c for c in h.summary.columns if c.key == key), None) for h in (left, right)]
    groups = [h.groups.get((key, row.facts.label, row.settings)) for h, row in zip((left, right), rows, strict=True)]
    for side, row, column, group in zip((left, right), rows, columns, groups, strict=True):
        if column is None or group is None:
            return Obstacle(f"{key} of {row.label} is not in {side.name}; run it with {key} among its metrics=")
    one, two = columns
    assert one is not None and two is not None
    notes = []
    if one.signature != two.signature:
        text = f"{two.name} was measured in two ways: {one.signature} in {left.name}, {two.signature} in {right.name}"
        if not force:
            return Obstacle(f"{text}; score both with the same versions and settings", forceable=True)
        notes.append(text)
    excluded = {*one.excluded, *two.excluded}
    sides = [_scored(group or (), excluded, side) for group, side in zip(groups, (left, right), strict=True)]
    common = set.intersection(*(set(frame.index) for side in sides for frame in side.frames))
    if not common:
        return Obstacle(f"no item has {two.name} in both runs", valueless=True)
    items = sorted(common)
    one_side, other_side = (side.over(items) for side in sides)
    if not all(frame["weight"].any() for side in (one_side, other_side) for frame in side.frames):
        return Obstacle(f"all common items weigh nothing in {two.name}", valueless=True)
    clusters = tuple(right.cluster[item] for item in items)
    return Matched(two, tuple(items), clusters, one_side, other_side, tuple(notes))


def _scored(repeats: Sequence[Sequence[pd.DataFrame]], excluded: set[str], side: Half) -> Scores:
    """The records with a value, and how many there should be. What a policy skips, and an unscorable reference, is nobody's fault."""
    ok_count, wanted_count, lacking = 0, 0, set()
    kept = [[scored(group, excluded) for group in seeds] for seeds in repeats]
    for group, ok in zip(repeats[0], kept[0], strict=True) if repeats else ():
        skipped = set(group.index[group["status"] == Status.SKIPPED_BY_POLICY.value])
        wanted = {*side.items, *group.index} - skipped - excluded
        ok_count, wanted_count = ok_count + len(ok), wanted_count + len(wanted)
        lacking |= wanted - set(ok.index)
    # A repeat without these records (of another selection of systems) has no value to add.
    return Scores([seeds for seeds in kept if seeds], ok_count, wanted_count, tuple(sorted(lacking)))


def difference(pair: Matched, how: IntervalSettings, pooled: Mapping[str, PooledMetric]) -> Estimate:
    """Right minus left; as `reports.statistics.pooling.combined`.

    Raises:
        UnpoolableError: the difference of a pooled metric cannot be formed.
    """
    return combined([(1.0, pair.right.frames), (-1.0, pair.left.frames)], pair.column, pair.clusters, how, pooled)
