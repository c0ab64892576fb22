"""Two runs whose differences are known, compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harness.errors import Incomparable, UnknownName
from harness.storing.runfolder import OpenedRun
from reports.compare import document
from reports.compare.differences import Change, Comparison, Conclusion, Settings, compare, same_rows
from reports.compare.pairing import half
from reports.gate.checks import Gate
from reports.gate.rules import Rule, Rules
from reports.statistics.intervals import IntervalSettings

QUICK = IntervalSettings(resamples=1000)
N = 60
SPEAKERS = [f"s{i % 12}" for i in range(N)]
Written = Callable[..., OpenedRun]


def base(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 0.5, N)


def compared(left: OpenedRun, right: OpenedRun, **settings: Any) -> Comparison:
    one, two = half("old", left), half("new", right)
    return compare(one, two, same_rows(one, two)[0], Settings(**{"how": QUICK} | settings))


def only(found: Comparison) -> Change:
    (change,) = found.changes
    return change


@pytest.mark.parametrize(
    ("metric", "shift", "outcome"),
    [
        ("pesq_wb", -0.2, "worse"),
        ("pesq_wb", 0.2, "better"),
        ("mcd_db", 0.2, "worse"),
        ("emitted_bps", 0.2, "changed"),
        ("pesq_wb", 0.0, "undecided"),
    ],
)
def test_direction(written_run: Written, metric: str, shift: float, outcome: str) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, N)
    noise -= noise.mean()
    found = only(compared(written_run({"a": {metric: base()}}, SPEAKERS), written_run({"a": {metric: base() + shift + noise}}, SPEAKERS)))
    assert found.outcome == outcome
    known = found.found
    assert known.value == pytest.approx(shift, abs=1e-9) and known.n == N and known.clusters == 12
    assert known.low < shift + 1e-9 and known.high > shift - 1e-9


def test_same_values_are_identical(written_run: Written) -> None:
    found = only(compared(*(written_run({"a": {"pesq_wb": base()}}) for _ in "12")))
    assert (found.outcome, found.found.value, found.found.low, found.found.high, found.p) == (Conclusion.IDENTICAL, 0.0, 0.0, 0.0, 1.0)
    assert not found.worst and not found.changed


def test_no_difference_only_within_the_margin(written_run: Written) -> None:
    runs = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": base() + np.random.default_rng(2).normal(0, 0.1, N)}})
    assert only(compared(*runs)).outcome is Conclusion.UNDECIDED
    assert only(compared(*runs, margins={"pesq_wb": 0.2})).outcome is Conclusion.EQUIVALENT
    narrow = only(compared(*runs, margins={"pesq_wb": 0.01}))
    assert narrow.outcome is Conclusion.UNDECIDED
    assert narrow.advice is not None and narrow.advice.items is not None and narrow.advice.items > N
    assert re.search(r"to see 0\.0100 MOS takes [\d,]+ items \(80 % power\); these 60 show 0\.0\d+ MOS", document.remark(narrow))


def test_nothing_is_ranked_where_coverage_differs(written_run: Written) -> None:
    broken = base() + 0.3
    broken[:2] = np.nan
    found = only(compared(written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": broken}})))
    assert (found.outcome, found.found.n) == (Conclusion.UNRANKED, N - 2)
    assert "100.0% and 96.7%" in found.reason


def test_pairs_are_the_same_items_whatever_their_order(written_run: Written) -> None:
    left, right = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": base() - 0.1}})
    turned = OpenedRun(right.path, right.manifest, right.frame.iloc[::-1], {}, {})
    assert only(compared(left, turned)).found.value == pytest.approx(-0.1)
    assert only(compared(left, turned)) == only(compared(left, right))


@pytest.mark.cases("B8", before="two runs over one voice: better, worse, and no word", after="a note: all recordings are of one speaker")
def test_one_voice_is_told(written_run: Written) -> None:
    runs = [written_run({"a": {"pesq_wb": base()}}, ["ann"] * N) for _ in "12"]
    assert "All recordings are of one speaker" in " ".join(compared(*runs).notes)
    assert not any("speaker" in note for note in compared(*(written_run({"a": {"pesq_wb": base()}}, SPEAKERS) for _ in "12")).notes)


def test_seeds_are_averaged_and_their_spread_is_told(written_run: Written) -> None:
    shift = np.array([[0.0], [0.1], [0.2]])
    found = only(compared(written_run({"a": {"pesq_wb": base() + shift}}), written_run({"a": {"pesq_wb": base() + shift}})))
    assert found.found.value == pytest.approx(0, abs=1e-12)
    assert found.seed_spread == pytest.approx(0.1 * np.sqrt(2))


def test_holm_goes_over_the_whole_table(written_run: Written) -> None:
    rng = np.random.default_rng(3)
    left = {f"s{k}": {"pesq_wb": base(k)} for k in range(8)}
    right = {name: {"pesq_wb": m["pesq_wb"] + rng.normal(0.0, 0.1, N)} for name, m in left.items()}
    right["s0"] = {"pesq_wb": left["s0"]["pesq_wb"] + rng.normal(0.03, 0.1, N)}
    found = compared(written_run(left), written_run(right)).changes
    assert len(found) == 8
    first = found[0]
    assert first.p is not None and first.adjusted is not None and first.adjusted == pytest.approx(min(1.0, 8 * first.p), rel=0.2)
    if first.p <= 0.05 < first.adjusted:
        assert first.outcome is Conclusion.UNDECIDED and "alone" in first.reason


def test_a_planted_drop_of_a_twentieth_is_flagged_with_100_items(written_run: Written) -> None:
    rng, flagged = np.random.default_rng(4), 0
    for _ in range(20):
        values = rng.normal(3, 0.6, 100)
        # A small change of a codec moves an utterance's PESQ by about a tenth, besides what it takes away.
        found = only(
            compared(written_run({"a": {"pesq_wb": values}}), written_run({"a": {"pesq_wb": values - 0.05 + rng.normal(0, 0.1, 100)}}))
        )
        flagged += found.outcome is Conclusion.WORSE
    assert flagged >= 18


def test_a_against_a_is_rarely_significant(written_run: Written) -> None:
    rng, found = np.random.default_rng(5), []
    for _ in range(20):
        values = rng.normal(3, 0.6, 100)
        pair = (written_run({"a": {"pesq_wb": values + rng.normal(0, 0.1, 100)}}) for _ in "12")
        found.append(only(compared(*pair)).outcome)
    assert sum(outcome in (Conclusion.WORSE, Conclusion.BETTER) for outcome in found) <= 1


def test_worst_and_most_changed_items(written_run: Written) -> None:
    values = base()
    moved = values.copy()
    moved[[3, 7, 9]] += [-1.0, -0.5, 2.0]
    found = only(compared(written_run({"a": {"pesq_wb": values}}), written_run({"a": {"pesq_wb": moved}}), num_items=2))
    assert [i.item for i in found.worst] == ["i003", "i007"]
    assert [i.item for i in found.changed] == ["i009", "i003"]
    assert found.worst[0].difference == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("other", "words", "forceable"),
    [
        ({"packages": {"pesq": "2"}}, "package versions differ between old and new: pesq 1 and 2", True),
        ({"torch": "2"}, "old and new: torch 1 and 2", True),
        ({"dataset": {"name": "fake", "digest": "e"}}, "the data differ", True),
        ({"status": "partial"}, "new is partial", False),
        ({"suite": {"name": "zero_shot", "task": "synthesis"}}, "suite=codec", False),
    ],
)
def test_what_is_not_comparable(written_run: Written, other: dict[str, Any], words: str, forceable: bool) -> None:
    torch = other.get("torch", "1")
    left, right = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": base()}}, **other)
    left.manifest["systems"]["a"]["tools"], right.manifest["systems"]["a"]["tools"] = [["torch", "1"]], [["torch", torch]]
    with pytest.raises(Incomparable, match=re.escape(words)) as caught:
        compared(left, right)
    assert caught.value.exit_code == 3
    assert ("force=true" in str(caught.value)) is forceable
    if forceable:
        assert any(words in note for note in compared(left, right, force=True).notes)
    else:
        with pytest.raises(Incomparable):
            compared(left, right, force=True)


@pytest.mark.cases(
    "A8",
    before="compare of two runs over LibriTTS and LibriTTS-R (equal ids and texts): better or worse, in colour",
    after="refused: the recordings differ, n of m, the first named",
)
def test_other_recordings_under_the_same_ids_are_never_compared_unasked(written_run: Written) -> None:
    def run(digest: str, **heard: str) -> OpenedRun:
        made = written_run({"a": {"pesq_wb": base()}}, dataset={"name": "fake", "digest": digest, "rows_digest": "r", "num_items": 20})
        for name, about in made.manifest["items"].items():
            about |= {"digest": heard.get(name, "x"), "prompt_digest": ""}
        return made

    left = run("d")
    assert only(compared(left, run("d"))).outcome is Conclusion.IDENTICAL
    other = run("e", i003="y", i007="y")
    with pytest.raises(Incomparable, match=re.escape(f"the recordings differ: 2 of {len(base())} (first: i003)")):
        compared(left, other)
    assert any("the recordings differ" in note for note in compared(left, other, force=True).notes)
    earlier = written_run({"a": {"pesq_wb": base()}}, dataset={"name": "fake", "digest": "r", "num_items": 20})
    with pytest.raises(Incomparable, match="whether the recordings are the same cannot be told: old is of a version"):
        compared(earlier, left)


def test_other_signatures_are_never_compared_unasked(written_run: Written) -> None:
    left = written_run({"a": {"pesq_wb": base(), "stoi": base()}})
    right = written_run({"a": {"pesq_wb": base(), "stoi": base()}}, version="2")
    with pytest.raises(Incomparable, match="measured in two ways"):
        compared(left, right)
    found = compared(left, right, force=True)
    assert [c.outcome for c in found.changes] == [Conclusion.IDENTICAL] * 2 and "measured in two ways" in found.changes[0].notes[0]


def test_a_metric_that_one_run_lacks_does_not_stop_the_others(written_run: Written) -> None:
    found = compared(written_run({"a": {"pesq_wb": base(), "stoi": base()}}), written_run({"a": {"pesq_wb": base()}}))
    assert [(c.column.key, c.outcome) for c in found.changes] == [("pesq_wb", Conclusion.IDENTICAL), ("stoi", Conclusion.INCOMPARABLE)]
    with pytest.raises(UnknownName, match="Did you mean stoi"):
        compared(written_run({"a": {"stoi": base()}}), written_run({"a": {"stoi": base()}}), metrics=("stoy",))


@pytest.mark.parametrize("package", ["numpy", "jiwer", "torch"])
def test_a_package_that_made_nothing_of_it_is_only_told(written_run: Written, package: str) -> None:
    runs = [written_run({"a": {"pesq_wb": base()}}, packages={package: v}) for v in ("1", "2")]
    for run in runs:
        run.manifest["systems"]["a"]["tools"] = []
    assert f"{package} 1 and 2" in compared(*runs).notes[0]


def test_page_and_markdown_hold_hostile_names_and_players(written_run: Written, tmp_path: Path) -> None:
    hostile = '</script><img src=x onerror=alert(1)>&"'
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.random.default_rng(0).uniform(-0.5, 0.5, 1600), 16000)
    values = base()
    moved = values - np.linspace(0, 0.5, N)
    runs = []
    for v in (values, moved):
        run = written_run({hostile: {"pesq_wb": v}})
        outputs = {(hostile, "{}", item, 0): sound for item in run.manifest["items"]}
        run.manifest["items"]["i059"]["text"] = hostile
        runs.append(OpenedRun(run.path, run.manifest, run.frame, {"i059": sound, "i058": tmp_path / "gone.wav"}, outputs))
    found = compared(*runs)
    page = "".join(document.page(found))
    assert "<img" not in page and page.count("&lt;/script&gt;&lt;img") >= 2
    assert 'id="clip-0"' in page and 'id="clip-1"' not in page  # one file, embedded once
    assert page.count('data-clip="0"') == 2 * 5 + 1  # both outputs of each item, and the one recording that is there
    assert "http://" not in page and "https://" not in page
    silent = "".join(document.page(found, audio_limit_mb=0.0))
    assert 'data-clip="0"' not in silent and "limit of 0 MB" in silent
    assert not re.search(r"(?<!\\)<img", document.markdown(found))


@pytest.mark.cases(
    "B3", before="-.465 STOI of six items: compare undecided, p .125; gate REGRESSION", after="worse, and a regression, by one rule"
)
def test_compare_and_gate_say_the_same_of_six_items(written_run: Written) -> None:
    stoi = np.array([0.91, 0.93, 0.90, 0.94, 0.92, 0.95])
    drop = np.array([0.41, 0.52, 0.44, 0.50, 0.43, 0.49])
    metrics = ("pesq_wb", "mcd_db")  # hardly changed, and tested with it
    rng = np.random.default_rng(1)
    old = written_run({"a": {"stoi": stoi, **dict.fromkeys(metrics, base()[:6])}})
    new = written_run({"a": {"stoi": stoi - drop, **{m: base()[:6] + rng.normal(0, 0.01, 6) for m in metrics}}})
    found = next(c for c in compared(old, new).changes if c.column.key == "stoi")
    assert found.outcome is Conclusion.WORSE and found.adjusted is not None and found.adjusted < 0.01
    by = Rules("test", tuple(Rule(m, 0.02) for m in ("stoi", *metrics)))
    verdict = Gate(by).judge(half("new", new), half("old", old))
    assert {c.rule.metric: c.outcome.value for c in verdict.checks}["stoi"] == "regression"
    # Five are too few for either, and both say how many it takes.
    five = [written_run({"a": {"stoi": v[:5]}}) for v in (stoi, stoi - drop)]
    few = only(compared(*five))
    assert few.outcome is Conclusion.TOO_FEW and few.reason.startswith("5 items, a verdict takes at least 6") and few.p is None
    (check,) = Gate(Rules("test", (Rule("stoi", 0.02),))).judge(half("new", five[1]), half("old", five[0])).checks
    assert (check.outcome.value, check.reason) == ("too few", few.reason)


@pytest.mark.cases(
    "B3", before="undecided, whatever more would do", after="too few of them differ, and the smallest number that could decide"
)
def test_where_few_items_differ_the_least_number_is_told(written_run: Written) -> None:
    errors = np.zeros(N)
    errors[:4] = 0.2
    found = only(compared(*(written_run({"a": {"mcd_db": v}}) for v in (np.zeros(N), errors))))
    assert found.outcome is Conclusion.TOO_FEW and found.reason == f"4 of {N} items differ, for a verdict at least 6 must"
