"""The rules of the tables, on small runs made here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import Audio, CodecSpec, Codes, Evidence, Item, Sample, Signal, Status
from harness.errors import Incomparable, StoreError
from harness.settings.registry import resolve
from harness.storing.runfolder import OpenedRun
from reports.run.summarise import summarise
from reports.run.summary import Summary, whose
from reports.statistics.intervals import IntervalSettings
from tests.stubs.fake_runs import METRICS, FakeRun

QUICK = IntervalSettings(resamples=200)


def cell(summary: Summary, system: str, key: str) -> Any:
    return next(r for r in summary.rows if r.facts.label == system).cells[key]


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path, {f"i{n}": f"sentence {n}" for n in range(4)}, systems={"a": {"family": "fa"}, "b": {"family": "fb"}})


def test_who_is_to_blame(fake: FakeRun) -> None:
    for n in range(4):
        fake.add("a", "pesq_wb", f"i{n}", 2.0 + n)
    # The reference of i0 fails under b only; it leaves a's mean as well.
    fake.add("b", "pesq_wb", "i0", status=Status.METRIC_UNDEFINED, side="reference", reason="silent reference")
    fake.add("b", "pesq_wb", "i1", 3.0)
    fake.add("b", "pesq_wb", "i2", status=Status.METRIC_UNDEFINED, side="output", reason="silent output")
    fake.add("b", "pesq_wb", "i3", status=Status.SKIPPED_BY_POLICY, reason="English only")
    summary = summarise(fake.run(), QUICK)
    a, b = cell(summary, "a", "pesq_wb"), cell(summary, "b", "pesq_wb")
    assert (a.value, a.n_ok, a.n_total, a.n_excluded, a.n_skipped) == (4.0, 3, 3, 1, 0)
    assert (b.value, b.n_ok, b.n_total, b.n_excluded, b.n_skipped) == (3.0, 1, 2, 1, 1)
    assert a.pessimistic == 4.0
    assert b.pessimistic == pytest.approx((3.0 + 1.0) / 2)
    assert sum(b.statuses.values()) == b.n_total + b.n_excluded + b.n_skipped == 4
    # Coverage 100 % against 50 %: nobody is called best.
    assert not any(r.best for r in summary.rows)
    assert any("not ranked, coverage differs (50% to 100%)" in note.text for note in summary.notes)
    groups = [(f.kind, f.labels, f.records) for f in summary.failures]
    assert groups == [("failure", ("b",), 1), ("reference", (), 1), ("skipped", ("b",), 1)]


@pytest.mark.cases(
    "A9",
    before="a broken recording that an impostor row used took its item from every system: 1/1 of 4, 'the reference cannot be scored'",
    after="it is left out of the impostor row only: systems 3/3 or 4/4, the row 1/1 with a note, listed apart from the references",
)
def test_a_calibration_row_has_its_own_faults(fake: FakeRun) -> None:
    fake.calibration = ["impostor"]
    for n in range(4):
        for system in "ab":
            fake.add(system, "pesq_wb", f"i{n}", 2.0 + n)
            fake.add(system, "stoi", f"i{n}", 0.5)
    fake.records = [r for r in fake.records if (r.system, r.metric, r.item) != ("b", "pesq_wb", "i3")]
    fake.add("b", "pesq_wb", "i3", status=Status.METRIC_UNDEFINED, side="reference", reason="silent")
    fake.add("impostor", "pesq_wb", "i0", status=Status.INVALID_INPUT, side="reference", reason="x.wav: truncated")
    fake.add("impostor", "pesq_wb", "i1", status=Status.INVALID_INPUT, side="reference", reason="x.wav: truncated")
    fake.add("impostor", "pesq_wb", "i2", 1.5)
    fake.add("impostor", "pesq_wb", "i3", 1.0)
    summary = summarise(fake.run(), QUICK)
    a, b, row = (cell(summary, system, "pesq_wb") for system in ("a", "b", "impostor"))
    assert (a.value, a.counted, b.value, b.counted) == (3.0, "3/3", 3.0, "3/3")
    assert (row.value, row.counted, row.n_excluded, row.n_own) == (1.5, "1/1", 3, 2)
    # What one metric cannot score says nothing of another.
    assert cell(summary, "a", "stoi").counted == cell(summary, "b", "stoi").counted == "4/4"
    assert summary.column("pesq_wb").excluded == ("i3",)
    assert any("impostor: 2 of its recordings cannot be scored and are left out of this row only" in n.text for n in summary.notes)
    assert {(f.kind, f.labels, f.records) for f in summary.failures} == {("reference", (), 1), ("calibration", ("impostor",), 2)}


def test_a_calibration_row_without_any_recording_says_so(fake: FakeRun) -> None:
    fake.calibration = ["impostor"]
    for n in range(4):
        fake.add("a", "pesq_wb", f"i{n}", 2.0)
        fake.add("impostor", "pesq_wb", f"i{n}", status=Status.INVALID_INPUT, side="reference", reason="x.wav: truncated")
    summary = summarise(fake.run(), QUICK)
    assert cell(summary, "a", "pesq_wb").counted == "4/4"
    assert cell(summary, "impostor", "pesq_wb").reason == "none of its recordings could be scored"


def test_what_an_anchor_loses_is_listed_apart_unless_it_crashed(fake: FakeRun) -> None:
    fake.systems["b"]["anchor"] = True
    fake.add("b", "pesq_wb", "i0", status=Status.METRIC_UNDEFINED, side="output", reason="no speech")
    fake.add("b", "pesq_wb", "i1", status=Status.FAILED, side="output", reason="crashed")
    fake.add("a", "pesq_wb", "i0", status=Status.METRIC_UNDEFINED, side="output", reason="no speech")
    found = [(f.kind, f.labels, f.reason) for f in summarise(fake.run(), QUICK).failures]
    assert found == [("failure", ("a",), "no speech"), ("failure", ("b",), "crashed"), ("calibration", ("b",), "no speech")]


def test_failure_is_never_a_number(fake: FakeRun) -> None:
    for n in range(4):
        fake.add("a", "wer", f"i{n}", status=Status.TIMEOUT, side="output", reason="no answer in 60 s")
        fake.add("a", "pesq_wb", f"i{n}", status=Status.FAILED, side="output", reason="decoder raised")
    summary = summarise(fake.run(), QUICK)
    wer, pesq = cell(summary, "a", "wer"), cell(summary, "a", "pesq_wb")
    assert (wer.value, wer.low, wer.n_ok, wer.n_total) == (None, None, 0, 4)
    assert wer.pessimistic is None and pesq.pessimistic == 1.0
    assert "none of 4 outputs" in wer.reason


def test_best_follows_the_declared_direction(fake: FakeRun) -> None:
    fake.calibration = ["ceiling"]
    fake.systems["lottery"] = {"family": "fc", "weights": "random"}
    for n in range(4):
        for system, pesq, wer, bps in (("a", 2.0, 10, 800), ("b", 3.0, 20, 900), ("ceiling", 4.5, 0, 1), ("lottery", 4.0, 1, 2)):
            fake.add(system, "pesq_wb", f"i{n}", pesq)
            fake.add(system, "wer", f"i{n}", float(wer))
            fake.add(system, "emitted_bps", f"i{n}", float(bps))
    summary = summarise(fake.run(), QUICK)
    assert {r.facts.label: set(r.best) for r in summary.rows} == {"a": {"wer"}, "b": {"pesq_wb"}, "lottery": set(), "ceiling": set()}
    assert [r.facts.label for r in summary.calibrations] == ["ceiling"] and summary.rows[-1].calibration


def test_ties_as_printed_are_all_best(fake: FakeRun) -> None:
    for n in range(4):
        fake.add("a", "pesq_wb", f"i{n}", 2.50001)
        fake.add("b", "pesq_wb", f"i{n}", 2.50002)
    assert all("pesq_wb" in r.best for r in summarise(fake.run(), QUICK).rows)


def test_weighted_mean_is_a_ratio_of_sums(fake: FakeRun) -> None:
    for n, (wall, seconds) in enumerate([(1.0, 1.0), (1.0, 9.0), (2.0, 4.0), (2.0, 2.0)]):
        fake.add("a", "rtf", f"i{n}", wall / seconds, weight=seconds)
    assert cell(summarise(fake.run(), QUICK), "a", "rtf").value == pytest.approx(6 / 16)


def test_two_signatures_are_incomparable(fake: FakeRun) -> None:
    fake.add("a", "pesq_wb", "i0", 2.0, signature="pesq_wb|v1|16000Hz|mean|{}")
    fake.add("b", "pesq_wb", "i0", 2.0, signature="pesq_wb|v2|16000Hz|mean|{}")
    with pytest.raises(Incomparable, match=r"pesq_wb\|v1.*pesq_wb\|v2"):
        summarise(fake.run(), QUICK)


def test_double_and_foreign_records_are_refused(fake: FakeRun) -> None:
    fake.add("a", "pesq_wb", "i0", 2.0)
    fake.add("a", "pesq_wb", "i0", 2.5)
    with pytest.raises(StoreError, match="twice"):
        summarise(fake.run(), QUICK)
    run = fake.run()
    with pytest.raises(StoreError, match="lacks the columns"):
        summarise(OpenedRun(run.path, run.manifest, run.frame.drop(columns="signature"), {}, {}), QUICK)


def test_order_of_records_does_not_matter(fake: FakeRun) -> None:
    rng = np.random.default_rng(3)
    for system in "ab":
        for n in range(4):
            fake.add(system, "pesq_wb", f"i{n}", float(rng.normal(2.5, 0.3)))
    before = summarise(fake.run(), QUICK)
    fake.records = [fake.records[i] for i in rng.permutation(len(fake.records))]
    assert summarise(fake.run(), QUICK) == before


class Perplexity:
    """A pooled metric: the perplexity of all tokens together, from their counts."""

    info = METRICS["perplexity"]

    def measure(self, sample: Any) -> Evidence:
        raise NotImplementedError

    def pool(self, evidence: Any, resamples: Any) -> Any:
        names = sorted({name for e in evidence for name in e.counts})
        counts = np.array([[e.counts.get(name, 0.0) for name in names] for e in evidence])
        share = resamples @ counts
        share = share / share.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.exp(-np.where(share > 0, share * np.log(share), 0).sum(axis=1))


def test_pooled_metric_is_pooled_not_averaged(fake: FakeRun) -> None:
    for n in range(4):
        fake.add("a", "perplexity", f"i{n}", 1.0, counts={f"token{n}": 5.0})
    found = cell(summarise(fake.run(), QUICK, {"perplexity": Perplexity()}), "a", "perplexity")
    assert found.value == pytest.approx(4.0)  # each item alone has perplexity 1
    assert found.low < 4.0 < found.high and found.clusters == 4


@pytest.mark.cases("B5", before="figures of codebooks without a word on how many tokens", after="tokens counted stand under the tables")
def test_pooled_metric_of_the_registry(fake: FakeRun) -> None:
    """The tokens of four items, measured and pooled by the harness's own metric, against numpy on all tokens joined."""
    metric = resolve("metrics", "entropy_bps")()
    spec = CodecSpec(16000, 320, (8, 8))
    silence = Signal(Audio.mono(np.zeros(320 * 50), 16000), lambda samples, source, target: samples)
    rng = np.random.default_rng(4)
    tokens = [np.minimum(rng.geometric(0.4, (2, 50)) - 1, 7) for _ in range(4)]
    METRICS["entropy_bps"] = metric.info
    try:
        for n, indices in enumerate(tokens):
            sample = Sample(Item(f"i{n}", "fake"), silence, encoded=Codes(indices, spec, 320 * 50))
            evidence = metric.measure(sample)
            fake.add("a", "entropy_bps", f"i{n}", evidence.value, weight=evidence.weight, counts=evidence.counts, detail=evidence.detail)
        summary = summarise(fake.run(), QUICK)
    finally:
        del METRICS["entropy_bps"]
    found = cell(summary, "a", "entropy_bps")
    assert any(note.text.startswith("Tokens counted a codebook: a 200.") for note in summary.notes)
    shares = [np.bincount(row, minlength=8) / row.size for row in np.concatenate(tokens, axis=1)]
    bits = sum(-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares)
    assert found.value == pytest.approx(bits * 50, rel=0.02) and found.low < found.value < found.high


