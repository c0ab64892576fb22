"""The codec suite measures what is reported most, and everything where it is asked for."""

from harness.notebook import composed
from harness.running.runner import metric_keys
from suites.codec import CodecSuite

USUAL, FURTHER = CodecSuite.info.metrics, CodecSuite.info.further


def keys(*words):
    return metric_keys(composed(words, None))


def test_the_usual_metrics_unless_others_are_named():
    assert keys() == list(USUAL)
    assert keys("metrics=[stoi,pesq_wb]") == ["stoi", "pesq_wb"]


def test_full_is_all_and_stands_beside_other_names():
    assert keys("metrics=full") == [*USUAL, *FURTHER]
    assert keys("metrics=[visqol_speech,full,stoi]") == ["visqol_speech", *USUAL, *FURTHER]


def test_what_people_come_for_is_asked_of_a_part_that_is_spread():
    config = composed([], None)
    assert list(config["systems"]) == ["passthrough", "opus16", "opus6", "qdac16", "socodec120", "noise"]
    assert config["dataset"]["limit"] == 20
    assert composed(["dataset.limit=null"], None)["dataset"]["limit"] is None
