"""The sentences under the tables: how intervals were made, what is odd about recordings and outputs, what was left out and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Better, Status
from harness.metrics.alignment import USUAL_RATES
from harness.metrics.waveform import MAX_LAG_S, MEANINGFUL_PEAK
from reports.run.summary import Note
from reports.statistics.intervals import FEWEST
from reports.statistics.jackknife import METHOD, RESAMPLED_FROM
from reports.statistics.records import Column, Row, unit_words
from reports.writing.wording import plural, some

if TYPE_CHECKING:
    import pandas as pd

    from reports.statistics.intervals import IntervalSettings


RECORDING = "ground_truth"
"""The calibration row of the recordings themselves."""
WORDS = ("wer", "cer", "intelligibility_probe")
"""Metrics of words by key; others are known by the text that they need."""
MISHEARD, LOSS = 0.3, 0.005
"""Share of the words from which a recogniser's own error is told; by how much the recordings lose to a system before that is."""
MOST = 0.9
"""Share of a system's outputs that have to show a thing for it to be called the system's."""
COST_DB, COST_S = 0.5, 0.002
"""What a delay has to cost to be told: decibels of SI-SDR, or where these are not measured, its length."""
SAME_LAG, SAME_RATIO = 1.5, 0.01
"""Samples and relative lengths within which outputs agree."""
GUESSED_RATES = tuple(rate for rate in USUAL_RATES if rate != 12000)
"""Rates by which a ratio of lengths is explained. 12000 / 11025 equals 24000 / 22050, and it is nearly always the second that happened."""
REPEATS = {
    "prompt_copied": ("output is its prompt over again", "outputs are their prompt over again"),
    "begins_with_prompt": ("output begins with its prompt", "outputs begin with their prompt"),
}
FLAGS = {
    "clipped": "more than 1 % of the samples are at full scale",
    "dc": "the mean is off zero",
    "silent": "nothing is heard",
    "over_full_scale": "samples beyond full scale, which integers cannot hold",
    "channels_averaged": "several channels, whose average is measured",
}
SIDES = {"reference": "recording", "prompt": "prompt"}
CHARGED = ("si_sdr_db", "stoi", "estoi", "mcd_db", "log_mel_distance_db")
"""Metrics that compare sample by sample or frame by frame without looking for a delay."""


def notes_on(
    columns: Sequence[Column], rows: Sequence[Row], how: IntervalSettings, cluster: Mapping[str, str], manifest: Mapping[str, Any]
) -> tuple[Note, ...]:
    """What a reader must know, the most general first; ``cluster`` is the unit that each item is resampled with."""
    pooled = ""
    if any(not c.is_mean for c in columns):
        pooled = f"; pooled figures: the same t, from {RESAMPLED_FROM} clusters on {how.resamples} resamples (seed {how.seed}) too"
    return (
        Note(
            f"{how.confidence:.0%} intervals over {unit_words(cluster)}: {METHOD}; shares, and error rates where it is wider: exact binomial{pooled}. "
            "Fewer than 2: none. A figure marked best need not be significantly better."
        ),
        *(Note(f"{key}: absent from this run, {why}") for key, why in sorted((manifest.get("absent_metrics") or {}).items())),
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


def oddities(frame: pd.DataFrame, columns: Sequence[Column], rows: Sequence[Row], manifest: Mapping[str, Any]) -> tuple[Note, ...]:
    """The notes on a run."""
    return (
        *few_speakers(frame["speaker"]),
        *_repeated(columns, manifest),
        *_flagged(manifest),
        *_delays(frame, columns, rows, manifest),
        *_lengths(frame, columns, rows),
    )


def repeating(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, int]]:
    """Systems with outputs that repeat their prompt: of each flag how many."""
    found: dict[str, dict[str, int]] = {}
    for told in manifest.get("warnings") or ():
        if told.get("flag") in REPEATS and not told.get("side"):
            found.setdefault(str(told["system"]), {})[str(told["flag"])] = int(told["items"])
    return found