@pytest.mark.cases("B5", before="a figure of two items", after="a dash, and a note that says too few tokens")
def test_too_few_tokens_are_a_note(fake: FakeRun) -> None:
    metric = resolve("metrics", "codebook_perplexity")()
    spec = CodecSpec(16000, 320, (16384,))
    silence = Signal(Audio.mono(np.zeros(320 * 50), 16000), lambda samples, source, target: samples)
    METRICS["codebook_perplexity"] = metric.info
    try:
        for n in range(2):
            indices = np.random.default_rng(n).integers(0, 16384, (1, 50))
            evidence = metric.measure(Sample(Item(f"i{n}", "fake"), silence, encoded=Codes(indices, spec, 320 * 50)))
            fake.add("a", "codebook_perplexity", f"i{n}", evidence.value, counts=evidence.counts, detail=evidence.detail)
        found = cell(summarise(fake.run(), QUICK), "a", "codebook_perplexity")
    finally:
        del METRICS["codebook_perplexity"]
    assert found.value is None
    assert "too few tokens: 100 of a codebook of 16,384 entries" in found.reason


def test_unresolvable_pooled_metric_is_absent_with_its_reason(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    import reports.statistics.pooling

    def unavailable(group: str, name: str) -> Any:
        raise ImportError(f"no module named {name}")

    monkeypatch.setattr(reports.statistics.pooling, "resolve", unavailable)
    fake.add("a", "perplexity", "i0", 7.0)
    found = cell(summarise(fake.run(), QUICK), "a", "perplexity")
    assert found.value is None and "no module named perplexity" in found.reason and found.n_ok == 1


@pytest.mark.cases(
    "A22",
    before="the human row is worse than three of five systems, nothing said",
    after="a note where the recordings lose to a system or the recogniser's own error is above .3",
)
def test_a_recogniser_that_mishears_the_recordings_is_told(fake: FakeRun) -> None:
    fake.calibration = ["ground_truth"]

    def notes(recording: float, a: float, b: float) -> list[str]:
        fake.records = []
        for n in range(4):
            for system, value in (("ground_truth", recording), ("a", a), ("b", b)):
                fake.add(system, "wer", f"i{n}", 100 * value)
        return [note.text for note in summarise(fake.run(), QUICK).notes if note.text.startswith("wer: ")]

    assert notes(0.05, 0.06, 0.2) == []
    assert notes(0.05, 0.047, 0.2) == []  # half a point is no finding
    (lost,) = notes(0.20, 0.15, 0.3)
    assert "it does better on a (15.00) than on the recordings (20.00)" in lost and "off by" not in lost
    (high,) = notes(0.46, 0.5, 0.6)
    assert "the recogniser is off by 46.00 on the recordings themselves" in high and "does better" not in high


@dataclass
class Broken(Perplexity):
    """A pool that does what it likes."""

    how: Callable[[Any], Any]

    def pool(self, evidence: Any, resamples: Any) -> Any:
        return self.how(resamples)


def _raise(problem: BaseException) -> Any:
    raise problem


@pytest.mark.cases(
    "D9", before="pool() that raises took the whole report: traceback, no page", after="that metric has no figure and a note says why"
)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda r: _raise(RuntimeError("mine\x1b[31m" + "x" * 10**6)), "its pool failed: RuntimeError: mine"),
        (lambda r: _raise(SystemExit(3)), "its pool failed: SystemExit: 3"),
        (lambda r: _raise(KeyError("k")), "its pool failed: KeyError"),
        (lambda r: 3.0, "shape ()"),
        (lambda r: np.ones((len(r), 2)), "shape"),
        (lambda r: ["many"] * len(r), "its pool failed: ValueError"),
        (lambda r: np.full(len(r), np.nan), "is nan"),
        (lambda r: r.fill(0) or r[:, 0], "read-only"),
        (lambda r: np.ones(1) if len(r) == 1 else _raise(ZeroDivisionError()), "its pool failed: ZeroDivisionError"),
    ],
)
def test_a_broken_pool_costs_its_own_figure(fake: FakeRun, how: Callable[[Any], Any], words: str) -> None:
    for n in range(4):
        fake.add("a", "perplexity", f"i{n}", 1.0, counts={"token": 5.0}, seed=n % 2)
        fake.add("a", "pesq_wb", f"i{n}", 2.0)
    summary = summarise(fake.run(), QUICK, {"perplexity": Broken(how)})
    found = cell(summary, "a", "perplexity")
    assert found.value is None and words in found.reason and len(found.reason) < 500
    assert cell(summary, "a", "pesq_wb").value == 2.0
    assert any("perplexity: no figure for a" in note.text and words in note.text for note in summary.notes)


