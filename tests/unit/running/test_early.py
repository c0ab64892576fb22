"""Outputs are measured while others are made, once, and to the same records."""

import json
import shutil

import harness
from harness.storing.runfolder import read_manifest


def test_measuring_begins_before_the_last_prediction(make_dataset, harness_run, tmp_path, monkeypatch):
    log = tmp_path / "both.log"
    monkeypatch.setenv("STUB_LOG", str(log))
    root = make_dataset(["a"] * 12)
    code, folder = harness_run(root, "systems=[stub_echo]", f"+systems.stub_echo.log={log}", "+systems.stub_echo.sleep_s=0.1")
    assert code == 0
    assert (harness.load(folder)["status"] == "ok").sum() == 12
    said = log.read_text().split()
    measured = [place for place, line in enumerate(said) if "/" in line]  # of an item's output; the others tell what was encoded
    assert len(measured) == 12  # each once
    assert measured[0] < max(place for place, line in enumerate(said) if "/" not in line)
    costs = read_manifest(folder)["costs"]
    assert costs["predictions"]["stub_echo"]["calls"] == costs["scores"]["stub_peak"]["calls"] == 12


def test_the_records_are_those_of_one_stage_after_the_other(make_dataset, harness_run, tmp_path):
    root = make_dataset(["a", "b", "c", "d"])
    words = ["systems=[stub_echo,passthrough,opus16]"]
    frames = []
    for name, more in (("together", ["executor.workers=2"]), ("apart", ["executor=serial", f"run.root={tmp_path / 'other'}"])):
        _, folder = harness_run(root, *words, *more, name=name, metrics="[stub_peak,si_sdr_db,length_ratio]")
        where = folder if folder.exists() else tmp_path / "other" / name
        frames.append(harness.load(where).sort_values(["system", "item", "metric"]).reset_index(drop=True))
    assert frames[0].equals(frames[1])


def test_what_is_known_is_not_measured_early(make_dataset, harness_run, tmp_path):
    root = make_dataset(["a", "b"])
    _, first = harness_run(root, "systems=[stub_echo]", name="first")
    shutil.rmtree(tmp_path / "runs" / "store" / "predictions")
    _, second = harness_run(root, "systems=[stub_echo]", name="second")
    assert read_manifest(second)["costs"].get("scores", {}) == {}
    assert json.dumps(harness.load(first)["value"].tolist()) == json.dumps(harness.load(second)["value"].tolist())