def of_voice(column: Column, manifest: Mapping[str, Any]) -> bool:
    """Whether a metric compares with the prompt, and so rewards who repeats it."""
    needs = ((manifest.get("metrics") or {}).get(column.key) or {}).get("needs") or ()
    return not {"prompt", "prompt_resynthesis"}.isdisjoint(needs)


def few_speakers(speakers: Iterable[str]) -> Iterator[Note]:
    """Of how few voices recordings are, from the speaker of each, "" where none is named."""
    names = set(speakers)
    if len(names) == 1 and "" not in names:
        yield Note("All recordings are of one speaker: intervals are over items and say nothing of other voices.")
    elif 0 < (count := len(names - {""})) < FEWEST:
        speakers = "1 speaker and of items without one" if count == 1 else f"{count} speakers"
        yield Note(f"Figures over {speakers} say little of other voices, however many utterances there are of each.")


def _repeated(columns: Sequence[Column], manifest: Mapping[str, Any]) -> Iterator[Note]:
    keys = tuple(c.key for c in columns if of_voice(c, manifest))
    names = ", ".join(c.name for c in columns if c.key in keys)
    for label, flags in repeating(manifest).items():
        told = " and ".join(f"{n} {REPEATS[flag][n != 1]}" for flag, n in flags.items())
        rest = f"; {names} compares the prompt with itself there and does not rank this system" if names else ""
        yield Note(f"{label}: {told}{rest}.")


def _flagged(manifest: Mapping[str, Any]) -> Iterator[Note]:
    for told in manifest.get("warnings") or ():
        flag, n = str(told.get("flag", "")), told.get("items", 0)
        if flag in REPEATS and not told.get("side"):
            continue
        words = f"{flag.replace('_', ' ')}{f' ({FLAGS[flag]})' if flag in FLAGS else ''}"
        if side := SIDES.get(str(told.get("side") or "")):
            advice = "; dataset.channel=N takes one of them" if flag == "channels_averaged" else ""
            yield Note(f"{plural(n, side)}: {words}{advice}.")
        else:
            yield Note(f"{told.get('system', '')}: {words} in {plural(n, 'output')}.")


def _delays(frame: pd.DataFrame, columns: Sequence[Column], rows: Sequence[Row], manifest: Mapping[str, Any]) -> Iterator[Note]:
    """One lag of all outputs, and lags that mean nothing."""
    by_key = {c.key: c for c in columns}
    key = next((k for k in ("lag_samples", "si_sdr_aligned_db", "si_sdr_db") if k in by_key), None)
    if key is None:
        return
    fields = by_key[key].signature.split("|")
    rate_hz = float(match[1]) if len(fields) > 2 and (match := re.match(r"(\d+)Hz", fields[2])) else 16000.0
    params = ((manifest.get("metrics") or {}).get(key) or {}).get("params") or {}
    limit_s = float(params.get("max_lag_s") or MAX_LAG_S)
    scored = frame[(frame["metric"] == key) & (frame["status"] == Status.OK.value)]
    groups = {name: group for name, group in scored.groupby(["system", "settings"], sort=False)}
    for row in rows:
        group = groups.get((row.facts.label, row.settings))
        if group is None or row.calibration or row.facts.anchor:
            continue
        counts = [json.loads(text or "{}") for text in group["counts"]]
        # In samples, late is positive, and the correlation at each.
        lags = group["value"].to_numpy(float) if key == "lag_samples" else np.array([c.get("lag_samples", np.nan) for c in counts], float)
        correlations = np.abs(np.array([c.get("correlation", np.nan) for c in counts], float))
        if not np.isfinite(correlations).any():
            continue  # of a version that kept no lag
        sure = lags[correlations >= MEANINGFUL_PEAK]
        if len(sure) < (1 - MOST) * len(group) or not len(sure):
            lagged = tuple(k for k in ("lag_samples", "si_sdr_db", "si_sdr_aligned_db") if k in by_key)
            yield Note(
                f"{row.label}: its waveforms do not follow the recordings within {limit_s:g} s (median correlation "
                f"{float(np.median(correlations)):.2f}): it makes a waveform of its own, or is later than that. Lag and SI-SDR, aligned or "
                "not, mean nothing of it.",
                lagged,
            )
            continue
        usual = float(np.median(sure))
        # A waveform that does not follow its recording has no lag: it speaks for and against none.
        alike = int((np.abs(sure - usual) <= SAME_LAG).sum())
        constant = alike >= MOST * len(sure) and len(sure) >= 0.5 * len(group)
        size = abs(usual) if constant else float(np.median(np.abs(sure)))
        plain, aligned = (cell.value if (cell := row.cells.get(k)) else None for k in ("si_sdr_db", "si_sdr_aligned_db"))
        if key == "si_sdr_db" and aligned is None:
            # Each record says what it would be without its delay.
            aligned = float(np.mean([c.get("aligned_db", value) for c, value in zip(counts, group["value"], strict=True)]))
        costs = size / rate_hz >= COST_S if plain is None or aligned is None else aligned - plain >= COST_DB
        if size < 1 or not costs:
            continue
        if constant:
            whose = f"{alike} of {len(group)} outputs are" if alike < len(group) else "every output is"
            told = (
                f"{whose} {'late' if usual > 0 else 'early'} by {size:g} samples at {rate_hz / 1000:g} kHz ({1000 * size / rate_hz:.3g} ms)"
            )
        else:
            told = f"its outputs are shifted by {sure.min():g} to {sure.max():g} samples at {rate_hz / 1000:g} kHz, each by another number"
        about = tuple(k for k in CHARGED if k in by_key)
        charged = f"; {', '.join(by_key[k].name for k in about)} {'is' if len(about) == 1 else 'are'} charged with it" if about else ""
        known = "" if plain is None or aligned is None else f"; SI-SDR is {plain:.1f} dB, and {aligned:.1f} dB without it"
        yield Note(f"{row.label}: {told}{charged}{known}.", about)