def test_clusters_are_speakers_where_there_is_more_than_one(fake: FakeRun) -> None:
    for n in range(4):
        fake.add("a", "pesq_wb", f"i{n}", 2.0 + n)
    assert cell(summarise(fake.run(), QUICK), "a", "pesq_wb").clusters == 4
    fake.speakers, fake.records = {"i0": "x", "i1": "x", "i2": "y", "i3": "y"}, []
    for n in range(4):
        fake.add("a", "pesq_wb", f"i{n}", 2.0 + n)
    assert cell(summarise(fake.run(), QUICK), "a", "pesq_wb").clusters == 2


def test_error_rates_four_ways(fake: FakeRun) -> None:
    # 0/10, 1/10, 2/10 errors and one looping one-word item with 7 errors in 1 word.
    for n, (hits, subs, ins) in enumerate([(10, 0, 0), (9, 1, 0), (8, 2, 0), (0, 1, 6)]):
        words = hits + subs
        counts = {"hits": hits, "substitutions": subs, "deletions": 0, "insertions": ins}
        fake.add("a", "wer", f"i{n}", 100 * (subs + ins) / words, counts=counts)
    (rates,) = summarise(fake.run(), QUICK).error_rates
    assert rates.macro == pytest.approx((0 + 0.1 + 0.2 + 7) / 4)
    assert rates.corpus == pytest.approx(10 / 31)
    assert (rates.median, rates.above_half.value, rates.above_half.n) == (pytest.approx(0.15), 0.25, 4)


