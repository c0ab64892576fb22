"""From the frame of a run to its `Summary`: which records count, what enters a mean, how often recognisers erred."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Better, Curve, PooledMetric, Status
from harness.settings.registry import config_names
from harness.storing.runfolder import OpenedRun, open_run, read_manifest
from reports.claims.claims import Claim, load_claims
from reports.claims.judging import Measurements, verdicts_on
from reports.run.notes import notes_on, oddities, of_voice, rate_notes, repeating, token_notes
from reports.run.ranking import ranked
from reports.run.summary import ErrorRates, Note, Summary, grouped_failures
from reports.statistics.intervals import UNBOUNDED, IntervalSettings, Range
from reports.statistics.jackknife import interval
from reports.statistics.pooling import UnpoolableError, interval_of
from reports.statistics.records import (
    CALIBRATION,
    Cell,
    Column,
    Row,
    SystemFacts,
    checked,
    parsed_settings,
    reference_fault,
    scored,
    system_of,
    unit_names,
)  # fmt: skip
from reports.writing.wording import decimals

if TYPE_CHECKING:
    import pandas as pd

APART = 100
"""Largest over smallest value from which a column of ratios is printed in significant digits."""
LARGE = 1_000_000
"""Records from which a run is read metric by metric; a record takes about 1.5 kB while a summary is made."""
ITEMS_SHOWN = 1000
"""Items of a large run whose records the page gets: it lists no more."""
ERROR_COUNTS = ("hits", "substitutions", "deletions", "insertions")


def summarise(
    run: OpenedRun,
    how: IntervalSettings | None = None,
    pooled: Mapping[str, PooledMetric] | None = None,
    claims: Sequence[Claim] | None = None,
) -> Summary:
    """The tables of a run.

    Args:
        pooled: metric objects by registry key, for metrics whose corpus value is not a mean of items; what is not given
            is built by the registry.
        claims: to judge; those of all papers about this suite unless told.

    Raises:
        Incomparable: one metric with two signatures, or two suites in one frame.
        StoreError: the frame lacks a column, or holds one measurement twice.
        UsageError: it holds nothing, or what no run writes.
    """
    how = how or IntervalSettings()
    frame = checked(run.frame)
    manifest = run.manifest
    calibration = set(manifest.get("calibration") or ())
    columns = _columns(frame, manifest, calibration)
    usual = manifest.get("items") or {}
    seeds = {s: frozenset(g["seed"]) for s, g in frame.groupby(["system", "settings"], sort=False)}
    cluster = unit_names(dict(zip(frame["item"], frame["speaker"], strict=True)))
    groups = {key: group for key, group in frame.groupby(["metric", "system", "settings"], sort=False)}
    rows = []
    for system, settings in _row_order(seeds, manifest):
        expected = 0 if system in calibration else len(usual) * len(seeds[system, settings])
        cells = {}
        for column in columns:
            group = groups.get((column.key, system, settings))
            cells[column.key] = Cell(reason="not measured") if group is None else _cell(group, column, cluster, expected, how, pooled or {})
        rows.append(Row(_facts(system, manifest), settings, system in calibration, cells))
    columns = tuple(_printed(c, [v for r in rows if (v := r.cells[c.key].value) is not None]) for c in columns)
    barred = {(c.key, label) for c in columns if of_voice(c, manifest) for label in repeating(manifest)}
    columns, marked = ranked(columns, rows, groups, pooled or {}, barred)
    described = manifest.get("suite") or {}
    labels = {(r.facts.label, r.settings): r.label for r in marked}
    num_items = len(usual) or int(frame["item"].nunique())
    synthetic = _synthetic(frame, manifest)
    complete = manifest.get("status", "complete") == "complete"
    facts = {r.facts.label: r.facts for r in marked if not r.calibration}
    absent = manifest.get("absent_metrics") or {}
    measured = Measurements(frame, columns, facts, cluster, num_items, how, pooled or {}, absent)
    # How to read the values, then what is odd about them, then what is missing.
    general, *particular = notes_on(columns, marked, how, cluster, manifest)
    return Summary(
        suite=str(described.get("name", "")),
        title=str(described.get("title") or described.get("name", "")),
        task=str(described.get("task", "")),
        dataset={k: str(v) for k, v in (manifest.get("dataset") or {}).items() if v not in (None, "") and k != "left_out"},
        left_out=tuple(map(str, (manifest.get("dataset") or {}).get("left_out") or ())),
        num_items=num_items,
        synthetic=synthetic,
        created=str(manifest.get("created", "")),
        command=str(manifest.get("command", "")),
        complete=complete,
        confidence=how.confidence,
        columns=columns,
        rows=tuple(marked),
        failures=grouped_failures(frame, labels, calibration, {f.label for f in facts.values() if f.anchor}),
        error_rates=_error_rates(groups, columns, marked, cluster, how),
        axes=tuple(
            Curve(str(c["title"]), str(c["x"]), tuple(map(str, c["y"])), bool(c.get("log_x"))) for c in described.get("curves") or ()
        ),
        notes=(
            general,
            *oddities(frame, columns, marked, manifest),
            *rate_notes(frame, columns),
            *token_notes(frame, columns, labels),
            *particular,
        ),
        verdicts=verdicts_on(_claims_about(str(described.get("name", "")), facts) if claims is None else claims, measured),
    )


def _claims_about(suite: str, labels: Iterable[str]) -> list[Claim]:
    """The claims of all papers about a suite, but for those that the run says nothing of and no command here could answer.

    `harness tables` shows these as well.
    """
    present, known = {system_of(label) for label in labels}, {*config_names("systems"), *CALIBRATION}
    return [claim for claim in load_claims(suite) if present.intersection(claim.systems) or known.issuperset(claim.systems)]


def _columns(frame: pd.DataFrame, manifest: Mapping[str, Any], calibration: set[str]) -> tuple[Column, ...]:
    suite = manifest.get("suite") or {}
    present = {str(key): group for key, group in frame.groupby("metric", sort=True)}
    headline = list(suite.get("headline") or ())
    asked = list(dict.fromkeys([*(suite.get("metrics") or ()), *(suite.get("further") or ()), *headline, *map(_asked, present)]))
    order = sorted(present, key=lambda key: asked.index(_asked(key)))  # what several judges say of one question stands together
    declared = manifest.get("metrics") or {}
    short = [key for metric in headline for key in order if _asked(key) == metric]
    names = Counter(str(group["name"].iloc[0]) for group in present.values())
    columns = []
    for key in order:
        group, info = present[key], declared.get(key) or {}
        signature = max(set(group["signature"]))
        name = str(group["name"].iloc[0] or info.get("name") or key)
        fields = signature.split("|")
        better = Better(group["better"].iloc[0] or info.get("better") or Better.NEITHER)
        columns.append(
            Column(
                key=key,
                name=key if "@" in key and names[name] > 1 else name,
                unit=str(group["unit"].iloc[0]),
                better=better,
                range=_range(group, info),
                signature=signature,
                description=str(info.get("description", "")),
                aggregation=str(info.get("aggregation") or (fields[3] if len(fields) > 3 else "mean")),
                headline=short.index(key) if key in short else None,
                excluded=tuple(sorted(set(group.loc[reference_fault(group) & ~group["system"].isin(calibration), "item"]))),
            )
        )
    return tuple(columns)


def _asked(key: str) -> str:
    """The metric a figure is of, whichever of several judges it is by: ``wer@basic`` is ``wer``."""
    return key.partition("@")[0]


def _range(group: pd.DataFrame, info: Mapping[str, Any]) -> Range:
    """What values a metric can take, as its declaration in the manifest has it."""
    declared = info.get("bounds") or (None, None)
    low, high = (end if bound is None else float(bound) for bound, end in zip(declared, UNBOUNDED, strict=True))
    # Of a share of outcomes an older manifest, and a plug-in that does not say so, shows it by its values: both bounds, and none between.
    values = set(group.loc[group["status"] == Status.OK.value, "value"]) if math.isfinite(low) and math.isfinite(high) else set()
    worst = info.get("worst")
    return Range((low, high), None if worst is None else float(worst), bool(info.get("counted")) or values == {low, high})


def _printed(column: Column, values: Sequence[float]) -> Column:
    """The column with the digits that its pooled values are printed with."""
    sizes = [abs(v) for v in values if v]
    # Bit rates and real-time factors, the ratios of sums, span orders of magnitude: one number of decimals would leave 0.00 of some.
    apart = column.aggregation.startswith("weighted mean") and bool(sizes) and max(sizes) >= APART * min(sizes)
    shown = replace(column, decimals=decimals(v * column.factor for v in values))
    return replace(shown, significant=apart or column.factor != 1.0)


def _row_order(present: Mapping[Any, object], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    calibration = list(manifest.get("calibration") or ())
    listed = [s for s in (manifest.get("systems") or {}) if s not in calibration]
    rank = {system: i for i, system in enumerate([*listed, *sorted({s for s, _ in present} - {*listed, *calibration}), *calibration])}

    def position(key: tuple[str, str]) -> tuple[Any, ...]:
        values = sorted(parsed_settings(key[1]).items())
        # Numbers sort as numbers and before words, so that 2 codebooks come before 16.
        return rank[key[0]], [(k, isinstance(v, str), 0.0 if isinstance(v, str) else float(v), str(v)) for k, v in values]

    return sorted(present, key=position)


def _facts(label: str, manifest: Mapping[str, Any]) -> SystemFacts:
    info = (manifest.get("systems") or {}).get(label) or {}
    blank = SystemFacts(label)
    others = {"label", "tools", "configured"}
    told: dict[str, Any] = {k: type(usual)(info[k]) for k, usual in vars(blank).items() if k not in others and info.get(k)}
    numbers = {k: float(v) for k, v in sorted((info.get("config") or {}).items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    tools = ", ".join(f"{name} {version}" for name, version in info.get("tools") or ())
    return replace(blank, tools=tools, configured=tuple(numbers.items()), **told)


def _cell(
    group: pd.DataFrame,
    column: Column,
    cluster: Mapping[str, str],
    expected: int,
    how: IntervalSettings,
    pooled: Mapping[str, PooledMetric],
) -> Cell:
    skipped = group["status"] == Status.SKIPPED_BY_POLICY.value
    excluded = (group["item"].isin(column.excluded) | reference_fault(group)) & ~skipped
    wanted = group[~skipped & ~excluded]
    ok = wanted[wanted["status"] == Status.OK.value]
    cell = Cell(
        n_ok=len(ok),
        n_total=len(wanted),
        n_excluded=int(excluded.sum()),
        n_own=int((excluded & ~group["item"].isin(column.excluded)).sum()),
        n_skipped=int(skipped.sum()),
        n_missing=max(0, expected - len(group)),
        statuses=dict(sorted(Counter(group["status"]).items())),
        seeds=int(group["seed"].nunique()),
    )
    if ok.empty:
        return replace(cell, reason=_why_empty(cell, column, group, skipped), pessimistic=column.range.worst if len(wanted) else None)
    try:
        found = interval_of(ok, column, cluster, how, pooled)
        # Only the value of each seed is wanted here, so one resample is as good as many.
        once = replace(how, resamples=1)
        by_seed = [interval_of(part, column, cluster, once, pooled).value for _, part in ok.groupby("seed")] if cell.seeds > 1 else []
    except UnpoolableError as problem:
        return replace(cell, reason=str(problem))
    return replace(
        cell,
        value=found.value,
        low=found.low,
        high=found.high,
        clusters=found.clusters,
        method=found.method,
        seed_spread=statistics.stdev(by_seed) if len(by_seed) > 1 else None,
        pessimistic=_pessimistic(found.value, ok["weight"].to_numpy(float), len(wanted) - len(ok), column),
    )


def _why_empty(cell: Cell, column: Column, group: pd.DataFrame, skipped: pd.Series[bool]) -> str:
    if cell.n_total:
        return f"none of {cell.n_total} outputs could be scored"
    if cell.n_skipped:
        return str(group.loc[skipped, "reason"].iloc[0]) or "skipped"
    # What a calibration row lacks beyond what no system can be scored with is its own recordings.
    own = not set(group.loc[reference_fault(group), "item"]) <= set(column.excluded)
    return "none of its recordings could be scored" if own else "no reference could be scored"


def _pessimistic(value: float, weights: np.ndarray[Any, Any], failures: int, column: Column) -> float | None:
    """The mean with each failure at the metric's worst value; a failure weighs as much as the average scored item."""
    if not failures:
        return value
    if column.range.worst is None or not column.is_mean:
        return None
    return (value * weights.size + column.range.worst * failures) / (weights.size + failures)


