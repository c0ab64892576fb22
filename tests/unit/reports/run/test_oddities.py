"""Notes on what a figure alone does not show: delays, rates, repeated prompts, flags, few speakers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import Better, Need, Status
from reports.run.summarise import summarise
from reports.statistics.intervals import IntervalSettings
from tests.stubs.fake_runs import METRICS, FakeRun, metric

QUICK = IntervalSettings(resamples=50)
ITEMS = {f"i{n}": f"sentence {n}" for n in range(10)}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    for name, unit in (("lag_samples", "samples"), ("length_ratio", "")):
        monkeypatch.setitem(METRICS, name, metric(name, unit, Better.NEITHER, (-1600, 1600)))
    for name in ("si_sdr_db", "si_sdr_aligned_db"):
        monkeypatch.setitem(METRICS, name, metric(name, "dB", Better.HIGHER, (-100.0, 100.0)))
    monkeypatch.setitem(METRICS, "sim_o", replace(metric("sim_o", "", Better.HIGHER, (-1, 1)), needs=frozenset({Need.OUTPUT, Need.PROMPT})))
    return FakeRun(tmp_path, ITEMS, systems={"a": {"family": "f", "sample_rate": 16000}, "b": {"family": "f", "sample_rate": 24000}})


def notes(fake: FakeRun, start: str) -> list[str]:
    return [note.text for note in summarise(fake.run(), QUICK).notes if note.text.startswith(start)]


def lags(fake: FakeRun, samples: Any, correlation: Any, plain: float = -13.0, aligned: float = 6.1) -> None:
    for item, lag, r in zip(ITEMS, np.broadcast_to(samples, 10), np.broadcast_to(correlation, 10), strict=True):
        fake.add("a", "lag_samples", item, float(lag), counts={"correlation": float(r)})
        fake.add("a", "si_sdr_db", item, plain)
        fake.add("a", "si_sdr_aligned_db", item, aligned)
        fake.add("a", "stoi", item, 0.6)


@pytest.mark.cases(
    "A20",
    before="20 ms of delay on every item: SI-SDR -13 where the aligned one is +6, STOI .64, no note",
    after="a note: every output is late by 320 samples (20 ms), SI-SDR and STOI are charged with it, SI-SDR without it",
)
@pytest.mark.parametrize("lag", [8, 320, -320])
def test_a_constant_lag_is_told(fake: FakeRun, lag: int) -> None:
    lags(fake, lag, 0.9)
    (told,) = notes(fake, "a: ")
    late = "late" if lag > 0 else "early"
    assert told.startswith(f"a: every output is {late} by {abs(lag)} samples at 16 kHz ({abs(lag) / 16:g} ms); si_sdr_db, stoi are charged")
    assert "SI-SDR is -13.0 dB, and 6.1 dB without it" in told


@pytest.mark.cases(
    "A20", before="the lag known only where lag_samples was asked for", after="SI-SDR alone tells it, with the figure without it"
)
def test_si_sdr_alone_tells_the_lag(fake: FakeRun) -> None:
    for item in ITEMS:
        fake.add("a", "si_sdr_db", item, -13.0, counts={"lag_samples": 8.0, "correlation": 0.9, "aligned_db": 6.1})
        fake.add("b", "si_sdr_db", item, 9.0)  # of a version that kept no lag
    (told,) = notes(fake, "a: ")
    assert told.startswith("a: every output is late by 8 samples at 16 kHz (0.5 ms); si_sdr_db is charged with it")
    assert "SI-SDR is -13.0 dB, and 6.1 dB without it" in told
    assert notes(fake, "b: ") == []


def test_a_lag_that_costs_nothing_is_not_told(fake: FakeRun) -> None:
    lags(fake, 0, 0.9)
    assert notes(fake, "a: ") == []
    fake.records = []
    lags(fake, 1, 0.9, plain=6.0, aligned=6.1)
    assert notes(fake, "a: ") == []
    fake.records = []
    lags(fake, np.arange(0, 1000, 100), 0.9, plain=6.0, aligned=6.1)
    assert notes(fake, "a: ") == []


@pytest.mark.cases(
    "A20",
    before="a delay of each output's own: SI-SDR -13 where the aligned one is +6, no note",
    after="a note: shifted by 0 to 900 samples",
)
def test_lags_that_differ_are_told_where_they_cost(fake: FakeRun) -> None:
    lags(fake, np.arange(0, 1000, 100), 0.9)
    (told,) = notes(fake, "a: ")
    assert "shifted by 0 to 900 samples at 16 kHz, each by another number; si_sdr_db, stoi are charged with it; SI-SDR is -13.0 dB" in told


def test_outputs_that_follow_nothing_do_not_hide_the_lag_of_the_others(fake: FakeRun) -> None:
    lags(fake, [320] * 7 + [-7, 950, 11], [0.9] * 7 + [0.1] * 3)
    assert "a: 7 of 10 outputs are late by 320 samples" in notes(fake, "a: ")[0]


def test_most_outputs_make_the_note_and_are_counted(fake: FakeRun) -> None:
    lags(fake, [320] * 9 + [0], 0.9)
    assert "a: 9 of 10 outputs are late by 320 samples" in notes(fake, "a: ")[0]


@pytest.mark.cases(
    "A20",
    before="300 ms of delay, beyond the search, or no waveform at all: a lag of chance, no note",
    after="a note: its waveforms do not follow the recordings, lag and SI-SDR mean nothing",
)
def test_a_lag_of_chance_is_told_as_such(fake: FakeRun) -> None:
    lags(fake, np.arange(-500, 500, 100), 0.1)
    (told,) = notes(fake, "a: ")
    assert "do not follow the recordings within 1 s (median correlation 0.10)" in told and "mean nothing" in told
    fake.systems["a"]["anchor"] = True
    assert notes(fake, "a: ") == []


@pytest.mark.parametrize(
    ("system", "ratio", "words"),
    [
        ("a", 1.5, "samples at 24 kHz that are declared as 16 kHz?"),
        ("b", 2 / 3, "samples at 16 kHz that are declared as 24 kHz?"),
        ("a", 0.5, "samples at 8 kHz that are declared as 16 kHz?"),
        ("b", 22.05 / 24, "samples at 22.05 kHz that are declared as 24 kHz?"),
        ("b", 24 / 22.05, "samples at 24 kHz that are declared as 22.05 kHz?"),
        ("a", 1.27, "is 1.270 times as long as its recording."),
    ],
)
def test_a_ratio_of_rates_is_told(fake: FakeRun, system: str, ratio: float, words: str) -> None:
    for n, item in enumerate(ITEMS):
        fake.add(system, "length_ratio", item, ratio * (1 + 0.002 * (-1) ** n))
        reason = f"length ratio {ratio:.4f}: 3.000 s against 2.000 s of the reference"
        fake.add(system, "stoi", item, status=Status.METRIC_UNDEFINED, side="output", reason=reason)
    assert any(words in told for told in notes(fake, f"{system}: every output is"))
    fake.records = [r for r in fake.records if r.metric != "length_ratio"]  # the refusals of the other metrics tell it too
    assert any(words in told for told in notes(fake, f"{system}: every output is"))


def test_lengths_of_another_reading_are_no_ratio_of_rates(fake: FakeRun) -> None:
    for n, item in enumerate(ITEMS):
        fake.add("a", "length_ratio", item, 1.3 + 0.05 * n)
        fake.add("b", "length_ratio", item, 1.001)
    assert notes(fake, "a: every") == notes(fake, "b: every") == []


def test_who_repeats_the_prompt_is_not_ranked_by_voice(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.systems["c"] = {"family": "f"}
    for item in ITEMS:
        for system, value in (("a", 1.0), ("b", 0.8), ("c", 0.7)):
            fake.add(system, "sim_o", item, value)
            fake.add(system, "stoi", item, value)
    run = fake.run()
    run.manifest["metrics"]["sim_o"]["needs"] = ["output", "prompt"]
    best = lambda: {r.facts.label: set(r.best) for r in summarise(run, QUICK).rows}  # noqa: E731
    assert best() == {"a": {"sim_o", "stoi"}, "b": set(), "c": set()}
    run.manifest["warnings"] = [{"system": "a", "flag": "begins_with_prompt", "items": 1}]
    assert best() == {"a": {"stoi"}, "b": {"sim_o"}, "c": set()}
    told = next(n.text for n in summarise(run, QUICK).notes if n.text.startswith("a: "))
    assert told == "a: 1 output begins with its prompt; sim_o compares the prompt with itself there and does not rank this system."


def test_flags_are_told_of_outputs_and_of_recordings(fake: FakeRun) -> None:
    fake.add("a", "stoi", "i0", 0.5)
    run = fake.run()
    run.manifest["warnings"] = [
        {"system": "", "side": "reference", "flag": "channels_averaged", "items": 3},
        {"system": "", "side": "prompt", "flag": "clipped", "items": 1},
        {"system": "a", "flag": "dc", "items": 2},
        {"system": "a", "flag": "of_tomorrow", "items": 1},
    ]
    told = [n.text for n in summarise(run, QUICK).notes]
    assert "3 recordings: channels averaged (several channels, whose average is measured); dataset.channel=N takes one of them." in told
    assert "1 prompt: clipped (more than 1 % of the samples are at full scale)." in told
    assert "a: dc (the mean is off zero) in 2 outputs." in told and "a: of tomorrow in 1 output." in told


def test_few_speakers_are_told(fake: FakeRun) -> None:
    def told(count: int) -> bool:
        fake.speakers, fake.records = {item: f"s{n % count}" for n, item in enumerate(ITEMS)}, []
        for item in ITEMS:
            fake.add("a", "stoi", item, 0.5)
        return bool(notes(fake, f"Figures over {count} speaker"))

    assert told(2) and told(5) and not told(6)


@pytest.mark.cases(
    "B8", before="60 items of one voice: narrow intervals over items, and no word", after="a note: all recordings are of one speaker"
)
def test_one_voice_is_told(fake: FakeRun) -> None:
    def told(*names: str) -> str:
        fake.speakers, fake.records = {item: names[n % len(names)] for n, item in enumerate(ITEMS)}, []
        for item in ITEMS:
            fake.add("a", "stoi", item, 0.5)
        return " ".join(n.text for n in summarise(fake.run(), QUICK).notes)

    assert "All recordings are of one speaker: intervals are over items" in told("ann")
    assert "over 1 speaker and of items without one say little" in told("ann", "")
    assert "speaker" not in told("").replace("over items", "")