def test_missing_measurements_are_told(fake: FakeRun) -> None:
    fake.status = "partial"
    fake.add("a", "pesq_wb", "i0", 2.0)
    for n in range(4):
        fake.add("b", "pesq_wb", f"i{n}", 3.0)
    summary = summarise(fake.run(), QUICK)
    assert cell(summary, "a", "pesq_wb").n_missing == 3
    assert not any(r.best for r in summary.rows)
    assert summary.partial.startswith("PARTIAL RUN") and summary.warnings == (summary.partial,)
    assert [n.text for n in summary.notes if "missing" in n.text] == ["a: 3 measurements are missing of every metric."]


def test_seed_spread_stands_beside_the_interval(fake: FakeRun) -> None:
    for seed, level in ((0, 2.0), (1, 3.0)):
        for n in range(4):
            fake.add("a", "pesq_wb", f"i{n}", level, seed=seed)
    found = cell(summarise(fake.run(), QUICK), "a", "pesq_wb")
    assert (found.seeds, found.n_total, found.clusters) == (2, 8, 4)
    assert found.seed_spread == pytest.approx(math.sqrt(0.5))


def test_variants_sort_by_number(fake: FakeRun) -> None:
    for k in (16, 2, 4):
        fake.add("a", "pesq_wb", "i0", 2.0, settings=json.dumps({"codebooks": k}))
    assert [r.label for r in summarise(fake.run(), QUICK).rows] == ["a codebooks=2", "a codebooks=4", "a codebooks=16"]


