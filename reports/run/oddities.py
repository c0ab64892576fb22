"""What recordings and outputs have about them that a value alone does not show: delays, rates, repeated prompts, flags.

Every note here says what was found, of how many outputs, and what it does to which value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Status
from harness.metrics.alignment import USUAL_RATES
from harness.metrics.waveform import MAX_LAG_S, MEANINGFUL_PEAK
from reports.run.summary import Note
from reports.statistics.intervals import FEWEST
from reports.statistics.records import Column, Row
from reports.writing.wording import plural

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class _Lags:
    """Lags of one system's outputs in samples, late is positive, and the correlation at each."""

    samples: np.ndarray[Any, np.dtype[np.float64]]
    correlations: np.ndarray[Any, np.dtype[np.float64]]


def _lags(group: pd.DataFrame, key: str) -> _Lags:
    counts = [json.loads(text or "{}") for text in group["counts"]]
    samples = group["value"].to_numpy(float) if key == "lag_samples" else np.array([c.get("lag_samples", np.nan) for c in counts], float)
    return _Lags(samples, np.abs(np.array([c.get("correlation", np.nan) for c in counts], float)))


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
        found = _lags(group, key)
        if not np.isfinite(found.correlations).any():
            continue  # of a version that kept no lag
        sure = found.samples[found.correlations >= MEANINGFUL_PEAK]
        if len(sure) < (1 - MOST) * len(group) or not len(sure):
            about = tuple(k for k in ("lag_samples", "si_sdr_db", "si_sdr_aligned_db") if k in by_key)
            yield Note(
                f"{row.label}: its waveforms do not follow the recordings within {limit_s:g} s (median correlation "
                f"{float(np.median(found.correlations)):.2f}): it makes a waveform of its own, or is later than that. Lag and SI-SDR, aligned or "
                "not, mean nothing of it.",
                about,
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
            counts = (json.loads(text or "{}") for text in group["counts"])
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
        yield _delayed(row, by_key, told, (plain, aligned))


def _delayed(row: Row, columns: Mapping[str, Column], told: str, figures: tuple[float | None, float | None]) -> Note:
    about = [columns[key] for key in CHARGED if key in columns]
    parts = [f"{row.label}: {told}"]
    if about:
        parts.append(f"{', '.join(c.name for c in about)} {'is' if len(about) == 1 else 'are'} charged with it")
    plain, aligned = figures
    if plain is not None and aligned is not None:
        parts.append(f"SI-SDR is {plain:.1f} dB, and {aligned:.1f} dB without it")
    return Note(f"{'; '.join(parts)}.", tuple(c.key for c in about))


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