def _error_rates(
    groups: Mapping[Any, pd.DataFrame], columns: Sequence[Column], rows: Sequence[Row], cluster: Mapping[str, str], how: IntervalSettings
) -> tuple[ErrorRates, ...]:
    out = []
    for column in columns:
        for row in rows:
            group = groups.get((column.key, row.facts.label, row.settings))
            if group is None:
                continue
            ok = scored(group, column.excluded)
            counts = [json.loads(c or "{}") for c in ok["counts"]]
            if not counts or not all(name in c for c in counts for name in ERROR_COUNTS):
                continue
            hits, *wrong = (np.array([float(c[name]) for c in counts]) for name in ERROR_COUNTS)
            errors, length = np.sum(wrong, axis=0), hits + wrong[0] + wrong[1]
            # An empty reference is not scorable, so an ok record has length >= 1; the guard keeps a foreign metric from dividing by 0.
            if not length.all():
                continue
            rates = errors / length
            above, units = np.asarray(rates > 0.5, float), [cluster[item] for item in ok["item"]]
            share = interval(above, np.ones(len(above)), units, how.confidence, Range((0.0, 1.0), counted=True))
            corpus = float(errors.sum() / length.sum())
            out.append(ErrorRates(row, column, float(rates.mean()), corpus, float(np.median(rates)), share))
    return tuple(out)