def test_equal_failures_are_one_group(fake: FakeRun) -> None:
    for n in range(4):
        reason = f"i{n}: 0.{n}1 s, PESQ needs 0.25 s"
        fake.add("a", "pesq_wb", f"i{n}", status=Status.METRIC_UNDEFINED, side="output", reason=reason)
    (group,) = summarise(fake.run(), QUICK).failures
    assert (group.records, group.items, group.reason) == (4, ("i0", "i1", "i2", "i3"), "i0: 0.01 s, PESQ needs 0.25 s")


def test_what_is_skipped_for_one_reason_is_one_group(fake: FakeRun) -> None:
    for system in "ba":
        for n in range(4):
            fake.add(system, "stoi", f"i{n}", 0.9)
            for key in ("wer", "perplexity"):
                fake.add(system, key, f"i{n}", status=Status.SKIPPED_BY_POLICY, reason="no recogniser for zh")
            fake.add(system, "pesq_wb", f"i{n}", status=Status.FAILED, side="output", reason="decoder raised")
    summary = summarise(fake.run(), QUICK)
    found = [(f.kind, f.labels, f.records, f.metrics) for f in summary.failures]
    # A failure stays its system's own, what nobody is to blame for is told once.
    assert found == [
        ("failure", ("a",), 4, ("pesq_wb",)),
        ("failure", ("b",), 4, ("pesq_wb",)),
        ("skipped", ("a", "b"), 16, ("perplexity", "wer")),
    ]
    assert [whose(f, summary.everywhere) for f in summary.failures] == ["a", "b", "all 2 systems"]
    (note,) = [n for n in summary.notes if "no recogniser" in n.text]
    assert note.text == "wer, perplexity: no figure for any system: no recogniser for zh." and note.metrics == ("wer", "perplexity")


