"""What a run is expected to take: measured here before, else as written down."""

import pytest

from harness.api import Item
from harness.running.costs import LOADS, PREDICTIONS, SCORES, TIMED_S, USUAL, Costs, Spent, expected, score_name, share

CONFIG = {
    "systems": {"opus16": {}, "mine": {}},
    "asr": {"preset": "embedded"},
    "speaker": {"family": "campplus"},
    "mos": {"family": "distillmos"},
}


def items(number):
    """So many of two seconds, by their texts."""
    return [Item(f"i{n}", "data", text="a" * 28) for n in range(number)]


def test_what_was_measured_here_goes_before_what_is_written_down(tmp_path):
    costs = Costs.of(tmp_path)
    usual = USUAL[SCORES, "pesq_wb"][1] * 4
    assert costs.seconds(SCORES, "pesq_wb", 4.0) == pytest.approx(usual)
    for _ in range(3):
        costs.note(SCORES, "pesq_wb", Spent(1, audio_s=2.0, wall_s=1.0))
    assert costs.seconds(SCORES, "pesq_wb", 4.0) == pytest.approx(2.0)  # it grows with the audio, as the written one does
    costs.save()
    again = Costs.of(tmp_path)
    assert again.seconds(SCORES, "pesq_wb", 2.0) == pytest.approx(1.0)
    again.note(SCORES, "pesq_wb", Spent(1, audio_s=2.0, wall_s=5.0))
    again.save()
    assert Costs.of(tmp_path).seconds(SCORES, "pesq_wb", 2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"loads": 3}'])
def test_a_file_that_is_no_memory_is_forgotten(tmp_path, damage):
    (tmp_path / "costs.json").write_bytes(damage)
    assert Costs.of(tmp_path).before == {}


def test_a_recognition_that_serves_several_is_counted_once():
    names = {score_name(key, CONFIG) for key in ("wer", "cer", "dwer")}
    assert names == {"asr embedded"}
    assert sum(share(key, ["wer", "cer", "mos"]) for key in ("wer", "cer")) == 1.0
    assert share("wer@basic", ["wer", "cer", "wer@basic"]) == 1.0
    assert score_name("mos@utmos", CONFIG) == "mos utmos"


def test_the_estimate_grows_with_items_and_shrinks_with_workers(tmp_path):
    costs = Costs.of(tmp_path)
    costs.note(LOADS, "mine", Spent(1, wall_s=100.0))
    costs.note(PREDICTIONS, "mine", Spent(5, audio_s=10.0, wall_s=50.0))
    one, two = (expected(costs, CONFIG, ["wer", "cer", "mos"], items(10), 1, (workers, workers), timed=False) for workers in (1, 2))
    assert one.loading_s > 100
    assert one.predicting_s == pytest.approx(2 * two.predicting_s)
    assert one.predicting_s > 100
    assert one.scoring_s == pytest.approx(2 * two.scoring_s)
    assert expected(costs, CONFIG, ["wer", "cer", "mos"], items(20), 1, (1, 1), timed=False).scoring_s == pytest.approx(2 * one.scoring_s)
    assert one.dearest[0][0] == "mine"
    timed = expected(costs, CONFIG, ["wer"], items(10), 0, (1, 1), timed=True)
    assert timed.predicting_s == pytest.approx(2 * 10 * TIMED_S)  # each is made again and again
    assert "loading 1 min 40 s" in one.told