def _synthetic(frame: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    items = manifest.get("items") or {}
    flags = {item: bool(info.get("synthetic")) for item, info in items.items()}
    for item, flag in zip(frame["item"], frame["synthetic"], strict=True):
        flags[item] = flags.get(item, False) or bool(flag)
    made, whole = sum(flags.values()), bool((manifest.get("dataset") or {}).get("synthetic"))
    if not made and not whole:
        return ""
    # A dataset is called synthetic where at least one recording is; which ones, a run of old may not say.
    some = f"{made} of {len(flags)}" if made else "some"
    which = f"all {len(flags)} items are" if made == len(flags) else f"{some} items are"
    return f"SYNTHETIC SPEECH: {which} machine-made recordings; figures on human speech will differ."


def read_summary(folder: Path, how: IntervalSettings | None = None, large: int = LARGE) -> tuple[OpenedRun, Summary]:
    """A run (of one of ``large`` records and more those of its first items only), and the summary of all of it.

    Raises:
        UsageError: not a run.
        Incomparable, StoreError: as `summarise`.
    """
    manifest = read_manifest(folder)
    if sum((manifest.get("counts") or {}).values()) < large:
        run = open_run(folder)
        return run, summarise(run, how)
    suite, declared = manifest["suite"], sorted(manifest["metrics"])
    order = dict.fromkeys(
        [*(suite.get("metrics") or ()), *(suite.get("further") or ()), *(suite.get("headline") or ()), *declared]
    )  # as a table has them
    parts = [summarise(part, how) for key in order if key in declared and len((part := open_run(folder, metrics=[key])).frame)]
    return open_run(folder, items=list(manifest["items"])[:ITEMS_SHOWN]), merged(parts)


def merged(parts: Sequence[Summary]) -> Summary:
    """One summary of summaries that hold other metrics of one run.

    What the papers claim relates several metrics to each other and is not evaluated.
    """
    rows: dict[tuple[str, str], Row] = {}
    for part in parts:
        for row in part.rows:
            before = rows.setdefault((row.facts.label, row.settings), row)
            rows[row.facts.label, row.settings] = replace(before, cells={**before.cells, **row.cells}, best=before.best | row.best)
    columns = tuple(column for part in parts for column in part.columns)
    absent = Cell(reason="not measured")
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(
        parts[0],
        columns=columns,
        rows=tuple(replace(row, cells={c.key: row.cells.get(c.key, absent) for c in columns}) for row in rows.values()),
        failures=tuple(sorted((f for part in parts for f in part.failures), key=lambda f: -f.records)),
        error_rates=tuple(rate for part in parts for rate in part.error_rates),
        notes=(*notes, Note("A run of this size is read metric by metric; what papers claim is not evaluated.")),
        verdicts=(),
    )
