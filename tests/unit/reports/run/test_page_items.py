"""What the page says of each utterance: aligned transcripts, who gets players, lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.judges.presets import Unit
from harness.metrics.text import align
from reports.run import output
from reports.run.listing import CHUNK_LIMIT, CHUNKS, difference, listed
from reports.run.summarise import summarise
from reports.statistics.intervals import IntervalSettings
from tests.stubs.fake_runs import FakeRun

QUICK = IntervalSettings(resamples=100)
SPEECH = 0.1 * np.sin(np.arange(1600) / 10)


def detail(said: str, heard: str, unit: str = "word", **more: str) -> dict[str, str]:
    return {"reference": said, "transcript": heard, "reference_normalised": said, "transcript_normalised": heard, "unit": unit, **more}


def test_parts_say_what_was_missed_and_what_was_heard() -> None:
    found = difference(detail("the old tower leans", "the bold tower leans over"), "en")
    assert found and found["parts"] == [("=", "the", ""), ("~", "old", "bold"), ("=", "tower leans", ""), ("+", "", "over")]
    assert (found["errors"], found["length"], found["more"]) == ((1, 0, 1), 4, 0)
    nothing = difference(detail("the old tower", ""), "en")
    assert nothing and nothing["parts"] == [("-", "the old tower", "")] and nothing["errors"] == (0, 3, 0)


def test_languages_without_spaces_are_joined() -> None:
    found = difference(detail("天 气 很 好", "天 气 好", "char"), "zh-CN")
    assert found and found["parts"] == [("=", "天气", ""), ("-", "很", ""), ("=", "好", "")] and found["length"] == 4
    spaced = difference(detail("a b", "a c", "char"), "en")
    assert spaced and spaced["length"] == 3


def test_a_loop_is_cut_and_counted() -> None:
    found = difference(detail("stop", "stop " + "again " * 2000), "en")
    assert found and found["errors"] == (0, 0, 2000) and all(len(text) <= CHUNK_LIMIT for _, *texts in found["parts"] for text in texts)
    every_other = " ".join(f"w{i} x" for i in range(CHUNKS))
    many = difference(detail(every_other, every_other.replace("x", "y")), "en")
    assert many and len(many["parts"]) == CHUNKS and many["more"] == CHUNKS


@pytest.mark.parametrize(
    "texts", [{}, {"transcript": "x"}, detail("", "x"), detail("a", "a", "phone"), {**detail("a", "a"), "reference_normalised": 3}]
)
def test_what_cannot_be_aligned_is_none(texts: dict[str, Any]) -> None:
    assert difference(texts, "en") is None


WORDS = st.lists(st.sampled_from(["a", "b", "cc", "d"]), max_size=8).map(" ".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests use the cores, too
@given(said=WORDS.filter(bool), heard=WORDS, unit=st.sampled_from(list(Unit)))
def test_errors_are_those_of_the_metric_and_parts_give_the_texts_back(said: str, heard: str, unit: Unit) -> None:
    found = difference(detail(said, heard, unit.value), "en")
    edits = align(said, heard, unit, "en")
    assert (
        found
        and sum(found["errors"]) == edits.substitutions + edits.deletions + edits.insertions
        and found["length"] == edits.reference_length
    )
    joint = " " if unit is Unit.WORD else ""
    assert joint.join(text for sign, text, _ in found["parts"] if sign != "+") == said
    assert joint.join(text if sign == "=" else other for sign, text, other in found["parts"] if sign != "-") == heard


def test_transcripts_are_told_once_for_metrics_and_systems_that_share_them(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {"i0": "Set sail."}, systems={"a": {}, "b": {}, "c": {}})
    for system, heard in (("a", "set sale"), ("b", "set sale"), ("c", "")):
        texts = {**detail("Set sail.", heard), "reference_normalised": "set sail"}
        fake.add(system, "wer", "i0", 0.5, detail=texts)
        # A second metric on the same texts, a third against what was heard in the recording.
        fake.add(system, "stoi", "i0", 0.1, detail={**texts, "unit": "char"})
        fake.add(system, "rtf", "i0", 0.0, detail=detail("set sale", heard, note="kept"))
    run = fake.run()
    (item,) = listed(run, summarise(run, QUICK), 1.0, 10).items
    blocks = [
        (b["metrics"], b["reference"], [(line["outputs"], line["unit"], line["errors"]) for line in b["lines"]]) for b in item["heard"]
    ]
    assert blocks == [
        ("stoi, wer", "", [([0, 1], "word", (1, 0, 0)), ([2], "word", (0, 2, 0))]),
        ("rtf", "set sale", [([0, 1], "word", (0, 0, 0)), ([2], "word", (0, 2, 0))]),
    ]
    # What no alignment shows is still told.
    assert [(w["name"], w["text"]) for w in item["words"]] == [("note", "kept")]


def test_the_worst_and_the_first_share_a_short_budget(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {f"i{n}": "x" for n in range(8)}, systems={"a": {}})
    for n in range(8):
        fake.add("a", "pesq_wb", f"i{n}", 1.0 if n == 6 else 3.0 + n / 10)
        fake.add("a", "wer", f"i{n}", 90.0 if n == 4 else 1.0)
        fake.outputs["a", "{}", f"i{n}", 0] = fake.audio(f"a{n}", SPEECH * (n + 1) / 10, 16000)
    run = fake.run()
    summary = summarise(run, QUICK)
    whole = listed(run, summary, 1.0, 100)
    part = listed(run, summary, whole.audio_bytes * 0.55e-6, 100)
    playable = [i["id"] for i in part.items if "clip" in i["outputs"][0]["audio"]]
    assert [i["id"] for i in part.items] == [f"i{n}" for n in range(8)]
    assert len(playable) == part.with_players == len(part.clips) == 4 and {"i0", "i1", "i4", "i6"} == set(playable)
    # A clip is its item's own, whatever the order they were taken in.
    for item in part.items:
        if (clip := item["outputs"][0]["audio"].get("clip")) is not None:
            same = next(i for i in whole.items if i["id"] == item["id"])
            assert part.clips[clip] == whole.clips[same["outputs"][0]["audio"]["clip"]]


def test_length_is_of_the_recording_else_of_the_output(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {"i0": "x", "i1": "x", "i2": "x"}, systems={"a": {}})
    for n in range(3):
        fake.add("a", "stoi", f"i{n}", 0.5)
    fake.references["i0"] = fake.audio("r0", SPEECH, 8000)
    for n in range(2):
        fake.outputs["a", "{}", f"i{n}", 0] = fake.audio(f"a{n}", SPEECH, 16000)
    fake.outputs["a", "{}", "i2", 0] = tmp_path / "absent.wav"
    run = fake.run()
    for limit in (1.0, 0.0):
        items = listed(run, summarise(run, QUICK), limit, 10).items
        assert [i["s"] for i in items] == [0.2, 0.1, None]


def test_provenance_is_in_the_page(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {"i0": "x"}, systems={"a": {"weights_digest": "cafe0123", "codebook_sizes": [2048, 2048]}})
    fake.add("a", "stoi", "i0", 0.5)
    run = fake.run()
    run.manifest["outputs"] = [{"label": "a", "key": "not needed here"}]
    text = "".join(output.render(run, summarise(run, QUICK)))
    assert '["weights digest","cafe0123"]' in text and '["codebook sizes","[2048, 2048]"]' in text
    assert '["signature","stoi|v1|' in text and "not needed here" not in text and "harness run suite=codec systems=[a,b]" in text
