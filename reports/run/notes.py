"""The sentences under the tables: how intervals were made, what was left out, what has no value and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.api import Better
from reports.run.summary import Note
from reports.statistics.jackknife import METHOD, RESAMPLED_FROM
from reports.statistics.records import Column, Row, unit_words
from reports.writing.wording import plural, some

RECORDING = "ground_truth"
"""The calibration row of the recordings themselves."""
WORDS = ("wer", "cer", "intelligibility_probe")
"""Metrics of words by key; others are known by the text that they need."""
MISHEARD, LOSS = 0.3, 0.005
"""Share of the words from which a recogniser's own error is told; by how much the recordings lose to a system before that is."""

if TYPE_CHECKING:
    import pandas as pd

    from reports.statistics.intervals import IntervalSettings


def notes_on(
    columns: Sequence[Column], rows: Sequence[Row], how: IntervalSettings, cluster: Mapping[str, str], manifest: Mapping[str, Any]
) -> tuple[Note, ...]:
    """What a reader must know, the most general first.

    Args:
        cluster: item to the unit it is resampled with.
        manifest: of the run: metrics that could not be built, outputs with a flag, how synthesis ended.
    """
    pooled = ""
    if any(not c.is_mean for c in columns):
        pooled = f"; pooled figures: the same t, from {RESAMPLED_FROM} clusters on {how.resamples} resamples (seed {how.seed}) too"
    return (
        Note(
            f"{how.confidence:.0%} intervals over {unit_words(cluster)}: {METHOD}; shares, and error rates where it is wider: exact binomial{pooled}. "
            "Fewer than 2: none. A figure marked best need not be significantly better."
        ),
        *_absent(manifest),
        *_recogniser(columns, rows, manifest),
        *_stopped(manifest),
        *_missing(columns, rows),
        *_left_out(columns, rows),
        *_without_figure(columns, rows),
    )


def rate_notes(frame: pd.DataFrame, columns: Sequence[Column]) -> Iterator[Note]:
    """Recordings below the rate at which metrics compare, and values that pool two rates."""
    names = {c.key: c.name for c in columns}
    told = frame[["metric", "item", "counts"]]
    narrow = told[told["counts"].str.contains('"reference_hz"', regex=False)]
    together: dict[tuple[int, str], list[str]] = {}
    for key, group in narrow.groupby("metric", sort=False):
        rates = sorted({json.loads(counts)["reference_hz"] / 1000 for counts in group["counts"]})
        together.setdefault((group["item"].nunique(), ", ".join(f"{rate:g}" for rate in rates)), []).append(str(key))
    for (count, rates_khz), keys in together.items():
        found = ", ".join(names[c.key] for c in columns if c.key in keys)
        yield Note(
            f"{found}: {count} recording{'s hold' if count > 1 else ' holds'} no more than a rate of {rates_khz} kHz does, less than these metrics "
            "compare at: their figures describe the upsampled signal.",
            tuple(keys),
        )
    stated = told[told["counts"].str.contains('"rate_hz"', regex=False)].drop_duplicates(["metric", "item"])
    for key, group in stated.groupby("metric", sort=False):
        items = Counter(json.loads(counts)["rate_hz"] / 1000 for counts in group["counts"])
        if len(items) > 1:
            parts = " and ".join(f"{n} at {rate:g} kHz" for rate, n in sorted(items.items()))
            yield Note(f"{names[str(key)]}: pools items compared at two rates, {parts}; they are not one scale.", (str(key),))


def token_notes(frame: pd.DataFrame, columns: Sequence[Column], labels: Mapping[tuple[str, str], str]) -> Iterator[Note]:
    """How many tokens stand behind the values of codebooks: use grows with their number, entropy is an estimate from them."""
    keys = tuple(c.key for c in columns if c.aggregation == "pooled histogram")
    found = frame[frame["metric"].isin(keys[:1]) & (frame["status"] == "ok")]
    tokens: Counter[str] = Counter()
    for system, settings, counts in zip(found["system"], found["settings"], found["counts"], strict=True):
        tokens[labels.get((system, settings), system)] += round(json.loads(counts or "{}").get("frames", 0))
    if tokens:
        told = ", ".join(f"{label} {count:,}" for label, count in tokens.items())
        yield Note(f"Tokens counted a codebook: {told}. The share of entries used grows with their number.", keys)


def _absent(manifest: Mapping[str, Any]) -> Iterator[Note]:
    for key, reason in sorted((manifest.get("absent_metrics") or {}).items()):
        yield Note(f"{key}: absent from this run, {reason}")


