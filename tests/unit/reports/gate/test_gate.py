"""Gates on runs whose differences are known: what fails, what passes, what is no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.api import Better
from harness.errors import ConfigError, Incomparable, UnknownName, UsageError
from harness.settings.registry import config_choices
from harness.storing.runfolder import OpenedRun
from reports.compare.pairing import half
from reports.gate.baseline import bless, open_reference
from reports.gate.checks import Check, CheckStatus, Gate, GateResult
from reports.gate.document import as_json, junit, markdown, text
from reports.gate.rules import Rule, Rules, load_rules, parse_rules

N = 60
SPEAKERS = [f"s{i % 12}" for i in range(N)]
Written = Callable[..., OpenedRun]


def rules(*found: Rule, **fields: Any) -> Rules:
    return Rules("test", found or (Rule("pesq_wb", 0.05),), **{"resamples": 1000} | fields)


def base(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 0.5, N)


def noise(seed: int, size: float = 0.1) -> np.ndarray:
    return np.random.default_rng(1000 + seed).normal(0, size, N)


def judged(new: OpenedRun, *olds: OpenedRun, by: Rules | None = None, force: bool = False) -> GateResult:
    return Gate(by or rules(), force).judge(half("new", new), half("old", olds[0], [o.frame for o in olds[1:]]))


def check(verdict: GateResult) -> Check:
    (found,) = verdict.checks
    return found


@pytest.mark.parametrize(
    ("metric", "shift", "outcome"),
    [
        ("pesq_wb", -0.2, "regression"),
        ("pesq_wb", -0.02, "pass"),
        ("pesq_wb", 0.2, "pass"),
        ("mcd_db", 0.2, "regression"),
        ("mcd_db", -0.2, "pass"),
    ],
)
def test_worse_beyond_the_tolerance(written_run: Written, metric: str, shift: float, outcome: str) -> None:
    old, new = (written_run({"a": {metric: v}}, SPEAKERS) for v in (base(), base() + shift + noise(1)))
    verdict = judged(new, old, by=rules(Rule(metric, 0.05)))
    found = check(verdict)
    assert (verdict.outcome, verdict.exit_code) == (outcome, {"pass": 0, "regression": 1}[outcome])
    assert found.bound is not None and (found.bound > 0.05) is (outcome == "regression")
    assert found.candidate is not None and found.baseline is not None
    assert found.worsening == pytest.approx((found.candidate - found.baseline) * (-1 if metric == "pesq_wb" else 1))


def test_repeated_noise_does_not_fail_a_gate_of_zero_tolerance(written_run: Written) -> None:
    failed = 0
    for seed in range(20):
        values = base(seed)
        runs = [written_run({"a": {"pesq_wb": values + noise(4 * seed + k), "stoi": noise(4 * seed + k, 0.01)}}) for k in range(3)]
        failed += judged(*runs, by=rules(Rule("pesq_wb", 0.0), Rule("stoi", 0.0), level=0.01)).outcome is not CheckStatus.PASS
    assert failed == 0


def test_false_alarms_stay_below_the_level_at_the_very_tolerance(written_run: Written) -> None:
    # Worse by exactly what is allowed in three metrics of two systems: one failing check of six is a false alarm.
    by = rules(*(Rule(m, 0.05) for m in ("pesq_wb", "stoi", "mcd_db")), resamples=400)
    signs = {"pesq_wb": -0.05, "stoi": -0.05, "mcd_db": 0.05}
    zeros, failed = np.zeros(N), 0
    old = half("old", written_run({s: dict.fromkeys(signs, zeros) for s in "ab"}))
    new = half("new", written_run({s: dict.fromkeys(signs, zeros) for s in "ab"}))
    for seed in range(100):
        new.run.frame["value"] = np.concatenate([signs[m] + noise(seed * 6 + i) for i, m in enumerate([*signs] * 2)])
        fresh = type(new)("new", new.run, new.summary)
        failed += Gate(by).judge(fresh, old).outcome is not CheckStatus.PASS
    assert failed <= 13  # a true rate of 5 % exceeds it once in a thousand times


def test_one_broken_voice_fails_the_rule_for_each_speaker(written_run: Written) -> None:
    speakers = [f"s{i // 6}" for i in range(N)]
    values = base() + noise(2, 0.02)
    values[12:18] -= 0.6
    old, new = written_run({"a": {"pesq_wb": base()}}, speakers), written_run({"a": {"pesq_wb": values}}, speakers)
    whole, each = judged(new, old, by=rules(Rule("pesq_wb", 0.05), Rule("pesq_wb", 0.2, each="speaker"))).checks
    # Nine voices of ten are as they were: over all of them nothing is shown.
    assert whole.outcome is CheckStatus.PASS
    assert (each.outcome, each.group, each.failing, each.n) == (CheckStatus.REGRESSION, "s2", ("s2",), 6)


def test_a_relative_tolerance_is_a_share_of_the_baseline(written_run: Written) -> None:
    old = written_run({"a": {"rtf": 0.2 + noise(1, 0.01)}})
    for factor, outcome in ((1.3, CheckStatus.REGRESSION), (1.05, CheckStatus.PASS)):
        new = written_run({"a": {"rtf": (0.2 + noise(2, 0.01)) * factor}})
        found = check(judged(new, old, by=rules(Rule("rtf", 0.1, relative=True))))
        assert found.outcome is outcome
        assert found.tolerance == pytest.approx(0.02, rel=0.02)


def test_a_strict_rule_wants_proof_that_nothing_was_lost(written_run: Written) -> None:
    old, new = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": base() - 0.02 + noise(3, 0.2)}})
    assert judged(new, old).outcome is CheckStatus.PASS
    verdict = judged(new, old, by=rules(Rule("pesq_wb", 0.03, strict=True)))
    assert verdict.outcome is CheckStatus.REGRESSION and "not shown" in check(verdict).reason
    assert judged(new, old, by=rules(Rule("pesq_wb", 0.2, strict=True))).outcome is CheckStatus.PASS


def test_repeats_of_the_baseline_calibrate_the_noise(written_run: Written) -> None:
    # The machine was 20 % slower in one of three runs; the fourth is as slow as that one.
    speeds = (1.0, 1.2, 0.9)
    olds = [written_run({"a": {"rtf": 0.2 * speed + noise(k, 0.001)}}) for k, speed in enumerate(speeds)]
    new = written_run({"a": {"rtf": 0.2 * 1.25 + noise(9, 0.001)}})
    by = rules(Rule("rtf", 0.1, relative=True))
    assert judged(new, olds[0], by=by).outcome is CheckStatus.REGRESSION
    found = check(judged(new, *olds, by=by))
    assert found.outcome is CheckStatus.PASS and found.run_spread == pytest.approx(0.2 * np.std(speeds, ddof=1), rel=0.05)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"status": "partial"}, "partial"),
        ({"packages": {"torch": "2"}}, "torch 1 and 2"),
        ({"dataset": {"name": "fake", "digest": "e"}}, "the data differ"),
        ({"version": "2"}, "measured in two ways"),
    ],
)
def test_incomparable_is_never_a_pass(written_run: Written, other: dict[str, Any], words: str) -> None:
    old, new = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": base()}}, **other)
    verdict = judged(new, old)
    assert (verdict.outcome, verdict.exit_code) == (CheckStatus.INCOMPARABLE, 3)
    assert words in " ".join([*verdict.problems, *(c.reason for c in verdict.checks)])
    forced = judged(new, old, force=True)
    assert forced.outcome is (CheckStatus.INCOMPARABLE if "status" in other else CheckStatus.PASS)


def test_missing_and_renamed_are_incomparable(written_run: Written) -> None:
    old = written_run({"a": {"pesq_wb": base()}, "b": {"pesq_wb": base()}})
    renamed = judged(written_run({"a": {"pesq_wb": base()}, "b2": {"pesq_wb": base()}}), old)
    assert renamed.outcome is CheckStatus.INCOMPARABLE and "b is in the baseline and not in new, which has a, b2" in renamed.problems[0]
    unmeasured = judged(written_run({"a": {"stoi": base()}, "b": {"pesq_wb": base()}}), old)
    assert [c.outcome for c in unmeasured.checks] == [CheckStatus.INCOMPARABLE, CheckStatus.PASS] and unmeasured.exit_code == 3
    short = written_run({"a": {"pesq_wb": base()}, "b": {"pesq_wb": base()}})
    cut = OpenedRun(short.path, short.manifest, short.frame.iloc[:-3], {}, {})
    assert "3 measurements are missing" in judged(cut, old).checks[1].reason
    # What the run has more than the baseline is nobody's loss.
    more = written_run({s: {"pesq_wb": base(), "stoi": base()} for s in "abc"})
    assert judged(more, old).outcome is CheckStatus.PASS


def test_lost_outputs_are_a_regression(written_run: Written) -> None:
    broken = base()
    broken[[4, 5]] = np.nan
    old, new = written_run({"a": {"pesq_wb": base()}}), written_run({"a": {"pesq_wb": broken}})
    found = check(judged(new, old))
    assert (
        found.outcome is CheckStatus.REGRESSION and "58/60 outputs have a figure, 60/60 in the baseline; lost: i004, i005" in found.reason
    )
    assert judged(new, old, by=rules(coverage=0.05)).outcome is CheckStatus.PASS
    assert judged(old, new).outcome is CheckStatus.PASS
    dead = check(judged(written_run({"a": {"pesq_wb": np.full(N, np.nan)}}), old))
    assert dead.outcome is CheckStatus.REGRESSION and "none of 60 outputs" in dead.reason


def test_a_single_item_decides_nothing(written_run: Written) -> None:
    old, new = written_run({"a": {"pesq_wb": [3.0]}}), written_run({"a": {"pesq_wb": [1.0]}})
    verdict = judged(new, old)
    assert check(verdict).outcome is CheckStatus.TOO_FEW and verdict.outcome is CheckStatus.INCOMPARABLE and verdict.exit_code == 3
    assert check(verdict).reason == "1 item, a verdict takes at least 6"
    two = written_run({"a": {"pesq_wb": [3.0, 2.0]}})
    assert check(judged(two, two)).outcome is CheckStatus.PASS  # that nothing differs is plain from few


def test_rules_that_fit_nothing_are_refused(written_run: Written) -> None:
    run = written_run({"a": {"pesq_wb": base(), "emitted_bps": base()}})
    with pytest.raises(ConfigError, match="no rule of 'test' concerns old"):
        judged(run, run, by=rules(Rule("stoi", 0.1)))
    with pytest.raises(ConfigError, match="which way is better"):
        judged(run, run, by=rules(Rule("emitted_bps", 0.1)))
    with pytest.raises(ConfigError, match="says better: lower, the metric itself is better when higher"):
        judged(run, run, by=rules(Rule("pesq_wb", 0.1, better=Better.LOWER)))
    more = written_run({"a": {"pesq_wb": base(), "emitted_bps": base() + 0.3}})
    found = check(judged(more, run, by=rules(Rule("emitted_bps", 0.1, better=Better.LOWER))))
    assert found.outcome is CheckStatus.REGRESSION and found.worsening == pytest.approx(0.3)
    verdict = judged(run, run, by=rules(Rule("pesq_wb", 0.1), Rule("pesq_wb", 0.1, systems=("z",))))
    assert verdict.outcome is CheckStatus.INCOMPARABLE and "the rules name z" in verdict.problems[0]
    assert "wants a baseline of 3 repeats" in judged(run, run, by=rules(repeats=3)).problems[0]


def test_bundled_rules_are_read() -> None:
    for name in config_choices("gate"):
        found = load_rules(name)
        assert found.rules and 0 < found.level <= 0.05 and found.resamples == 10_000
    with pytest.raises(UnknownName, match="default"):
        load_rules("defualt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: []", "at least one"),
        ("rules: [{metric: pesq_wb}]", "tolerance: and relative:"),
        ("rules: [{metric: pesq_wb, tolerance: 0.1, relative: 0.1}]", "tolerance and relative"),
        ("rules: [{metric: pesq_wb, tolerance: -1}]", "a number from 0"),
        ("rules: [{metric: pesq_wb, tolerance: .nan}]", "a number"),
        ("rules: [{metric: pesq, tolerance: 1}]", "no metric named 'pesq'"),
        ("rules: [{metric: pesq_wb, tolerance: 1, each: voice}]", "speaker and language"),
        ("rules: [{metric: pesq_wb, tolerance: 1, better: up}]", "higher and lower"),
        ("rules: [{metric: pesq_wb, tolerance: 1, systems: a}]", "a list of names"),
        ("rules: [{metric: pesq_wb, tolerance: 1, strict: 3}]", "true or false"),
        ("{rules: [{metric: pesq_wb, tolerance: 1}], level: 0.7}", "to 0.5"),
        ("{rules: [{metric: pesq_wb, tolerance: 1}], resamples: 3}", "whole number from 100"),
        ("{rules: [{metric: pesq_wb, tolerance: 1}], lvel: 0.1}", "unknown keys lvel"),
        ("rules: [", "not YAML"),
    ],
)
def test_wrong_rules_say_where(text: str, words: str) -> None:
    with pytest.raises((ConfigError, UnknownName)) as caught:
        parse_rules(text, "mine", "mine.yaml")
    assert words in str(caught.value) and "mine.yaml" in str(caught.value) and caught.value.exit_code == 2


def test_the_verdict_in_every_format(written_run: Written) -> None:
    hostile = '<b>&"a\x07'
    old = written_run({hostile: {"pesq_wb": base(), "stoi": base()}}, packages={"numpy": "2"})
    new = written_run({hostile: {"pesq_wb": base() - 0.3, "stoi": base()}})
    verdict = judged(new, old, by=rules(Rule("pesq_wb", 0.05), Rule("stoi", 0.05)))
    data = json.loads(as_json(verdict))
    assert (data["verdict"], data["exit_code"], len(data["checks"])) == ("regression", 1, 2)
    assert data["checks"][0]["worsening"] == pytest.approx(0.3) and data["checks"][0]["signature"].startswith("pesq_wb|v1")
    comment = markdown(verdict)
    assert "❌" in comment and "<b>" not in comment.replace("\\<b\\>", "") and "1 checks passed" in comment and "numpy 2 and 1" in comment
    suite = ElementTree.fromstring(junit(verdict)).find("testsuite")
    assert suite is not None and (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.text is not None and "tolerance 0.05" in failure.text
    assert "REGRESSION" in text(verdict).splitlines()[0]
    refused = judged(written_run({hostile: {"pesq_wb": base()}}, status="partial"), old)
    assert json.loads(as_json(refused))["verdict"] == "incomparable"
    assert ElementTree.fromstring(junit(refused)).find("testsuite/testcase/error") is not None
    assert "⚠️" in markdown(refused)


def test_a_baseline_is_small_and_gives_back_its_runs(written_run: Written, tmp_path: Path) -> None:
    values = {"a": {"pesq_wb": base(), "stoi": base(1)}}
    runs = [
        written_run({s: {m: v + noise(k) for m, v in ms.items()} for s, ms in values.items()}, SPEAKERS, path=tmp_path / str(k))
        for k in range(3)
    ]
    for run in runs:
        run.manifest["items"]["i000"]["path"] = "/home/somebody/speech.wav"
        run.manifest["systems"]["a"]["config"] = {"root": "/home/somebody"}
    done = bless(runs, tmp_path / "base")
    assert done.repeats == 3 and not done.identical and len(done.spreads) == 2 and done.num_bytes < 20_000
    means = [run.frame.loc[run.frame["metric"] == "pesq_wb", "value"].mean() for run in runs]
    assert done.spreads[0].deviation == pytest.approx(np.std(means, ddof=1))
    assert b"somebody" not in b"".join(p.read_bytes() for p in (tmp_path / "base").iterdir())
    back = open_reference(tmp_path / "base")
    assert len(back.repeats) == 2 and back.run.frame["value"].tolist() == runs[0].frame.sort_values(["metric", "item"])["value"].tolist()
    assert Gate(rules()).judge(half("new", runs[1]), back).outcome is CheckStatus.PASS
    again = bless(runs[:1], tmp_path / "base")
    assert again.repeats == 1 and open_reference(tmp_path / "base").repeats == []


def test_what_makes_no_baseline(written_run: Written, tmp_path: Path) -> None:
    run = written_run({"a": {"pesq_wb": base()}}, path=tmp_path / "one")
    for other, words in (
        (written_run({"a": {"pesq_wb": base()}}, path=tmp_path / "two", status="partial"), "partial"),
        (written_run({"a": {"pesq_wb": base()}}, path=tmp_path / "two", version="2"), "signatures differ"),
        (written_run({"b": {"pesq_wb": base()}}, path=tmp_path / "two"), "only one of them has pesq_wb of a, pesq_wb of b"),
    ):
        with pytest.raises(Incomparable, match=words):
            bless([run, other], tmp_path / "base")
    with pytest.raises(UsageError, match="twice"):
        bless([run, run], tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no baseline"):
        bless([run], tmp_path / "mine")
    assert not (tmp_path / "base").exists()
    assert bless([run, written_run({"a": {"pesq_wb": base()}}, path=tmp_path / "two")], tmp_path / "base").identical
