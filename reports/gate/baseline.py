"""A baseline: the records and the manifest of one run, or of several repeats of it, small enough to be committed.

A folder with ``records.parquet`` (the columns of a run, and ``repeat`` from 0) and ``manifest.json`` (that of the first run without
paths, outputs and texts, and a section ``baseline``). It holds no audio and names no folder of the machine it was made on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Status
from harness.errors import Incomparable, NewerVersion, StoreError, UsageError
from harness.running.provenance import now
from harness.storing.files import write_json
from harness.storing.runfolder import COLUMNS, MANIFEST, RECORDS, OpenedRun, open_run, read_manifest, read_records, records_file
from reports.compare.pairing import Half, half, obstacles
from reports.statistics.records import Column
from reports.writing.wording import some

if TYPE_CHECKING:
    import pandas as pd

SECTION = "baseline"
SCHEMA = 1
KEPT = (
    "schema", "status", "plan_digest", "suite", "created", "git", "packages", "machine", "dataset", "systems", "calibration", "metrics",
    "absent_metrics",
)  # fmt: skip
"""Of a run's manifest. Its configuration, command, items' texts and paths and its outputs are left out: they name folders and are large."""
KEPT_OF_ITEMS = ("language", "speaker", "synthetic", "digest", "prompt_digest")


@dataclass(frozen=True)
class Spread:
    """Standard deviation of one value over the repeats, in the stored unit."""

    label: str
    column: Column
    deviation: float


@dataclass(frozen=True)
class Blessing:
    """What `bless` wrote: of at least two repeats the spread of every value, and whether none differs at all."""

    path: Path
    repeats: int
    num_bytes: int
    spreads: tuple[Spread, ...]
    identical: bool


def bless(runs: Sequence[OpenedRun], out: Path) -> Blessing:
    """Make a baseline of a run and its repeats; one that is already there is replaced.

    Args:
        runs: complete runs of the same suite, systems, metrics and data.
        out: folder, made if need be.

    Raises:
        UsageError: no run, one given twice, or ``out`` holds something that is no baseline.
        Incomparable: a run is partial, or the runs do not ask the same.
        StoreError: not writable.
    """
    if not runs:
        raise UsageError("a baseline wants at least one run folder: harness bless RUN [REPEAT ...]")
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UsageError(
            "a run is given twice; repeats are runs of their own, each with its own run.root= so that nothing is taken from the store"
        )
    if out.exists() and not is_baseline(out) and any(out.iterdir()):
        raise UsageError(f"{out} holds something that is no baseline; choose another folder with out=DIR")
    halves = [half(str(run.path), run) for run in runs]
    _check_repeats(halves)
    import pandas as pd
    import pyarrow as pa

    calibration = set(runs[0].manifest.get("calibration") or ())
    means = {c.key for c in halves[0].summary.columns if c.is_mean}
    frames = [_small(h.run.frame, calibration, means).assign(repeat=i) for i, h in enumerate(halves)]
    manifest = {key: runs[0].manifest[key] for key in KEPT if key in runs[0].manifest}
    manifest["items"] = {item: {k: about[k] for k in KEPT_OF_ITEMS if k in about} for item, about in halves[0].items.items()}
    # A system's configuration may name folders; what it is, its digest and version say.
    manifest["systems"] = {label: {k: v for k, v in about.items() if k != "config"} for label, about in manifest.get("systems", {}).items()}
    manifest[SECTION] = {
        "schema": SCHEMA,
        "blessed": now(),
        "repeats": [{"created": run.manifest.get("created", ""), "git": run.manifest.get("git", {})} for run in runs],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(f"cannot make {out}: {problem.strerror}") from problem
    # Without pandas' own description of the columns: a quarter of the file, and nothing that is read again.
    table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False).replace_schema_metadata()
    with records_file(out, table.schema) as file:
        file.writer.write_table(table)
    write_json(out / MANIFEST, {**manifest, "records": file.section})
    size = sum((out / name).stat().st_size for name in (RECORDS, MANIFEST))
    first, *others = (frame["value"].to_numpy(float) for frame in frames)
    identical = bool(others) and all(np.array_equal(first, values, equal_nan=True) for values in others)
    return Blessing(out, len(runs), size, tuple(_spreads(halves)), identical)


def is_baseline(folder: Path) -> bool:
    """Whether a folder is a baseline (and not a run)."""
    return (folder / MANIFEST).exists() and SECTION in read_manifest(folder)


def open_reference(path: Path) -> Half:
    """What a run is judged against: a baseline, or another run.

    Raises:
        UsageError: neither.
        Incomparable: it mixes signatures.
    """
    manifest = read_manifest(path)
    if SECTION not in manifest:
        return half(str(path), open_run(path))
    schema = manifest[SECTION].get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerVersion(f"{path} is a baseline of a newer version of the harness (schema {schema}, this one reads {SCHEMA}): upgrade it")
    if schema != SCHEMA:
        raise UsageError(f"{path} is a baseline of schema {schema}, this version reads {SCHEMA}: make it again with `harness bless`")
    frames = _read_frames(path, manifest)
    return half(str(path), OpenedRun(path, manifest, frames[0], {}, {}), frames[1:])


def _read_frames(path: Path, manifest: Mapping[str, Any]) -> list[pd.DataFrame]:
    frame = read_records(path, manifest).to_pandas(ignore_metadata=True)
    declared = manifest.get("metrics") or {}
    for column in ("name", "unit", "better"):
        frame[column] = frame["metric"].map({key: info[column] for key, info in declared.items()})
    if missing := [c for c in (*COLUMNS, "repeat") if c not in frame]:
        raise UsageError(f"{path / RECORDS} lacks the columns {missing}: make the baseline again with `harness bless`")
    found = [part.loc[:, list(COLUMNS)].reset_index(drop=True) for _, part in frame.groupby("repeat", sort=True)]
    if len(found) != len(manifest[SECTION].get("repeats") or ()):
        raise UsageError(f"{path} is torn: {RECORDS} holds {len(found)} runs, {MANIFEST} another number; make the baseline again")
    return found


def _check_repeats(halves: Sequence[Half]) -> None:
    first = halves[0]
    for each in halves:
        if each.summary.partial:
            raise Incomparable(f"{each.name} is partial and makes no baseline: run the same command again to finish it")
    for other in halves[1:]:
        found = [o.text for o in obstacles(first, other)]
        ours, theirs = (
            {(key, r.facts.label, r.settings) for r in h.summary.systems for key, cell in r.cells.items() if cell.statuses}
            for h in (first, other)
        )
        if ours != theirs:
            named = sorted({f"{key} of {label}" for key, label, _ in ours ^ theirs})
            found.append(f"only one of them has {some(named, 4)}")
        signatures = [{c.key: c.signature for c in h.summary.columns} for h in (first, other)]
        if signatures[0] != signatures[1]:
            found.append("their metrics' signatures differ")
        if found:
            raise Incomparable(f"{other.name} is no repeat of {first.name}: {'; '.join(found)}")


def _small(frame: pd.DataFrame, calibration: set[str], means: set[str]) -> pd.DataFrame:
    """The records of systems under test, sorted; transcripts and counts only where a value is pooled from them."""
    kept = frame[~frame["system"].isin(calibration)].drop(columns=["name", "unit", "better"])
    plain = kept["metric"].isin(means)
    kept = kept.assign(counts=kept["counts"].where(~plain, "{}"), detail=kept["detail"].where(~plain, "{}"))
    # The reason of a failure may quote a path.
    kept = kept.assign(reason=kept["reason"].where(kept["status"] == Status.OK.value, kept["status"]))
    return kept.sort_values(["system", "settings", "metric", "item", "seed"], kind="stable").reset_index(drop=True)


def _spreads(halves: Sequence[Half]) -> list[Spread]:
    if len(halves) < 2:
        return []
    found = []
    for row in halves[0].summary.systems:
        for column in halves[0].summary.columns:
            cells = [
                r.cells[column.key]
                for h in halves
                for r in h.summary.systems
                if (r.facts.label, r.settings) == (row.facts.label, row.settings)
            ]
            values = [c.value for c in cells if c.value is not None]
            if len(values) == len(halves):
                found.append(Spread(row.label, column, float(np.std(values, ddof=1))))
    return found