def test_rates_are_printed_in_three_digits_each(fake: FakeRun) -> None:
    for n in range(4):
        for system, bps, rtf in (("a", 512_000.0, 0.00006), ("b", 28.0, 1.25)):
            fake.add(system, "emitted_bps", f"i{n}", bps)
            fake.add(system, "rtf", f"i{n}", rtf)
    summary = summarise(fake.run(), QUICK)
    bps, rtf = summary.column("emitted_bps"), summary.column("rtf")
    assert bps and rtf and bps.heading == "emitted_bps (kbit/s)" and bps.unit == "bit/s"
    assert [bps.shown(cell(summary, s, "emitted_bps").value) for s in "ab"] == ["512", "0.0280"]
    assert [rtf.shown(cell(summary, s, "rtf").value) for s in "ab"] == ["0.0000600", "1.25"]
    assert cell(summary, "a", "emitted_bps").value == 512_000.0


def test_warnings_name_what_is_wrong_with_a_run(fake: FakeRun) -> None:
    fake.synthetic, fake.status = True, "partial"
    fake.systems["a"]["weights"] = "random"
    for system in "ab":
        fake.add(system, "pesq_wb", "i0", 2.0)
    summary = summarise(fake.run(), QUICK)
    assert [w.split(":")[0] for w in summary.warnings] == ["PARTIAL RUN", "RANDOM WEIGHTS", "SYNTHETIC SPEECH"]
    assert summary.random.startswith("RANDOM WEIGHTS: a;") and summary.counted == "4 items of fake, 2 systems"


@pytest.mark.parametrize(("synthetic", "start"), [(True, "SYNTHETIC SPEECH: all 4 items"), (False, "")])
def test_synthetic_label(fake: FakeRun, synthetic: bool, start: str) -> None:
    fake.synthetic = synthetic
    fake.add("a", "pesq_wb", "i0", 2.0)
    found = summarise(fake.run(), QUICK).synthetic
    assert found.startswith(start) and bool(found) == synthetic


@pytest.mark.cases(
    "B6", before="4/5 and 4/5 of different items: a tick for the one that lacks the hard item", after="ranked on the common items"
)
def test_systems_that_scored_other_items_are_ranked_on_the_common_ones(fake: FakeRun) -> None:
    values = {"i0": 1.5, "i1": 3.0, "i2": 3.0, "i3": 3.0, "i4": 4.5}
    fake.items = {item: f"sentence {item}" for item in values}

    def measured(lacking: dict[str, set[str]]) -> Summary:
        fake.records = []
        for system, gain in (("a", 0.2), ("b", 0.0)):
            for item, value in values.items():
                if item in lacking[system]:
                    fake.add(system, "pesq_wb", item, status=Status.FAILED, side="output", reason="decoder raised")
                else:
                    fake.add(system, "pesq_wb", item, value + gain)
        return summarise(fake.run(), QUICK)

    summary = measured({"a": {"i4"}, "b": {"i0"}})
    a, b = summary.systems
    assert a.cells["pesq_wb"].value < b.cells["pesq_wb"].value  # b was spared the hard item
    assert a.best == {"pesq_wb"} and not b.best
    assert any("ranked on the 3 items that all systems scored" in n.text for n in summary.notes)
    # Where hardly anything is common nobody is called best.
    summary = measured({"a": {"i3", "i4"}, "b": {"i0", "i1"}})
    assert not any(r.best for r in summary.rows)
    assert any("not ranked, the systems have only 1 scored items in common" in n.text for n in summary.notes)
    assert all(c.common == 0 for c in measured({"a": {"i4"}, "b": {"i4"}}).columns)


@pytest.mark.cases("B7", before="failures counted as STOI -1 and SI-SDR -100", after="as 0, and not at all where nothing is natural")
def test_failures_count_as_what_noise_gets(fake: FakeRun) -> None:
    fake.add("a", "stoi", "i0", 0.9)
    fake.add("a", "wer", "i0", 0.1)
    for metric in ("stoi", "wer"):
        fake.add("a", metric, "i1", status=Status.FAILED, side="output", reason="decoder raised")
    summary = summarise(fake.run(), QUICK)
    assert cell(summary, "a", "stoi").pessimistic == pytest.approx(0.45) and cell(summary, "a", "wer").pessimistic is None
    told = [n.text for n in summary.notes]
    assert "stoi, a: 1 of 2 failed; counted as 0.000 each they make it 0.450." in told
    assert "wer, a: 1 of 2 failed and are not in the figure, which says nothing of them." in told
