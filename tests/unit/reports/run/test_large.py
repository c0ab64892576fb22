"""A run read metric by metric says the same as one read at once."""

import pytest

from harness.storing.runfolder import open_run
from reports.run.summarise import merged, read_summary


@pytest.fixture
def folder(make_dataset, harness_run):
    root = make_dataset(["fine", "raise", "fine", "fine", "fine"])
    _, folder = harness_run(root, "systems=[stub_echo,noise]", "executor=serial", metrics="[stub_peak,stub_trouble,si_sdr_db]")
    return folder


def test_metric_by_metric_is_the_same(folder):
    run, whole = read_summary(folder)
    part_run, parts = read_summary(folder, large=1)
    assert parts.columns == whole.columns
    assert parts.rows == whole.rows
    assert set(parts.failures) == set(whole.failures)
    assert parts.counted == whole.counted
    assert part_run.frame.shape == run.frame.shape  # few items: all of them are shown
    assert "metric by metric" in parts.notes[-1].text


def test_a_selection_of_records(folder):
    found = open_run(folder, metrics=["stub_peak"], items=["item1", "item3"]).frame
    assert set(found["metric"]) == {"stub_peak"}
    assert set(found["item"]) == {"item1", "item3"}
    assert len(found) == 6  # of two systems and the row of the recordings
    assert open_run(folder, metrics=[]).frame.empty


def test_a_metric_without_a_row_is_not_measured(folder):
    _, whole = read_summary(folder)
    alone = [r for r in whole.rows if r.facts.label == "noise"]
    cut = merged([whole, type(whole)(**{**whole.__dict__, "columns": (), "rows": tuple(alone)})])
    assert cut.rows == whole.rows