def _recogniser(columns: Sequence[Column], rows: Sequence[Row], manifest: Mapping[str, Any]) -> Iterator[Note]:
    """Where the recogniser does badly on the recordings themselves, or better on a system than on them."""
    recording = next((r for r in rows if r.calibration and r.facts.label == RECORDING), None)
    for column in columns if recording else ():
        if column.key not in WORDS and "text" not in ((manifest.get("metrics") or {}).get(column.key) or {}).get("needs", ()):
            continue
        own = recording.cells[column.key].value if recording else None
        if own is None or column.better is Better.NEITHER:
            continue
        sign, whole = (1.0, 0.0) if column.better is Better.LOWER else (-1.0, 1.0)
        whole, unit = (100 * whole, 100.0) if column.unit == "%" else (whole, 1.0)
        better = [
            f"{r.label} ({column.shown(value)})"
            for r in rows
            if not r.calibration and (value := r.cells[column.key].value) is not None and sign * (own - value) > LOSS * unit
        ]
        told = []
        if abs(own - whole) > MISHEARD * unit:
            told.append(f"the recogniser is off by {column.shown(abs(own - whole))} on the recordings themselves")
        if better:
            told.append(f"it does better on {some(better, 3)} than on the recordings ({column.shown(own)})")
        if told:
            yield Note(
                f"{column.name}: {' and '.join(told)}; what it ranks here is its own taste as much as the systems' words.", (column.key,)
            )


def _stopped(manifest: Mapping[str, Any]) -> Iterator[Note]:
    """Outputs of each synthesizer by stop reason; "length" is a runaway."""
    counts: dict[str, Counter[str]] = {}
    for output in manifest.get("outputs") or ():
        if reason := output.get("stop_reason"):
            counts.setdefault(str(output["label"]), Counter())[str(reason)] += 1
    told = [f"{label} {', '.join(f'{reason} {n}' for reason, n in sorted(found.items()))}" for label, found in counts.items()]
    if told:
        yield Note(f"Outputs by stop reason (length: a runaway, cut at the limit): {'; '.join(told)}.")


def _missing(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Note]:
    """Measurements an unfinished run lacks, one note a system and number."""
    for row in rows:
        by_count: dict[int, list[Column]] = {}
        for column in columns:
            if lacking := row.cells[column.key].n_missing:
                by_count.setdefault(lacking, []).append(column)
        for lacking, found in by_count.items():
            of = "every metric" if len(found) == len(columns) else ", ".join(c.name for c in found)
            yield Note(f"{row.label}: {lacking} measurements are missing of {of}.", tuple(c.key for c in found))


def _left_out(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Note]:
    """What stands behind a column's values: excluded references, no ranking, failures, seeds."""
    for column in columns:
        key = (column.key,)
        if column.excluded:
            yield Note(
                f"{column.name}: left out for every system, the reference cannot be scored: {plural(len(column.excluded), 'item')} ({some(column.excluded, 3)}).",
                key,
            )
        if column.unranked.startswith(("coverage", "the systems")):
            yield Note(f"{column.name}: not ranked, {column.unranked}.", key)
        elif column.common:
            yield Note(
                f"{column.name}: ranked on the {plural(column.common, 'item')} that all systems scored; the figures shown are over each system's own.",
                key,
            )
        for row in rows:
            cell = row.cells[column.key]
            where = f"{column.name}, {row.label}:"
            if not cell.reason and cell.n_ok < cell.n_total:
                failed = f"{cell.n_total - cell.n_ok} of {cell.n_total} failed"
                if row.calibration:
                    yield Note(f"{where} {failed}.", key)
                elif cell.pessimistic is None or column.range.worst is None:
                    yield Note(f"{where} {failed} and are not in the figure, which says nothing of them.", key)
                else:
                    counted, made = column.shown(column.range.worst), column.shown(cell.pessimistic)
                    yield Note(f"{where} {failed}; counted as {counted} each they make it {made}.", key)
            if own := cell.n_own:
                yield Note(
                    f"{where} {own} of its recordings cannot be scored and {'is' if own == 1 else 'are'} left out of this row only.", key
                )
            if cell.seed_spread is not None:
                spread = f"{cell.seed_spread * column.factor:.{column.decimals + 1}f} {column.shown_unit}".rstrip()
                yield Note(f"{where} standard deviation over {cell.seeds} seeds {spread}.", key)


def _without_figure(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Note]:
    """Cells without a value: metrics that lack it for one reason in the same systems share a note."""
    systems = tuple(r.label for r in rows if not r.calibration)
    lacking: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for row in rows:
            reason = row.cells[column.key].reason
            if reason and reason != "not measured":
                lacking.setdefault((column.key, reason), []).append(row.label)
    together: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (key, reason), labels in lacking.items():
        together.setdefault((reason, tuple(labels)), []).append(key)
    names = {c.key: c.name for c in columns}
    for (reason, whose), keys in together.items():
        whom = "any system" if whose == systems and len(whose) > 1 else ", ".join(whose)
        yield Note(f"{', '.join(names[k] for k in keys)}: no figure for {whom}: {reason}.", tuple(keys))
