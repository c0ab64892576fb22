"""The sweep over delays: what it asks of whom, its systems, and what the papers claim about it, from run to report."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from harness.api import CodecSpec, Task
from harness.cli import main
from harness.settings.registry import METRICS, config_choices, resolve, variants
from harness.settings.systems import system_section
from harness.testing import check_suite
from reports.claims.claims import Contrast, load_claims
from suites.delay_sweep import DelaySweepSuite


def test_laws() -> None:
    suite = DelaySweepSuite()
    check_suite(suite)
    assert suite.info.task is Task.SYNTHESIS and set(suite.info.metrics) <= set(METRICS)
    assert list(suite.variants(None)) == list(suite.variants(CodecSpec(16000, 320, (8,) * 4))) == [{}]
    assert "delay_sweep" in config_choices("suite")


def test_its_systems_differ_in_nothing_but_the_delay() -> None:
    def parameters(name: str) -> dict[str, object]:
        return system_section(name)

    names = DelaySweepSuite().info.systems
    assert set(names) <= set(variants())
    assert [parameters(name).pop("delay") for name in names] == [0, 1, 2, 3]
    assert len({str({**parameters(name), "delay": None}) for name in names}) == 1


def test_claims_name_systems_and_metrics_that_the_suite_has() -> None:
    info, found = DelaySweepSuite().info, load_claims("delay_sweep")
    assert {c.id for c in found} == {"socodec_delay_0_worst", "socodec_delay_1_enough", "socodec_delay_sim_flat", "qtts_delay_limit"}
    parts = [part for claim in found for part in claim.test if isinstance(part, Contrast)]
    assert {part.metric for part in parts} <= set(info.metrics)
    assert {point.system for part in parts for point in part.points} == set(info.systems)


VOICES = '''
import numpy as np
from harness.api import Audio, MissingOutput, Speech, SystemInfo

class Voice:
    """Speaks its prompt, the louder the less delay; stands for four trainings of one model."""
    sample_rate = 16000
    def __init__(self, delay=1):
        self.delay, self.info = delay, SystemInfo(family="late", version="1", description=f"delay {delay}")
    def synthesize(self, utterance, seed):
        return Speech(Audio(utterance.prompt.samples / (1 + self.delay), 16000), stop_reason="end" if self.delay else "length")
    def stream(self, utterance, seed):
        yield self.synthesize(utterance, seed).audio
'''


def test_from_run_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "late_voice.py").write_text(VOICES)
    (tmp_path / "late-1.0.dist-info").mkdir()
    (tmp_path / "late-1.0.dist-info" / "entry_points.txt").write_text("[harness.systems]\nlate = late_voice:Voice\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    words = ["suite=delay_sweep", "systems=[late]", "metrics=[stopped_by_itself,clipped_samples]", "dataset.limit=2", "executor=serial"]
    try:
        assert main(["run", *words, "systems.late.delay=0", "run.name=x"]) == 0
    finally:
        sys.modules.pop("late_voice", None)
    rows = list(csv.DictReader((tmp_path / "runs" / "x" / "report.csv").open(encoding="utf-8")))
    assert [float(r["value"]) for r in rows if (r["system"], r["metric"]) == ("late", "stopped_by_itself")] == [0.0]
    claims = list(csv.DictReader((tmp_path / "runs" / "x" / "report_claims.csv").open(encoding="utf-8")))
    assert {r["claim"] for r in claims} == {c.id for c in load_claims("delay_sweep")} and {r["outcome"] for r in claims} == {"not run"}
    shown = " ".join(capsys.readouterr().out.split())
    # What was not asked for is said, with the words that ask for it.
    assert "harness run suite=delay_sweep systems=[" in shown and "socodec120_tts_d0" in shown


def test_registered() -> None:
    assert resolve("suites", "delay_sweep") is DelaySweepSuite
