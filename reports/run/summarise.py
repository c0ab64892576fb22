"""From the frame of a run to its `Summary`: who counts, what enters a mean, what is marked best."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Better, PooledMetric, Status
from harness.errors import DamagedFile, Incomparable, StoreError, UsageError
from harness.settings.registry import config_names
from harness.storing.frame import COLUMNS, Run
from reports.claims.claims import Claim, load_claims
from reports.claims.judging import Measurements, verdicts_on
from reports.run.failures import grouped_failures
from reports.run.notes import notes_on, rate_notes, token_notes
from reports.run.oddities import oddities, of_voice, repeating
from reports.run.summary import Axes, ErrorRates, Summary
from reports.statistics.intervals import UNBOUNDED, Interval, IntervalSettings, Range
from reports.statistics.jackknife import estimate, interval
from reports.statistics.pooling import UnpoolableError, pooled_metric, statistic_of
from reports.statistics.records import CALIBRATION, Cell, Column, Row, SystemFacts, parsed_settings, reference_fault, system_of, unit_names
from reports.writing.wording import decimals, in_words, printable, shortened

if TYPE_CHECKING:
    import pandas as pd

COVERAGE_TOLERANCE = 0.01
"""Systems whose coverage differs by more than this are not ranked against each other."""
COMMON_LEAST = 0.5
"""Share of the items scored at all that every system must have scored for a ranking over the common ones."""
APART = 100
"""Largest over smallest figure from which a column of ratios is printed in significant digits."""
LARGEST = 1e100
"""No measurement is beyond it; sums of larger ones may not be finite."""
ERROR_COUNTS = ("hits", "substitutions", "deletions", "insertions")


def summarise(
    run: Run,
    statistics: IntervalSettings | None = None,
    pooled: Mapping[str, PooledMetric] | None = None,
    claims: Sequence[Claim] | None = None,
) -> Summary:
    """The tables of a run.

    Args:
        run: as read from its folder.
        statistics: of the intervals.
        pooled: metric objects by registry key, for metrics whose corpus figure is not a mean of items; what is not given
            is built by the registry.
        claims: to judge; those of all papers about this suite unless told.

    Raises:
        Incomparable: one metric with two signatures, or two suites in one frame.
        StoreError: the frame lacks a column, or holds one measurement twice.
        UsageError: it holds nothing, or what no run writes.
    """
    how = statistics or IntervalSettings()
    frame = _checked(run.frame)
    manifest = run.manifest
    calibration = set(manifest.get("calibration") or ())
    columns = _columns(frame, manifest, calibration)
    usual = manifest.get("items") or {}
    seeds = {s: frozenset(g["seed"]) for s, g in frame.groupby(["system", "settings"], sort=False)}
    cluster = _cluster_names(frame)
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
    columns, marked = _ranked(columns, rows, groups, pooled or {}, barred)
    described = manifest.get("suite") or {}
    labels = {(r.facts.label, r.settings): r.label for r in marked}
    num_items = len(usual) or int(frame["item"].nunique())
    synthetic = _synthetic(frame, manifest)
    complete = manifest.get("status", "complete") == "complete"
    facts = {r.facts.label: r.facts for r in marked if not r.calibration}
    absent = manifest.get("absent_metrics") or {}
    measured = Measurements(frame, columns, facts, cluster, num_items, how, pooled or {}, absent)
    # How to read the figures, then what is odd about them, then what is missing.
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
            Axes(str(c["title"]), str(c["x"]), tuple(map(str, c["y"])), bool(c.get("log_x"))) for c in described.get("curves") or ()
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


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Sorted, so that results do not depend on the order of records, and refused where an average would be wrong."""
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise StoreError(f"the run's frame lacks the columns {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise UsageError("the run holds no records; the command that made it goes on where it stopped")
    text = [c for c in COLUMNS if c not in ("seed", "value", "weight", "synthetic")]
    # Enumerations and Arrow strings become plain str, missing text becomes "".
    frame = frame.assign(**{c: frame[c].astype(object).where(frame[c].notna(), "").map(str) for c in text})
    if len(suites := sorted(set(frame["suite"]))) > 1:
        raise Incomparable(f"this frame holds the suites {', '.join(suites)}; make a report of each apart")
    if problem := _unlike_records(frame):
        raise DamagedFile(
            f"the run's records are not as the harness writes them: {problem}; the command that made the run writes them again"
        )
    for key, group in frame.groupby("metric", sort=True):
        signatures = sorted(set(group["signature"]) - {""})
        if len(signatures) > 1:
            raise Incomparable(
                f"'{key}' was measured in more than one way in one run, which no mean may mix: {' and '.join(signatures)}. "
                "Score one of them again."
            )
    identity = ["system", "settings", "metric", "item", "seed"]
    frame = frame.sort_values(identity, kind="stable").reset_index(drop=True)
    twice = frame.duplicated(identity)
    if twice.any():
        raise StoreError(
            f"{int(twice.sum())} measurements are in the frame twice, the first is {frame.loc[twice, identity].iloc[0].to_dict()}"
        )
    return frame


def _unlike_records(frame: pd.DataFrame) -> str:
    """What no run writes, or ""."""
    if unknown := set(frame["status"]) - {status.value for status in Status}:
        return f"there is no status {shortened(printable(', '.join(sorted(unknown))), 80)}"
    ok = frame[frame["status"] == Status.OK.value]
    for name in ("value", "weight"):
        numbers = ok[name].to_numpy(float)
        if bad := int((~(np.abs(numbers) <= LARGEST)).sum()):
            return f"{bad} records are called ok and have no finite {name}"
    if (ok["weight"].to_numpy(float) < 0).any():
        return "there are weights below 0"
    for settings in set(frame["settings"]):
        try:
            if any(isinstance(value, dict | list) for value in parsed_settings(settings).values()):
                return f"the settings {shortened(printable(settings), 80)} are not one value each"
        except ValueError as problem:
            return f"the settings {shortened(printable(settings), 80)} cannot be read ({problem})"
    for name in ("counts", "detail"):
        for text in set(frame[name]) - {"", "{}"}:
            if not _is_object(text):
                return f"the {name} {shortened(printable(text), 80)} cannot be read"
    return ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _columns(frame: pd.DataFrame, manifest: Mapping[str, Any], calibration: set[str]) -> tuple[Column, ...]:
    suite = manifest.get("suite") or {}
    present = {str(key): group for key, group in frame.groupby("metric", sort=True)}
    order = [key for key in dict.fromkeys([*(suite.get("metrics") or ()), *(suite.get("headline") or ()), *present]) if key in present]
    declared = manifest.get("metrics") or {}
    headline = list(suite.get("headline") or ())
    columns = []
    for key in order:
        group, info = present[key], declared.get(key) or {}
        signature = max(set(group["signature"]))
        fields = signature.split("|")
        better = Better(group["better"].iloc[0] or info.get("better") or Better.NEITHER)
        columns.append(
            Column(
                key=key,
                name=str(group["name"].iloc[0] or info.get("name") or key),
                unit=str(group["unit"].iloc[0]),
                better=better,
                range=_range(group, info),
                signature=signature,
                description=str(info.get("description", "")),
                aggregation=str(info.get("aggregation") or (fields[3] if len(fields) > 3 else "mean")),
                headline=headline.index(key) if key in headline else None,
                excluded=tuple(sorted(set(group.loc[reference_fault(group) & ~group["system"].isin(calibration), "item"]))),
            )
        )
    return tuple(columns)


def _range(group: pd.DataFrame, info: Mapping[str, Any]) -> Range:
    """What values a metric can take, as its declaration in the manifest has it."""
    declared = info.get("bounds") or (None, None)
    low, high = (end if bound is None else float(bound) for bound, end in zip(declared, UNBOUNDED, strict=True))
    # Of a share of outcomes an older manifest, and a plug-in that does not say so, shows it by its values: both bounds, and none between.
    values = set(group.loc[group["status"] == Status.OK.value, "value"]) if math.isfinite(low) and math.isfinite(high) else set()
    worst = info.get("worst")
    return Range((low, high), None if worst is None else float(worst), bool(info.get("counted")) or values == {low, high})


def _printed(column: Column, values: Sequence[float]) -> Column:
    """The column with the digits that its pooled figures are printed with."""
    sizes = [abs(v) for v in values if v]
    # Bit rates and real-time factors, the ratios of sums, span orders of magnitude: one number of decimals would leave 0.00 of some.
    apart = column.aggregation.startswith("weighted mean") and bool(sizes) and max(sizes) >= APART * min(sizes)
    shown = replace(column, decimals=decimals(v * column.factor for v in values))
    return replace(shown, significant=apart or column.factor != 1.0)


def _cluster_names(frame: pd.DataFrame) -> Mapping[str, str]:
    return unit_names(dict(zip(frame["item"], frame["speaker"], strict=True)))


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
    words = {
        k: str(info.get(k) or "")
        for k in ("family", "version", "description", "size", "weights_digest", "training_data", "device", "precision")
    }
    return SystemFacts(
        label=label,
        **words,
        weights=str(info.get("weights") or "none"),
        num_parameters=int(info.get("num_parameters") or 0),
        sample_rate=int(info.get("sample_rate") or 0),
        anchor=bool(info.get("anchor")),
        tools=", ".join(f"{name} {version}" for name, version in info.get("tools") or ()),
        configured=tuple(
            (k, float(v)) for k, v in sorted((info.get("config") or {}).items()) if isinstance(v, int | float) and not isinstance(v, bool)
        ),
    )


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
        found = _figure(ok, column, cluster, how, pooled)
        spread = None
        if cell.seeds > 1:
            # Only the figure of each seed is wanted here, so one resample is as good as many.
            once = replace(how, resamples=1)
            by_seed = [_figure(part, column, cluster, once, pooled).value for _, part in ok.groupby("seed")]
            spread = statistics.stdev(by_seed) if len(by_seed) > 1 else None
    except UnpoolableError as problem:
        return replace(cell, reason=str(problem))
    return replace(
        cell,
        value=found.value,
        low=found.low,
        high=found.high,
        clusters=found.clusters,
        method=found.method,
        seed_spread=spread,
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


def _figure(
    ok: pd.DataFrame, column: Column, cluster: Mapping[str, str], how: IntervalSettings, pooled: Mapping[str, PooledMetric]
) -> Interval:
    labels = [cluster[item] for item in ok["item"]]
    statistic = statistic_of(ok, column, pooled)
    within = column.range if column.is_mean else Range(pooled_metric(column, pooled).info.bounds)
    try:
        return estimate([(1.0, statistic)], labels, how.resamples, how.seed, within).interval(how.confidence)
    except (ValueError, KeyError, TypeError) as problem:
        raise UnpoolableError(f"{column.key} cannot be pooled from what is stored: {in_words(problem)}") from problem


def _ranked(
    columns: Sequence[Column],
    rows: Sequence[Row],
    groups: Mapping[Any, pd.DataFrame],
    pooled: Mapping[str, PooledMetric],
    barred: Set[tuple[str, str]],
) -> tuple[tuple[Column, ...], list[Row]]:
    """Best cells marked, where a direction is declared, coverage is alike and there is a choice.

    Systems that scored different items are ranked by their figures over the common ones, as far as these are a fair part of all.

    Args:
        columns, rows: of the table.
        groups: records by metric, system and settings.
        pooled: metric objects by registry key.
        barred: (metric, system) whose figure is not what it seems.
    """
    best: list[set[str]] = [set() for _ in rows]
    out = []
    for column in columns:
        rivals = [
            (i, c)
            for i, r in enumerate(rows)
            if not r.calibration
            and not r.facts.random
            and not r.facts.anchor
            and (column.key, r.facts.label) not in barred
            and (c := r.cells[column.key]).n_total
        ]
        coverages = [c.coverage for _, c in rivals]
        scored = [(i, c.value) for i, c in rivals if c.value is not None]
        unranked, common = "", 0
        if column.better is Better.NEITHER:
            unranked = "descriptive"
        elif len(scored) < 2:
            unranked = "fewer than two systems"
        elif max(coverages) - min(coverages) > COVERAGE_TOLERANCE:
            unranked = f"coverage differs ({min(coverages):.0%} to {max(coverages):.0%})"
        elif apart := _apart([(rows[i], c) for i, c in rivals if c.value is not None], column, groups, pooled):
            common, figures = apart
            if figures is None:
                unranked = f"the systems have only {common} scored items in common"
            else:
                scored = [(i, v) for (i, _), v in zip(scored, figures, strict=True)]
        if not unranked:
            top = (max if column.better is Better.HIGHER else min)(v for _, v in scored)
            for i, v in scored:
                # Figures that read the same are equally good.
                if column.shown(v) == column.shown(top):
                    best[i].add(column.key)
        out.append(replace(column, unranked=unranked, common=common))
    return tuple(out), [replace(r, best=frozenset(b)) for r, b in zip(rows, best, strict=True)]


def _apart(
    rivals: Sequence[tuple[Row, Cell]], column: Column, groups: Mapping[Any, pd.DataFrame], pooled: Mapping[str, PooledMetric]
) -> tuple[int, list[float] | None] | None:
    """The number of items that all rivals scored, and their figures over these alone; None where they all scored the same items.

    The figures are None where too few are common, or one cannot be formed over them.
    """
    if all(c.n_ok == c.n_total and not (c.n_missing or c.n_skipped or c.n_own) for _, c in rivals):
        return None
    scored = []
    for row, _ in rivals:
        group = groups[column.key, row.facts.label, row.settings]
        scored.append(group[(group["status"] == Status.OK.value) & ~group["item"].isin(column.excluded)])
    sets = [frozenset(zip(ok["item"], ok["seed"], strict=True)) for ok in scored]
    if len(set(sets)) == 1:
        return None
    items = [frozenset(ok["item"]) for ok in scored]
    common = frozenset.intersection(*items)
    if len(common) < COMMON_LEAST * len(frozenset.union(*items)):
        return len(common), None
    try:
        whole = [statistic_of(part, column, pooled)(np.ones((1, len(part)))) for part in (ok[ok["item"].isin(common)] for ok in scored)]
    except UnpoolableError:
        return len(common), None
    figures = [float(each[0]) for each in whole]
    return len(common), figures if all(map(math.isfinite, figures)) else None


def _error_rates(
    groups: Mapping[Any, pd.DataFrame], columns: Sequence[Column], rows: Sequence[Row], cluster: Mapping[str, str], how: IntervalSettings
) -> tuple[ErrorRates, ...]:
    out = []
    for column in columns:
        for row in rows:
            group = groups.get((column.key, row.facts.label, row.settings))
            if group is None:
                continue
            ok = group[(group["status"] == Status.OK.value) & ~group["item"].isin(column.excluded)]
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
            out.append(
                ErrorRates(
                    label=row.label,
                    key=column.key,
                    metric=column.name,
                    macro=float(rates.mean()),
                    corpus=float(errors.sum() / length.sum()),
                    median=float(np.median(rates)),
                    above_half=share.value,
                    low=share.low,
                    high=share.high,
                    n=len(counts),
                    calibration=row.calibration,
                )
            )
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
