"""Runs with published codecs that are untrained: codes and time are measured, quality is not, unless it is asked for."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

import harness
from harness.api import Better, MetricInfo, Need
from harness.cli import main
from harness.commands.doctor import state_of
from harness.running.plan import speaks_of_quality

with_transformers = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="the package transformers is not installed")
_FAMILIES = {"encodec6": "encodec", "dac16k": "dac", "mimi8": "mimi", "xcodec": "xcodec", "speechtokenizer": "speechtokenizer"}
_QUALITY, _COUNTED, _TIME = "si_sdr_db", "emitted_bps", "rtf"


@pytest.fixture
def tiny(stubs):
    return importlib.import_module("tiny_codecs")


@with_transformers
def test_a_run_marks_random_weights_and_prints_no_quality_of_them(tiny, make_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = make_dataset(["a", "b"])
    names = {n: f for n, f in _FAMILIES.items() if importlib.util.find_spec("speechtokenizer") or f != "speechtokenizer"}
    words = [f"systems.{name}.checkpoint={tiny.save(tmp_path / family, family)}" for name, family in names.items()]
    words = [
        "run",
        "suite=codec",
        f"systems=[{','.join([*names, 'g711'])}]",
        *words,
        "dataset=jsonl",
        f"dataset.root={root}",
        f"metrics=[{_QUALITY},{_COUNTED},{_TIME}]",
        "executor=serial",
        "executor.threads=1",
    ]
    assert main([*words, "run.name=plain"]) == 0
    shown = capsys.readouterr().out
    assert "RANDOM WEIGHTS" in shown and "allow_random=true" in shown
    frame = harness.load(tmp_path / "runs" / "plain")
    untrained = frame[frame["system"] != "g711"]
    quality = untrained[untrained["metric"] == _QUALITY]
    assert len(quality) == 2 * len(names) and quality["value"].isna().all()
    assert quality["status"].eq("skipped_by_policy").all() and quality["reason"].str.contains("random weights").all()
    measured = untrained[untrained["metric"] != _QUALITY]
    assert len(measured) == 4 * len(names) and measured["status"].eq("ok").all() and measured["value"].gt(0).all()
    assert frame[(frame["system"] == "g711") & (frame["metric"] == _QUALITY)]["status"].eq("ok").all()

    # Asked for, it is measured on the outputs that are there; the mark stays.
    # an untrained X-Codec makes silence, which SI-SDR says nothing of
    assert main([*words, "run.name=asked", "allow_random=true", "run.max_failures=2"]) == 0
    shown = capsys.readouterr()
    assert "RANDOM WEIGHTS" in shown.out
    asked = harness.load(tmp_path / "runs" / "asked")
    quality = asked[(asked["system"] != "g711") & (asked["metric"] == _QUALITY)]
    # (A network may give a constant, of which the metric is not defined.)
    assert set(quality["status"]) <= {"ok", "metric_undefined"} and quality["value"].notna().sum() >= len(names)


def test_a_failure_of_an_untrained_system_is_a_failure(make_dataset, harness_run, monkeypatch):
    """What is withheld hides no failure."""
    from systems.qdac.adapter import QdacCodec

    def broken(self, audio):
        raise RuntimeError("no codes today")

    monkeypatch.setattr(QdacCodec, "encode", broken)
    root = make_dataset(["a"])
    code, folder = harness_run(root, "systems=[qdac4]", "systems.qdac4.weights=random", "executor=serial", metrics="[si_sdr_db]")
    assert code == 1
    frame = harness.load(folder)
    assert frame["status"].eq("failed").all() and frame["reason"].str.contains("no codes today").all()


def test_one_rule_for_all_systems(make_dataset, harness_run):
    root = make_dataset(["a"])
    code, folder = harness_run(
        root, "systems=[qdac4]", "systems.qdac4.weights=random", "executor=serial", "executor.threads=1", metrics="[si_sdr_db,emitted_bps]"
    )
    assert code == 0
    status = harness.load(folder).set_index("metric")["status"].to_dict()
    assert status == {"si_sdr_db": "skipped_by_policy", "emitted_bps": "ok"}


@pytest.mark.parametrize(
    ("better", "needs", "expected"),
    [
        (Better.HIGHER, {Need.OUTPUT, Need.REFERENCE}, True),
        (Better.NEITHER, {Need.OUTPUT, Need.REFERENCE}, True),
        (Better.HIGHER, {Need.CODES}, True),
        (Better.NEITHER, {Need.CODES, Need.TEXT, Need.REFERENCE}, True),
        (Better.HIGHER, {Need.STOP_REASON}, True),
        (Better.NEITHER, {Need.CODES}, False),
        (Better.NEITHER, {Need.ENCODED}, False),
        (Better.LOWER, {Need.TIMING}, False),
    ],
)
def test_what_speaks_of_quality(better, needs, expected):
    metric = MetricInfo("m", "1", "", better, frozenset(needs), 16000, (0.0, 1.0), "")
    assert speaks_of_quality(metric) is expected


@with_transformers
def test_doctor_tells_what_keeps_a_system_from_running(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    state, reason = state_of("encodec", {"bandwidth_kbps": 6, "checkpoint": "facebook/encodec_24khz", "revision": None})
    assert state == "needs weights" and "hf download facebook/encodec_24khz" in reason and "licence: MIT" in reason
    assert state_of("encodec", {"checkpoint": str(tiny.save(tmp_path / "encodec", "encodec"))}) == ("ready", "")
    assert state_of("recorded", {"root": None})[0] == "needs setting"
    assert state_of("passthrough", {}) == ("ready", "")
    state, reason = state_of("passthrough", {"no_such": 1})
    assert state == "broken" and "no_such" in reason


def test_doctor_tells_a_missing_package_from_a_broken_one(monkeypatch, tmp_path):
    def absent(name):
        return None

    with monkeypatch.context() as patch:
        patch.setattr("systems.published.neural.importlib.util.find_spec", absent)
        state, reason = state_of("mimi", {})
        assert state == "needs package" and "pip install 'speech-systems-harness[hf]'" in reason
    # Installed, but something it imports is not there.
    package = tmp_path / "speechtokenizer"
    package.mkdir()
    (package / "__init__.py").write_text("import no_such_library_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in importlib.sys.modules if n.partition(".")[0] == "speechtokenizer"]:
        monkeypatch.delitem(importlib.sys.modules, name)
    state, reason = state_of("speechtokenizer", {})
    assert state == "broken" and "no_such_library_at_all" in reason
