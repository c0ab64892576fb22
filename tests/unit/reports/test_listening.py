"""Listening tests: blind, the same again for the same seed, and answers read as they were given."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from harness.errors import UnknownName, UsageError
from reports.listening import REFERENCE, Answer, Design, Session, Trial, arrange, blocks, read_answers, read_key, render, results
from reports.statistics.intervals import IntervalSettings
from reports.writing.markdown import render as render_markdown
from tests.stubs.fake_runs import FakeRun

HOSTILE = "a</script><b>|x"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    systems: dict[str, dict[str, Any]] = {HOSTILE: {}, "opus": {}, "codec": {}}
    fake = FakeRun(tmp_path_factory.mktemp("run"), {f"item{n:02d}": "x" for n in range(12)}, systems=systems)
    fake.calibration.append("ceiling")
    rng = np.random.default_rng(0)
    for n in range(12):
        item = f"item{n:02d}"
        fake.references[item] = fake.audio(f"r{n}", 0.1 * rng.normal(size=800), 8000)
        for i, system in enumerate([*systems, "ceiling"]):
            fake.add(system, "stoi", item, 0.5)
            # One output is missing: its item cannot be compared.
            if (system, n) != ("opus", 3):
                fake.outputs[system, "{}", item, 0] = fake.audio(f"{i}_{n}", 0.1 * rng.normal(size=800), 8000)
    return fake.run()


def test_rating_hides_the_reference_among_all_systems(run: Any) -> None:
    session = arrange(run, Design.RATING, (), 50)
    assert len(session.trials) == 11 and len({t.item for t in session.trials}) == 11
    assert all(set(t.samples) == {HOSTILE, "opus", "codec", REFERENCE} and len(t.samples) == 4 and t.reference for t in session.trials)
    # No system always stands at one place.
    assert len({t.samples.index("opus") for t in session.trials}) > 1


def test_pairs_share_the_trials(run: Any) -> None:
    session = arrange(run, Design.AB, (), 10)
    assert sorted(Counter(frozenset(t.samples) for t in session.trials).values()) == [3, 3, 4]
    first = Counter(t.samples[0] for t in arrange(run, Design.AB, ("opus", "codec"), 11, seed=3).trials)
    assert set(first) == {"opus", "codec"}


def test_abx_asks_for_one_of_the_two(run: Any) -> None:
    session = arrange(run, Design.ABX, ("opus",), 11)
    assert all(set(t.samples[:2]) == {"opus", REFERENCE} and t.samples[2] in t.samples[:2] and not t.reference for t in session.trials)
    assert {t.samples.index(t.samples[2]) for t in session.trials} == {0, 1}


def test_same_seed_same_session(run: Any) -> None:
    again = [arrange(run, Design.RATING, ("opus", "codec"), 5, seed) for seed in (1, 1, 2)]
    assert again[0] == again[1] and again[0].name != again[2].name and again[0].trials != again[2].trials


def test_page_is_blind(run: Any) -> None:
    session = arrange(run, Design.AB, (), 6)
    text = "".join(render(run, session))
    for name in (HOSTILE, "opus", "codec", *(t.item for t in session.trials), str(run.path), "reference_"):
        assert name not in text and json.dumps(name)[1:-1] not in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    numbers = [s["clip"] for t in data["trials"] for s in [*t["samples"], t["reference"]]]
    assert sorted(numbers) == list(range(6 * 3)) and text.count('<script type="text/plain"') == 18


def test_key_comes_back(run: Any, tmp_path: Path) -> None:
    session = arrange(run, Design.RATING, (), 3)
    path = tmp_path / "key.json"
    path.write_text(session.as_json(), encoding="utf-8")
    assert read_key(path) == session
    path.write_text("{}")
    with pytest.raises(UsageError, match="not the key of a listening test"):
        read_key(path)


@pytest.mark.parametrize(
    ("systems", "trials", "message"), [(("opsu",), 5, "Did you mean opus"), ((), 0, "at least one trial"), ((), -3, "at least one trial")]
)
def test_what_cannot_be_asked(run: Any, systems: tuple[str, ...], trials: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arrange(run, Design.RATING, systems, trials)


def test_a_run_without_audio_says_how_to_get_some(run: Any) -> None:
    with pytest.raises(UsageError, match="harness run suite=codec"):
        arrange(replace(run, outputs={}), Design.RATING)
    with pytest.raises(UnknownName):
        arrange(replace(run, references={}), Design.RATING, (REFERENCE,))
    unplayable = {key: path.with_name("absent.wav") for key, path in run.outputs.items()}
    session = arrange(replace(run, outputs=unplayable), Design.AB, (), 1)
    with pytest.raises(UsageError, match="leave its system out"):
        list(render(replace(run, outputs=unplayable), session))


def session_of(design: Design, *trials: tuple[str, ...]) -> Session:
    return Session("00c0ffee", "a run", design, 0, tuple(Trial(f"item{i}", samples, True) for i, samples in enumerate(trials)))


def answers_file(path: Path, session: Session, lines: list[tuple[Any, ...]]) -> Path:
    text = ["session,listener,design,trial,sample,answer,plays,seconds"]
    text += [",".join(map(str, (session.name, who, session.design, trial, sample, answer, 2, 3.5))) for who, trial, sample, answer in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_ratings_find_their_systems(tmp_path: Path) -> None:
    session = session_of(Design.RATING, ("a", "b"), ("b", "a"))
    files = [
        answers_file(tmp_path / "1.csv", session, [("x", 1, "A", 80), ("x", 1, "B", 20), ("x", 2, "A", 30), ("x", 2, "B", 90)]),
        answers_file(tmp_path / "2.csv", session, [("y", 1, "A", 70), ("y", 1, "B", 10)]),
    ]
    found = results(session, read_answers(files, session), IntervalSettings(resamples=200))
    assert [(f.label, f.value, f.n, f.detail) for f in found] == [("a", 80.0, 3, "2 listeners"), ("b", 20.0, 3, "2 listeners")]
    assert all(f.low is not None and f.high is not None and f.low <= f.value <= f.high for f in found)
    text = render_markdown(blocks(session, found, 2))
    assert "| a | 80.0 mean rating<br>[" in text and "2 trials, 2 listeners" in text


def test_preferences_are_counted_by_system_not_by_letter() -> None:
    session = session_of(Design.AB, ("a", "b"), ("b", "a"), ("a", "c"))
    given = [("x", 0, "A"), ("x", 1, "B"), ("y", 0, "neither"), ("y", 1, "A"), ("z", 1, "B"), ("z", 2, "B")]
    found = results(session, [Answer(who, trial, "", value) for who, trial, value in given])
    assert [(f.label, f.value, f.n, f.detail) for f in found] == [
        ("a over b", 0.75, 4, "a 3, b 1, neither 1"),
        ("a over c", 0.0, 1, "a 0, c 1, neither 0"),
    ]
    assert found[0].p == pytest.approx(2 * binom.sf(2, 4, 0.5))


def test_abx_counts_right_answers() -> None:
    session = session_of(Design.ABX, ("a", "b", "a"), ("a", "b", "b"))
    found = results(session, [Answer(str(n), n % 2, "", "AB"[n % 2] if n < 9 else "BA"[n % 2]) for n in range(10)])
    assert [(f.label, f.value, f.n) for f in found] == [("a told from b", 0.9, 10)]
    assert found[0].p == pytest.approx(binom.sf(8, 10, 0.5)) and found[0].low == pytest.approx(0.555, abs=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("x", 3, "A", 50), "no trial '3'"),
        (("x", 1, "C", 50), "no sample 'C'"),
        (("x", 1, "AB", 50), "no sample 'AB'"),
        (("x", 1, "A", 101), "no answer"),
        (("x", 1, "A", "good"), "no answer"),
    ],
)
def test_wrong_answers_are_named_with_their_line(tmp_path: Path, line: tuple[Any, ...], message: str) -> None:
    session = session_of(Design.RATING, ("a", "b"), ("a", "b"))
    path = answers_file(tmp_path / "1.csv", session, [("x", 2, "A", 5), line])
    with pytest.raises(UsageError, match=f"line 3: .*{message}"):
        read_answers([path], session)


def test_files_of_others_and_files_twice_are_refused(tmp_path: Path) -> None:
    session = session_of(Design.RATING, ("a", "b"))
    path = answers_file(tmp_path / "1.csv", session, [("x", 1, "A", 5)])
    with pytest.raises(UsageError, match="give each file once"):
        read_answers([path, path], session)
    with pytest.raises(UsageError, match="the key is of 12345678"):
        read_answers([path], replace(session, name="12345678"))
    path.write_text("nothing\n")
    with pytest.raises(UsageError, match="is not a file of answers"):
        read_answers([path], session)
