"""Nothing is silent for long, and what is left is told from what is done."""

import re
import time

import pytest

from harness.running import progress
from harness.running.progress import Progress, spoken


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.1)


def test_a_stage_that_says_nothing_is_spoken_for(impatient, capsys):
    with Progress() as said:
        said.stage("loading", 3)
        said.loading("the judge")
        time.sleep(1.2)
    assert "loading: 0/3 (loading the judge)" in capsys.readouterr().err


def test_after_its_end_a_stage_is_not_spoken_of(impatient, capsys):
    with Progress() as said:
        said.stage("loading", 1)
        said.advance()
        said.done()
        before = capsys.readouterr().err
        time.sleep(1.2)
    assert re.fullmatch(r"loading: 1 in [\d.]+ s\n", before)
    assert capsys.readouterr().err == ""


def test_the_rest_is_told_by_the_pace_once_there_is_one(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said = Progress()
    said.expect({"predicting": 10.0, "scoring": 100.0})
    said.stage("predicting", 4)
    assert said._left() == "about 1 min 50 s left"
    clock[0] = 20.0
    said.advance(2, seconds=5.0)  # half of it took 20 s: another 20, and 100 of what comes later
    assert said._left() == "about 2 min left"
    said.ahead("scoring", 60.0)
    assert said._left() == "about 1 min left"
    said.done()
    said.stage("scoring", 10)
    assert said._left() == "about 40 s left"


def test_figures_are_shown_after_a_while_and_each_time_it_doubles(monkeypatch, tmp_path):
    clock, shown = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said = Progress(lambda folder, heading, console: shown.append(clock[0]))
    said.stage("scoring", 100)
    for second in range(200):
        clock[0] = float(second)
        said.advance(int(second % 3 == 0))
        if said.wants_figures:
            said.figures(tmp_path, "so far")
    assert shown == [16.0, 33.0, 67.0, 135.0]
    clock[0] = 1000.0
    said.advance(20)
    assert not said.wants_figures  # the end is near


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (110, "1 min 50 s"), (600, "10 min"), (11_100, "3 h 5 min")])
def test_durations_as_people_say_them(seconds, text):
    assert spoken(seconds) == text