def _lengths(frame: pd.DataFrame, columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Note]:
    """Outputs that are all longer or shorter by the ratio of two sample rates: samples of one, declared as the other."""
    ratios: dict[tuple[str, str], dict[str, float]] = {}
    if any(c.key == "length_ratio" for c in columns):
        found = frame[(frame["metric"] == "length_ratio") & (frame["status"] == Status.OK.value)]
        for system, settings, item, value in found[["system", "settings", "item", "value"]].itertuples(index=False, name=None):
            ratios.setdefault((system, settings), {})[item] = float(value)
    refused = frame[(frame["side"] == "output") & frame["reason"].str.startswith("length ratio ")]
    for system, settings, item, reason in refused[["system", "settings", "item", "reason"]].itertuples(index=False, name=None):
        if match := re.match(r"length ratio (\d+\.?\d*)", reason):
            ratios.setdefault((system, settings), {}).setdefault(item, float(match[1]))
    items = {name: group["item"].nunique() for name, group in frame.groupby(["system", "settings"], sort=False)}
    for row in rows:
        mine = np.array(list(ratios.get((row.facts.label, row.settings), {}).values()))
        if row.calibration or len(mine) < MOST * items.get((row.facts.label, row.settings), 0) or len(mine) < 2:
            continue
        usual = float(np.median(mine))
        if (np.abs(mine - usual) <= SAME_RATIO * usual).mean() < MOST or abs(usual - 1) < 2 * SAME_RATIO:
            continue
        guess = _rates(usual, row.facts.sample_rate)
        yield Note(f"{row.label}: every output is {usual:.3f} times as long as its recording{guess}.")


def _rates(ratio: float, declared_hz: int) -> str:
    """What rates would explain a ratio of lengths, in words; "" where none do."""
    pairs = [(a, b) for a in GUESSED_RATES for b in GUESSED_RATES if a != b and abs(a / b - ratio) <= SAME_RATIO * ratio]
    pairs = [p for p in pairs if p[1] == declared_hz] or pairs
    if not pairs:
        return ""
    # The most usual rates of speech first.
    true_hz, told_hz = min(pairs, key=lambda p: sum(abs(np.log2(hz / 16000)) for hz in p))
    return f": samples at {true_hz / 1000:g} kHz that are declared as {told_hz / 1000:g} kHz?"
